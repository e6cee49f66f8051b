"""Test chains that fan out: a provider with a quota on loopback or on virtual time, and models that answer by a script.

The models of quotas are in `langchain_parallel_plus.testing.quota`, the providers' headers and errors in
`langchain_parallel_plus.testing.dialects`, fixtures for pytest in `langchain_parallel_plus.testing.fixtures`.
"""

from __future__ import annotations

from langchain_parallel_plus.testing.models import ScriptedCall, ScriptedChatModel
from langchain_parallel_plus.testing.quota import Quota
from langchain_parallel_plus.testing.simulator import (
    AnyFault,
    ChatRequest,
    ConnectionReset,
    CutStream,
    Fault,
    FaultPlan,
    FaultRule,
    Hang,
    MalformedBody,
    ProviderRules,
    ProviderSimulator,
    RequestRecord,
    SimulatedRefusal,
    SlowStart,
    SlowTokens,
    Tally,
    Verdict,
    VirtualCall,
    VirtualProvider,
    prompt_digest,
)

__all__ = (
    "AnyFault",
    "ChatRequest",
    "ConnectionReset",
    "CutStream",
    "Fault",
    "FaultPlan",
    "FaultRule",
    "Hang",
    "MalformedBody",
    "ProviderRules",
    "ProviderSimulator",
    "Quota",
    "RequestRecord",
    "ScriptedCall",
    "ScriptedChatModel",
    "SimulatedRefusal",
    "SlowStart",
    "SlowTokens",
    "Tally",
    "Verdict",
    "VirtualCall",
    "VirtualProvider",
    "prompt_digest",
)
