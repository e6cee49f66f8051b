"""`max_concurrency` is one cap for the whole tree below the call that sets it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from langchain_parallel_plus import BranchPolicy, DeclarationError, RetryPolicy, TimeoutPolicy
from tests.contract.aftermath import soon
from tests.contract.probes import Gauge, leaf, plus
from tests.modes import MODES, Mode

SYNC = [mode for mode in MODES if mode.sync]
ASYNC = [mode for mode in MODES if not mode.sync]


def _streaming_leaf(gauge: Gauge, seconds: float) -> Runnable[Any, Any]:
    def chunks(inputs: Iterator[Any]) -> Iterator[str]:
        for _ in inputs:
            pass
        for _ in range(2):
            with gauge:
                time.sleep(seconds / 1000)
            yield "x"

    async def achunks(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
        async for _ in inputs:
            pass
        for _ in range(2):
            with gauge:
                await asyncio.sleep(seconds)
            yield "x"

    return RunnableGenerator(chunks, achunks)


async def _same(value: Any) -> Any:
    return value


# With a coroutine of its own: virtual time does not wait for threads.
_SAME = RunnableLambda(lambda value: value, afunc=_same)

Leaf = Callable[[Gauge, float], Runnable[Any, Any]]
LEAVES = pytest.mark.parametrize("leaf", [leaf, _streaming_leaf], ids=["call", "stream"])


def _three_levels(gauge: Gauge, leaf: Leaf) -> tuple[Runnable[Any, Any], int]:
    """Return a fan-out of three levels, uneven, with chains and policies in between, and its number of leaves."""
    deepest = plus(a=leaf(gauge, 3), b=leaf(gauge, 1))
    guarded = BranchPolicy(retry=RetryPolicy(), timeout=TimeoutPolicy(run_timeout=600))
    middle = plus(a=deepest, b=leaf(gauge, 2), c=_SAME | deepest).with_policy(c=guarded)
    return plus(a=middle, b=leaf(gauge, 4), c=middle.with_retry(), d=leaf(gauge, 1)), 12


async def _check(mode: Mode, leaf: Leaf, cap: int, caps: list[Any]) -> None:
    gauge = Gauge()
    tree, leaves = _three_levels(gauge, leaf)
    await mode.run(tree, 0, {"max_concurrency": cap})
    assert gauge.peak == cap
    assert gauge.entered in (leaves, 2 * leaves)
    assert {one.limit for one in caps} == {cap}


@pytest.mark.parametrize("cap", [1, 2, 4])
@pytest.mark.parametrize("mode", SYNC, ids=str)
@LEAVES
async def test_three_levels_of_fan_outs_share_one_cap_in_threads(
    mode: Mode, leaf: Leaf, cap: int, caps: list[Any]
) -> None:
    await _check(mode, leaf, cap, caps)


@pytest.mark.looptime
@pytest.mark.parametrize("cap", [1, 2, 4])
@pytest.mark.parametrize("mode", ASYNC, ids=str)
@LEAVES
async def test_three_levels_of_fan_outs_share_one_cap_in_tasks(
    mode: Mode, leaf: Leaf, cap: int, caps: list[Any]
) -> None:
    await _check(mode, leaf, cap, caps)


def _batch(runnable: Runnable[Any, Any], inputs: list[Any], config: Any) -> list[Any]:
    return runnable.batch(inputs, config)


def _batch_as_completed(runnable: Runnable[Any, Any], inputs: list[Any], config: Any) -> list[Any]:
    return [output for _, output in sorted(runnable.batch_as_completed(inputs, config))]


async def _abatch(runnable: Runnable[Any, Any], inputs: list[Any], config: Any) -> list[Any]:
    return await runnable.abatch(inputs, config)


async def _abatch_as_completed(runnable: Runnable[Any, Any], inputs: list[Any], config: Any) -> list[Any]:
    return [output for _, output in sorted([item async for item in runnable.abatch_as_completed(inputs, config)])]


@pytest.mark.parametrize("cap", [1, 3])
@pytest.mark.parametrize("batch", [_batch, _batch_as_completed])
def test_items_branches_and_levels_share_one_cap_in_threads(batch: Any, cap: int, caps: list[Any]) -> None:
    gauge = Gauge()
    tree, leaves = _three_levels(gauge, leaf)
    outputs = batch(tree, [0, 1, 2, 3], {"max_concurrency": cap})
    assert [output["b"] for output in outputs] == [0, 1, 2, 3]
    assert (gauge.peak, gauge.entered) == (cap, 4 * leaves)


@pytest.mark.looptime
@pytest.mark.parametrize("cap", [1, 3])
@pytest.mark.parametrize("batch", [_abatch, _abatch_as_completed])
async def test_items_branches_and_levels_share_one_cap_in_tasks(batch: Any, cap: int, caps: list[Any]) -> None:
    gauge = Gauge()
    tree, leaves = _three_levels(gauge, leaf)
    outputs = await batch(tree, [0, 1, 2, 3], {"max_concurrency": cap})
    assert [output["b"] for output in outputs] == [0, 1, 2, 3]
    assert (gauge.peak, gauge.entered) == (cap, 4 * leaves)


@pytest.mark.parametrize("method", ["ainvoke", "astream"])
async def test_blocking_branches_of_tasks_obey_the_cap(method: str, caps: list[Any]) -> None:
    gauge = Gauge()

    def blocking(value: Any) -> Any:
        with gauge:
            time.sleep(0.005)
        return value

    inner = plus({str(n): blocking for n in range(4)})
    tree = plus(a=inner, b=inner, c=blocking)
    if method == "ainvoke":
        await tree.ainvoke(0, {"max_concurrency": 3})
    else:
        async for _ in tree.astream(0, {"max_concurrency": 3}):
            pass
    assert gauge.entered == 9
    assert gauge.peak <= 3


@pytest.mark.looptime
async def test_a_tighter_cap_below_holds_within_the_one_above(caps: list[Any]) -> None:
    everything, inner = Gauge(), Gauge()

    async def tightly_capped(value: Any) -> Any:
        with everything, inner:
            await asyncio.sleep(1)
        return value

    below = plus({str(n): tightly_capped for n in range(6)})

    async def tight(value: Any) -> Any:
        return await below.ainvoke(value, {"max_concurrency": 2})

    tree = plus(a=tight, **{f"x{n}": leaf(everything, 1) for n in range(6)})
    await tree.ainvoke(0, {"max_concurrency": 3})
    assert (inner.peak, everything.peak) == (2, 3)
    assert (inner.entered, everything.entered) == (6, 12)


@pytest.mark.looptime
async def test_a_back_off_holds_no_permit(caps: list[Any]) -> None:
    times = []

    async def flaky(_: Any) -> str:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            raise TimeoutError
        return "in"

    retry = BranchPolicy(retry=RetryPolicy(initial_interval=100, max_interval=100, jitter=False))
    tree = plus(flaky=flaky, work=leaf(Gauge(), 7)).with_policy(flaky=retry)
    assert await tree.ainvoke(0, {"max_concurrency": 1}) == {"flaky": "in", "work": 0}
    assert asyncio.get_running_loop().time() == pytest.approx(100, abs=0.5)


async def _fails_in_a_second(_: Any) -> None:
    await asyncio.sleep(1)
    raise LookupError


@pytest.mark.looptime
@pytest.mark.parametrize("mode", ASYNC, ids=str)
@pytest.mark.parametrize("inner_ends", ["failure", "timeout"])
async def test_a_fan_out_that_ended_early_has_given_its_permits_back(
    mode: Mode, inner_ends: str, caps: list[Any]
) -> None:
    gauge = Gauge()
    last = _fails_in_a_second if inner_ends == "failure" else leaf(gauge, 3600)
    inner = plus(a=leaf(gauge, 3600), b=leaf(gauge, 3600), c=last)
    policy = BranchPolicy(on_failure="keep", timeout=TimeoutPolicy(run_timeout=20))
    tree = plus(inner=inner, x=leaf(gauge, 1), y=leaf(gauge, 1)).with_policy(inner=policy)
    output = await mode.run(tree, 5, {"max_concurrency": 3})
    assert (output["x"], output["y"]) == (5, 5)
    assert not output["inner"]


@pytest.mark.parametrize("mode", SYNC, ids=str)
async def test_an_abandoned_thread_gives_its_permit_back_when_it_ends(mode: Mode, caps: list[Any]) -> None:
    started, going_on, ended = threading.Event(), threading.Event(), threading.Event()

    def late(_: Any) -> None:
        started.set()
        going_on.wait(5)
        ended.set()

    def fails(_: Any) -> None:
        started.wait(5)
        raise LookupError

    with pytest.raises(LookupError):
        await mode.run(plus(late=late, fails=fails), 0, {"max_concurrency": 2})
    going_on.set()
    assert ended.wait(5)
    assert soon(lambda: all(cap.free == cap.limit for cap in caps))


@pytest.mark.parametrize("cap", [0, -1, True, 1.5, "2"])
async def test_a_cap_that_is_none_is_refused_before_anything_is_called(mode: Mode, cap: Any) -> None:
    gauge = Gauge()
    with pytest.raises(DeclarationError, match="max_concurrency must be a whole number of at least 1"):
        await mode.run(plus(a=leaf(gauge, 0), b=leaf(gauge, 0)), 0, {"max_concurrency": cap})
    assert gauge.entered == 0
