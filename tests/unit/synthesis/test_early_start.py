"""When a synthesis begins: with the quorum, and behind a stream with the first full pack, while other branches run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda, RunnablePassthrough

from langchain_parallel_plus import CoverageError, JoinPolicy, RunnableParallelPlus, RunnableSynthesis
from langchain_parallel_plus.outcome import FanOutDict
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.contract.aftermath import left_nothing, left_nothing_in_tasks
from tests.modes import Mode
from tests.unit.synthesis.windows import Reader, count_words, words

STREAMS = pytest.mark.parametrize("transformed", [False, True], ids=["stream", "transform"])


def after(seconds: float, text: str) -> Runnable[Any, str]:
    async def wait(_: Any) -> str:
        await asyncio.sleep(seconds)
        return text

    return RunnableLambda(wait)


def written(text: str, seconds: float) -> Runnable[Any, str]:
    """Return a branch that streams a word at a time."""

    async def write(_: AsyncIterator[Any]) -> AsyncIterator[str]:
        for word in text.split():
            await asyncio.sleep(seconds / len(text.split()))
            yield f"{word} "

    return RunnableGenerator(write)


class Clocked(Reader):
    """Notes when it is called."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.times: list[tuple[str, float]] = []

    def _write(self, messages: Any) -> str:
        loop = asyncio.get_running_loop()
        self.times.append((str(messages[0].content).split()[0], round(loop.time() - self.started, 3)))
        return super()._write(messages)

    started = 0.0


async def times(chain: Runnable[Any, Any], reader: Clocked, *, stream: bool) -> list[tuple[str, float]]:
    reader.started = asyncio.get_running_loop().time()
    if stream:
        _ = [chunk async for chunk in chain.astream("x")]
    else:
        await chain.ainvoke("x")
    return reader.times


@pytest.mark.looptime
@pytest.mark.parametrize("stream", [False, True], ids=["ainvoke", "astream"])
@pytest.mark.parametrize("streamed_branches", [False, True])
async def test_the_synthesis_begins_when_the_quorum_is_in(stream: bool, streamed_branches: bool) -> None:
    branch = (lambda seconds: written("some text", seconds)) if streamed_branches else (lambda s: after(s, "some text"))
    fan_out = RunnableParallelPlus(a=branch(1), b=branch(3), c=branch(5), d=branch(60))
    reader = Clocked()
    chain = fan_out.with_join(JoinPolicy(wait_for=3)) | reader.synthesis()
    assert await times(chain, reader, stream=stream) == [("ANSWER", 5.0)]
    assert [(block.tag, block.name) for block in reader.answered] == [
        ("branch", "a"),
        ("branch", "b"),
        ("branch", "c"),
        ("missing", "d"),
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["invoke", "stream"])
def test_in_threads_too_it_does_not_wait_for_the_slowest(stream: bool) -> None:
    called, release = threading.Event(), threading.Event()

    def answer(_: Any) -> str:
        called.set()
        return "answer"

    def slow(_: Any) -> str:
        assert called.wait(10), "the synthesis has waited for a branch beyond the quorum"
        release.wait(10)
        return "late"

    fan_out = RunnableParallelPlus(a=str, b=str, c=slow).with_join(JoinPolicy(wait_for=2))
    chain = fan_out | RunnableSynthesis(answer)
    try:
        assert (list(chain.stream("x")) if stream else [chain.invoke("x")]) == ["answer"]
    finally:
        release.set()


@pytest.mark.looptime
@pytest.mark.parametrize("stream", [False, True], ids=["ainvoke", "astream"])
async def test_a_full_pack_is_reduced_while_other_branches_run(stream: bool) -> None:
    reader = Clocked(latency=1.0)
    fan_out = RunnableParallelPlus({f"b{n}": after(n, words(f"b{n}-", 40)) for n in range(1, 7)})
    seen = await times(fan_out | reader.synthesis(), reader, stream=stream)
    digests = [when for what, when in seen if what == "DIGEST"]
    if stream:  # noted a second after b3 has closed the pack of b1 and b2, and b5 that of b3 and b4
        assert digests == [4.0, 6.0]
        assert seen[-1] == ("ANSWER", 7.0)
    else:
        assert digests == [7.0, 7.0]
        assert seen[-1] == ("ANSWER", 8.0)


@pytest.mark.looptime
async def test_branches_that_stream_are_reduced_when_they_are_whole() -> None:
    reader = Clocked()
    fan_out = RunnableParallelPlus({f"b{n}": written(words(f"b{n}-", 40), n) for n in range(1, 7)})
    seen = await times(fan_out | reader.synthesis(), reader, stream=True)
    assert [when for what, when in seen if what == "DIGEST"] == [3.0, 5.0]
    assert [[block.text for block in blocks] for blocks in reader.digested] == [
        [words("b1-", 40), words("b2-", 40)],
        [words("b3-", 40), words("b4-", 40)],
    ]


