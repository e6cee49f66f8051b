"""Which spans are written, where, and what it costs where nobody sees them."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from opentelemetry import trace
from opentelemetry.trace import NoOpTracerProvider

from langchain_parallel_plus import BranchPolicy, RunnableParallelPlus
from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.observe import configure_otel, event
from langchain_parallel_plus.observe.otel import follower
from langchain_parallel_plus.observe.otel.settings import recording as is_recording
from tests.modes import Mode
from tests.unit.observe.otel.recorder import recording
from tests.unit.observe.otel.test_spans import RETRY, fails, same


async def test_without_an_sdk_nobody_follows_and_no_event_is_built(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **facts: Any) -> None:
        raise AssertionError("built for nobody")

    monkeypatch.setattr("langchain_parallel_plus._engine.scope.Event", never)
    monkeypatch.setattr("langchain_parallel_plus._engine.telling.Event", never)
    monkeypatch.setattr(follower.OtelFollower, "take", never)
    monkeypatch.setattr(follower.OtelFollower, "enter", never)
    assert not is_recording()
    fan_out = RunnableParallelPlus(a=same(), b=fails(1)).with_policy(b=BranchPolicy(retry=RETRY))
    await mode.run(fan_out, "text", None)


@pytest.mark.parametrize("policy", [BranchPolicy(), BranchPolicy(retry=RETRY)], ids=["plain", "policy"])
async def test_without_an_sdk_a_branch_asks_a_few_times_whether_somebody_listens(policy: BranchPolicy) -> None:
    """A count and no clock: each question is a tenth of a microsecond, and five microseconds are allowed.

    Four of them are LangChain's, of every run: whether to give it a handler of ours.
    """
    folder = event.__file__.rpartition("/")[0]

    async def asked(branches: int) -> int:
        fan_out = RunnableParallelPlus({f"b{i}": same() for i in range(branches)}).with_policy(policy)
        await fan_out.ainvoke("text")
        calls = 0

        def count(frame: Any, kind: str, argument: Any) -> None:
            nonlocal calls
            calls += kind == "call" and frame.f_code.co_filename.startswith(folder)

        sys.setprofile(count)
        try:
            await fan_out.ainvoke("text")
        finally:
            sys.setprofile(None)
        return calls

    assert (await asked(30) - await asked(10)) / 20 <= (14 if policy.retry else 6)


def test_the_stand_ins_of_the_api_are_no_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", NoOpTracerProvider)
    assert not is_recording()


def test_off_is_off() -> None:
    with recording("off") as recorder:
        RunnableParallelPlus(a=same()).invoke("text")
        assert not recorder.spans
        assert not recorder.points("lcpp.fan_out.duration")


def test_enrich_opens_no_span_and_measures_all_the_same() -> None:
    with recording("enrich") as recorder:
        RunnableParallelPlus(a=same()).invoke("text")
        assert not recorder.spans
        assert recorder.points("lcpp.fan_out.duration")


def test_where_langsmith_writes_to_opentelemetry_there_are_no_spans_of_ours() -> None:
    class Handler(BaseCallbackHandler):
        client = SimpleNamespace(otel_exporter=object())

    with recording() as recorder:
        RunnableParallelPlus(a=same()).invoke("text", {"callbacks": [Handler()]})
        assert not recorder.spans
        assert recorder.points("lcpp.fan_out.duration")


def test_a_mode_that_there_is_not_is_refused() -> None:
    with pytest.raises(DeclarationError, match="there is no mode 'on'"):
        configure_otel("on")  # type: ignore[arg-type]


async def test_a_tracer_that_fails_does_not_end_the_run(
    mode: Mode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fan_out = RunnableParallelPlus(a=same(), b=fails(1)).with_policy(b=BranchPolicy(retry=RETRY))
    with monkeypatch.context() as patched, recording() as recorder:

        def broken(*args: Any, **facts: Any) -> None:
            raise ValueError("no more spans")

        patched.setattr(follower.OtelFollower, "_open", broken)
        patched.setattr(follower.OtelFollower, "_failed", False)
        assert await mode.run(fan_out, "text", None) == {"a": "text", "b": "text"}
        assert not recorder.spans
        recorder.expects_failure = True
    assert [record.getMessage() for record in caplog.records if "OtelFollower" in record.getMessage()] == [
        "OtelFollower raised ValueError; its later errors are not logged"
    ]
