"""Ways out of a default policy, and functions of the user's that fail while a policy asks them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from langchain_parallel_plus import (
    BranchPolicy,
    HedgePolicy,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
)
from tests.modes import Mode


async def test_a_branch_with_side_effects_is_left_out_of_the_default_hedging(mode: Mode) -> None:
    sent: list[Any] = []

    def send(value: Any) -> Any:
        sent.append(value)
        time.sleep(0.05)
        return value

    fan_out = RunnableParallelPlus(send=send, length=len).with_policy(
        BranchPolicy(hedge=HedgePolicy(0.005)), send=BranchPolicy(hedge=HedgePolicy(0.005, max_hedges=0))
    )
    assert await mode.run(fan_out, "in", None) == {"send": "in", "length": 2}
    assert sent == ["in"]


def _asks_wrongly(error: BaseException) -> bool:
    raise ValueError(f"a bug in the user's function: {error}")


def _down(value: Any) -> Any:
    raise TimeoutError("the branch's own error")


async def test_a_retry_on_that_raises_takes_no_errors_place(mode: Mode) -> None:
    with pytest.raises(TimeoutError, match="the branch's own error") as caught:
        await mode.run(RunnableWithPolicy(_down, BranchPolicy(retry=RetryPolicy(retry_on=_asks_wrongly))), "in", None)
    assert "RetryPolicy.retry_on raised ValueError when asked, so nothing was retried" in caught.value.__notes__


async def test_a_retry_on_that_raises_leaves_the_fallback(mode: Mode) -> None:
    policy = BranchPolicy(retry=RetryPolicy(retry_on=_asks_wrongly), fallbacks=[lambda _: "instead"])
    assert await mode.run(RunnableWithPolicy(_down, policy), "in", None) == "instead"
