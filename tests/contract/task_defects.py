"""Defects of `RunnableParallel` in tasks, on virtual time: each function tells whether a class shows one."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from langchain_parallel_plus import fan_out_results
from tests.contract.probes import Gauge, Parallel, leaf, others

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ("VIRTUAL_TIME",)


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def d1_ainvoke_ignores_max_concurrency(parallel: Parallel) -> bool:
    gauge = Gauge()
    await parallel({str(n): leaf(gauge, 10) for n in range(10)}).ainvoke(0, {"max_concurrency": 2})
    return gauge.peak > 2


async def d1_astream_ignores_max_concurrency(parallel: Parallel) -> bool:
    gauge = Gauge()
    fan_out = parallel({str(n): leaf(gauge, 10) for n in range(10)})
    async for _ in fan_out.astream(0, {"max_concurrency": 2}):
        pass
    return gauge.peak > 2


async def d2_the_cap_multiplies_in_abatch(parallel: Parallel) -> bool:
    gauge = Gauge()
    await parallel({str(n): leaf(gauge, 10) for n in range(6)}).abatch([0] * 4, {"max_concurrency": 2})
    return gauge.peak > 2


async def _fails_after_1_second(_: Any) -> None:
    await asyncio.sleep(1)
    msg = "after a second"
    raise ValueError(msg)


async def _takes_an_hour(value: Any) -> Any:
    await asyncio.sleep(3600)
    return value


async def d7_siblings_of_a_failure_go_on_in_the_background(parallel: Parallel) -> bool:
    with pytest.raises(ValueError, match="after a second"):
        await parallel({"fails": _fails_after_1_second, "slow": _takes_an_hour}).ainvoke(0)
    left = others()
    await _end(left)
    return bool(left)


async def _ticks(inputs: AsyncIterator[Any]) -> AsyncIterator[int]:
    async for _ in inputs:
        for n in range(100):
            yield n
            await asyncio.sleep(1)


async def d8_a_stream_closed_early_leaves_tasks(parallel: Parallel) -> bool:
    stream = parallel({"a": RunnableGenerator(_ticks), "b": _takes_an_hour}).astream(0)
    for _ in range(3):
        await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]  # a generator, typed as an iterator
    for _ in range(20):  # what is closed by the loop's hook may still be on its way
        await asyncio.sleep(0)
    left = others()
    await _end(left)
    return bool(left)


async def d8_a_failed_stream_leaves_tasks(parallel: Parallel) -> bool:
    fan_out = parallel({"fails": _fails_after_1_second, "b": RunnableGenerator(_ticks)})
    with pytest.raises(ValueError, match="after a second"):
        async for _ in fan_out.astream(0):
            pass
    left = others()
    await _end(left)
    return bool(left)


async def _work_per_chunk(parallel: Parallel, branches: int) -> float:
    """Return how many function calls a chunk costs when no two branches are in step."""

    def ticking(number: int) -> RunnableGenerator[Any, int]:
        async def chunks(inputs: AsyncIterator[Any]) -> AsyncIterator[int]:
            async for _ in inputs:
                for n in range(4):
                    await asyncio.sleep(1 + number / branches)
                    yield n

        return RunnableGenerator(chunks)

    fan_out = parallel({str(n): ticking(n) for n in range(branches)})
    calls = chunks = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.collect()  # finalisers of earlier tests are not counted
    gc.disable()
    sys.setprofile(count)
    try:
        async for _ in fan_out.astream(0):
            chunks += 1
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls / chunks


async def d9_a_chunk_costs_more_the_more_branches_there_are(parallel: Parallel) -> bool:
    many = await _work_per_chunk(parallel, 120)
    few = await _work_per_chunk(parallel, 12)
    return many > 1.2 * few


async def d10_a_failure_in_a_batch_loses_the_finished_outputs(parallel: Parallel) -> bool:
    fan_out = parallel({"ok": leaf(Gauge(), 0.5), "bad": _fails_after_1_second})
    error: Any
    (error,) = await fan_out.abatch([1], return_exceptions=True)
    finished = fan_out_results(error)
    return finished is None or finished.outputs != {"ok": 1}


async def d15_abatch_hangs_on_a_cap_of_0(parallel: Parallel) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # upstream's coroutines are never awaited
        try:
            await asyncio.wait_for(parallel(a=_takes_an_hour).abatch([0], {"max_concurrency": 0}), 60)
        except TimeoutError:
            return True
        except ValueError:
            return False
        finally:
            gc.collect()
    return True


async def d16_stop_iteration_is_another_error_in_every_mode(parallel: Parallel) -> bool:
    def stops(_: Any) -> None:
        raise StopIteration

    async def astops(_: Any) -> None:
        raise StopIteration

    fan_out = parallel(a=RunnableLambda(stops, afunc=astops))
    raised = []

    async def consumed() -> None:
        async for _ in fan_out.astream(0):
            pass

    runs: list[Callable[[], Any]] = [lambda: fan_out.invoke(0), lambda: list(fan_out.stream(0))]
    for run in runs:
        try:
            run()
        except Exception as error:
            raised.append(type(error))
    for arun in (lambda: fan_out.ainvoke(0), consumed):
        try:
            await arun()
        except Exception as error:
            raised.append(type(error))
    return raised != [RuntimeError] * 4


VIRTUAL_TIME: tuple[Callable[[Parallel], Awaitable[bool]], ...] = (
    d1_ainvoke_ignores_max_concurrency,
    d1_astream_ignores_max_concurrency,
    d2_the_cap_multiplies_in_abatch,
    d7_siblings_of_a_failure_go_on_in_the_background,
    d8_a_stream_closed_early_leaves_tasks,
    d8_a_failed_stream_leaves_tasks,
    d9_a_chunk_costs_more_the_more_branches_there_are,
    d10_a_failure_in_a_batch_loses_the_finished_outputs,
    d15_abatch_hangs_on_a_cap_of_0,
    d16_stop_iteration_is_another_error_in_every_mode,
)
