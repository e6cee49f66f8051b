"""Listeners hear when a synthesis begins, what it does, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_parallel_plus import BranchPolicy, RunnableParallelPlus, RunnableSynthesis, collect_report
from langchain_parallel_plus.errors import AgreementError
from langchain_parallel_plus.observe import Event, subscribed
from langchain_parallel_plus.synthesis import (
    JoinText,
    MajorityVote,
    MapReduce,
    MergeDicts,
    PickBest,
    RankFusion,
    WeightedVote,
)
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


async def test_a_map_reduce_is_told_around_its_items_and_what_it_makes_of_them(mode: Mode) -> None:
    events: list[Event] = []
    items = ["one", "two", "bad"]
    policy = BranchPolicy(on_failure="keep")
    with subscribed(events.append):
        await mode.run(MapReduce(_refuses_bad, JoinText(), policy=policy), items, None)
    assert [event.kind for event in (events[0], events[-1])] == ["synthesis.start", "synthesis.end"]
    begun, ended = events[0], events[-1]
    assert dict(begun.detail) == {"strategy": "map_reduce", "inputs": 3}
    assert (ended.run_id, ended.outcome) == (begun.run_id, "ok")
    inner = [event for event in events[1:-1] if event.kind.startswith("synthesis")]
    assert [event.detail["strategy"] for event in inner] == ["join_text"] * 2
    assert inner[1].detail["dropped"] == 1


async def test_of_a_map_reduce_whose_reducer_takes_all_at_once_it_is_told_what_did_not_come_back(mode: Mode) -> None:
    events: list[Event] = []
    for on_failure in ("keep", "drop"):
        step = MapReduce(_refuses_bad, lambda found: str(sorted(found)), policy=BranchPolicy(on_failure=on_failure))
        with subscribed(events.append):
            await mode.run(step, ["one", "two", "bad"], None)
    assert [event.detail["dropped"] for event in events if event.kind == "synthesis.end"] == [1, 1]


async def test_a_map_reduce_that_fails_is_told_as_failed(mode: Mode) -> None:
    with collect_report() as report, pytest.raises(ConnectionError):
        await mode.run(MapReduce(_refuses_bad, JoinText()), ["bad"], None)
    [one] = [one for one in report.syntheses if one.strategy == "map_reduce"]
    assert (one.inputs, one.outcome) == (1, "failed")


@pytest.mark.parametrize("sync", [True, False])
async def test_a_streamed_tree_reduce_is_told_from_its_first_digest_on(sync: bool) -> None:
    """The last branch ends when the first digest has been asked for."""
    events: list[Event] = []
    late = threading.Event()

    class Slow(Reader):
        def _write(self, messages: Any) -> str:
            late.set()
            return super()._write(messages)

    def last(_: Any) -> str:
        assert late.wait(20)
        return words("d-", 20)

    async def alast(_: Any) -> str:
        return await asyncio.to_thread(last, _)

    branches: dict[str, Any] = {name: RunnableLambda(lambda _, name=name: words(f"{name}-", 60)) for name in "abc"}
    chain = RunnableParallelPlus({**branches, "d": RunnableLambda(last, afunc=alast)}) | Slow().synthesis()
    with subscribed(events.append), collect_report() as report:
        if sync:
            list(chain.stream("x"))
        else:
            [chunk async for chunk in chain.astream("x")]
    kinds = [event.kind for event in events]
    first_digest = next(n for n, event in enumerate(events) if event.path and event.path[-1].startswith("digest"))
    assert kinds.index("synthesis.start") < first_digest
    assert first_digest < max(
        n for n, event in enumerate(events) if event.kind == "branch.end" and event.path == ("d",)
    )
    [one] = report.syntheses
    assert (one.strategy, one.inputs, one.outcome) == ("map_reduce", 4, "ok")


async def test_each_digest_fan_out_of_a_tree_reduce_is_reported(mode: Mode) -> None:
    branches = {name: RunnableLambda(lambda _, name=name: words(f"{name}-", 60)) for name in "abcd"}
    with collect_report() as report:
        await mode.run(RunnableParallelPlus(branches) | Reader().synthesis(), "x", None)
    digests = [one for one in report.fan_outs if one.name == "digests"]
    assert all(one.outcome == "ok" and len(one.branches) == len(one.own_branches) > 0 for one in digests)
    assert len({one.run_id for one in digests}) == len(digests)
    names = [branch.path[-1] for one in digests for branch in one.own_branches]
    assert len(names) == len(set(names)) >= 2


def _refuses_bad(text: str) -> str:
    if text == "bad":
        raise ConnectionError("refused")
    return text
