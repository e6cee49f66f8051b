"""What the simulated model does with a request: how long it takes, what it says, and whether it fails."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.testing.simulator.answers import Answer, default_answer
from langchain_parallel_plus.testing.simulator.fault import AnyFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_parallel_plus.testing.simulator.chat import ChatRequest

__all__ = ("Behaviour",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How the simulated model behaves; the callables see one request and must return at once."""

    latency: float | Callable[[ChatRequest], float] = 0.0
    """Seconds from arrival to the first byte of the response."""
    chunk_delay: float = 0.0
    """Seconds between the events of a stream."""
    answer: Callable[[ChatRequest], str] = default_answer
    fail: Callable[[ChatRequest], AnyFault | None] | None = None

    def __post_init__(self) -> None:
        if not callable(self.latency):
            _seconds(self.latency, "latency")
        _seconds(self.chunk_delay, "chunk_delay")

    def latency_of(self, request: ChatRequest) -> float:
        """Return the seconds before the first byte.

        Raises:
            DeclarationError: If the callable gives anything but seconds >= 0.
        """
        if callable(self.latency):
            return _seconds(self.latency(request), "latency(request)")
        return self.latency

    def fault_of(self, request: ChatRequest) -> AnyFault | None:
        """Return the fault for a request, if it is to fail.

        Raises:
            DeclarationError: If the callable gives anything but a fault or None.
        """
        fault = None if self.fail is None else self.fail(request)
        if fault is not None and not isinstance(fault, AnyFault):
            raise DeclarationError(f"fail(request) must return a Fault or None, got {type(fault).__name__}")
        return fault

    def answer_to(self, request: ChatRequest) -> Answer:
        """Return the answer to a request.

        Raises:
            DeclarationError: If the callable gives anything but text.
        """
        text = self.answer(request)
        if not isinstance(text, str):
            raise DeclarationError(f"answer(request) must return a str, got {type(text).__name__}")
        return Answer.to(request, text)


def _seconds(value: object, name: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    raise DeclarationError(f"{name} must be seconds >= 0, got {value!r}", help="0 means no delay")
