"""Time and chance, injected: so that threads and tasks run on virtual time in tests."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import SimpleQueue

    from langchain_parallel_plus._engine.cancel import CancelToken

__all__ = ("SYSTEM", "Clock", "SystemClock", "jitter")


class Clock(Protocol):
    """What the thread drivers need of time."""

    def now(self) -> float:
        """Return seconds on a clock that never goes back."""

    def get(self, inbox: SimpleQueue[Any], until: float | None) -> Any:
        """Return the next item, or raise `queue.Empty` once the clock shows `until`."""

    def sleep(self, seconds: float, token: CancelToken | None) -> None:
        """Wait, or return early when the work is given up."""


@dataclass(frozen=True, slots=True)
class SystemClock:
    """Real time."""

    def now(self) -> float:
        return time.monotonic()

    def get(self, inbox: SimpleQueue[Any], until: float | None) -> Any:
        if until is None:
            return inbox.get()
        remaining = until - time.monotonic()
        if remaining <= 0:
            return inbox.get_nowait()
        return inbox.get(timeout=remaining)

    def sleep(self, seconds: float, token: CancelToken | None) -> None:
        if token is None:
            threading.Event().wait(seconds)
            return
        woken = threading.Event()
        unsubscribe = token.subscribe(woken.set)
        try:
            woken.wait(seconds)
        finally:
            unsubscribe()


SYSTEM: Clock = SystemClock()

jitter: Callable[[], float] = random.Random().random
"""A number in [0, 1) from a generator of our own: the user's seed is neither used nor disturbed."""
