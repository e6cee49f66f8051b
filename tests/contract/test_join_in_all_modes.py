"""When a fan-out is done, and what failed branches leave, in all modes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from langchain_parallel_plus import (
    BranchFailure,
    BranchPolicy,
    DeadlineExceededError,
    ErrorKind,
    FanOutError,
    JoinPolicy,
    fan_out_results,
)
from tests.contract.aftermath import left_nothing, left_nothing_in_tasks
from tests.contract.probes import Runs, plus
from tests.modes import MODES, Mode

UNIT = 0.1
"""Real seconds of a virtual one, for threads."""


class World:
    """Branches that take seconds: virtual ones in tasks, short ones in threads."""

    def __init__(self, sync: bool) -> None:
        self.unit = UNIT if sync else 1.0
        self.ended: list[str] = []
        self.released = threading.Event()

    def after(self, seconds: float, output: Any) -> Runnable[Any, Any]:
        def work(_: Any) -> Any:
            self.released.wait(seconds * UNIT)
            return self._end(output)

        async def awork(_: Any) -> Any:
            await asyncio.sleep(seconds)
            return self._end(output)

        return RunnableLambda(work, afunc=awork)

    def never(self) -> Runnable[Any, Any]:
        return self.after(200, "too late")

    def text(self, *chunks: str | Exception) -> Runnable[Any, Any]:
        """Return a stream with a second before each chunk."""

        def stream(inputs: Iterator[Any]) -> Iterator[str]:
            for _ in inputs:
                pass
            for chunk in chunks:
                self.released.wait(UNIT)
                yield self._end(chunk)

        async def astream(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
            async for _ in inputs:
                pass
            for chunk in chunks:
                await asyncio.sleep(1)
                yield self._end(chunk)

        return RunnableGenerator(stream, astream)

    def _end(self, output: Any) -> Any:
        if isinstance(output, Exception):
            raise output
        self.ended.append(output)
        return output


async def _run(mode: Mode, work: Callable[[World, Runs], Any]) -> Any:
    """Run in a world that fits the mode, and check that nothing is left."""
    world = World(mode.sync)
    if mode.sync:
        with left_nothing() as runs:
            try:
                return await work(world, runs)
            finally:
                world.released.set()
    async with left_nothing_in_tasks() as runs:
        return await work(world, runs)


def _with_modes(test: Any) -> Any:
    modes = [pytest.param(mode, id=str(mode), marks=[] if mode.sync else [pytest.mark.looptime]) for mode in MODES]
    return pytest.mark.parametrize("mode", modes)(test)


@_with_modes
async def test_k_of_n_takes_the_first_k_and_cancels_the_rest(mode: Mode) -> None:
    worlds = []

    async def work(world: World, runs: Runs) -> Any:
        worlds.append(world)
        fan_out = plus(
            never=world.never(), third=world.after(5, "3"), second=world.after(2, "2"), first=world.after(1, "1")
        ).with_join(JoinPolicy(wait_for=2))
        output = await mode.run(fan_out, 0, {"callbacks": [runs]})
        assert worlds[0].ended == ["1", "2"]
        return output

    assert await _run(mode, work) == {"second": "2", "first": "1"}


@_with_modes
async def test_what_follows_can_tell_how_the_branches_were_declared_whichever_came_first(mode: Mode) -> None:
    async def work(world: World, runs: Runs) -> Any:
        late = ValueError("late")
        fan_out = plus(a=world.after(6, 1), b=world.text("x", "y", late), c=world.after(2, 3)).with_join(
            JoinPolicy(min_success=1)
        )
        output = await mode.run(fan_out, 0, {"callbacks": [runs]})
        return list(output.in_order) if mode.streams else list(output)

    assert await _run(mode, work) == ["a", "b", "c"]


@_with_modes
async def test_the_first_valid_output_wins_and_failures_count_for_nothing(mode: Mode) -> None:
    async def work(world: World, runs: Runs) -> Any:
        fan_out = plus(
            broken=world.after(1, ValueError("no")),
            empty=world.after(2, ""),
            valid=world.after(4, "an answer"),
            never=world.never(),
        ).with_join(JoinPolicy(wait_for=1, accept=bool))
        return await mode.run(fan_out, 0, {"callbacks": [runs]})

    output = await _run(mode, work)
    assert {key: value for key, value in output.items() if value} == {"valid": "an answer"}
    assert output["broken"].kind is ErrorKind.UNKNOWN
    assert (output["empty"].partial, output["empty"].error_type) == ("", "RejectedOutputError")
    assert "never" not in output


@_with_modes
async def test_at_the_deadline_the_results_so_far_are_the_result(mode: Mode) -> None:
    async def work(world: World, runs: Runs) -> Any:
        join = JoinPolicy(min_success=1, deadline=5 * world.unit)
        fan_out = plus(quick=world.after(1, "in"), never=world.never()).with_join(join)
        began = time.monotonic()
        output = await mode.run(fan_out, 0, {"callbacks": [runs]})
        assert time.monotonic() - began < 20 * UNIT
        return output

    output = await _run(mode, work)
    assert list(output) == ["quick", "never"]
    assert output["quick"] == "in"
    assert output["never"].kind is ErrorKind.TIMEOUT
    assert isinstance(output["never"].error, DeadlineExceededError)


@_with_modes
async def test_branches_leave_the_reserve_of_the_deadline_to_what_follows(mode: Mode) -> None:
    async def work(world: World, runs: Runs) -> Any:
        join = JoinPolicy(min_success=1, deadline=50 * world.unit, reserve=45 * world.unit)
        fan_out = plus(quick=world.after(1, "in"), never=world.never()).with_join(join)
        now = time.monotonic if mode.sync else asyncio.get_running_loop().time
        began = now()
        output = await mode.run(fan_out, 0, {"callbacks": [runs]})
        took = (now() - began) / world.unit
        assert took == pytest.approx(5, abs=0.001) if not mode.sync else 5 <= took < 40
        return output, f"not in by {join.branch_deadline:g} s, the fan-out's deadline of {join.deadline:g} s"

    output, message = await _run(mode, work)
    assert output["quick"] == "in"
    assert message in output["never"].message
    assert output["never"].kind is ErrorKind.TIMEOUT


@_with_modes
async def test_too_few_in_time_is_an_error_with_everything_that_is_known(mode: Mode) -> None:
    async def work(world: World, runs: Runs) -> Any:
        join = JoinPolicy(min_success=2, deadline=5 * world.unit)
        fan_out = plus(
            quick=world.after(1, "in"), broken=world.after(2, ValueError("no")), never=world.never()
        ).with_join(join)
        with pytest.raises(FanOutError) as caught:
            await mode.run(fan_out, 0, {"callbacks": [runs]})
        return caught.value

    error = await _run(mode, work)
    assert error.outputs == {"quick": "in"}
    assert {key: failure.error_type for key, failure in error.failures.items()} == {
        "broken": "ValueError",
        "never": "DeadlineExceededError",
    }
    assert isinstance(error.__cause__, ExceptionGroup)
    assert fan_out_results(error) is not None


@_with_modes
async def test_too_few_is_known_as_soon_as_enough_have_failed(mode: Mode) -> None:
    async def work(world: World, runs: Runs) -> Any:
        fan_out = plus(
            a=world.after(1, ValueError("a")), b=world.after(2, KeyError("b")), never=world.never()
        ).with_join(JoinPolicy(min_success=2))
        with pytest.raises(FanOutError, match="at least 2 must"):
            await mode.run(fan_out, 0, {"callbacks": [runs]})
        assert world.ended == []

    await _run(mode, work)


@_with_modes
async def test_a_required_branch_is_waited_for_and_its_failure_is_the_fan_outs(mode: Mode) -> None:
    required = BranchPolicy(required=True)

    async def waits(world: World, runs: Runs) -> Any:
        fan_out = (
            plus(quick=world.after(1, "1"), needed=world.after(3, "2"), never=world.never())
            .with_policy(needed=required)
            .with_join(JoinPolicy(wait_for=1))
        )
        return await mode.run(fan_out, 0, {"callbacks": [runs]})

    async def fails(world: World, runs: Runs) -> Any:
        fan_out = (
            plus(needed=world.after(1, KeyError("gone")), never=world.never())
            .with_policy(needed=required)
            .with_join(JoinPolicy(wait_for=1))
        )
        with pytest.raises(KeyError, match="gone"):
            await mode.run(fan_out, 0, {"callbacks": [runs]})

    assert await _run(mode, waits) == {"quick": "1", "needed": "2"}
    await _run(mode, fails)


@_with_modes
async def test_a_late_result_changes_nothing(mode: Mode) -> None:
    async def work(world: World, runs: Runs) -> Any:
        fan_out = plus(first=world.after(1, "1"), late=world.never()).with_join(JoinPolicy(wait_for=1))
        output = await mode.run(fan_out, 0, {"callbacks": [runs]})
        before = dict(output)
        world.released.set()
        await asyncio.sleep(2 * world.unit)
        assert output == before
        return output

    assert await _run(mode, work) == {"first": "1"}


@_with_modes
@pytest.mark.parametrize("on_failure", ["raise", "keep", "drop"])
async def test_a_failed_branch_raises_or_stays_as_a_value_or_is_left_out(
    mode: Mode, on_failure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(world: World, runs: Runs) -> Any:
        fan_out = plus(
            a=world.after(2, "in"), bad=world.after(1, ValueError("no")), z=world.after(3, "too")
        ).with_policy(bad=BranchPolicy(on_failure=on_failure))
        if on_failure == "raise":
            with pytest.raises(ValueError, match="no"):
                await mode.run(fan_out, 0, {"callbacks": [runs]})
            return None
        return await mode.run(fan_out, 0, {"callbacks": [runs]})

    output = await _run(mode, work)
    if on_failure == "keep":
        assert isinstance(output["bad"], BranchFailure)
        assert (output["bad"].branch, output["bad"].message) == ("bad", "no")
    if on_failure != "raise":
        assert {key: value for key, value in output.items() if key != "bad"} == {"a": "in", "z": "too"}
        assert ("bad" in output) is (on_failure == "keep")
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "'bad'" in caplog.text


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(mode, id=str(mode), marks=[] if mode.sync else [pytest.mark.looptime])
        for mode in MODES
        if mode.streams
    ],
)
@pytest.mark.parametrize("on_failure", ["raise", "keep", "drop"])
async def test_a_stream_that_breaks_keeps_what_it_had_said(mode: Mode, on_failure: Any) -> None:
    async def work(world: World, runs: Runs) -> Any:
        fan_out = plus(text=world.text("half ", "a te", ValueError("cut")), ok=world.text("whole"))
        fan_out = fan_out.with_policy(text=BranchPolicy(on_failure=on_failure))
        if on_failure != "raise":
            return await mode.run(fan_out, 0, {"callbacks": [runs]})
        with pytest.raises(ValueError, match="cut") as caught:
            await mode.run(fan_out, 0, {"callbacks": [runs]})
        finished = fan_out_results(caught.value)
        assert finished is not None
        assert finished.outputs == {"ok": "whole"}
        return {"text": finished.failures["text"], "ok": "whole"}

    output = await _run(mode, work)
    assert output["ok"] == "whole"
    assert isinstance(output["text"], BranchFailure)
    assert output["text"].partial == "half a te"
