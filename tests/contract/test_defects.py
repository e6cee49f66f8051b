"""The defects of `RunnableParallel` (langchain-core 1.7 and 1.8) that this package repairs: each still shows upstream.

When one of these fails for `RunnableParallel`, upstream has repaired it and the repair here can be looked at again.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from langchain_core.runnables import (
    ConfigurableField,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.tracers.langchain import LangChainTracer
from langsmith import Client

from langchain_parallel_plus import (
    BranchPolicy,
    BranchTimeoutError,
    RetryPolicy,
    RunnableParallelPlus,
    TimeoutPolicy,
    fan_out_results,
)
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.contract.probes import Gauge, Parallel, others

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _inside(gauge: Gauge, seconds: float = 1.0) -> RunnableLambda[Any, Any]:
    def work(value: Any) -> Any:
        with gauge:
            time.sleep(seconds / 100)
        return value

    async def awork(value: Any) -> Any:
        with gauge:
            await asyncio.sleep(seconds)
        return value

    return RunnableLambda(work, afunc=awork)


async def d1_ainvoke_ignores_max_concurrency(parallel: Parallel) -> bool:
    gauge = Gauge()
    await parallel({str(n): _inside(gauge) for n in range(10)}).ainvoke(0, {"max_concurrency": 2})
    return gauge.peak > 2


async def d1_astream_ignores_max_concurrency(parallel: Parallel) -> bool:
    gauge = Gauge()
    fan_out = parallel({str(n): _inside(gauge) for n in range(10)})
    async for _ in fan_out.astream(0, {"max_concurrency": 2}):
        pass
    return gauge.peak > 2


def d2_the_cap_multiplies_in_batch(parallel: Parallel) -> bool:
    gauge = Gauge()
    parallel({str(n): _inside(gauge) for n in range(6)}).batch([0] * 4, {"max_concurrency": 2})
    return gauge.peak > 2


async def d2_the_cap_multiplies_in_abatch(parallel: Parallel) -> bool:
    gauge = Gauge()
    await parallel({str(n): _inside(gauge) for n in range(6)}).abatch([0] * 4, {"max_concurrency": 2})
    return gauge.peak > 2


def d2_the_cap_multiplies_in_nested_fan_outs(parallel: Parallel) -> bool:
    gauge = Gauge()
    inner = {str(n): _inside(gauge) for n in range(4)}
    parallel({str(n): parallel(inner) for n in range(4)}).invoke(0, {"max_concurrency": 3})
    return gauge.peak > 3


def d2_the_cap_multiplies_in_the_batch_of_a_sequence(parallel: Parallel) -> bool:
    gauge = Gauge()
    chain = RunnableLambda(int) | parallel({str(n): _inside(gauge) for n in range(4)})
    chain.batch([0] * 4, {"max_concurrency": 3})
    return gauge.peak > 3


def d3_every_call_starts_a_pool_of_threads(parallel: Parallel) -> bool:
    threads: set[threading.Thread] = set()

    def meet(together: threading.Barrier) -> None:
        threads.add(threading.current_thread())
        together.wait(5)

    fan_out = parallel({str(n): meet for n in range(4)})
    for _ in range(20):
        fan_out.invoke(threading.Barrier(4))
    return len(threads) > 40


async def d4_blocking_branches_share_the_loops_few_threads(parallel: Parallel) -> bool:
    together = threading.Barrier(40)  # the loop's executor has at most 32 threads
    try:
        await parallel({str(n): RunnableLambda(lambda _: together.wait(0.3)) for n in range(40)}).ainvoke(0)
    except threading.BrokenBarrierError:
        return True
    return False


def _fails_beside(outlived: threading.Event, released: threading.Event) -> dict[str, Callable[[Any], Any]]:
    def fails(_: Any) -> None:
        msg = "at once"
        raise ValueError(msg)

    def slow(_: Any) -> None:
        released.wait(0.2)
        outlived.set()

    return {"fails": fails, "slow": slow}


def d5_a_failure_waits_for_the_slowest_sibling(parallel: Parallel) -> bool:
    outlived, released = threading.Event(), threading.Event()
    with pytest.raises(ValueError, match="at once"):
        parallel(_fails_beside(outlived, released)).invoke(0)
    waited = outlived.is_set()
    released.set()
    return waited


def d5_a_failed_stream_waits_for_the_slowest_sibling(parallel: Parallel) -> bool:
    outlived, released = threading.Event(), threading.Event()
    with pytest.raises(ValueError, match="at once"):
        list(parallel(_fails_beside(outlived, released)).stream(0))
    waited = outlived.is_set()
    released.set()
    return waited


def d6_sync_runs_raise_the_first_error_by_name_and_not_by_time(parallel: Parallel) -> bool:
    raised = threading.Event()

    def later(_: Any) -> None:
        raised.wait(1)
        time.sleep(0.05)
        raise KeyError

    def first(_: Any) -> None:
        raised.set()
        raise ValueError

    try:
        parallel(a=later, b=first).invoke(0)
    except (KeyError, ValueError) as error:
        return isinstance(error, KeyError)
    return True


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
    fan_out = parallel({"ok": RunnableLambda(lambda x: 10 * x), "bad": _fails_after_1_second})
    (error,) = await fan_out.abatch([1], return_exceptions=True)
    finished = fan_out_results(error)
    return finished is None or finished.outputs != {"ok": 10}


def d11_a_retry_repeats_branches_that_had_succeeded(parallel: Parallel) -> bool:
    calls: list[str] = []

    def good(_: Any) -> None:
        calls.append("good")

    def flaky(_: Any) -> None:
        calls.append("flaky")
        if calls.count("flaky") < 3:
            raise TimeoutError

    fan_out = parallel(good=good, flaky=flaky)
    if isinstance(fan_out, RunnableParallelPlus):
        fan_out.with_policy(BranchPolicy(retry=RetryPolicy(initial_interval=0))).invoke(0)
    else:
        fan_out.with_retry(wait_exponential_jitter=False).invoke(0)
    return calls.count("good") > 1


def d12_sync_runs_lose_the_thread_id_in_traces(parallel: Parallel) -> bool:
    session = MagicMock()
    tracer = LangChainTracer(client=Client(session=session, api_key="x", auto_batch_tracing=False))
    parallel(a=len).invoke("abc", {"callbacks": [tracer], "configurable": {"thread_id": "thread-1"}})
    posts = [json.loads(call.kwargs["data"]) for call in session.request.mock_calls if call.args[:1] == ("POST",)]
    root = next(post for post in posts if post.get("parent_run_id") is None)
    return bool(root["extra"]["metadata"].get("thread_id") != "thread-1")


async def d13_an_abandoned_thread_calls_its_model(parallel: Parallel) -> bool:
    model = ScriptedChatModel(["late"])
    going_on, ended = threading.Event(), threading.Event()

    def slow(_: Any) -> None:
        going_on.wait(5)
        try:
            model.invoke("still wanted?")
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(parallel(slow=slow).ainvoke(0), 0.05)
    going_on.set()
    await asyncio.to_thread(ended.wait, 5)
    return len(model.calls) > 0


def d14_the_graph_ignores_the_config(parallel: Parallel) -> bool:
    step = RunnablePassthrough(name="as_it_is").configurable_alternatives(
        ConfigurableField(id="which"), default_key="as_it_is", other=RunnablePassthrough(name="the_other")
    )
    nodes = parallel(a=step).get_graph({"configurable": {"which": "other"}}).nodes.values()
    return "the_other" not in {node.name for node in nodes}


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


SYNC: tuple[Callable[[Parallel], bool], ...] = (
    d2_the_cap_multiplies_in_batch,
    d2_the_cap_multiplies_in_nested_fan_outs,
    d2_the_cap_multiplies_in_the_batch_of_a_sequence,
    d3_every_call_starts_a_pool_of_threads,
    d5_a_failure_waits_for_the_slowest_sibling,
    d5_a_failed_stream_waits_for_the_slowest_sibling,
    d6_sync_runs_raise_the_first_error_by_name_and_not_by_time,
    d11_a_retry_repeats_branches_that_had_succeeded,
    d12_sync_runs_lose_the_thread_id_in_traces,
    d14_the_graph_ignores_the_config,
)

REAL_TIME: tuple[Callable[[Parallel], Awaitable[bool]], ...] = (
    d4_blocking_branches_share_the_loops_few_threads,
    d13_an_abandoned_thread_calls_its_model,
)

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

both = pytest.mark.parametrize(
    ("parallel", "shows"), [(RunnableParallel, True), (RunnableParallelPlus, False)], ids=["upstream", "plus"]
)


def _each(checks: tuple[Callable[[Parallel], Any], ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("defect", checks, ids=lambda check: check.__name__)


@both
@_each(SYNC)
def test_a_defect_of_sync_runs_is_repaired(defect: Callable[[Parallel], bool], parallel: Parallel, shows: bool) -> None:
    assert defect(parallel) is shows


@both
@_each(REAL_TIME)
async def test_a_defect_of_threads_below_tasks_is_repaired(
    defect: Callable[[Parallel], Awaitable[bool]], parallel: Parallel, shows: bool
) -> None:
    assert await defect(parallel) is shows


@both
@_each(VIRTUAL_TIME)
@pytest.mark.looptime
async def test_a_defect_of_async_runs_is_repaired(
    defect: Callable[[Parallel], Awaitable[bool]], parallel: Parallel, shows: bool
) -> None:
    assert await defect(parallel) is shows


@pytest.fixture
def late() -> Iterator[tuple[ScriptedChatModel, RunnableLambda[Any, Any], threading.Event, threading.Event]]:
    """A branch that blocks, then calls its model; released and waited for at the end."""
    model = ScriptedChatModel(["too late"])
    going_on, ended = threading.Event(), threading.Event()

    def slow(_: Any) -> Any:
        going_on.wait(5)
        try:
            return model.invoke("still wanted?")
        finally:
            ended.set()

    yield model, RunnableLambda(slow), going_on, ended
    going_on.set()
    ended.wait(5)


@pytest.mark.parametrize("seconds", ["run_timeout", "attempt_timeout"])
@pytest.mark.parametrize("stream", [False, True], ids=["invoke", "stream"])
def test_a_timeout_is_honest_where_a_thread_cannot_be_stopped(late: Any, seconds: str, stream: bool) -> None:
    model, slow, going_on, ended = late
    policy = BranchPolicy(timeout=TimeoutPolicy(**{seconds: 0.05}), on_failure="keep")
    fan_out = RunnableParallelPlus(slow=slow, quick=len).with_policy(policy)
    began = time.monotonic()
    output: dict[str, Any] = {}
    if stream:
        for chunk in fan_out.stream("abc"):
            output |= chunk
    else:
        output = fan_out.invoke("abc")
    assert time.monotonic() - began < 0.3
    going_on.set()
    assert ended.wait(5)
    time.sleep(0.02)
    assert output["quick"] == 3
    assert isinstance(output["slow"].error, BranchTimeoutError)
    assert model.calls == ()
