"""An OpenAI-compatible provider on loopback; also `python -m langchain_parallel_plus.testing.simulator`."""

from __future__ import annotations

from langchain_parallel_plus.testing.simulator.chat import ChatRequest, prompt_digest
from langchain_parallel_plus.testing.simulator.fault import (
    AnyFault,
    ConnectionReset,
    CutStream,
    Fault,
    Hang,
    MalformedBody,
    SlowStart,
    SlowTokens,
)
from langchain_parallel_plus.testing.simulator.fault_plan import FaultPlan, FaultRule
from langchain_parallel_plus.testing.simulator.provider import ProviderSimulator
from langchain_parallel_plus.testing.simulator.rules import ProviderRules, Verdict
from langchain_parallel_plus.testing.simulator.tally import RequestRecord, Tally
from langchain_parallel_plus.testing.simulator.virtual import SimulatedRefusal, VirtualCall, VirtualProvider

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
    "RequestRecord",
    "SimulatedRefusal",
    "SlowStart",
    "SlowTokens",
    "Tally",
    "Verdict",
    "VirtualCall",
    "VirtualProvider",
    "prompt_digest",
)
