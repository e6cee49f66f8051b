"""`RateLimiter`: one quota, shared by every branch, thread and event loop that uses the key."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from langchain_core.rate_limiters import BaseRateLimiter

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.limits.account import join_account
from langchain_parallel_plus.limits.cost import Cost
from langchain_parallel_plus.limits.declaration import Quota
from langchain_parallel_plus.limits.estimate import Estimate, ModelCall, estimate_cost
from langchain_parallel_plus.limits.hold import Hold
from langchain_parallel_plus.limits.passes import use_pass
from langchain_parallel_plus.limits.ticket import Ticket
from langchain_parallel_plus.limits.turnstile import Entrant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_parallel_plus.limits.account import Account
    from langchain_parallel_plus.limits.statistics import LimiterStatistics

__all__ = ("RateLimiter",)


class RateLimiter(BaseRateLimiter):
    """The quota of one key: requests, tokens and concurrency, admitted together and first come, first served.

    Declare what the provider grants. An idle key lets ten seconds' worth of it through at once (`burst`), sustained
    load is paced at 0.98 of it, and nobody polls: a waiter wakes when its turn has come. Any number of threads and of
    event loops may use one limiter at once. Limiters of one `name` share one state across the process.

    It works where LangChain takes a rate limiter, too (`ChatX(rate_limiter=limiter)`). LangChain then tells it nothing
    about the call, so it charges one request and the average tokens of the calls that it has seen, and takes no slot
    of `concurrency`, because nobody would give it back. Put the limiter on the fan-out to have all of it.

    Args:
        requests_per_minute: Requests a minute.
        tokens_per_minute: Tokens a minute, input and output together.
        input_tokens_per_minute: Input tokens a minute.
        output_tokens_per_minute: Output tokens a minute.
        requests_per_day: Requests a day. The whole of it may go at once.
        tokens_per_day: Tokens a day. The whole of it may go at once.
        concurrency: Calls in flight at once.
        name: Limiters of the same name share one quota, also after pickling into another process (where it counts
            afresh: quotas are per process).
        models: The calls governed: shell patterns over "provider:model" (LangSmith's names, such as
            "openai:gpt-4o*") or over the model's name alone; `None` for all.
        burst: Seconds' worth of the per-minute limits that an idle key lets through at once, up to 60.
        estimate: Cost of a model call before it is made, from a `ModelCall`; by default a quarter of its characters,
            and `max_tokens` or the average answer.
        clock: Seconds that never go back. For tests on virtual time.

    Raises:
        DeclarationError: No limit, one that is no positive number, or a `name` declared before with other limits.

    Example:
        ```python
        limiter = RateLimiter(requests_per_minute=500, tokens_per_minute=200_000, name="openai")
        limiter.acquire(Cost(input_tokens=1_200, output_tokens=300), timeout=10)
        ```
    """

    def __init__(
        self,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        input_tokens_per_minute: float | None = None,
        output_tokens_per_minute: float | None = None,
        requests_per_day: float | None = None,
        tokens_per_day: float | None = None,
        concurrency: int | None = None,
        name: str | None = None,
        models: str | Sequence[str] | None = None,
        burst: float | None = None,
        estimate: Estimate | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        quota = Quota(
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            input_tokens_per_minute=input_tokens_per_minute,
            output_tokens_per_minute=output_tokens_per_minute,
            requests_per_day=requests_per_day,
            tokens_per_day=tokens_per_day,
            concurrency=concurrency,
            burst=burst,
            models=(models,) if isinstance(models, str) else None if models is None else tuple(models),
        )
        if name is not None and not (isinstance(name, str) and name):
            msg = f"name={name!r} is no name"
            raise DeclarationError(msg, help="give a string, or leave it out for a limiter of its own")
        self._open(f"name:{name}" if name else f"own:{uuid.uuid4()}", quota, name, estimate, clock)

    def _open(
        self,
        key: str,
        quota: Quota,
        name: str | None,
        estimate: Estimate | None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._key = key
        self._estimate = estimate
        self._account = join_account(key, quota, name, clock)
        self._turnstile = self._account.turnstile

    @property
    def declaration(self) -> dict[str, Any]:
        """The arguments that declare the limiter again; without an `estimate=` of its own."""
        return {**self._account.quota.declared(), **({"name": self._account.name} if self._account.name else {})}

    @property
    def name(self) -> str:
        """The declared name, or "unnamed"."""
        return self._turnstile.label

    @property
    def account(self) -> Account:
        """The state that all limiters of one name share."""
        return self._account

    def governs(self, provider: str, model: str) -> bool:
        """Tell whether calls of `model` at `provider` are under this limiter.

        Example:
            ```python
            limiter = RateLimiter(requests_per_minute=500, models="openai:gpt-4o*")
            assert limiter.governs("openai", "gpt-4o-mini")
            assert not limiter.governs("anthropic", "claude-sonnet-5")
            ```
        """
        return self._account.quota.governs(provider, model)

    def acquire(self, cost: Cost | None = None, *, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take `cost` from the quota, once there is enough of it.

        Args:
            cost: By default one request of average size, without a slot of `concurrency`.
            blocking: `False` to return `False` at once where others would wait.
            timeout: Seconds to wait at most. Known beforehand to be too short, it raises at once.

        Returns:
            Whether the cost was taken.

        Raises:
            LimiterTimeoutError: Not within `timeout` seconds.
            RequestTooLargeError: It is more than a limit itself.
            QuotaExhaustedError: The key is closed.
        """
        if self._at_once(cost):
            return True
        return blocking and self.reserve(cost, within=timeout).wait(timeout)

    async def aacquire(self, cost: Cost | None = None, *, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take `cost` from the quota as `acquire` does, without blocking the event loop."""
        if self._at_once(cost):
            return True
        return blocking and await self.reserve(cost, within=timeout).wait_async(timeout)

    def try_acquire(self, cost: Cost | None = None) -> bool:
        """Take `cost` from the quota if it is there and nobody waits; return whether it was."""
        return self._at_once(cost)

    def reserve(
        self, cost: Cost | None = None, *, lane: str = "", weight: float = 1.0, within: float | None = None
    ) -> Ticket:
        """Queue for `cost` and return the ticket to wait for, settle, cancel and release.

        Args:
            cost: By default one request of average size.
            lane: Requests are first come, first served within a lane, and lanes share the quota by `weight`.
            weight: A lane of weight 2 gets twice the quota of one of weight 1 while both have requests waiting.
            within: Seconds that the caller can wait at most.

        Raises:
            LimiterTimeoutError: The planned wait is longer than `within`; nothing was queued.
            RequestTooLargeError: It is more than a limit itself.
            QuotaExhaustedError: The key is closed.
        """
        if not weight > 0:
            msg = f"weight={weight!r} is no share"
            raise DeclarationError(msg, help="give a positive number; 1 is a branch's normal share")
        cost, entrant = self._entrant(cost, lane, weight)
        self._turnstile.enter(entrant, within)
        return Ticket(self._account, entrant, cost)

    def force(self, cost: Cost | None = None, *, within: float | None = None) -> Ticket:
        """Take `cost` past the queue; the caller sends its request `ticket.delay` seconds from now.

        For a caller that must not depend on other waiters' progress, such as a synchronous call on an event loop's
        thread: whoever holds what it waits for may run on that very loop.
        """
        cost, entrant = self._entrant(cost, "", 1.0)
        return Ticket(self._account, entrant, cost, self._turnstile.force(entrant, within))

    def hold(self, cost: Cost | None = None, *, timeout: float | None = None) -> Hold:
        """Return a context manager that takes `cost` and a slot of `concurrency`, and gives the slot back at its end.

        Example:
            ```python
            with limiter.hold(Cost(tokens=1_000)) as ticket:
                answer = search(query)
                ticket.settle(Cost(tokens=answer.tokens))
            ```
        """
        return Hold(self, cost, timeout)

    def release(self, slots: int = 1) -> None:
        """Give back slots that `acquire(Cost(slots=...))` took. Tickets have a `release` of their own.

        Raises:
            LimiterError: More than are in use.
        """
        self._turnstile.release_slots(slots)

    def set_rate(self, *, concurrency: int | None = None, **limits: float) -> None:
        """Change declared limits while running, such as `set_rate(requests_per_minute=600)`.

        What is taken stays taken; waiters are planned anew. The declaration that a `name` is checked against stays.

        Raises:
            DeclarationError: A dimension that was not declared, or no positive number.
        """
        self._account.set_rate(concurrency, limits)

    def pause(self, seconds: float, *, keep: Cost | None = None) -> None:
        """Admit nothing for `seconds`, then go on with nearly empty buckets rather than with a burst.

        Args:
            seconds: From now; a pause that ends sooner than the present one changes nothing.
            keep: What may pass right at the end, such as the call that was refused; by default a second's worth.
        """
        if not 0 <= seconds < float("inf"):
            msg = f"pause({seconds!r}) is no time"
            raise DeclarationError(msg, help="give seconds, 0 or more")
        kept = None if keep is None else self._account.amounts(keep)
        self._turnstile.change(lambda planner, now: planner.pause(now + seconds, kept))

    def close(self, reason: str) -> None:
        """Refuse every request from now on, those that wait included, with `QuotaExhaustedError`."""
        self._turnstile.close(reason)

    def reopen(self) -> None:
        """Undo `close`."""
        self._turnstile.reopen()

    def estimate(self, call: ModelCall) -> Cost:
        """Return what `call` is to be admitted with.

        Raises:
            DeclarationError: The `estimate=` callable returned something else than a `Cost`.
        """
        cost = (self._estimate or estimate_cost)(replace(call, typical_output=self._account.typical.output_tokens))
        if not isinstance(cost, Cost):
            msg = f"estimate= returned {cost!r}, which is no Cost"  # type: ignore[unreachable]
            raise DeclarationError(msg, help="return Cost(input_tokens=..., output_tokens=...)")
        return cost

    def statistics(self) -> LimiterStatistics:
        """Return what the limiter is doing."""
        return self._account.statistics()

    def _at_once(self, cost: Cost | None) -> bool:
        account = self._account
        if cost is None:
            return use_pass(account) or account.turnstile.admit(account.typical_amounts, 0)
        return account.turnstile.admit(account.amounts(cost), cost.slots)

    def _entrant(self, cost: Cost | None, lane: str, weight: float) -> tuple[Cost, Entrant]:
        cost = cost or self._account.typical.cost()
        slots = cost.slots if self._account.has_slots else 0
        entrant = Entrant(
            amounts=self._account.amounts(cost),
            slots=slots,
            lane=lane,
            weight=weight,
            generation=self._turnstile.generation,
        )
        return cost, entrant

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        account = self._account
        return _restore, (type(self), self._key, account.quota, account.name, self._estimate)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.declaration.items())})"


def _restore(
    cls: type[RateLimiter], key: str, quota: Quota, name: str | None, estimate: Estimate | None
) -> RateLimiter:
    limiter = cls.__new__(cls)
    limiter._open(key, quota, name, estimate)
    return limiter
