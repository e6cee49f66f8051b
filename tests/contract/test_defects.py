"""The defects of `RunnableParallel` (langchain-core 1.7 and 1.8) that this package repairs: each still shows upstream.

When one of these fails for `RunnableParallel`, upstream has repaired it and the repair here can be looked at again.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableLambda, RunnableParallel

from langchain_parallel_plus import BranchPolicy, BranchTimeoutError, RunnableParallelPlus, TimeoutPolicy
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.contract.probes import Parallel, plus
from tests.contract.task_defects import VIRTUAL_TIME
from tests.contract.thread_defects import REAL_TIME, SYNC

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

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
    fan_out = plus(slow=slow, quick=len).with_policy(policy)
    began = time.monotonic()
    output: dict[str, Any] = {}
    if stream:
        for chunk in fan_out.stream("abc"):
            output |= chunk
    else:
        output = fan_out.invoke("abc")
    assert time.monotonic() - began < 2
    going_on.set()
    assert ended.wait(5)
    time.sleep(0.02)
    assert output["quick"] == 3
    assert isinstance(output["slow"].error, BranchTimeoutError)
    assert model.calls == ()
