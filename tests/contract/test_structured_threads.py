"""Structured concurrency in threads: they cannot be stopped, but nobody waits for them, and nothing of them is kept."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableConfig, RunnableGenerator

from langchain_parallel_plus import fan_out_results
from langchain_parallel_plus._engine.workers import WorkerPool
from tests.contract.aftermath import left_nothing, soon
from tests.contract.probes import plus
from tests.modes import MODES, Mode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

SYNC = [mode for mode in MODES if mode.sync]
ASYNC = [mode for mode in MODES if not mode.sync]

sync_modes = pytest.mark.parametrize("mode", SYNC, ids=str)
async_modes = pytest.mark.parametrize("mode", ASYNC, ids=str)
caps_or_none = pytest.mark.parametrize("config", [{}, {"max_concurrency": 3}], ids=["no_cap", "cap_3"])
ERROR = LookupError("as told")


class Held:
    """Branches that block a thread until the test lets them go."""

    def __init__(self) -> None:
        self.going_on = threading.Event()
        self.started = threading.Event()
        self.ended = 0

    def __call__(self, _: Any) -> str:
        self.started.set()
        self.going_on.wait(5)
        self.ended += 1
        return "late"


@pytest.fixture
def held() -> Iterator[Held]:
    branch = Held()
    yield branch
    branch.going_on.set()


@sync_modes
@caps_or_none
async def test_a_failure_does_not_wait_for_threads_and_their_late_results_are_fenced(
    mode: Mode, config: RunnableConfig, held: Held, caps: list[Any]
) -> None:
    def fails(_: Any) -> None:
        held.started.wait(5)
        time.sleep(0.02)
        raise ERROR

    with left_nothing() as runs:
        fan_out = plus(quick=lambda _: "in", late=held, fails=fails)
        with pytest.raises(LookupError) as caught:
            await mode.run(fan_out, 0, {**config, "callbacks": [runs]})
        assert held.ended == 0
        held.going_on.set()
        assert soon(lambda: held.ended == 1)
    assert caught.value is ERROR
    finished = fan_out_results(caught.value)
    assert finished is not None
    assert finished.outputs == {"quick": "in"}


@sync_modes
async def test_a_keyboard_interrupt_of_a_branch_ends_the_call(mode: Mode, held: Held) -> None:
    def interrupts(_: Any) -> None:
        held.started.wait(5)
        raise KeyboardInterrupt

    with left_nothing() as runs:
        with pytest.raises(KeyboardInterrupt):
            await mode.run(plus(late=held, stop=interrupts), 0, {"callbacks": [runs]})
        held.going_on.set()


async def _awaited(work: Awaitable[Any]) -> None:
    await work


@async_modes
def test_a_keyboard_interrupt_of_a_task_ends_the_loop_and_its_siblings(mode: Mode) -> None:
    async def interrupts(_: Any) -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    cleaned = []

    async def slow(_: Any) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned.append(1)

    fan_out = plus(slow=slow, stop=interrupts)
    with left_nothing() as runs, asyncio.Runner() as runner, pytest.raises(KeyboardInterrupt):
        runner.run(_awaited(mode.run(fan_out, 0, {"callbacks": [runs]})))
    assert cleaned == [1]


@pytest.mark.parametrize("method", ["invoke", "batch", "stream"])
def test_ctrl_c_while_the_main_thread_waits_ends_the_call_at_once(method: str, held: Held) -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def press() -> None:
        held.started.wait(5)
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with left_nothing() as runs:
        fan_out = plus(quick=lambda _: "in", late=held)
        work: dict[str, Callable[[], Any]] = {
            "invoke": lambda: fan_out.invoke(0, {"callbacks": [runs]}),
            "batch": lambda: fan_out.batch([0, 1], {"callbacks": [runs]}),
            "stream": lambda: list(fan_out.stream(0, {"callbacks": [runs]})),
        }
        threading.Thread(target=press, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            work[method]()
        assert held.ended == 0
        held.going_on.set()


@pytest.mark.parametrize("config", [{}, {"max_concurrency": 2}], ids=["no_cap", "cap_2"])
def test_a_stream_closed_early_closes_generators_between_two_chunks(config: RunnableConfig, caps: list[Any]) -> None:
    closed = []

    def chunks(inputs: Iterator[Any]) -> Iterator[int]:
        try:
            for _ in inputs:
                yield from range(100)
        finally:
            closed.append(1)

    with left_nothing() as runs:
        fan_out = plus(a=RunnableGenerator(chunks), b=RunnableGenerator(chunks))
        stream = fan_out.stream(0, {**config, "callbacks": [runs]})
        seen: set[str] = set()
        while len(seen) < 2:
            seen.update(next(stream))
        stream.close()  # type: ignore[attr-defined]  # a generator, typed as an iterator
        assert soon(lambda: len(closed) == 2)


@pytest.mark.parametrize("bound", [False, True], ids=["chain", "bound_chain"])
@pytest.mark.parametrize("config", [{}, {"max_concurrency": 2}], ids=["no_cap", "cap_2"])
def test_a_stream_closed_early_closes_the_chains_in_its_branches(
    config: RunnableConfig, bound: bool, caps: list[Any]
) -> None:
    produced = []

    def endless(inputs: Iterator[Any]) -> Iterator[int]:
        for _ in inputs:
            for number in range(1000):
                produced.append(number)
                yield number

    def passed_on(inputs: Iterator[Any]) -> Iterator[Any]:
        yield from inputs

    chain: Any = plus(x=RunnableGenerator(endless), y=RunnableGenerator(endless)) | RunnableGenerator(passed_on)
    with left_nothing() as runs:
        stream = plus(a=chain.bind() if bound else chain, b=lambda _: 1).stream(0, {**config, "callbacks": [runs]})
        seen: set[str] = set()
        while seen < {"a"}:
            seen.update(next(stream))
        stream.close()  # type: ignore[attr-defined]  # a generator, typed as an iterator
    assert len(produced) < 50


class Document:
    """An input that can be watched."""


@sync_modes
async def test_nothing_keeps_the_input_alive(mode: Mode) -> None:
    document = Document()
    gone = weakref.ref(document)
    fan_out = plus({str(n): lambda _: time.sleep(0.01) for n in range(4)})
    await mode.run(fan_out, document, None)
    del document

    def freed() -> bool:
        gc.collect()
        return gone() is None

    assert soon(freed, 1.0)


def test_an_idle_thread_keeps_nothing_of_the_job_it_was_started_for() -> None:
    document = Document()
    gone = weakref.ref(document)
    pool = WorkerPool()

    def job(given: Document = document) -> None:
        assert given is not None

    pool.submit(job)
    assert soon(lambda: pool.running == 0)
    del document, job

    def freed() -> bool:
        gc.collect()
        return gone() is None

    assert soon(freed, 0.5)
