"""A branch's policy makes a run of its own only where somebody follows the runs, and hides nothing from the others."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig

from langchain_parallel_plus import BranchPolicy, RetryPolicy, TimeoutPolicy
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.contract.probes import plus
from tests.modes import MODES, Mode


class _ModelsOnly(BaseCallbackHandler):
    ignore_chain = True
    ignore_retry = True
    run_inline = True

    def __init__(self) -> None:
        self.starts: list[tuple[UUID | None, list[str]]] = []

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, parent_run_id: UUID | None = None, tags: Any = None, **kwargs: Any
    ) -> None:
        self.starts.append((parent_run_id, tags or []))


class _Everything(_ModelsOnly):
    ignore_chain = False
    ignore_retry = False

    def __init__(self) -> None:
        super().__init__()
        self.chains: dict[UUID, str] = {}
        self.retries = 0

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.chains[run_id] = kwargs["name"]

    def on_retry(self, retry_state: Any, **kwargs: Any) -> None:
        self.retries += 1


def _fan_out() -> Any:
    policy = BranchPolicy(retry=RetryPolicy(initial_interval=0.001), timeout=TimeoutPolicy(run_timeout=60))
    model = ScriptedChatModel([ConnectionError("reset"), "fine"])
    return plus(a=model).with_policy(policy)


@pytest.mark.parametrize("mode", MODES, ids=str)
async def test_a_handler_of_models_hears_the_attempts_with_their_tags(mode: Mode) -> None:
    handler = _ModelsOnly()
    config: RunnableConfig = {"callbacks": [handler], "tags": ["mine"]}
    output = await mode.run(_fan_out(), "ask", config)
    assert output["a"].content == "fine"
    parents, tags = zip(*handler.starts, strict=True)
    assert len({*parents}) == 1
    assert [sorted(one) for one in tags] == [["map:key:a", "mine"], ["map:key:a", "mine", "retry:attempt:2"]]


@pytest.mark.parametrize("mode", MODES, ids=str)
async def test_a_handler_of_runs_sees_the_policys_run_and_its_retries(mode: Mode) -> None:
    handler = _Everything()
    await mode.run(_fan_out(), "ask", {"callbacks": [handler]})
    assert [handler.chains.get(parent) for parent, _ in handler.starts if parent] == ["branch:a"] * 2
    assert handler.retries == 1
