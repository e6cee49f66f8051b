"""Open model calls and what they hold of each limiter, from the first callback of a run to its last."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from langchain_parallel_plus.errors import LimiterError
from langchain_parallel_plus.limits.cost import Cost
from langchain_parallel_plus.limits.passes import CallPass

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_parallel_plus.limits.gate.scope import GateScope
    from langchain_parallel_plus.limits.limiter import RateLimiter
    from langchain_parallel_plus.limits.ticket import Ticket
    from langchain_parallel_plus.limits.tokens.estimate import ModelCall
    from langchain_parallel_plus.limits.tokens.usage import Usage
    from langchain_parallel_plus.providers.classified import Classified
    from langchain_parallel_plus.providers.snapshot import Snapshot

__all__ = ("BranchBook", "CallGroup", "Holding", "Ledger", "OpenCall")


class Holding(NamedTuple):
    """What a call holds of one limiter."""

    limiter: RateLimiter
    ticket: Ticket
    correction: float
    """What its estimate was multiplied with."""


@dataclass(slots=True, eq=False)
class CallGroup:
    """The prompts that one `generate([p1, p2, p3])` sends.

    All of them start before any call is made, and end after all calls are over. So they share one slot of a
    concurrency: with one each, the third would wait for the first, which cannot begin before the third has started.
    """

    size: int = 1
    parameters: object = None
    """The object that its starts have in common; held, so that its id stays its own."""
    calls: list[OpenCall] = field(default_factory=list)

    def release(self) -> None:
        """Give the slots back: the first end or error of a prompt means that the calls of all are over."""
        for call in self.calls:
            for held in call.holdings:
                held.ticket.release()

    def refund(self) -> None:
        """Take everything back: a start was refused, so no call of the group is made."""
        for call in self.calls:
            call.refund()


class BranchBook:
    """The calls that one branch has open."""

    __slots__ = ("_calls", "_groups", "_lock", "_passed")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[UUID, OpenCall] = {}
        self._groups: dict[int, CallGroup] = {}
        self._passed: set[UUID] = set()

    def group(self, size: object, parameters: object) -> CallGroup:
        """Return the group of a start: the starts of one `generate` carry the same parameters object."""
        if not isinstance(size, int) or size < 2 or parameters is None:
            return CallGroup()
        with self._lock:
            return self._groups.setdefault(id(parameters), CallGroup(size, parameters))

    def enter(self, call: OpenCall) -> None:
        """Note an open call."""
        with self._lock:
            self._calls[call.run_id] = call
            call.group.calls.append(call)

    def let_pass(self, run_id: UUID) -> None:
        """Note that a synchronous handler has left a run to an asynchronous one, and will not hear of it again."""
        self._passed.add(run_id)

    def has_passed(self, run_id: UUID) -> bool:
        """Return whether a synchronous handler has left the run to an asynchronous one."""
        return run_id in self._passed

    def strike(self, call: OpenCall) -> None:
        """Forget a call, and its group: no further start can join it once one of it has ended."""
        with self._lock:
            self._calls.pop(call.run_id, None)
            self._passed.discard(call.run_id)
            self._groups.pop(id(call.group.parameters), None)

    def runs(self) -> list[UUID]:
        """Return the runs that are open."""
        with self._lock:
            return list(self._calls)


@dataclass(slots=True, eq=False, kw_only=True)
class OpenCall:
    """One prompt's call and its tickets."""

    run_id: UUID
    request: ModelCall
    scope: GateScope
    book: BranchBook
    group: CallGroup
    call_pass: CallPass = field(default_factory=CallPass)
    serialized: object = None
    """The model, as LangChain describes it."""
    holdings: list[Holding] = field(default_factory=list)
    admitted: bool = False
    """Whether it may have been sent."""
    ended: bool = False
    asked: RateLimiter | None = None
    """The limiter that it stands at, or was last at."""
    asked_at: float = 0.0
    """Since when, on that one's clock."""
    refused: BaseException | None = None
    """What is still to be raised, by the handler that comes last."""

    @property
    def slots(self) -> int:
        """How many slots of a concurrency it takes itself."""
        return int(self.group.calls[0] is self)

    def ask(self, limiter: RateLimiter) -> None:
        """Note that it comes to a limiter."""
        self.asked, self.asked_at = limiter, limiter.account.turnstile.clock()

    def tell_refusal(self, error: BaseException) -> None:
        """Tell that a limiter has refused it, if that is what the error says."""
        limiter = self.asked
        if limiter is not None and isinstance(error, LimiterError):
            self.scope.refused(
                limiter=limiter.name,
                reason=error.code.lower(),
                seconds=limiter.account.turnstile.clock() - self.asked_at,
                model=self.request.model,
                call=self.run_id,
            )

    def refund(self) -> None:
        """End the call, with everything taken back: it was not sent."""
        self._end()
        for held in self.holdings:
            held.ticket.cancel()

    def abandon(self) -> None:
        """End the call because nobody waits for it any more: what may have been sent stays spent."""
        self._end()
        for held in self.holdings:
            if self.admitted and held.ticket.granted:
                held.ticket.release()
            else:
                held.ticket.cancel()

    def settle(self, usage: Usage | None, snapshot: Snapshot | None = None) -> None:
        """End the call with what it used; without a record, what was estimated stays spent.

        Args:
            usage: Tokens, as the provider counted them.
            snapshot: What the provider said of the quota.
        """
        self._end()
        if usage is not None and usage.from_cache:
            self.refund()
        else:
            for held in self.holdings:
                # In this order: the headers tell of the moment of admission, before the call has used anything.
                if snapshot is not None:
                    held.ticket.heard(snapshot)
                if usage is not None:
                    self._settle(held, usage)
        self.group.release()

    def fail(self, verdict: Classified, snapshot: Snapshot | None = None, *, sent: bool = True) -> None:
        """End the call with an error, and tell the limiters what the provider said about the quota.

        Args:
            verdict: What the error means.
            snapshot: What the provider's headers said.
            sent: Whether a request may have gone out at all.
        """
        self._end()
        refund = not sent or verdict.facts.limiter == "refund"
        for held in self.holdings:
            if not refund:
                held.ticket.refused(verdict, snapshot)
                continue
            if snapshot is not None:
                held.ticket.heard(snapshot)
            held.ticket.cancel()
        self.group.release()

    def _settle(self, held: Holding, usage: Usage) -> None:
        held.ticket.settle(
            Cost(
                requests=held.ticket.cost.requests,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cached_tokens=usage.cached_tokens,
            )
        )
        account = held.limiter.account
        account.observe(usage.input_tokens, usage.output_tokens)
        if self.group.size == 1 or not isinstance(self.request.prompt, str):  # else the sum of a whole batch
            account.corrections.observe(
                self.scope.lane,
                self.request.model,
                estimated=held.ticket.cost.input_tokens / held.correction,
                actual=usage.input_tokens,
            )

    def _end(self) -> None:
        self.ended = True
        self.call_pass.close()


class Ledger:
    """Open calls by run. Nested fan-outs see one run through several handlers: the first to claim it has it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[UUID, OpenCall] = {}

    def claim(self, call: OpenCall) -> bool:
        """Enter `call`; `False` if its run is there already."""
        with self._lock:
            if self._calls.setdefault(call.run_id, call) is not call:
                return False
        call.book.enter(call)
        return True

    def take(self, run_id: UUID) -> OpenCall | None:
        """Take the call of `run_id` out; `None` if it is not there, or not any more."""
        with self._lock:
            call = self._calls.pop(run_id, None)
        if call is not None:
            call.book.strike(call)
        return call

    def find(self, run_id: UUID) -> OpenCall | None:
        """Return the call of `run_id`, if it is there."""
        return self._calls.get(run_id)
