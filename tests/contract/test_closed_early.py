"""An async stream that is closed early, left, or kept until its loop ends: nothing is said, and nothing stays open.

langchain-core's own says nothing either: a loop that shuts down closes all generators at once, and complains of each
that is being closed by another one just then.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough

from langchain_parallel_plus import (
    BranchPolicy,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableSynthesis,
    RunnableWithPolicy,
)
from langchain_parallel_plus.synthesis import JoinText, MapReduce
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.unit.observe.otel.recorder import recording

MODEL = ScriptedChatModel(["some words"], cycle=True)
RETRY = BranchPolicy(retry=RetryPolicy(max_attempts=2))


class Endless:
    """A branch that never returns, and knows whether it has been ended."""

    def __init__(self) -> None:
        self.open = 0

    async def __call__(self, value: Any) -> None:
        self.open += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.open -= 1


def fan_out(endless: Endless) -> RunnableParallelPlus[Any]:
    return RunnableParallelPlus(a=MODEL, b=RunnableLambda(str), c=RunnableLambda(endless.__call__))


def plain() -> RunnableParallelPlus[Any]:
    return RunnableParallelPlus(a=MODEL, b=RunnableLambda(str))


CHAINS: dict[str, Callable[[Endless], Runnable[Any, Any]]] = {
    "fan-out": fan_out,
    "fan-out, step": lambda endless: fan_out(endless) | RunnablePassthrough(),
    "step, fan-out": lambda endless: RunnablePassthrough() | fan_out(endless),
    "two fan-outs": lambda endless: plain() | RunnableLambda(str) | fan_out(endless),
    "nested": lambda endless: RunnableParallelPlus(a=fan_out(endless), b=MODEL) | RunnablePassthrough(),
    "policies": lambda endless: fan_out(endless).with_policy(RETRY) | RunnablePassthrough(),
    "one policy": lambda _: RunnableWithPolicy(MODEL, RETRY) | StrOutputParser(),
    "synthesis": lambda _: plain() | RunnableSynthesis(MODEL),
    "synthesis, parser": lambda _: plain() | RunnableSynthesis(MODEL) | StrOutputParser(),
    "reducer": lambda _: plain() | JoinText() | RunnablePassthrough(),
    "map-reduce": lambda _: RunnableLambda(list) | MapReduce(MODEL, RunnableSynthesis(MODEL)) | StrOutputParser(),
}

KEPT: list[Any] = []


async def close(runnable: Runnable[Any, Any]) -> None:
    stream: Any = runnable.astream("text")
    await anext(stream)
    await stream.aclose()


async def leave(runnable: Runnable[Any, Any]) -> None:
    async for _ in runnable.astream("text"):
        break


async def leave_and_go_on(runnable: Runnable[Any, Any]) -> None:
    await leave(runnable)
    for _ in range(200):
        await asyncio.sleep(0)


async def keep(runnable: Runnable[Any, Any]) -> None:
    KEPT.append(runnable.astream("text"))
    await anext(KEPT[0])


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("end", [close, leave, leave_and_go_on, keep])
@pytest.mark.parametrize("chain", CHAINS)
def test_nothing_is_said_and_nothing_stays_open(
    chain: str, end: Callable[[Runnable[Any, Any]], Awaitable[None]], traced: bool
) -> None:
    said: list[dict[str, Any]] = []
    endless = Endless()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        await end(CHAINS[chain](endless))

    with recording() if traced else nullcontext():  # which looks at its end whether spans are open
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(main())
        KEPT.clear()
        gc.collect()
    assert said == []
    assert endless.open == 0
