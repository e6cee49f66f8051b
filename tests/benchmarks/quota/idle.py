"""An idle key: five branches start together, though the rate alone would spread them over four seconds."""

from __future__ import annotations

import asyncio
import statistics
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableLambda, RunnableParallel

from langchain_parallel_plus import RateLimiter, RunnableParallelPlus
from tests.benchmarks.quota.contenders import chat_model
from tests.benchmarks.quota.provider import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import Runnable

    from tests.benchmarks.quota.provider import Provider

__all__ = ("idle_key",)

_BRANCHES = 5
_LIMIT = 60
_REPEATS = 9
_TARGET = 0.020


def idle_key() -> Iterator[str]:
    """Last start after the first, as the server saw them arrive."""
    with running({"requests_per_minute": _LIMIT}) as provider:
        yield (
            f"Five branches on an idle key of {_LIMIT} requests a minute: arrival of the last after the first "
            f"(median and worst of {_REPEATS})"
        )
        ours, theirs = asyncio.run(_measure(provider))
    met = "met" if statistics.median(ours) <= _TARGET else "missed"
    yield f"  {'RunnableParallelPlus, RateLimiter':<48} {_shown(ours)}  <= {_TARGET * 1e3:g} ms: {met}"
    yield f"  {'RunnableParallel, no limiter':<48} {_shown(theirs)}"


async def _measure(provider: Provider) -> tuple[list[float], list[float]]:
    model = chat_model(provider.url, max_retries=0)
    ask = RunnableLambda(lambda value: "A question", _question)
    branches = {f"b{number}": ask | model for number in range(_BRANCHES)}
    theirs: list[float] = []
    ours: list[float] = []
    for warm in (False, *[True] * _REPEATS):
        limited = RunnableParallelPlus(branches).with_limits(RateLimiter(requests_per_minute=_LIMIT))
        spans = await _span(provider, limited), await _span(provider, RunnableParallel(branches))
        if warm:
            ours.append(spans[0])
            theirs.append(spans[1])
    return ours, theirs


async def _question(value: Any) -> str:
    return "A question"


async def _span(provider: Provider, fan_out: Runnable[Any, Any]) -> float:
    provider.reset()
    await fan_out.ainvoke("")
    arrivals = provider.tally()["arrivals"]
    assert len(arrivals) == _BRANCHES
    return float(arrivals[-1] - arrivals[0])


def _shown(spans: list[float]) -> str:
    return f"{statistics.median(spans) * 1e3:>6.1f} ms {max(spans) * 1e3:>6.1f} ms"
