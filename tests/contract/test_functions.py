"""Functions as branches: whatever a `RunnableLambda` takes and returns, in every mode, as upstream."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from functools import partial
from operator import itemgetter
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableConfig,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)

from langchain_parallel_plus import BranchPolicy, RetryPolicy, RunnableParallelPlus
from langchain_parallel_plus._engine.prepared import for_tasks, for_threads
from tests.contract.probes import Runs, plus
from tests.modes import Mode

VALUE = {"text": "word"}
seen: ContextVar[str] = ContextVar("seen", default="nothing")


def plain(value: Any) -> str:
    return str(value["text"])


async def aplain(value: Any) -> str:
    await asyncio.sleep(0)
    return str(value["text"])


def with_config(value: Any, config: RunnableConfig) -> list[Any]:
    return [config["tags"], config["metadata"], config["recursion_limit"], config["configurable"]]


async def awith_config(value: Any, config: RunnableConfig) -> list[Any]:
    return with_config(value, config)


def with_manager(value: Any, run_manager: CallbackManagerForChainRun) -> list[Any]:
    return [type(run_manager).__name__, run_manager.tags]


async def awith_manager(value: Any, run_manager: AsyncCallbackManagerForChainRun) -> list[Any]:
    return [type(run_manager).__name__, run_manager.tags]


def with_both(value: Any, run_manager: CallbackManagerForChainRun, config: RunnableConfig) -> list[Any]:
    return [config["tags"], run_manager.tags]


def with_more(value: Any, *, times: int = 2, **rest: Any) -> Any:
    return [value["text"] * times, sorted(rest)]


async def awith_more(value: Any, *, times: int = 2, **rest: Any) -> Any:
    return with_more(value, times=times, **rest)


def letters(value: Any) -> Iterator[str]:
    yield from value["text"]


async def aletters(value: Any) -> AsyncIterator[str]:
    for letter in value["text"]:
        yield letter


def calls_on(value: Any) -> Runnable[Any, Any]:
    return RunnableLambda(plain, name="called on")


async def acalls_on(value: Any) -> Runnable[Any, Any]:
    return RunnableLambda(aplain, name="called on")


def never_ends(value: Any) -> Runnable[Any, Any]:
    return RunnableLambda(never_ends)


def fails(value: Any) -> None:
    raise LookupError("not found")


async def afails(value: Any) -> None:
    raise LookupError("not found")


class Callable_:
    def __call__(self, value: Any) -> str:
        return str(value["text"])

    def method(self, value: Any) -> str:
        return self(value)

    async def amethod(self, value: Any) -> str:
        return self(value)


class AsyncCallable:
    async def __call__(self, value: Any) -> str:
        return str(value["text"])


class Letters:
    async def __call__(self, value: Any) -> AsyncIterator[str]:
        for letter in value["text"]:
            yield letter


SHAPES: dict[str, Callable[[], Any]] = {
    "function": lambda: RunnableLambda(plain),
    "lambda": lambda: RunnableLambda(lambda value: value["text"]),
    "named": lambda: RunnableLambda(plain, name="given"),
    "coroutine": lambda: RunnableLambda(aplain),
    "both": lambda: RunnableLambda(plain, aplain),
    "config": lambda: RunnableLambda(with_config),
    "config in both": lambda: RunnableLambda(with_config, awith_config),
    "manager": lambda: RunnableLambda(with_manager),
    "manager in both": lambda: RunnableLambda(with_manager, awith_manager),
    "manager and config": lambda: RunnableLambda(with_both),
    "bound arguments": lambda: RunnableLambda(with_more, awith_more).bind(times=3, other=1),
    "bound to a function": lambda: RunnableLambda(with_more).bind(times=3, other=1),
    "generator": lambda: RunnableLambda(letters),
    "async generator": lambda: RunnableLambda(aletters),
    "both generators": lambda: RunnableLambda(letters, aletters),
    "returns a runnable": lambda: RunnableLambda(calls_on),
    "returns a runnable in both": lambda: RunnableLambda(calls_on, acalls_on),
    "for ever": lambda: RunnableLambda(never_ends),
    "fails": lambda: RunnableLambda(fails),
    "fails in both": lambda: RunnableLambda(fails, afails),
    "partial": lambda: RunnableLambda(partial(with_more, times=1)),
    "callable": lambda: RunnableLambda(Callable_()),
    "method": lambda: RunnableLambda(Callable_().method),
    "methods": lambda: RunnableLambda(Callable_().method, Callable_().amethod),
    "async callable": lambda: RunnableLambda(AsyncCallable()),
    "async generator callable": lambda: RunnableLambda(Letters()),
    "itemgetter": lambda: RunnableLambda(itemgetter("text")),
    "builtin": lambda: RunnableLambda(len),
    "builtin without signature": lambda: RunnableLambda(dict),
    "retried in a chain": lambda: RunnableLambda(plain).with_retry() | RunnableLambda(len).with_retry(),
    "replaced in a chain": lambda: RunnableLambda(fails).with_fallbacks([RunnableLambda(plain)]) | RunnableLambda(len),
    "chosen in a chain": lambda: (
        RunnableLambda(plain) | RunnablePassthrough().configurable_alternatives(ConfigurableField(id="k"), other=str)
    ),
    "assigned in a chain": lambda: RunnablePassthrough.assign(more=RunnableLambda(plain)) | RunnableLambda(len).bind(),
    "mapped in a chain": lambda: RunnableLambda(plain) | RunnableLambda(list) | RunnableLambda(len).map(),
    "a chain that is bound": lambda: (RunnableLambda(plain) | RunnableLambda(len)).with_config(tags=["own"]),
    "bound in a chain": lambda: RunnableLambda(plain).bind() | RunnableLambda(len).with_config(tags=["own"]),
}
CONFIG: RunnableConfig = {
    "tags": ["given"],
    "metadata": {"given": 1},
    "recursion_limit": 5,
    "configurable": {"k": "default"},
}


async def _record(run: Any, runnable: Runnable[Any, Any]) -> Any:
    runs = Runs()
    try:
        outcome = await run(runnable, VALUE, {**CONFIG, "callbacks": [runs]})
    except Exception as error:
        outcome = (type(error), str(error))
    assert runs.open == []
    return outcome, runs.tree()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_functions_are_called_as_upstream_calls_them(shape: Callable[[], Any], mode: Mode) -> None:
    branch = shape()
    theirs = await _record(mode.run, RunnableParallel(a=branch))
    assert await _record(mode.run, RunnableParallelPlus(a=branch)) == theirs


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_functions_under_a_policy_return_the_same(shape: Callable[[], Any], mode: Mode) -> None:
    branch = shape()
    policy = BranchPolicy(retry=RetryPolicy(max_attempts=1))

    async def outcome(runnable: Runnable[Any, Any]) -> Any:
        return (await _record(mode.run, runnable))[0]

    theirs = await outcome(RunnableParallel(a=branch))
    ours = await outcome(RunnableParallelPlus(a=branch).with_policy(policy))
    if isinstance(ours, dict) and isinstance(ours["a"], list):  # tags: the policy's run stands between
        return
    assert ours == theirs


async def test_what_a_function_sets_in_its_context_no_later_step_sees(mode: Mode) -> None:
    def sets(value: Any) -> Any:
        seen.set("set by a step")
        return value

    async def asets(value: Any) -> Any:
        return sets(value)

    chain = RunnableLambda(sets, asets) | RunnableLambda(lambda _: seen.get())
    assert await mode.run(plus(a=chain), 0, None) == await mode.run(RunnableParallel(a=chain), 0, None)


@pytest.mark.parametrize("prepare", [for_threads, for_tasks])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_what_is_called_has_the_name_of_what_was_given(shape: Callable[[], Any], prepare: Any) -> None:
    branch = shape()
    assert prepare(branch).get_name() == branch.get_name()


async def test_blocking_generator_functions_do_not_queue_for_the_loops_few_threads() -> None:
    def chunks(_: Any) -> Iterator[str]:
        time.sleep(0.5)
        yield "done"

    started = time.monotonic()
    output = await plus({f"b{i}": RunnableLambda(chunks) for i in range(60)}).ainvoke(0)
    assert list(output.values()) == ["done"] * 60
    assert time.monotonic() - started < 2.5  # by six at a time it would be 5


async def test_a_functions_signature_is_read_once(monkeypatch: pytest.MonkeyPatch, mode: Mode) -> None:
    fan_out = plus(a=RunnableLambda(plain, aplain), b=RunnableLambda(with_config, awith_config))
    await mode.run(fan_out, VALUE, None)
    read: list[Any] = []
    from_function = inspect._signature_from_function  # type: ignore[attr-defined]

    def counting(*args: Any, **options: Any) -> Any:
        read.append(args[1])
        return from_function(*args, **options)

    monkeypatch.setattr(inspect, "_signature_from_function", counting)
    await mode.run(fan_out, VALUE, None)
    assert not [one for one in read if one in (plain, aplain, with_config, awith_config)]
