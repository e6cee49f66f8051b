"""Ours and the rivals: real `ChatOpenAI` models under each of the ways to live with a quota."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel
from langchain_openai import ChatOpenAI

from langchain_parallel_plus import BranchPolicy, RateLimiter, RetryPolicy, RunnableParallelPlus
from tests.benchmarks.quota.load import ANSWER_TOKENS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.benchmarks.quota.load import Load

__all__ = ("CONTENDERS", "OURS", "RIVALS", "Contender", "chat_model")

_MANY_ATTEMPTS = 20
_TURNED_UP = 6
_CHECK_EVERY = 0.05
_POLICY = BranchPolicy(retry=RetryPolicy(max_attempts=4), on_failure="keep")


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to make the calls of a load."""

    name: str
    prepare: Callable[[Load, str], Callable[[], Awaitable[object]]]
    """From a load and the provider's address; the function that is returned makes the calls."""
    ours: bool = False


def chat_model(url: str, **fields: Any) -> ChatOpenAI:
    """Return a model at `url`, with what `fields` change of its defaults."""
    return ChatOpenAI(model="gpt-4o-mini", base_url=url, api_key="simulator", max_tokens=ANSWER_TOKENS, **fields)


def _limited(load: Load, fan_out: RunnableParallelPlus[Any]) -> RunnableParallelPlus[Any]:
    limiter = RateLimiter(
        requests_per_minute=load.requests_per_minute,
        tokens_per_minute=load.tokens_per_minute,
        provider=load.provider,
    )
    return fan_out.with_policy(_POLICY).with_limits(limiter)


def _ours(load: Load, url: str) -> Callable[[], Awaitable[object]]:
    model = chat_model(url, max_retries=0)
    fan_out = _limited(load, RunnableParallelPlus(_branches(load, model)))
    return lambda: fan_out.ainvoke("")


def _ours_in_a_batch(load: Load, url: str) -> Callable[[], Awaitable[object]]:
    model = chat_model(url, max_retries=0)
    fan_out = _limited(load, RunnableParallelPlus({"answer": RunnableLambda(load.prompt) | model}))
    return lambda: fan_out.abatch(list(range(len(load.sizes))))


def _ours_in_threads(load: Load, url: str) -> Callable[[], Awaitable[object]]:
    model = chat_model(url, max_retries=0)
    fan_out = _limited(load, RunnableParallelPlus(_branches(load, model)))
    return lambda: asyncio.to_thread(fan_out.invoke, "")


def _rival(build: Callable[[Load, str], Runnable[Any, Any]]) -> Callable[[Load, str], Callable[[], Awaitable[object]]]:
    """Put what `build` returns under each branch of a `RunnableParallel`, which goes on without the failed ones."""

    def prepare(load: Load, url: str) -> Callable[[], Awaitable[object]]:
        lost = RunnableLambda(_nothing)
        model = build(load, url).with_fallbacks([lost])
        fan_out: RunnableParallel[Any] = RunnableParallel(_branches(load, model))
        return lambda: fan_out.ainvoke("")

    return prepare


def _branches(load: Load, model: Runnable[Any, Any]) -> dict[str, Any]:
    return {f"b{number}": _asking(load.prompt(number)) | model for number in range(len(load.sizes))}


def _asking(prompt: str) -> RunnableLambda[Any, str]:
    async def ask(value: Any) -> str:
        return prompt

    return RunnableLambda(lambda value: prompt, ask)


async def _nothing(value: Any) -> None:
    return None


def _default_limiter(load: Load, url: str) -> Runnable[Any, Any]:
    return chat_model(url, rate_limiter=InMemoryRateLimiter(requests_per_second=load.per_second))


def _tuned_limiter(load: Load, url: str) -> Runnable[Any, Any]:
    tuned = InMemoryRateLimiter(
        requests_per_second=load.per_second,
        check_every_n_seconds=_CHECK_EVERY,
        max_bucket_size=max(load.per_second, 1.0),
    )
    return chat_model(url, rate_limiter=tuned)


OURS = (
    Contender("RunnableParallelPlus, ainvoke", _ours, ours=True),
    Contender("RunnableParallelPlus, abatch", _ours_in_a_batch, ours=True),
    Contender("RunnableParallelPlus, invoke", _ours_in_threads, ours=True),
)
RIVALS = (
    Contender("ChatOpenAI as it comes (max_retries=2)", _rival(lambda load, url: chat_model(url))),
    Contender("with_retry()", _rival(lambda load, url: chat_model(url, max_retries=0).with_retry())),
    Contender(
        f"with_retry(stop_after_attempt={_MANY_ATTEMPTS})",
        _rival(lambda load, url: chat_model(url, max_retries=0).with_retry(stop_after_attempt=_MANY_ATTEMPTS)),
    ),
    Contender(
        f"ChatOpenAI(max_retries={_TURNED_UP})", _rival(lambda load, url: chat_model(url, max_retries=_TURNED_UP))
    ),
    Contender("InMemoryRateLimiter", _rival(_default_limiter)),
    Contender(f"InMemoryRateLimiter, bucket 1 s, check {_CHECK_EVERY} s", _rival(_tuned_limiter)),
)
CONTENDERS = {contender.name: contender for contender in (*OURS, *RIVALS)}
