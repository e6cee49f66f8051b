"""Passes: so that a call admitted by a branch's gate is not charged again by its model's own `rate_limiter=`.

`BaseRateLimiter.acquire` is told nothing about the call that it admits. But it runs in the context in which the gate's
callback ran just before, so the gate leaves a pass there, which `acquire` finds and uses up. A pass is good for one
acquisition per limiter while its call is open. LangChain says `blocking=True` outright (langchain-core 1.7, 1.8), and
hardly anybody else does: a limiter that the user acquires by hand, with a stream of the model still open, is charged.

A context holds its passes in a chain that nobody changes, because copies of the context share it. What a call no longer
needs is left out when the next one is added: from the end at once, and from the middle whenever the chain has doubled.
So a pass costs the same however many are open.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ("CallPass", "hold_pass", "open_call", "use_pass")


class CallPass:
    """What one admitted call has paid already.

    Args:
        call: The call's run, and its model.
    """

    __slots__ = ("_limiters", "call", "is_over")

    def __init__(self, call: tuple[UUID, str] | None = None) -> None:
        self.call = call
        self.is_over = False
        """Whether there is nothing left to use: the call has ended, or every admission was used up."""
        self._limiters: list[object] = []

    def add(self, limiter: object) -> None:
        """Note that the call has been admitted by `limiter`."""
        self._limiters.append(limiter)

    def use(self, limiter: object) -> bool:
        """Use the admission by `limiter` up; `False` if there is none."""
        if self.is_over:
            return False
        try:
            self._limiters.remove(limiter)  # in one step, so that no two threads use the same
        except ValueError:
            return False
        self.is_over = not self._limiters
        return True

    def close(self) -> None:
        """End the call: what it has not used lapses."""
        self.is_over = True


class _Link(NamedTuple):
    """The passes of a context, the last one first."""

    held: CallPass
    rest: _Link | None
    length: int
    sweep_at: int
    """The length at which those in the middle that are over are left out."""


_SWEEP_AT: Final = 16
_PASSES: ContextVar[_Link | None] = ContextVar("lcpp_call_passes", default=None)


def hold_pass(held: CallPass) -> None:
    """Hold `held` in this context from now on."""
    chain = _open_end(_PASSES.get())
    if chain is not None and chain.length >= chain.sweep_at:
        chain = _swept(chain)
    if chain is None:
        _PASSES.set(_Link(held, None, 1, _SWEEP_AT))
    else:
        _PASSES.set(_Link(held, chain, chain.length + 1, chain.sweep_at))


def use_pass(limiter: object) -> bool:
    """Use up an admission by `limiter` that a call open in this context holds; that of the last call, if several do."""
    begin = _PASSES.get()
    if begin is None:
        return False
    link = chain = _open_end(begin)
    if chain is not begin:
        _PASSES.set(chain)
    while link is not None:
        if link.held.use(limiter):
            return True
        link = link.rest
    return False


def open_call() -> tuple[UUID, str] | None:
    """Return the last call that is open in this context: its run and its model."""
    link = _open_end(_PASSES.get())
    return None if link is None else link.held.call


def _open_end(link: _Link | None) -> _Link | None:
    while link is not None and link.held.is_over:
        link = link.rest
    return link


def _swept(chain: _Link) -> _Link | None:
    still_open: list[CallPass] = []
    link: _Link | None = chain
    while link is not None:
        if not link.held.is_over:
            still_open.append(link.held)
        link = link.rest
    sweep_at = max(_SWEEP_AT, 2 * len(still_open))
    kept: _Link | None = None
    for length, held in enumerate(reversed(still_open), 1):
        kept = _Link(held, kept, length, sweep_at)
    return kept