@pytest.mark.looptime
async def test_the_order_is_that_of_the_fan_out_whichever_branch_comes_first() -> None:
    reader = Clocked()
    seconds = {"a": 6, "b": 1, "c": 5, "d": 2, "e": 4, "f": 3}
    fan_out = RunnableParallelPlus({name: after(s, words(name, 40)) for name, s in seconds.items()})
    await times(fan_out | reader.synthesis(), reader, stream=True)
    assert [[block.name for block in blocks] for blocks in reader.digested] == [["b", "d"], ["f", "e"]]
    assert [block.name for block in reader.answered] == ["a", "b, d", "c", "f, e"]


@pytest.mark.looptime
async def test_without_a_window_the_order_is_that_of_the_fan_out_too() -> None:
    reader = Clocked()
    fan_out = RunnableParallelPlus(a=after(2, "a"), b=after(1, "b"))
    await times(fan_out | reader.synthesis(max_input_tokens=None), reader, stream=True)
    assert [block.name for block in reader.answered] == ["a", "b"]


async def test_each_way_to_run_gives_the_same_answer(mode: Mode) -> None:
    reader = Reader()
    fan_out = RunnableParallelPlus({f"b{n}": RunnableLambda(lambda x, n=n: words(f"{x}{n}-", 40)) for n in range(7)})
    assert await mode.run(fan_out | reader.synthesis() | StrOutputParser(), "b", None) == "the answer"
    read = " ".join(block.text for blocks in [*reader.digested, reader.answered] for block in blocks).split()
    assert sorted(word for word in read if word.startswith("b")) == sorted(
        word for n in range(7) for word in words(f"b{n}-", 40).split()
    )


@pytest.mark.looptime
async def test_no_call_is_spent_before_the_coverage_is_certain() -> None:
    def failing(seconds: float) -> Runnable[Any, str]:
        async def fail(_: Any) -> str:
            await asyncio.sleep(seconds)
            raise TimeoutError("slow")

        return RunnableLambda(fail)

    branches = {f"b{n}": after(n, words(f"b{n}-", 60)) for n in range(4)} | {f"f{n}": failing(9) for n in range(2)}
    fan_out = RunnableParallelPlus(branches).with_join(JoinPolicy(min_success=1))
    reader = Clocked()
    with pytest.raises(CoverageError, match="4 of 6 branches came back"):
        await times(fan_out | reader.synthesis(min_coverage=0.7), reader, stream=True)
    assert not reader.prompts
    await times(fan_out | reader.synthesis(min_coverage=0.5), reader, stream=True)
    assert reader.times[0] == ("DIGEST", 2.0)


@pytest.mark.looptime
@pytest.mark.parametrize("cap", [1, 2, 3])
async def test_early_digests_and_branches_have_one_cap(cap: int) -> None:
    now = most = 0

    async def work(prompt: Any, text: str = "") -> str:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(1)
        now -= 1
        return text or words("digest", 10)

    def branch(text: str) -> Runnable[Any, str]:
        async def run(value: Any) -> str:
            return await work(value, text)

        return RunnableLambda(run)

    fan_out = RunnableParallelPlus({f"b{n}": branch(words(f"b{n}-", 60)) for n in range(8)})
    synthesis = Reader().synthesis(digest_model=RunnableLambda(work))
    chain = fan_out | synthesis
    _ = [chunk async for chunk in chain.astream("x", {"max_concurrency": cap})]
    assert most == cap


@pytest.mark.parametrize("cap", [1, 2, None])
async def test_a_nested_stream_under_a_cap_comes_to_its_end(cap: int | None, mode: Mode) -> None:
    reader = Reader()
    inner = RunnableParallelPlus({f"b{n}": RunnableLambda(lambda x, n=n: words(f"{x}{n}-", 60)) for n in range(5)})
    outer = RunnableParallelPlus(brief=inner | reader.synthesis() | StrOutputParser(), other=str.upper)
    config = {} if cap is None else {"max_concurrency": cap}
    assert await mode.run(outer, "b", config) == {"brief": "the answer", "other": "B"}


