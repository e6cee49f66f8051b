"""What a branch's policy promises, in every way to run it, in a fan-out and alone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import Runnable, RunnableLambda

from langchain_parallel_plus import (
    BranchFailure,
    BranchPolicy,
    BranchTimeoutError,
    ErrorKind,
    FanOutError,
    JoinPolicy,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    TimeoutPolicy,
    collect_report,
    fan_out_results,
)
from tests.modes import Mode

QUICK = RetryPolicy(initial_interval=0.001)


class Flaky:
    """Fails with the given errors in turn, then returns its input."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self._lock = threading.Lock()
        self.calls = 0

    def __call__(self, value: Any) -> Any:
        with self._lock:
            self.calls += 1
            error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise error
        return value


def alone(step: Any, policy: BranchPolicy) -> Runnable[Any, Any]:
    return RunnableWithPolicy(step, policy)


def in_fan_out(step: Any, policy: BranchPolicy) -> Runnable[Any, Any]:
    return RunnableParallelPlus(x=step, other=lambda _: "other").with_policy(x=policy) | (lambda out: out["x"])


@pytest.fixture(params=[alone, in_fan_out])
def under_policy(request: pytest.FixtureRequest) -> Callable[[Any, BranchPolicy], Runnable[Any, Any]]:
    return request.param


async def test_a_passing_error_is_retried(mode: Mode, under_policy: Any) -> None:
    flaky = Flaky(ConnectionError(), TimeoutError())
    assert await mode.run(under_policy(flaky, BranchPolicy(retry=QUICK)), "in", None) == "in"
    assert flaky.calls == 3


async def test_a_bug_is_raised_at_once(mode: Mode, under_policy: Any) -> None:
    flaky = Flaky(ValueError("bug"))
    with pytest.raises(ValueError, match="bug"):
        await mode.run(under_policy(flaky, BranchPolicy(retry=QUICK)), "in", None)
    assert flaky.calls == 1


async def test_fallbacks_take_over_with_the_same_input(mode: Mode, under_policy: Any) -> None:
    policy = BranchPolicy(fallbacks=[Flaky(KeyError("second")), lambda value: f"third got {value}"])
    assert await mode.run(under_policy(Flaky(ValueError("first")), policy), "in", None) == "third got in"


