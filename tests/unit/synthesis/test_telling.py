"""Listeners hear when a synthesis begins, what it does, and how it ends."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from langchain_parallel_plus import RunnableParallelPlus, RunnableSynthesis, collect_report
from langchain_parallel_plus.errors import AgreementError
from langchain_parallel_plus.observe import Event, subscribed
from langchain_parallel_plus.synthesis import JoinText, MajorityVote, MergeDicts, PickBest, RankFusion, WeightedVote
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode
from tests.unit.synthesis.loading import lost
from tests.unit.synthesis.windows import Reader, words

TEXTS = {"a": "one", "b": "two", "gone": lost("gone")}


@pytest.mark.parametrize(
    ("reducer", "inputs", "strategy"),
    [
        (MajorityVote(), TEXTS, "vote"),
        (JoinText(), TEXTS, "join_text"),
        (PickBest(len), TEXTS, "pick_best"),
        (RankFusion(), {"a": ["x"], "b": ["y"], "gone": lost("gone")}, "rank_fusion"),
        (MergeDicts(), {"a": {"x": 1}, "b": {"y": 2}, "gone": lost("gone")}, "merge_dicts"),
        (RunnableSynthesis(ScriptedChatModel(["text"], cycle=True)), TEXTS, "llm"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_each_is_told_with_what_it_joins(reducer: Any, inputs: Any, strategy: str, mode: Mode) -> None:
    events: list[Event] = []
    with subscribed(events.append):
        await mode.run(reducer, inputs, None)
    begun, ended = (event for event in events if event.kind.startswith("synthesis"))
    assert (begun.kind, dict(begun.detail)) == ("synthesis.start", {"strategy": strategy, "inputs": 2})
    assert (ended.outcome, ended.detail["dropped"], ended.run_id) == ("ok", 1, begun.run_id)


async def test_a_tree_reduce_is_told_as_one(mode: Mode) -> None:
    events: list[Event] = []
    with subscribed(events.append):
        await mode.run(Reader().synthesis(), {f"b{n}": words(f"b{n}-", 90) for n in range(3)}, None)
    assert [event.detail["strategy"] for event in events if event.kind == "synthesis.start"] == ["map_reduce"]


async def test_what_fails_is_told_as_failed(mode: Mode) -> None:
    chain = RunnableParallelPlus(a=str.upper, b=str.lower) | MajorityVote(normalise=str, min_agreement=1)
    with collect_report() as report, pytest.raises(AgreementError):
        await mode.run(chain, "Text", None)
    [one] = report.syntheses
    assert (one.strategy, one.inputs, one.outcome) == ("vote", 2, "failed")


@pytest.mark.parametrize(
    ("vote", "outcome"),
    [
        (MajorityVote(), "ok"),
        (WeightedVote({"c": 1}), "ok"),
        (MajorityVote(min_agreement=1), "failed"),
    ],
    ids=["majority", "weighted", "refused"],
)
async def test_of_a_vote_the_agreement_is_told_also_where_it_was_too_little(
    vote: MajorityVote, outcome: str, mode: Mode
) -> None:
    events: list[Event] = []
    with subscribed(events.append), contextlib.suppress(AgreementError):
        await mode.run(vote, {"a": "yes", "b": "no", "c": "yes"}, None)
    [ended] = (event for event in events if event.kind == "synthesis.end")
    assert (ended.outcome, ended.detail["agreement"]) == (outcome, 2 / 3)
