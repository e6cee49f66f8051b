"""`RateLimiter`: one quota, shared by every branch, thread and event loop that uses the key."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.limits.acquisition import Acquisition
from langchain_parallel_plus.limits.declaration import Quota
from langchain_parallel_plus.limits.registry import forget_accounts, join_account
from langchain_parallel_plus.limits.tokens.estimate import (
    Estimate,
    ModelCall,
    certain_cost,
    checked_estimate,
    estimated_cost,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langchain_parallel_plus.limits.cost import Cost
    from langchain_parallel_plus.limits.statistics import LimiterStatistics

__all__ = ("RateLimiter", "reset")

L = TypeVar("L", bound="RateLimiter")


class RateLimiter(Acquisition):
    """The quota of one key: requests, tokens and concurrency, admitted together and first come, first served.

    Declare what the provider grants. An idle key lets as much through at once as the provider is known to allow (a
    minute's worth at OpenAI, ten seconds' worth where nobody knows), sustained load is paced just below the rate, and
    nobody polls: a waiter wakes when its turn has come. A refusal pauses the key until the provider's Retry-After and
    makes it more careful; asked to wait for more than two minutes, the key refuses calls until then, rather than let
    them hang. Headers, where responses have them, lower the limit and show what others use of the key. Any number of
    threads and of event loops may use one limiter at once. Limiters of one `name` share one state across the process.
    Where the limits are not known, see `RateLimiter.adaptive` and `RateLimiter.from_headers`.

    It works where LangChain takes a rate limiter, too (`ChatX(rate_limiter=limiter)`). LangChain then tells it nothing
    about the call, so it charges one request and the average tokens of the calls that it has seen, and takes no slot
    of `concurrency`, because nobody would give it back. Put the limiter on the fan-out to have all of it.

    Embeddings are no Runnables and tell nobody of their calls, and so it is with search APIs and databases: put
    `RunnableWithPolicy(step, BranchPolicy(limiter=..., cost=...))` around the step that makes them.

    Args:
        requests_per_minute: Requests a minute.
        tokens_per_minute: Tokens a minute, input and output together.
        input_tokens_per_minute: Input tokens a minute.
        output_tokens_per_minute: Output tokens a minute.
        requests_per_day: Requests a day. The whole of it may go at once.
        tokens_per_day: Tokens a day. The whole of it may go at once.
        concurrency: Calls in flight at once.
        name: Limiters of the same name share one quota, until `limits.reset()`: what is taken, learned and closed stays
            also while nobody holds one. So it is after pickling into another process, where it counts afresh: quotas
            are per process. Of more than 512 names, those that rest are forgotten.
        models: The calls governed: shell patterns over "provider:model" (LangSmith's names, such as
            "openai:gpt-4o*") or over the model's name alone; `None` for all.
        burst: Seconds' worth of the per-minute limits that an idle key lets through at once, up to 60; by default what
            the provider's profile says.
        provider: Whose profile to use, such as "openai" or "azure"; by default that of the models called.
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
        provider: str | None = None,
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
            provider=provider,
            models=models,
        )
        self._open(_key(name), quota, name, estimate, clock)

    @classmethod
    def adaptive(
        cls,
        *,
        requests_per_minute: float = 60.0,
        tokens_per_minute: float | None = None,
        concurrency: int | None = None,
        name: str | None = None,
        models: str | Sequence[str] | None = None,
        burst: float | None = None,
        provider: str | None = None,
        estimate: Estimate | None = None,
        clock: Callable[[], float] | None = None,
    ) -> Self:
        """Return a limiter for a quota that nobody knows: it finds the ceiling, and stays just below it.

        The pace doubles every ten seconds of use until the provider refuses a call, goes just below what got through
        in the last minute, and grows by 1 to 16 % after every two minutes without a refusal. It learns from calls
        inside a fan-out, or from tickets that are settled and refused; `acquire` alone tells it nothing.

        Args:
            requests_per_minute: Where to start.
            tokens_per_minute: Where to start, if tokens are to be paced as well.
            concurrency: Calls in flight at once.
            name: As for `RateLimiter`, and so are the others.
            models: The calls governed.
            burst: Seconds' worth of the pace that an idle key lets through at once; by default one.
            provider: Whose accounting of tokens to use.
            estimate: Cost of a model call before it is made.
            clock: Seconds that never go back.

        Example:
            ```python
            limiter = RateLimiter.adaptive(name="in-house")
            assert limiter.try_acquire()
            ```
        """
        quota = Quota(
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            concurrency=concurrency,
            burst=burst,
            provider=provider,
            models=models,
            learning="adaptive",
        )
        return _restore(cls, _key(name), quota, name, estimate, clock)

    @classmethod
    def from_headers(
        cls,
        *,
        concurrency: int | None = None,
        name: str | None = None,
        models: str | Sequence[str] | None = None,
        burst: float | None = None,
        provider: str | None = None,
        estimate: Estimate | None = None,
        clock: Callable[[], float] | None = None,
    ) -> Self:
        """Return a limiter that takes its limits from the provider's headers.

        One call goes first. What its response says is then kept to like a declaration, and followed when the provider
        changes it, up or down. If the response has no headers on limits, the ceiling is looked for from 60 requests a
        minute on, as `adaptive` does. Headers have to reach the limiter: `ChatOpenAI(include_response_headers=True)`
        inside a fan-out. `acquire`, and so LangChain's `ChatX(rate_limiter=...)`, is told of no response: alone, it
        keeps to 60 requests a minute.

        Args:
            concurrency: Calls in flight at once; it and all others are as for `RateLimiter`.
            name: The shared name.
            models: The calls governed.
            burst: Seconds' worth of the limits that an idle key lets through at once.
            provider: Whose rules to use.
            estimate: Cost of a model call before it is made.
            clock: Seconds that never go back.

        Example:
            ```python
            limiter = RateLimiter.from_headers(name="openai")
            ticket = limiter.reserve()
            assert ticket.granted
            ticket.heard(parse_rate_limit_headers({"x-ratelimit-limit-requests": "500", ...}, time.time()))
            ```
        """
        quota = Quota(concurrency=concurrency, burst=burst, provider=provider, models=models, learning="headers")
        return _restore(cls, _key(name), quota, name, estimate, clock)

    def _open(
        self,
        key: str,
        quota: Quota,
        name: str | None,
        estimate: Estimate | None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        callbacks: tuple[tuple[str, object, str], ...] = (("estimate", estimate, "a Cost"), ("clock", clock, "seconds"))
        for given, callback, what in callbacks:
            if callback is not None and not callable(callback):
                msg = f"{given}={callback!r} cannot be called"
                raise DeclarationError(msg, help=f"give a function that returns {what}, or leave it out")
        self._key = key
        self._estimate = estimate
        self._account = join_account(key, quota, name, clock)
        self._turnstile = self._account.turnstile

    @property
    def declaration(self) -> dict[str, Any]:
        """What `declared` makes the limiter of again, as plain data; without an `estimate=` of its own."""
        quota, name = self._account.quota, self._account.name
        learning = {} if quota.learning == "declared" else {"learning": quota.learning}
        return {**quota.declared(), **({"name": name} if name else {}), **learning}

    @classmethod
    def declared(cls, declaration: Mapping[str, Any]) -> Self:
        """Return the limiter that a `declaration` describes, in this or another process.

        Raises:
            DeclarationError: It describes none, or one whose name has other limits here.

        Example:
            ```python
            limiter = RateLimiter(requests_per_minute=500, name="openai")
            assert RateLimiter.declared(limiter.declaration).account is limiter.account
            ```
        """
        given = dict(declaration)
        makers: dict[object, Callable[..., Self]] = {
            "declared": cls,
            "adaptive": cls.adaptive,
            "headers": cls.from_headers,
        }
        learning = given.pop("learning", "declared")
        if learning not in makers:
            msg = f"a limiter that learns by {learning!r} was declared"
            raise DeclarationError(msg, help="pass on what RateLimiter.declaration says")
        return makers[learning](**given)

    @property
    def name(self) -> str:
        """The declared name, or "unnamed"."""
        return self._turnstile.label

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

    def meet(self, provider: str) -> None:
        """Take note of the provider that the next call goes to, by LangSmith's name; "" if nobody knows.

        Its rules hold from then on, unless `provider=` was given. Where calls go to several, the most careful rules
        do.
        """
        self._account.meet(provider)

    def set_rate(self, *, concurrency: int | None = None, **limits: float) -> None:
        """Change declared limits while running, such as `set_rate(requests_per_minute=600)`.

        What is taken stays taken; waiters are planned anew. The declaration that a `name` is checked against stays.

        Raises:
            DeclarationError: A dimension that was not declared, or no positive number.
        """
        self._account.set_rate(concurrency, limits)

    def estimate(self, call: ModelCall, *, correction: float = 1.0) -> Cost:
        """Return what `call` is to be admitted with.

        A guess is no reason to refuse it: only the input's characters and a given `max_tokens` are `Cost.certain`, and
        of an average answer and a correction no more is taken than a limit itself. What `estimate=` returns is the
        user's word.

        Args:
            call: The call that is about to be made.
            correction: What its input tokens are to be multiplied with.

        Raises:
            DeclarationError: The `estimate=` callable returned something else than a `Cost`.
        """
        typical, unused = self._account.typical.output_tokens, self._account.unused
        if self._estimate is None:
            unused.reserved_by("average" if call.max_tokens is None else "max_tokens")
            cost = estimated_cost(call, typical, correction)
            is_guess_too_large = self._account.is_too_large(cost)
            return replace(cost, certain=certain_cost(call, correction)) if is_guess_too_large else cost
        unused.reserved_by("estimate")
        return checked_estimate(self._estimate(replace(call, typical_output=typical, correction=correction)))

    def statistics(self) -> LimiterStatistics:
        """Return what the limiter is doing."""
        return self._account.statistics()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        account = self._account
        return _restore, (type(self), self._key, account.quota, account.name, self._estimate)

    def __repr__(self) -> str:
        made_by = {"declared": "", "adaptive": ".adaptive", "headers": ".from_headers"}[self._account.quota.learning]
        given = ", ".join(f"{name}={value!r}" for name, value in self.declaration.items() if name != "learning")
        return f"{type(self).__name__}{made_by}({given})"


def reset(name: str | None = None) -> None:
    """Forget which limits `name`, or every name, was declared with: the next limiter of that name begins afresh.

    Limiters that exist keep their quota, and share it among themselves. For notebooks, where a cell that declares a
    limiter is changed and run again, and between tests.

    Example:
        ```python
        before = RateLimiter(requests_per_minute=60, name="openai")
        reset("openai")
        after = RateLimiter(requests_per_minute=90, name="openai")
        ```
    """
    forget_accounts(None if name is None else _key(name))


def _restore(
    cls: type[L],
    key: str,
    quota: Quota,
    name: str | None,
    estimate: Estimate | None,
    clock: Callable[[], float] | None = None,
) -> L:
    limiter = cls.__new__(cls)
    limiter._open(key, quota, name, estimate, clock)
    return limiter


def _key(name: str | None) -> str:
    if name is not None and not (isinstance(name, str) and name):
        msg = f"name={name!r} is no name"
        raise DeclarationError(msg, help="give a string, or leave it out for a limiter of its own")
    return f"name:{name}" if name else f"own:{uuid.uuid4()}"
