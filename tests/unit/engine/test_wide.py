"""A thousand branches in tasks: the first is at work while the last is being started."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_parallel_plus import RunnableParallelPlus
from tests.modes import MODES, Mode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

WIDE = 500
async_modes = pytest.mark.parametrize("mode", [mode for mode in MODES if not mode.sync], ids=str)


def wide(branch: Callable[[Any], Awaitable[Any]]) -> RunnableParallelPlus:
    return RunnableParallelPlus({f"b{n}": branch for n in range(WIDE)})


@async_modes
async def test_the_first_of_many_branches_goes_on_before_the_last_has_started(mode: Mode) -> None:
    started: list[int] = []
    gone_on: list[int] = []

    async def branch(_: Any) -> str:
        started.append(1)
        await asyncio.sleep(0)
        gone_on.append(len(started))
        return "out"

    output = await mode.run(wide(branch), 0, None)
    assert len(output) == WIDE
    assert gone_on[0] < WIDE / 4


async def test_a_failure_of_the_first_starts_no_more_than_are_on_their_way() -> None:
    started: list[int] = []

    class Fails(Runnable[Any, Any]):
        def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
            raise NotImplementedError

        async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
            started.append(1)
            raise LookupError("as told")

    with pytest.raises(LookupError):
        await RunnableParallelPlus({f"b{n}": Fails() for n in range(WIDE)}).ainvoke(0)
    assert len(started) < WIDE / 4


async def test_items_of_a_batch_go_on_before_the_last_has_started() -> None:
    started: list[int] = []
    gone_on: list[int] = []

    async def branch(value: int) -> int:
        started.append(1)
        for _ in range(3):
            await asyncio.sleep(0)
        gone_on.append(len(started))
        return value

    outputs = await RunnableParallelPlus(a=branch, b=branch).abatch(list(range(WIDE)))
    assert outputs == [{"a": n, "b": n} for n in range(WIDE)]
    assert gone_on[0] < WIDE
