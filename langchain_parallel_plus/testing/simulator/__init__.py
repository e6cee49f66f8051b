"""An OpenAI-compatible provider on loopback; also `python -m langchain_parallel_plus.testing.simulator`."""

from __future__ import annotations

from langchain_parallel_plus.testing.simulator.chat import ChatRequest, prompt_digest
from langchain_parallel_plus.testing.simulator.fault import Fault
from langchain_parallel_plus.testing.simulator.provider import ProviderSimulator
from langchain_parallel_plus.testing.simulator.tally import RequestRecord, Tally

__all__ = ("ChatRequest", "Fault", "ProviderSimulator", "RequestRecord", "Tally", "prompt_digest")
