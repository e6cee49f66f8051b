"""What all reducers have in common: modes, shapes, traces, schemas, and the ways they travel."""

from __future__ import annotations

import asyncio
import operator
import pickle
import time
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_parallel_plus import (
    BranchPolicy,
    CoverageError,
    RunnableParallelPlus,
    SynthesisError,
)
from langchain_parallel_plus.synthesis import (
    JoinText,
    MajorityVote,
    MergeDicts,
    PickBest,
    RankFusion,
    VoteResult,
    WeightedVote,
)
from langchain_parallel_plus.synthesis.reducer import Reducer
from tests.contract.probes import Runs
from tests.modes import MODES, Mode
from tests.unit.synthesis.loading import loaded, lost

TEXTS = {"a": "one", "b": "two", "c": "one"}
DICTS = {"a": {"x": 1}, "b": {"y": 2}, "c": {"x": 3}}
LISTS = {"a": ["one", "two"], "b": ["two"], "c": []}

CASES: dict[str, tuple[Reducer[Any], dict[str, Any]]] = {
    "majority": (MajorityVote(min_agreement=0.1, on_tie="first"), TEXTS),
    "weighted": (WeightedVote({"b": 5}, key="x"), {"a": {"x": 1}, "b": {"x": 2}}),
    "fusion": (RankFusion(k=1, weights={"a": 0.5}, limit=2, with_scores=True), LISTS),
    "merge": (MergeDicts(on_conflict="last", deep=False), DICTS),
    "join": (JoinText({"a": "A: {output}"}, separator=" ", missing="{branch}"), TEXTS),
    "score": (PickBest(len), TEXTS),
    "verdict": (PickBest(choose=max, with_verdict=True), TEXTS),
}
every_reducer = pytest.mark.parametrize(("reducer", "outputs"), CASES.values(), ids=CASES)


@every_reducer
async def test_every_mode_has_the_same_result(reducer: Reducer[Any], outputs: dict[str, Any], mode: Mode) -> None:
    assert await mode.run(reducer, outputs, None) == reducer.invoke(outputs)


@pytest.mark.parametrize("late", ["a", "b", "c"])
async def test_in_a_stream_too_the_order_is_that_of_the_fan_out(late: str, mode: Mode) -> None:
    def branch(key: str) -> RunnableLambda[Any, str]:
        def work(_: Any) -> str:
            time.sleep(0.03 * (key == late))
            return key

        async def awork(_: Any) -> str:
            await asyncio.sleep(0.03 * (key == late))
            return key

        return RunnableLambda(work, afunc=awork)

    fan_out = RunnableParallelPlus({key: branch(key) for key in "abc"})
    assert (await mode.run(fan_out | MajorityVote(), 0, None)).winner == "a"
    assert await mode.run(fan_out | JoinText(separator=""), 0, None) == "abc"
    assert await mode.run(fan_out | PickBest(len), 0, None) == "a"
    assert await mode.run(fan_out | PickBest(choose=lambda outputs: list(outputs)[1]), 0, None) == "b"


async def test_a_list_is_taken_in_place_of_a_dict(mode: Mode) -> None:
    assert await mode.run(JoinText("{branch}={output}", separator=","), ["x", "y"], None) == "item_1=x,item_2=y"
    assert await mode.run(RankFusion(weights=[1, 3]), (["x"], ["y"]), None) == ["y", "x"]
    assert (await mode.run(WeightedVote([1, 3]), ["x", "y"], None)).vote == "y"
    assert await mode.run(MergeDicts(), [{"x": 1}, {"y": 2}], None) == {"x": 1, "y": 2}
    assert await mode.run(PickBest(len), ["x", "yy"], None) == "yy"


@every_reducer
@pytest.mark.parametrize("value", ["text", b"bytes", 3, None, {1, 2}, object()], ids=lambda value: type(value).__name__)
async def test_what_is_neither_is_named(reducer: Reducer[Any], outputs: dict[str, Any], value: Any, mode: Mode) -> None:
    name = type(reducer).__name__
    kind = "None" if value is None else rf"an? {type(value).__name__}"
    with pytest.raises(SynthesisError, match=rf"{name} takes a fan-out's dict .* or a list of outputs, got {kind}\n"):
        await mode.run(reducer, value, None)


