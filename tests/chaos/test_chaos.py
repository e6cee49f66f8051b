"""Random trees of fan-outs with random delays, failures, joins, caps and cancellations, against the oracle."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from langchain_parallel_plus._engine.workers import WORKERS
from tests.chaos.trees import Fan, World, deadlines, ending, kept, leaves, shown, trees
from tests.chaos.virtual_threads import VirtualThreads
from tests.contract.aftermath import soon
from tests.contract.probes import caps_made, in_use
from tests.modes import MODES, Mode
from tests.virtual_time import at_once, on_virtual_time

TASK_MODES = {mode.name: mode for mode in MODES if not mode.sync}
THREAD_MODES = {mode.name: mode for mode in MODES if mode.sync}
ROOMY = [HealthCheck.too_slow, HealthCheck.data_too_large]


async def outcome(mode: Mode, tree: Fan, world: World, cap: int | None) -> tuple[str, Any]:
    config: Any = {} if cap is None else {"max_concurrency": cap}
    try:
        return "ok", shown(await mode.run(world.runnable(tree), 0, config))
    except Exception as error:
        return "failed", type(error).__name__


def expected(tree: Fan) -> tuple[str, Any]:
    _, how, what = ending(tree)
    return how, what


@pytest.mark.timeout(180)
@given(tree=trees(), name=st.sampled_from(sorted(TASK_MODES)))
@settings(max_examples=1000, deadline=None, suppress_health_check=ROOMY)
def test_tasks_end_as_the_oracle_says_and_leave_nothing(tree: Fan, name: str) -> None:
    world = World()
    tree = kept(tree) if TASK_MODES[name].streams else tree
    how, what = on_virtual_time(outcome(TASK_MODES[name], tree, world, None))
    assert (how, what or {}) == (expected(tree)[0], expected(tree)[1] or {})
    assert world.started == world.ended <= len(leaves(tree))


@pytest.mark.timeout(180)
@given(tree=trees(max_depth=5), cap=st.integers(1, 4), name=st.sampled_from(sorted(TASK_MODES)))
@settings(max_examples=600, deadline=None, suppress_health_check=ROOMY)
def test_tasks_under_a_cap_never_exceed_it_and_never_hang(tree: Fan, cap: int, name: str) -> None:
    world = World()
    on_virtual_time(outcome(TASK_MODES[name], tree, world, cap))
    assert world.peak <= cap
    assert world.started == world.ended


@pytest.mark.timeout(180)
@given(
    tree=trees(),
    cap=st.none() | st.integers(1, 4),
    name=st.sampled_from(sorted(TASK_MODES)),
    after=st.floats(0, 15, allow_nan=False),
)
@settings(max_examples=600, deadline=None, suppress_health_check=ROOMY)
def test_cancelled_tasks_leave_nothing(tree: Fan, cap: int | None, name: str, after: float) -> None:
    world = World()

    async def cancelled() -> None:
        task = asyncio.ensure_future(outcome(TASK_MODES[name], tree, world, cap))
        await asyncio.sleep(after)
        task.cancel()
        await asyncio.wait([task])
        assert world.running == 0

    on_virtual_time(cancelled())
    assert world.started == world.ended


def in_virtual_threads(
    name: str, tree: Fan, world: World, cap: int | None, seed: int, *, interrupt_at: float | None = None
) -> tuple[str, Any]:
    """Run a tree in threads, and check that none is left and that every slot of the cap has come back."""
    threads = VirtualThreads(seed)
    world.sleep = threads.sleep
    with caps_made() as caps:
        try:
            return threads.run(
                lambda: at_once(outcome(THREAD_MODES[name], tree, world, cap)), interrupt_at=interrupt_at
            )
        finally:
            assert threads.alive == 0
            assert (world.running, world.started) == (0, world.ended)
            assert not any(in_use(one) for one in caps)


@pytest.mark.timeout(180)
@given(tree=trees(), name=st.sampled_from(sorted(THREAD_MODES)), seed=st.integers(0, 1000))
@settings(max_examples=1000, deadline=None, suppress_health_check=ROOMY)
def test_threads_and_tasks_end_alike_as_the_oracle_says(tree: Fan, name: str, seed: int) -> None:
    tree = kept(tree) if THREAD_MODES[name].streams else tree
    in_threads = in_virtual_threads(name, tree, World(), None, seed)
    in_tasks = on_virtual_time(outcome(TASK_MODES[f"a{name}"], tree, World(), None))
    assert in_threads == in_tasks
    how, what = in_threads
    assert (how, what or {}) == (expected(tree)[0], expected(tree)[1] or {})


@pytest.mark.timeout(180)
@given(
    tree=trees(max_depth=5),
    cap=st.integers(1, 4),
    name=st.sampled_from(sorted(THREAD_MODES)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=600, deadline=None, suppress_health_check=ROOMY)
def test_threads_under_a_cap_never_exceed_it_and_never_hang(tree: Fan, cap: int, name: str, seed: int) -> None:
    world = World()
    in_virtual_threads(name, tree, world, cap, seed)
    assert world.peak <= cap


@pytest.mark.timeout(180)
@given(
    tree=trees(),
    cap=st.none() | st.integers(1, 4),
    name=st.sampled_from(sorted(THREAD_MODES)),
    seed=st.integers(0, 1000),
    after=st.floats(0, 15, allow_nan=False),
)
@settings(max_examples=600, deadline=None, suppress_health_check=ROOMY)
def test_interrupted_threads_leave_nothing(tree: Fan, cap: int | None, name: str, seed: int, after: float) -> None:
    with suppress(KeyboardInterrupt):
        in_virtual_threads(name, tree, World(), cap, seed, interrupt_at=after)


@pytest.mark.stress
@given(tree=trees(max_depth=2), name=st.sampled_from(sorted(THREAD_MODES)))
@settings(max_examples=30, deadline=None, suppress_health_check=ROOMY)
def test_threads_in_real_time_end_as_the_oracle_says(tree: Fan, name: str) -> None:
    world = World(unit=0.016)
    assume(_apart(tree))
    tree = kept(tree) if THREAD_MODES[name].streams else tree
    how, what = on_virtual_time(outcome(THREAD_MODES[name], tree, world, None))
    assert (how, what or {}) == (expected(tree)[0], expected(tree)[1] or {})
    assert soon(lambda: world.running == 0)
    assert world.started == world.ended


def _apart(tree: Fan) -> bool:
    """Return whether threads on a busy machine can be told apart by when they end: a unit, here, is 16 ms."""
    times = sorted([*(leaf.delay for leaf in leaves(tree)), *deadlines(tree)])
    return all(after - before >= 0.9 for before, after in pairwise(times))


@pytest.mark.stress
@given(tree=trees(max_depth=4), cap=st.integers(1, 3), name=st.sampled_from(sorted(THREAD_MODES)))
@settings(max_examples=60, deadline=None, suppress_health_check=ROOMY)
def test_threads_in_real_time_never_exceed_a_cap(tree: Fan, cap: int, name: str) -> None:
    world = World(unit=0.001)
    on_virtual_time(outcome(THREAD_MODES[name], tree, world, cap))
    assert world.peak <= cap
    assert soon(lambda: world.running == 0 and WORKERS.running == 0)
