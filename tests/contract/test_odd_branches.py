"""Branches that do what branches should not do, in all modes, as upstream takes them where upstream has an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from types import GeneratorType
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from tests.contract.probes import Parallel, plus
from tests.modes import MODES, Mode

ASYNC = [mode for mode in MODES if not mode.sync]


@pytest.mark.parametrize("mode", ASYNC, ids=str)
async def test_work_without_a_coroutine_does_not_block_the_loop(mode: Mode) -> None:
    beats = 0

    async def heart() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.005)
            beats += 1

    heartbeat = asyncio.create_task(heart())
    await mode.run(plus(a=lambda _: time.sleep(0.15), b=lambda _: time.sleep(0.15)), 0, None)
    heartbeat.cancel()
    assert beats >= 8


@pytest.mark.parametrize("mode", ASYNC, ids=str)
async def test_a_coroutine_that_blocks_the_loop_delays_its_siblings_and_loses_none(
    parallel: Parallel, mode: Mode
) -> None:
    async def blocks(_: Any) -> str:
        time.sleep(0.05)  # noqa: ASYNC251  # what the test is about
        return "a"

    async def sleeps(_: Any) -> str:
        await asyncio.sleep(0.01)
        return "b"

    output = await mode.run(parallel(a=blocks, b=sleeps), 0, None)
    assert output == {"a": "a", "b": "b"}


def _stops(_: Any) -> None:
    raise StopIteration(7)


async def _astops(_: Any) -> None:
    raise StopIteration(7)


async def _stops_async(_: Any) -> None:
    raise StopAsyncIteration(7)


@pytest.mark.parametrize(
    "branch",
    [RunnableLambda(_stops), RunnableLambda(_stops, afunc=_astops)],
    ids=["function", "coroutine"],
)
async def test_stop_iteration_is_a_runtime_error_that_names_the_branch(branch: Any, mode: Mode) -> None:
    with pytest.raises(RuntimeError) as caught:
        await mode.run(plus(a=branch, b=len), "abc", None)
    assert any("'a'" in text for text in (str(caught.value), *caught.value.__notes__))


@pytest.mark.parametrize("mode", ASYNC, ids=str)
async def test_stop_async_iteration_is_a_runtime_error_too(mode: Mode) -> None:
    with pytest.raises(RuntimeError):
        await mode.run(plus(a=_stops_async, b=len), "abc", None)


def _letters(text: str) -> Iterator[str]:
    yield from text


async def _aletters(text: str) -> AsyncIterator[str]:
    for letter in text:
        yield letter


async def test_a_generator_function_is_a_stream_whose_sum_is_the_output(parallel: Parallel, mode: Mode) -> None:
    branch = RunnableLambda(_letters) if mode.sync else RunnableLambda(_aletters)
    assert await mode.run(parallel(a=branch, b=len), "abc", None) == {"a": "abc", "b": 3}


async def test_a_generator_as_a_value_goes_through_unread(parallel: Parallel, mode: Mode) -> None:
    output = await mode.run(parallel(a=lambda text: _letters(text)), "abc", None)
    assert isinstance(output["a"], GeneratorType)
    assert list(output["a"]) == ["a", "b", "c"]


async def test_a_branch_that_returns_a_runnable_has_it_called(parallel: Parallel, mode: Mode) -> None:
    assert await mode.run(parallel(a=lambda text: RunnableLambda(len)), "abc", None) == {"a": 3}


async def test_branches_share_one_input_object(parallel: Parallel, mode: Mode) -> None:
    document: dict[str, Any] = {"seen": []}
    output = await mode.run(
        parallel(a=lambda d: d["seen"].append("a"), b=lambda d: d["seen"].append("b")), document, None
    )
    assert output == {"a": None, "b": None}
    assert sorted(document["seen"]) == ["a", "b"]


async def test_a_branch_that_changes_the_fan_out_changes_the_next_call_only(parallel: Parallel, mode: Mode) -> None:
    fan_out = parallel({})
    steps: Any = fan_out.steps__

    def adds(_: Any) -> str:
        steps["later"] = RunnableLambda(lambda _: "there")
        return "here"

    steps["now"] = RunnableLambda(adds)
    assert await mode.run(fan_out, 0, None) == {"now": "here"}
    assert await mode.run(fan_out, 0, None) == {"now": "here", "later": "there"}


async def test_none_and_falsy_outputs_are_outputs(parallel: Parallel, mode: Mode) -> None:
    fan_out = parallel(a=lambda _: None, b=lambda _: 0, c=lambda _: "")
    assert await mode.run(fan_out, 1, None) == {"a": None, "b": 0, "c": ""}


async def test_one_error_object_raised_by_every_branch_and_every_call_keeps_one_note(mode: Mode) -> None:
    error = ValueError("one for all")

    def fails(_: Any) -> None:
        raise error

    for _ in range(3):
        with pytest.raises(ValueError, match="one for all"):
            await mode.run(plus(a=fails), 0, None)
    assert len(error.__notes__) == 1
