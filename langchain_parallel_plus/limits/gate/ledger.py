"""Open model calls and what they hold of each limiter, from the first callback of a run to its last."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from langchain_parallel_plus.errors import LimiterError
from langchain_parallel_plus.limits.cost import Cost

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from langchain_parallel_plus.limits.branch_scope import GateScope
    from langchain_parallel_plus.limits.limiter import RateLimiter
    from langchain_parallel_plus.limits.passes import CallPass
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

    size: int
    parameters: object
    """The object that its starts have in common; held, so that its id stays its own."""
    calls: list[OpenCall] = field(default_factory=list)
    shares: dict[UUID, Usage] = field(default_factory=dict)
    """What each run has used of the sum that LangChain reports, once it has."""

    def release(self) -> None:
        """Give the slots back: the first end or error of a prompt means that the calls of all are over."""
        for call in self.calls:
            call.release()


class BranchBook:
    """The calls that one branch has open."""

    __slots__ = ("_calls", "_groups", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: set[OpenCall] = set()
        self._groups: dict[int, CallGroup] = {}

    def group(self, size: object, parameters: object) -> CallGroup | None:
        """Return the group of a start, if it has one: the starts of one `generate` carry the same parameters object."""
        if not isinstance(size, int) or size < 2 or parameters is None:
            return None
        with self._lock:
            return self._groups.setdefault(id(parameters), CallGroup(size, parameters))

    def enter(self, call: OpenCall) -> None:
        """Note an open call."""
        with self._lock:
            self._calls.add(call)
            if call.group is not None:
                call.group.calls.append(call)

    def strike(self, call: OpenCall) -> None:
        """Forget a call, and its group: no further start can join it once one of it has ended."""
        with self._lock:
            self._calls.discard(call)
            if call.group is not None:
                self._groups.pop(id(call.group.parameters), None)

    def runs(self) -> list[UUID]:
        """Return the runs that are open."""
        if not self._calls:
            return []
        with self._lock:
            return [call.run_id for call in self._calls]


@dataclass(slots=True, eq=False, kw_only=True)
class OpenCall:
    """One prompt's call and its tickets."""

    run_id: UUID
    request: ModelCall
    scope: GateScope
    book: BranchBook
    call_pass: CallPass
    group: CallGroup | None = None
    """The prompts that are sent with it, if there are any."""
    serialized: object = None
    """The model, as LangChain describes it."""
    holdings: list[Holding] = field(default_factory=list)
    admitted: bool = False
    """Whether it may have been sent."""
    ended: bool = False
    forget: Callable[[], None] | None = None
    """Ends what listens whether somebody still waits for the call."""
    asked: RateLimiter | None = None
    """The limiter that it stands at, or was last at."""
    asked_at: float = 0.0
    """Since when, on that one's clock."""

    @property
    def slots(self) -> int:
        """How many slots of a concurrency it takes itself."""
        return int(self.group is None or self.group.calls[0] is self)

    @property
    def estimated(self) -> float:
        """Tokens that it was admitted with by its first limiter."""
        return self.holdings[0].ticket.cost.total_tokens if self.holdings else 0.0

    def refuse(self) -> None:
        """End the call, and all that would be sent with it, with everything taken back: its start was refused."""
        for call in (self,) if self.group is None else tuple(self.group.calls):
            call.refund()

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

    def release(self) -> None:
        """Give the slots back."""
        for held in self.holdings:
            held.ticket.release()

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
        self._leave()

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
        self._leave()

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
        if self.group is None or not isinstance(self.request.prompt, str):  # else the sum of a whole batch
            account.corrections.observe(
                self.scope.lane,
                self.request.model,
                estimated=held.ticket.cost.input_tokens / held.correction,
                actual=usage.input_tokens,
            )

    def _leave(self) -> None:
        if self.group is None:
            self.release()
            return
        self.group.release()
        # Two that hold each other stay in memory until Python looks for such pairs, which costs more than the call.
        self.group.calls = [call for call in self.group.calls if call is not self]

    def _end(self) -> None:
        self.ended = True
        forget, self.forget = self.forget, None
        if forget is not None:
            forget()
        self.call_pass.close()


class Ledger:
    """Open calls by run. Several handlers may see one run: the first to claim it has it.

    Without a lock of its own: what a dict does in one step, no other thread sees half done.
    """

    def __init__(self) -> None:
        self._calls: dict[UUID, OpenCall] = {}

    def claim(self, call: OpenCall) -> bool:
        """Enter `call`; `False` if its run is there already."""
        if self._calls.setdefault(call.run_id, call) is not call:
            return False
        call.book.enter(call)
        return True

    def find(self, run_id: UUID) -> OpenCall | None:
        """Return the call of `run_id`, if it is there."""
        return self._calls.get(run_id)

    def take(self, run_id: UUID) -> OpenCall | None:
        """Take the call of `run_id` out; `None` if it is not there, or not any more."""
        call = self._calls.pop(run_id, None)
        if call is not None:
            call.book.strike(call)
        return call
