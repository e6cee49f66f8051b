"""A refused call is an answer to its caller: langchain-core's warning of a failed callback is not about it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler

from langchain_parallel_plus import JoinPolicy, RateLimiter, RunnableParallelPlus
from langchain_parallel_plus.errors import BranchAbandonedError, FanOutError, LimiterError, LimiterTimeoutError
from langchain_parallel_plus.limits.gate.branch_gate import BranchGate
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode


def busy() -> RateLimiter:
    """Return a limiter that admits nothing for a minute."""
    limiter = RateLimiter(requests_per_minute=60, burst=1)
    limiter.pause(60)
    return limiter


async def test_a_limiter_s_refusal_is_not_logged(mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    model = ScriptedChatModel(["x"], cycle=True)
    fan_out = RunnableParallelPlus(a=model, b=len).with_limits(busy()).with_join(JoinPolicy(deadline=5))
    with pytest.raises((LimiterTimeoutError, FanOutError)):
        await mode.run(fan_out, "ask", None)
    assert not model.calls
    assert not caplog.records


async def test_the_refusal_of_a_thread_left_behind_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    began, going_on, ended = threading.Event(), threading.Event(), threading.Event()
    refused: list[BaseException] = []

    def slow(_: Any) -> None:
        began.set()
        going_on.wait(10)
        try:
            ScriptedChatModel(["late"]).invoke("still wanted?")
        except BranchAbandonedError as error:
            refused.append(error)
        finally:
            ended.set()

    task = asyncio.create_task(RunnableParallelPlus(slow=slow).ainvoke(0))
    await asyncio.to_thread(began.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    going_on.set()
    await asyncio.to_thread(ended.wait, 10)
    assert refused
    assert not caplog.records


class Handler(BaseCallbackHandler):
    raise_error = True

    def __init__(self, error: Exception) -> None:
        self.error = error

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        raise self.error


@pytest.mark.parametrize("error", [ValueError("no"), LimiterError("no")])
async def test_what_another_handler_raises_is_logged(
    mode: Mode, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    fan_out = RunnableParallelPlus(a=ScriptedChatModel(["x"], cycle=True))
    with pytest.raises(type(error)):
        await mode.run(fan_out, "ask", {"callbacks": [Handler(error)]})
    assert any("Error in Handler.on_chat_model_start" in one.message for one in caplog.records)


async def test_a_defect_of_the_gate_is_logged(
    mode: Mode, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(BranchGate, "_claim", broken)
    fan_out = RunnableParallelPlus(a=ScriptedChatModel(["x"], cycle=True)).with_limits(
        RateLimiter(requests_per_minute=60)
    )
    with pytest.raises(RuntimeError):
        await mode.run(fan_out, "ask", None)
    assert any("Error in BranchGate.on_chat_model_start" in one.message for one in caplog.records)
