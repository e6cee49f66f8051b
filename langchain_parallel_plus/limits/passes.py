"""Passes: so that a call admitted by a branch's gate is not charged again by its model's own `rate_limiter=`.

`BaseRateLimiter.acquire` is told nothing about the call that it admits. But it runs in the context in which the gate's
callback ran just before, so the gate leaves a pass there, which `acquire` finds and uses up. A pass is good for one
acquisition per limiter while its call is open: a limiter that the user acquires later on is charged.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ("CallPass", "issue_pass", "use_pass")


class CallPass:
    """What one admitted call has paid already."""

    __slots__ = ("_limiters", "_lock", "is_open", "run")

    def __init__(self, run: Hashable) -> None:
        self.run = run
        self.is_open = True
        self._limiters: list[object] = []
        self._lock = threading.Lock()

    def add(self, limiter: object) -> None:
        """Note that the call has been admitted by `limiter`."""
        self._limiters.append(limiter)

    def use(self, limiter: object) -> bool:
        """Use the admission by `limiter` up; `False` if there is none."""
        with self._lock:
            for index, admitted in enumerate(self._limiters if self.is_open else ()):
                if admitted is limiter:
                    del self._limiters[index]
                    return True
        return False

    def close(self) -> None:
        """End the call: what it has not used lapses."""
        self.is_open = False


_PASSES: ContextVar[tuple[CallPass, ...]] = ContextVar("lcpp_call_passes", default=())


def issue_pass(run: Hashable) -> CallPass:
    """Return the pass of `run` in this context, made if need be."""
    passes = tuple(held for held in _PASSES.get() if held.is_open)
    for held in passes:
        if held.run == run:
            return held
    issued = CallPass(run)
    _PASSES.set((*passes, issued))
    return issued


def use_pass(limiter: object) -> bool:
    """Use up an admission by `limiter` that a call open in this context holds."""
    passes = _PASSES.get()
    return bool(passes) and any(held.use(limiter) for held in passes)
