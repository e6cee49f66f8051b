"""`MapReduce`: each item by itself, under policies, limits and one cap; then all that came back."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from langchain_parallel_plus import (
    BranchFailure,
    BranchPolicy,
    CoverageError,
    DeclarationError,
    Fallback,
    FanOutError,
    JoinPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableSynthesis,
    RunnableWithPolicy,
    SynthesisError,
)
from langchain_parallel_plus.synthesis import JoinText, MajorityVote, MapReduce
from langchain_parallel_plus.synthesis.counting import estimated_tokens
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode
from tests.unit.synthesis.loading import loaded


def total(lengths: dict[str, int]) -> int:
    return sum(lengths.values())


def failing_at(bad: str) -> Any:
    def work(item: str) -> str:
        if item == bad:
            raise ConnectionError(f"no answer to {item}")
        return item.upper()

    return work


async def test_each_item_is_mapped_and_the_results_are_reduced(mode: Mode) -> None:
    assert await mode.run(MapReduce(len, total), ["a", "bcd", "ef"], None) == 6


async def test_the_reducer_finds_the_items_in_order_whichever_was_quicker(mode: Mode) -> None:
    def work(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    chain = MapReduce(work, lambda results: list(results.items()))
    assert await mode.run(chain, [0.03, 0.0, 0.015], None) == [("item_1", 0.03), ("item_2", 0.0), ("item_3", 0.015)]


async def test_items_may_have_names(mode: Mode) -> None:
    assert await mode.run(MapReduce(len, dict), {"first": "a", "second": "bc"}, None) == {"first": 1, "second": 2}


async def test_the_input_is_split_first(mode: Mode) -> None:
    chain = MapReduce(str.upper, JoinText(separator=" "), split=str.split)
    assert await mode.run(chain, "one two three", None) == "ONE TWO THREE"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(), min_size=1, max_size=20))
def test_it_is_map_and_reduce(numbers: list[int]) -> None:
    chain = MapReduce(lambda number: number * 2, lambda results: list(results.values()))
    assert chain.invoke(numbers) == [number * 2 for number in numbers]


async def test_an_items_failure_fails_the_run_by_default(mode: Mode) -> None:
    with pytest.raises(ConnectionError, match="no answer to b") as caught:
        await mode.run(MapReduce(failing_at("b"), dict), ["a", "b"], None)
    assert "branch 'item_2' failed after 1 attempt" in "\n".join(caught.value.__notes__)


async def test_a_policy_says_what_an_items_failure_means(mode: Mode) -> None:
    kept = MapReduce(failing_at("b"), dict, policy=BranchPolicy(on_failure="keep"))
    results = await mode.run(kept, ["a", "b"], None)
    assert results["item_1"] == "A"
    assert isinstance(results["item_2"], BranchFailure)
    dropped = MapReduce(failing_at("b"), dict, policy=BranchPolicy(on_failure="drop"))
    assert await mode.run(dropped, ["a", "b"], None) == {"item_1": "A"}


async def test_items_are_retried_and_replaced_one_by_one(mode: Mode) -> None:
    calls: list[str] = []

    def work(item: str) -> str:
        calls.append(item)
        if item == "flaky" and calls.count(item) < 3:
            raise ConnectionError("again")
        if item == "bad":
            raise ValueError("never")
        return item

    policy = BranchPolicy(
        retry=RetryPolicy(initial_interval=0.001, jitter=False), fallbacks=[lambda item: f"no {item}"]
    )
    chain = MapReduce(work, JoinText(separator=" "), policy=policy)
    assert await mode.run(chain, ["good", "flaky", "bad"], None) == "good flaky no bad"
    assert sorted(calls) == ["bad", "flaky", "flaky", "flaky", "good"]


async def test_a_fallback_for_some_errors_is_given_the_item_and_keeps_to_its_own_policy(mode: Mode) -> None:
    calls: list[str] = []

    def work(item: str) -> str:
        raise {"slow": TimeoutError, "bad": ValueError}[item](item)

    def flaky(item: str) -> str:
        calls.append(item)
        raise ConnectionError("down")

    once = RunnableWithPolicy(flaky, BranchPolicy(retry=RetryPolicy(max_attempts=2, initial_interval=0.001)))
    policy = BranchPolicy(
        retry=RetryPolicy(max_attempts=3, initial_interval=0.001, retry_on=ConnectionError),
        fallbacks=[Fallback(lambda item: f"in time: {item}", on="timeout"), once, lambda item: f"at last: {item}"],
    )
    chain = MapReduce(work, JoinText(separator="; "), policy=policy)
    assert await mode.run(chain, ["slow", "bad"], None) == "in time: slow; at last: bad"
    assert calls == ["bad", "bad"]


async def test_a_join_asks_for_some_of_the_items(mode: Mode) -> None:
    chain = MapReduce(failing_at("b"), dict, join=JoinPolicy(min_success=2))
    results = await mode.run(chain, ["a", "b", "c"], None)
    assert [key for key, value in results.items() if value] == ["item_1", "item_3"]
    with pytest.raises(FanOutError, match="1 of 2 branches failed"):
        await mode.run(chain, ["a", "b"], None)


async def test_a_join_for_more_items_than_there_are_asks_for_all(mode: Mode) -> None:
    assert await mode.run(MapReduce(len, total, join=JoinPolicy(min_success=5)), ["a", "bc"], None) == 3


class Gauge:
    """Counts how many items are at work at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = 0

    def _enter(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def _leave(self) -> None:
        with self._lock:
            self.now -= 1

    @property
    def step(self) -> RunnableLambda[Any, Any]:
        def work(item: Any) -> Any:
            self._enter()
            time.sleep(0.01)
            self._leave()
            return item

        async def awork(item: Any) -> Any:
            self._enter()
            await asyncio.sleep(0.01)
            self._leave()
            return item

        return RunnableLambda(work, afunc=awork)


@pytest.mark.parametrize(("cap", "most"), [(1, 1), (3, 3), (None, 8)])
async def test_items_run_at_once_within_the_cap(mode: Mode, cap: int | None, most: int) -> None:
    gauge = Gauge()
    config: Any = None if cap is None else {"max_concurrency": cap}
    assert await mode.run(MapReduce(gauge.step, len), list(range(8)), config) == 8
    assert gauge.most == most


@pytest.mark.parametrize("tasks", [False, True], ids=["batch", "abatch"])
async def test_a_batch_has_one_cap_for_the_items_of_all_its_inputs(tasks: bool) -> None:
    gauge = Gauge()
    chain = MapReduce(gauge.step, len)
    inputs, config = [list(range(5))] * 4, {"max_concurrency": 3}
    assert (await chain.abatch(inputs, config) if tasks else chain.batch(inputs, config)) == [5] * 4
    assert gauge.most == 3


async def test_model_calls_of_items_wait_for_the_limiter(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=60_000)
    model = ScriptedChatModel(["yes"], cycle=True)
    chain = MapReduce(model | StrOutputParser(), MajorityVote(), limits=limiter)
    assert (await mode.run(chain, ["a", "b", "c"], None)).agreement == 1
    assert limiter.statistics().granted == 3


@pytest.mark.parametrize("tasks", [False, True], ids=["stream", "astream"])
async def test_the_reducer_is_streamed(tasks: bool) -> None:
    def write(messages: list[BaseMessage]) -> str:
        return "one two three" if "<branch" in str(messages[-1].content) else "a part"

    model = ScriptedChatModel(write)
    chain = MapReduce(model | StrOutputParser(), RunnableSynthesis(model) | StrOutputParser())
    chunks = [chunk async for chunk in chain.astream(["x", "y"])] if tasks else list(chain.stream(["x", "y"]))
    assert [chunk for chunk in chunks if chunk] == ["one ", "two ", "three"]
    assert len(model.calls) == 3


@pytest.mark.looptime
async def test_cancelling_it_cancels_its_items() -> None:
    ended: list[str] = []

    async def work(item: str) -> str:
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(item)
        return item

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await MapReduce(work, dict).ainvoke(["a", "b"])
    assert sorted(ended) == ["a", "b"]


@pytest.mark.looptime
async def test_closing_its_stream_early_closes_its_items_and_its_reducer() -> None:
    ended: list[str] = []

    async def reduce(results: Any) -> Any:
        try:
            async for _ in results:
                yield "chunk"
                await asyncio.sleep(100)
        finally:
            ended.append("reducer")

    async def work(item: str) -> str:
        try:
            await asyncio.sleep(0 if item == "quick" else 100)
        finally:
            ended.append(item)
        return item

    stream: Any = MapReduce(work, RunnableGenerator(reduce)).astream(["quick", "slow"])
    assert await anext(stream) == "chunk"
    await stream.aclose()
    assert sorted(ended) == ["quick", "reducer", "slow"]


@pytest.mark.parametrize("given", ["text", 3, None, b"bytes"])
async def test_what_is_no_list_is_refused(mode: Mode, given: Any) -> None:
    with pytest.raises(SynthesisError, match=r"MapReduce takes a list of items, got (a str|an int|None|bytes|a bytes)"):
        await mode.run(MapReduce(len, total), given, None)


async def test_an_empty_list_is_refused_before_anything_is_called(mode: Mode) -> None:
    with pytest.raises(CoverageError, match="got none"):
        await mode.run(MapReduce(len, total), [], None)
    with pytest.raises(SynthesisError, match=r"MapReduce.split must return a list of items, got a str"):
        await mode.run(MapReduce(len, total, split=str.upper), "text", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": 3}, "the policy of MapReduce must be a BranchPolicy"),
        ({"join": "all"}, "MapReduce.join takes a JoinPolicy"),
        ({"limits": "openai"}, "limits takes RateLimiters"),
        ({"split": "pages"}, "MapReduce.split"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        MapReduce(len, total, **options)


async def test_a_text_is_split_into_parts_of_so_many_tokens(mode: Mode) -> None:
    text = "One word.\n\n" * 100
    parts: MapReduce[Any] = MapReduce(lambda part: part, dict, split=100)
    expected = parts.invoke(text)
    assert await mode.run(parts, text, None) == await mode.run(parts, Document(text), None) == expected
    assert "".join(expected.values()) == text
    assert len(expected) == 3
    assert all(estimated_tokens(part) <= 100 for part in expected.values())
    assert loaded(MapReduce(MajorityVote(), JoinText(), split=100), MapReduce, MajorityVote, JoinText).split == 100


@pytest.mark.parametrize("value", [["a", "list"], {"a": 1}, 3, None, b"bytes"])
async def test_what_is_no_text_is_not_split_into_tokens(mode: Mode, value: Any) -> None:
    with pytest.raises(SynthesisError, match=r"MapReduce\(split=100\) takes a text or a Document, got"):
        await mode.run(MapReduce(len, total, split=100), value, None)


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_has_no_parts(text: str) -> None:
    with pytest.raises(CoverageError, match="nothing was called"):
        MapReduce(len, total, split=100).invoke(text)


@pytest.mark.parametrize("split", [0, -1, 2.5, True, "paragraphs"])
def test_what_cannot_split_is_refused(split: Any) -> None:
    with pytest.raises(DeclarationError, match=r"MapReduce.split"):
        MapReduce(len, total, split=split)


def test_it_travels() -> None:
    chain = MapReduce(
        MajorityVote(), JoinText(), policy=BranchPolicy(on_failure="drop"), join=JoinPolicy(min_success=1)
    )
    assert pickle.loads(pickle.dumps(chain)).invoke([["a", "a"], ["b", "b"]]) == chain.invoke([["a", "a"], ["b", "b"]])
    again = loaded(chain, MapReduce, MajorityVote, JoinText)
    assert (again.policy.on_failure, again.join) == ("drop", JoinPolicy(min_success=1))
    assert chain.get_name() == "MapReduce"
    assert chain.get_input_schema().model_json_schema()


async def test_items_whose_keys_read_alike_are_refused_before_anything_is_called(mode: Mode) -> None:
    called: list[str] = []
    with pytest.raises(SynthesisError, match="MapReduce was given two branches called '1'"):
        await mode.run(MapReduce(called.append, len), {1: "a", "1": "b"}, None)
    assert not called
    assert await mode.run(MapReduce(len, dict), {1: "a", 2: "bc"}, None) == {"1": 1, "2": 2}
