"""One scenario, both classes, every mode: same outputs, errors, chunks, run trees and events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import (
    Runnable,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.runnables.utils import AddableDict

from langchain_parallel_plus import RunnableParallelPlus
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.contract.probes import Parallel, Runs
from tests.modes import MODES, Mode

BOTH: tuple[Parallel, Parallel] = (RunnableParallel, RunnableParallelPlus)
in_virtual_time = [
    pytest.param(mode, id=str(mode), marks=[] if mode.sync else [pytest.mark.looptime]) for mode in MODES
]


def _after(seconds: float, work: Callable[[Any], Any], name: str) -> Runnable[Any, Any]:
    """Return a branch that comes in at its own time: so the order of events is the same in every run."""

    async def awork(value: Any) -> Any:
        await asyncio.sleep(seconds)
        return work(value)

    return RunnableLambda(work, afunc=awork, name=name)


def _words(seconds: float, name: str) -> Runnable[Any, Any]:
    def chunks(inputs: Iterator[Any]) -> Iterator[str]:
        for _ in inputs:
            yield from ("one ", "two")

    async def achunks(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
        async for _ in inputs:
            for chunk in ("one ", "two"):
                await asyncio.sleep(seconds)
                yield chunk

    return RunnableGenerator(chunks, achunks, name=name)


def _fails(value: Any) -> None:
    raise LookupError("not", value)


def _model() -> Runnable[Any, Any]:
    return ChatPromptTemplate.from_template("{text}!") | ScriptedChatModel(["an answer"], latency=0) | StrOutputParser()


Build = Callable[[Parallel], Runnable[Any, Any]]
SCENARIOS: dict[str, Build] = {
    "functions": lambda p: p(b=_after(1, len, "length"), a=_after(2, sorted, "sorted")),
    "one_branch": lambda p: p(only=_after(1, len, "length")),
    "none": lambda p: p({}),
    "streams": lambda p: p(a=_words(3, "slow"), b=_words(2, "quick"), c=_after(1, len, "length")),
    "nested": lambda p: p(x=p(a=_after(1, len, "a"), b=p(c=_after(2, len, "c"))), y=_after(3, len, "y")),
    "in_a_chain": lambda p: RunnablePassthrough() | p(a=_after(1, len, "a"), b=_words(2, "b")) | RunnablePassthrough(),
    "a_chain_inside": lambda p: p(a=_after(1, len, "a") | _after(1, str, "str"), b=RunnablePassthrough()),
    "with_a_model": lambda p: p(answer=RunnableLambda(lambda text: {"text": text}) | _model()),
    "named": lambda p: p(a=_after(1, len, "length")).with_config(run_name="fan", tags=["t"], metadata={"m": 1}),
    "branch_config": lambda p: p(a=_after(1, len, "length").with_config(tags=["own"], metadata={"own": 2})),
    "fails": lambda p: p(a=_after(1, _fails, "fails")),
    "fails_inside": lambda p: p(x=p(a=_after(1, _fails, "fails"))),
}
CONFIG: RunnableConfig = {
    "tags": ["given"],
    "metadata": {"given": True},
    "run_name": "the_run",
    "run_id": UUID(int=7),
    "configurable": {"thread_id": "t-1", "__secret": "no"},
    "recursion_limit": 9,
}


async def _record(run: Any, runnable: Runnable[Any, Any]) -> Any:
    """Return all of a call that can be compared: outcome, key order, run tree."""
    runs = Runs()
    try:
        output = await run(runnable, "text", {**CONFIG, "callbacks": [runs]})
    except LookupError as error:
        outcome: Any = (type(error), error.args)
    else:
        outcome = (output, list(output or ()))
    assert runs.open == []
    assert [one.id for one in runs.started if one.parent is None] == [UUID(int=7)]
    return outcome, _comparable(runs.tree())


@pytest.mark.parametrize("mode", in_virtual_time)
@pytest.mark.parametrize("build", SCENARIOS.values(), ids=SCENARIOS)
async def test_outputs_errors_and_run_trees_are_upstreams(build: Build, mode: Mode) -> None:
    theirs, ours = [await _record(mode.run, build(parallel)) for parallel in BOTH]
    if mode.streams and mode.sync:  # threads: branches come in in any order
        theirs, ours = [((outcome[0], sorted(map(str, outcome[1]))), tree) for outcome, tree in (theirs, ours)]
    assert ours == theirs


@pytest.mark.looptime
@pytest.mark.parametrize("build", SCENARIOS.values(), ids=SCENARIOS)
async def test_chunks_are_upstreams(build: Build) -> None:
    async def chunks(runnable: Runnable[Any, Any]) -> list[Any]:
        collected: list[Any] = []
        try:
            async for chunk in runnable.astream("text"):  # what comes before an error counts
                assert isinstance(chunk, AddableDict)
                collected.append(chunk)
        except LookupError as error:
            collected.append(repr(error))
        return collected

    theirs, ours = [await chunks(build(parallel)) for parallel in BOTH]
    assert ours == theirs


def _comparable(thing: Any) -> Any:
    """Return an event or a log entry without ids and times."""
    if isinstance(thing, dict):
        dropped = ("run_id", "parent_ids", "id", "start_time", "end_time")
        timed = str(thing.get("path", "")).endswith("_time")
        return {key: _comparable(value) for key, value in thing.items() if key not in dropped and not timed}
    if isinstance(thing, list | tuple):
        return [_comparable(one) for one in thing]
    if isinstance(thing, Exception):
        return repr(thing)
    return getattr(thing, "content", thing)


@pytest.mark.looptime
@pytest.mark.parametrize("build", SCENARIOS.values(), ids=SCENARIOS)
async def test_every_runs_events_are_upstreams(build: Build) -> None:
    async def events(runnable: Runnable[Any, Any]) -> dict[Any, list[Any]]:
        collected: dict[Any, list[Any]] = {}
        names: dict[str, str] = {}
        try:
            async for event in runnable.astream_events("text", CONFIG, version="v2"):
                names[event["run_id"]] = event["name"]
                run = (*(names[one] for one in event["parent_ids"]), event["name"])
                collected.setdefault(run, []).append(_comparable(event))
        except LookupError as error:
            collected["raised"] = [repr(error)]
        return collected

    theirs, ours = [await events(build(parallel)) for parallel in BOTH]
    assert ours == theirs


@pytest.mark.looptime
@pytest.mark.filterwarnings("ignore:.*astream_log")
@pytest.mark.parametrize("build", [SCENARIOS[name] for name in ("functions", "streams", "nested", "in_a_chain")])
async def test_every_runs_log_is_upstreams(build: Build) -> None:
    async def log(runnable: Runnable[Any, Any]) -> dict[str, list[Any]]:
        collected: dict[str, list[Any]] = {}
        async for patch in runnable.astream_log("text", {"tags": ["given"]}):
            for entry in patch.ops:
                run = entry["path"].split("/")[2] if entry["path"].startswith("/logs/") else ""
                collected.setdefault(run, []).append(_comparable(entry))
        return collected

    theirs, ours = [await log(build(parallel)) for parallel in BOTH]
    assert ours == theirs


@pytest.mark.parametrize("return_exceptions", [False, True])
@pytest.mark.parametrize("inputs", [[], ["a"], ["aaa", "bb", "c", ""]])
async def test_batches_are_upstreams(inputs: list[str], return_exceptions: bool) -> None:
    def picky(text: str) -> str:
        if len(text) == 2:
            raise LookupError(text)
        return text.upper()

    async def record(parallel: Parallel) -> list[Any]:
        fan_out: Any = parallel(a=picky, b=len)
        configs: list[RunnableConfig] = [{"tags": [text]} for text in inputs]
        recorded: list[Any] = []

        async def outcome(call: Callable[[], Any]) -> None:
            try:
                output = call()
                output = await output if asyncio.iscoroutine(output) else output
            except LookupError as error:
                recorded.append(repr(error))
            else:
                recorded.append([repr(one) for one in output])

        async def as_completed() -> list[Any]:
            given = fan_out.abatch_as_completed(inputs, configs, return_exceptions=return_exceptions)
            return sorted([(index, repr(one)) async for index, one in given])

        await outcome(lambda: fan_out.batch(inputs, configs, return_exceptions=return_exceptions))
        await outcome(lambda: fan_out.abatch(inputs, configs, return_exceptions=return_exceptions))
        done = fan_out.batch_as_completed
        await outcome(
            lambda: sorted((i, repr(one)) for i, one in done(inputs, configs, return_exceptions=return_exceptions))
        )
        await outcome(as_completed)
        return recorded

    theirs, ours = [await record(parallel) for parallel in BOTH]
    assert ours == theirs


level: ContextVar[str] = ContextVar("level", default="unset")


async def test_a_branch_sees_the_callers_context_and_changes_only_its_own(parallel: Parallel, mode: Mode) -> None:
    def sets(_: Any) -> str:
        before = level.get()
        level.set("changed by a branch")
        return before

    level.set("the caller's")
    output = await mode.run(parallel(a=sets, b=sets, c=parallel(d=sets)), 0, None)
    assert output == {"a": "the caller's", "b": "the caller's", "c": {"d": "the caller's"}}
    assert level.get() == "the caller's"


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.streams], ids=str)
async def test_a_generators_own_context_lasts_from_chunk_to_chunk(parallel: Parallel, mode: Mode) -> None:
    def generator(name: str) -> Runnable[Any, Any]:
        def chunks(inputs: Iterator[Any]) -> Iterator[list[str]]:
            for _ in inputs:
                level.set(name)
                for _ in range(3):
                    yield [level.get()]

        async def achunks(inputs: AsyncIterator[Any]) -> AsyncIterator[list[str]]:
            async for _ in inputs:
                level.set(name)
                for _ in range(3):
                    await asyncio.sleep(0)
                    yield [level.get()]

        return RunnableGenerator(chunks, achunks)

    level.set("the caller's")
    output = await mode.run(parallel(a=generator("a"), b=generator("b")), 0, None)
    assert output == {"a": ["a"] * 3, "b": ["b"] * 3}
    assert level.get() == "the caller's"


async def test_what_a_branch_calls_without_passing_its_config_belongs_to_its_run(mode: Mode) -> None:
    inner = RunnableLambda(len, name="inner")

    async def calls(text: str) -> int:
        return await inner.ainvoke(text)

    trees = []
    for parallel in BOTH:
        runs = Runs()
        branch = RunnableLambda(inner.invoke, name="calls") if mode.sync else RunnableLambda(calls, name="calls")
        await mode.run(parallel(a=branch), "text", {"callbacks": [runs], "tags": ["given"]})
        (outer,) = runs.named("calls")
        assert [run.parent for run in runs.named("inner")] == [outer.id]
        trees.append(runs.tree())
    assert trees[0] == trees[1]


async def test_arguments_of_the_call_are_not_handed_to_branches(parallel: Parallel) -> None:
    def branch(value: int, **kwargs: Any) -> dict[str, Any]:
        return kwargs

    fan_out = parallel(a=branch)
    assert fan_out.invoke(1, None, extra=1) == {"a": {}}
    assert await fan_out.ainvoke(1, None, extra=1) == {"a": {}}
    assert fan_out.bind(extra=1).invoke(1) == {"a": {}}