async def test_when_all_fail_the_first_error_is_raised_and_tells_of_the_others(mode: Mode, under_policy: Any) -> None:
    policy = BranchPolicy(fallbacks=[Flaky(KeyError("second"))])
    with pytest.raises(ValueError, match="first") as caught:
        await mode.run(under_policy(Flaky(ValueError("first")), policy), "in", None)
    assert any("fallback 1 failed too: KeyError" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("field", ["run_timeout", "attempt_timeout"])
async def test_a_timeout_is_raised_on_time(mode: Mode, under_policy: Any, field: str) -> None:
    release = threading.Event()
    policy = BranchPolicy(timeout=TimeoutPolicy(**{field: 0.05}))
    began = time.monotonic()
    with pytest.raises(BranchTimeoutError, match=rf"{field} of 0.05 s"):
        await mode.run(under_policy(lambda _: release.wait(5), policy), "in", None)
    assert time.monotonic() - began < 1
    release.set()


async def test_an_attempt_that_takes_too_long_is_repeated(mode: Mode, under_policy: Any) -> None:
    release, calls = threading.Event(), []

    def hangs_once(value: str) -> str:
        calls.append(value)
        if len(calls) == 1:
            release.wait(5)
        return value

    policy = BranchPolicy(retry=QUICK, timeout=TimeoutPolicy(attempt_timeout=0.4))
    assert await mode.run(under_policy(hangs_once, policy), "in", None) == "in"
    release.set()
    assert len(calls) == 2


async def test_a_fallback_saves_a_branch_that_timed_out(mode: Mode, under_policy: Any) -> None:
    release = threading.Event()
    policy = BranchPolicy(timeout=TimeoutPolicy(run_timeout=0.4), fallbacks=[lambda _: "instead"])
    assert await mode.run(under_policy(lambda _: release.wait(5), policy), "in", None) == "instead"
    release.set()


async def test_attempts_are_tagged_children_of_one_run_and_told_to_on_retry(mode: Mode) -> None:
    class Recorder(BaseCallbackHandler):
        def __init__(self) -> None:
            self.starts: list[tuple[str, str | None, list[str]]] = []
            self.names: dict[Any, str] = {}
            self.retries: list[Any] = []
            self.open: set[Any] = set()

        def on_chain_start(
            self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any = None, **kw: Any
        ) -> None:
            self.names[run_id] = kw.get("name") or ""
            self.starts.append((self.names[run_id], self.names.get(parent_run_id), kw.get("tags") or []))
            self.open.add(run_id)

        def on_chain_end(self, outputs: Any, *, run_id: Any, **kw: Any) -> None:
            self.open.remove(run_id)

        def on_chain_error(self, error: Any, *, run_id: Any, **kw: Any) -> None:
            self.open.remove(run_id)

        def on_retry(self, retry_state: Any, **kw: Any) -> None:
            self.retries.append((retry_state.attempt_number, type(retry_state.outcome.exception())))

    recorder = Recorder()
    step = RunnableLambda(Flaky(ConnectionError())).with_config(run_name="search")
    fan_out = RunnableParallelPlus({"x": step}).with_policy(BranchPolicy(retry=QUICK))
    await mode.run(fan_out, "in", {"callbacks": [recorder]})
    fan_out_run, branch, first, second = recorder.starts
    assert fan_out_run == ("RunnableParallel<x>", None, [])
    assert branch == ("branch:x", "RunnableParallel<x>", ["map:key:x"])
    assert first[:2] == ("search", "branch:x")
    assert "retry:attempt:2" not in first[2]
    assert second[:2] == ("search", "branch:x")
    assert "retry:attempt:2" in second[2]
    assert recorder.retries == [(1, ConnectionError)]
    assert not recorder.open


def failing(_: Any) -> Any:
    raise ConnectionError("down sk-abcdefghijklmnop")


async def test_a_kept_failure_stands_at_its_key(mode: Mode) -> None:
    fan_out = RunnableParallelPlus(good=lambda x: x, bad=failing).with_policy(
        bad=BranchPolicy(retry=QUICK, on_failure="keep")
    )
    result = await mode.run(fan_out, "in", None)
    assert result["good"] == "in"
    failure = result["bad"]
    assert isinstance(failure, BranchFailure)
    assert (failure.branch, failure.kind, failure.attempts) == ("bad", ErrorKind.CONNECTION, 3)
    assert failure.message == "down [redacted]"
    assert isinstance(failure.error, ConnectionError)
    assert not failure


async def test_a_dropped_failure_leaves_no_key_but_a_warning(mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    fan_out = RunnableParallelPlus(good=lambda x: x, bad=failing).with_policy(bad=BranchPolicy(on_failure="drop"))
    with caplog.at_level(logging.WARNING, "langchain_parallel_plus"):
        assert await mode.run(fan_out, "in", None) == {"good": "in"}
    [record] = caplog.records
    assert "'bad'" in record.getMessage()
    assert "sk-abc" not in record.getMessage()


async def test_a_raised_failure_carries_what_the_others_had_finished(mode: Mode) -> None:
    finished = threading.Event()

    def good(value: str) -> str:
        finished.set()
        return value

    def bad(_: str) -> str:
        assert finished.wait(5)
        time.sleep(0.02)  # the good branch's output is on its way to the coordinator
        raise ConnectionError("down")

    with pytest.raises(ConnectionError) as caught:
        await mode.run(RunnableParallelPlus(good=good, bad=bad), "in", None)
    results = fan_out_results(caught.value)
    assert results is not None
    assert results.outputs == {"good": "in"}
    assert results.failures["bad"].kind is ErrorKind.CONNECTION
    assert any("branch 'bad' failed after 1 attempt" in note for note in caught.value.__notes__)


async def test_too_few_successes_raise_with_everything_that_is_known(mode: Mode) -> None:
    fan_out = RunnableParallelPlus(a=lambda x: x, b=failing, c=failing).with_join(JoinPolicy(min_success=2))
    with pytest.raises(FanOutError, match="2 of 3 branches failed") as caught:
        await mode.run(fan_out, "in", None)
    assert set(caught.value.failures) == {"b", "c"}
    assert "help:" in str(caught.value)
    assert isinstance(caught.value.__cause__, ExceptionGroup)


async def test_a_quorum_keeps_failures_as_values(mode: Mode) -> None:
    fan_out = RunnableParallelPlus(a=lambda x: x, b=failing).with_join(JoinPolicy(min_success=1))
    result = await mode.run(fan_out, "in", None)
    assert result["a"] == "in"
    assert isinstance(result["b"], BranchFailure)


async def test_a_required_branch_fails_a_tolerant_fan_out(mode: Mode) -> None:
    fan_out = (
        RunnableParallelPlus(a=lambda x: x, b=failing)
        .with_policy(b=BranchPolicy(required=True))
        .with_join(JoinPolicy(min_success=1))
    )
    with pytest.raises(ConnectionError):
        await mode.run(fan_out, "in", None)


async def test_the_first_valid_answer_ends_the_fan_out(mode: Mode) -> None:
    release = threading.Event()
    fan_out = RunnableParallelPlus(
        wrong=lambda _: "no", right=lambda _: (time.sleep(0.02), "yes")[1], slow=lambda _: release.wait(5)
    ).with_join(JoinPolicy(wait_for=1, accept=lambda answer: answer == "yes"))
    began = time.monotonic()
    result = await mode.run(fan_out, "in", None)
    assert time.monotonic() - began < 1
    release.set()
    assert result["right"] == "yes"
    assert "slow" not in result
    assert result["wrong"].partial == "no"


async def test_at_the_deadline_the_result_is_what_is_in(mode: Mode) -> None:
    release = threading.Event()
    fan_out = RunnableParallelPlus(quick=lambda x: x, slow=lambda _: release.wait(5)).with_join(
        JoinPolicy(min_success=1, deadline=0.1)
    )
    result = await mode.run(fan_out, "in", None)
    release.set()
    assert result["quick"] == "in"
    assert result["slow"].kind is ErrorKind.TIMEOUT


async def test_the_report_tells_attempts_back_off_and_outcome(mode: Mode) -> None:
    policy = BranchPolicy(retry=RetryPolicy(initial_interval=0.02, jitter=False), on_failure="keep")
    fan_out = RunnableParallelPlus(good=lambda x: x, flaky=Flaky(ConnectionError()), bad=failing).with_policy(policy)
    with collect_report() as report:
        await mode.run(fan_out, "in", None)
    [told] = report.fan_outs
    rows = {branch.name: branch for branch in told.branches.values()}
    assert [rows[name].outcome for name in ("good", "flaky", "bad")] == ["ok", "recovered", "failed"]
    assert [rows[name].attempts for name in ("good", "flaky", "bad")] == [1, 2, 3]
    assert rows["good"].backoff == 0
    assert rows["flaky"].backoff == pytest.approx(0.02, abs=0.001)
    assert rows["flaky"].seconds >= 0.02
    assert told.seconds is not None
    assert told.seconds >= rows["bad"].seconds - 0.01
    text = str(report)
    assert "recovered" in text
    assert "failed (connection)" in text
    assert report.to_dict()["fan_outs"][0]["branches"][0]["name"] == "good"


async def test_the_callers_input_and_config_stay_as_they_are(mode: Mode) -> None:
    value, config = {"document": "text"}, {"tags": ["mine"], "metadata": {"a": 1}}
    fan_out = RunnableParallelPlus(a=lambda x: x["document"], b=Flaky(ConnectionError())).with_policy(
        BranchPolicy(retry=QUICK)
    )
    await mode.run(fan_out, value, config)  # type: ignore[arg-type]  # a config in its simplest form
    assert value == {"document": "text"}
    assert config == {"tags": ["mine"], "metadata": {"a": 1}}
