"""Test chains that fan out: a provider with a quota on loopback, and models that answer from a script."""

from __future__ import annotations

from langchain_parallel_plus.testing.models import ScriptedCall, ScriptedChatModel
from langchain_parallel_plus.testing.simulator import (
    ChatRequest,
    Fault,
    ProviderSimulator,
    RequestRecord,
    Tally,
    prompt_digest,
)

__all__ = (
    "ChatRequest",
    "Fault",
    "ProviderSimulator",
    "RequestRecord",
    "ScriptedCall",
    "ScriptedChatModel",
    "Tally",
    "prompt_digest",
)