class Stuck:
    """A digest that does not end until it is given up."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.release = threading.Event()

    async def acall(self, _: Any) -> str:
        self.begun.set()
        try:
            await asyncio.sleep(1_000)
        finally:
            self.ended.set()
        return "never"

    def call(self, _: Any) -> str:
        self.begun.set()
        self.release.wait(10)
        self.ended.set()
        return "late"


def fails_after(condition: threading.Event) -> Runnable[Any, str]:
    def fail(_: Any) -> str:
        assert condition.wait(5)
        raise ValueError("the last branch")

    async def afail(_: Any) -> str:
        assert await asyncio.to_thread(condition.wait, 5)
        raise ValueError("the last branch")

    return RunnableLambda(fail, afail)


async def test_when_the_input_fails_the_digests_under_way_are_cancelled() -> None:
    stuck = Stuck()
    branches = {f"b{n}": RunnableLambda(lambda x, n=n: words(f"b{n}-", 60)) for n in range(3)}
    chain = RunnableParallelPlus({**branches, "bad": fails_after(stuck.begun)}) | Reader().synthesis(
        digest_model=RunnableLambda(stuck.call, stuck.acall)
    )
    async with left_nothing_in_tasks():
        with pytest.raises(ValueError, match="the last branch"):
            _ = [chunk async for chunk in chain.astream("x")]
        assert stuck.ended.is_set()


def test_in_threads_the_error_of_the_input_is_raised_at_once() -> None:
    stuck = Stuck()
    branches = {f"b{n}": RunnableLambda(lambda x, n=n: words(f"b{n}-", 60)) for n in range(3)}
    chain = RunnableParallelPlus({**branches, "bad": fails_after(stuck.begun)}) | Reader().synthesis(
        digest_model=RunnableLambda(stuck.call)
    )
    with left_nothing():
        with pytest.raises(ValueError, match="the last branch"):
            list(chain.stream("x"))
        assert not stuck.ended.is_set()
        stuck.release.set()
        assert stuck.ended.wait(5)


async def test_an_early_digest_that_fails_ends_it(mode: Mode) -> None:
    def fail(_: Any) -> str:
        raise RuntimeError("no digest")

    fan_out = RunnableParallelPlus({f"b{n}": RunnableLambda(lambda x, n=n: words(f"b{n}-", 60)) for n in range(5)})
    with pytest.raises(RuntimeError, match="no digest"):
        await mode.run(fan_out | Reader().synthesis(digest_model=fail), "x", None)


async def test_a_step_in_between_only_takes_the_early_start() -> None:
    reader = Reader()
    fan_out = RunnableParallelPlus({f"b{n}": RunnableLambda(lambda x, n=n: words(f"b{n}-", 60)) for n in range(3)})
    chain = fan_out | RunnablePassthrough() | reader.synthesis() | StrOutputParser()
    assert "".join([chunk async for chunk in chain.astream("x")]) == "the answer"
    assert "".join(chain.stream("x")) == "the answer"


@STREAMS
def test_marks_are_sent_to_nobody_else(transformed: bool) -> None:
    fan_out = RunnableParallelPlus(a=str, b=str)
    chunks = list(fan_out.transform(iter(["x"])) if transformed else fan_out.stream("x"))
    assert sorted(map(str, chunks)) == ["{'a': 'x'}", "{'b': 'x'}"]
    seen: list[Any] = []

    def note(inputs: Iterator[Any]) -> Iterator[Any]:
        for chunk in inputs:
            seen.append(chunk)
            yield chunk

    list((fan_out | RunnableGenerator(note) | Reader().synthesis()).stream("x"))
    assert all(seen)


def test_chunks_of_any_dict_are_added_up() -> None:
    reader = Reader()

    def chunks(_: Iterator[Any]) -> Iterator[Any]:
        yield {"a": "one "}
        yield FanOutDict({"b": "x"}, {"c": "timeout"})
        yield FanOutDict({"a": "two"})

    list((RunnableGenerator(chunks) | reader.synthesis()).stream("x"))
    assert [(block.name, block.text) for block in reader.answered] == [("a", "one two"), ("b", "x"), ("c", "timeout")]


@pytest.mark.parametrize("window", [None, 105])
async def test_a_branch_that_streams_nothing_is_empty(window: int | None) -> None:
    async def nothing(_: AsyncIterator[Any]) -> AsyncIterator[str]:
        for word in ():
            yield word

    reader = Reader()
    fan_out = RunnableParallelPlus(a=RunnableGenerator(nothing), b=after(0, "text"))
    _ = [chunk async for chunk in (fan_out | reader.synthesis(max_input_tokens=window)).astream("x")]
    assert [(block.tag, block.name, block.text) for block in reader.answered] == [
        ("branch", "b", "text"),
        ("missing", "a", "empty"),
    ]


def test_many_branches_that_stream_many_chunks_take_no_time() -> None:
    def words_of(_: Iterator[Any]) -> Iterator[str]:
        yield from ["word "] * 50

    model = ScriptedChatModel(["answer"])
    fan_out = RunnableParallelPlus({f"b{n}": RunnableGenerator(words_of) for n in range(200)})
    synthesis = RunnableSynthesis(model, "ANSWER {branches}", max_input_tokens=50_000, count_tokens=count_words)
    assert "".join((fan_out | synthesis | StrOutputParser()).stream("x")) == "answer"