@every_reducer
@pytest.mark.parametrize("value", [{}, [], {"a": lost("a"), "b": None}, [lost("x"), ValueError("bad")]])
async def test_nothing_that_came_back_is_no_coverage(
    reducer: Reducer[Any], outputs: dict[str, Any], value: Any, mode: Mode
) -> None:
    with pytest.raises(CoverageError, match=type(reducer).__name__):
        await mode.run(reducer, value, None)


def test_what_a_batch_could_not_do_is_left_out() -> None:
    outputs = RunnableLambda(lambda x: 1 / x).batch([1, 0, 1], return_exceptions=True)
    result = MajorityVote().invoke(outputs)
    assert (result.vote, result.missing) == (1.0, {"item_2": "failed"})


@every_reducer
def test_a_batch_keeps_errors_in_their_places(reducer: Reducer[Any], outputs: dict[str, Any]) -> None:
    good, bad, again = reducer.batch([outputs, "text", outputs], return_exceptions=True)
    assert isinstance(bad, SynthesisError)
    assert good == again == reducer.invoke(outputs)


@every_reducer
async def test_it_is_one_run_in_the_trace_under_its_name(
    reducer: Reducer[Any], outputs: dict[str, Any], mode: Mode
) -> None:
    runs = Runs()
    await mode.run(reducer, outputs, {"callbacks": [runs]})
    assert [run[0] for run in runs.tree()] == [type(reducer).__name__]
    assert not runs.open
    named = Runs()
    await mode.run(reducer, outputs, {"callbacks": [named], "run_name": "mine"})
    assert [run[0] for run in named.tree()] == ["mine"]


@every_reducer
def test_it_travels(reducer: Reducer[Any], outputs: dict[str, Any]) -> None:
    expected = reducer.invoke(outputs)
    if reducer not in (CASES["verdict"][0], CASES["score"][0]):  # builtins as fields: pickle takes them, load does not
        assert loaded(reducer, type(reducer)).invoke(outputs) == expected
    assert pickle.loads(pickle.dumps(reducer)).invoke(outputs) == expected


def test_a_judge_travels_with_it() -> None:
    fields = {"score": RunnableLambda(operator.itemgetter(0)), "with_verdict": True, "on_tie": "error"}
    pick = pickle.loads(pickle.dumps(PickBest(**fields)))  # type: ignore[arg-type]
    assert pick.invoke({"a": [1], "b": [2]}).branch == "b"
    nested = PickBest(MajorityVote(), instructions="x", shuffle=3, context=("q",))
    assert loaded(nested, PickBest, MajorityVote) == nested


@every_reducer
def test_schemas_and_graph_tell_what_goes_in_and_out(reducer: Reducer[Any], outputs: dict[str, Any]) -> None:
    assert {one["type"] for one in reducer.get_input_schema().model_json_schema()["anyOf"]} == {"object", "array"}
    assert reducer.get_output_schema().model_json_schema()
    name = type(reducer).__name__
    assert name in reducer.get_graph().draw_mermaid()
    assert reducer.with_config(run_name="x").invoke(outputs) == reducer.invoke(outputs)


def test_the_output_types() -> None:
    assert MajorityVote().OutputType is VoteResult
    assert RankFusion(with_scores=True).OutputType == list[tuple[Any, float]]
    assert JoinText().OutputType is str
    assert MergeDicts().OutputType == dict[str, Any]


@pytest.mark.parametrize("tasks", [mode for mode in MODES if mode.name in {"astream", "stream"}], ids=str)
async def test_retries_and_fallbacks_go_around_it(tasks: Mode) -> None:
    fan_out = RunnableParallelPlus(a=lambda x: "yes", b=lambda x: "no").with_policy(BranchPolicy(on_failure="keep"))
    chain = fan_out | MajorityVote(min_agreement=0.9).with_fallbacks([JoinText(separator=" or ")])
    assert await tasks.run(chain, "question", None) == "yes or no"


@every_reducer
async def test_two_keys_that_read_alike_are_refused_and_none_is_lost(
    reducer: Reducer[Any], outputs: dict[str, Any], mode: Mode
) -> None:
    one = next(iter(outputs.values()))
    with pytest.raises(SynthesisError, match=rf"{type(reducer).__name__} was given two branches called '1'"):
        await mode.run(reducer, {1: one, "1": one}, None)
