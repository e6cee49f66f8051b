"""The defects of `with_retry` and `with_fallbacks` (langchain-core 1.7 and 1.8) that no policy of this package has.

Each test shows the defect upstream, and what is right on `RunnableWithPolicy` and on a branch under a `BranchPolicy`.
Where the installed langchain-core has repaired the defect, upstream's part is skipped and says so.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import langchain_core
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ModelInvalidRequestError
from langchain_core.runnables import Runnable, RunnableConfig, RunnableGenerator, RunnableLambda
from langgraph.errors import GraphInterrupt

from langchain_parallel_plus import BranchPolicy, RetryPolicy, RunnableWithPolicy
from tests.contract.probes import Runs, plus
from tests.modes import MODES, Mode

EACH = pytest.mark.parametrize("mode", MODES, ids=str)
WHOLE = pytest.mark.parametrize("mode", [mode for mode in MODES if not mode.streams], ids=str)
STREAMS = pytest.mark.parametrize("mode", [mode for mode in MODES if mode.streams], ids=str)
BATCHES = pytest.mark.parametrize("tasks", [False, True], ids=["batch", "abatch"])

Step = Runnable[Any, Any]


@dataclass(frozen=True)
class Side:
    """Upstream's way to retry and to fall back, or one of ours."""

    name: str
    retrying: Callable[[Step], Step]
    falling_back: Callable[[Step, Step], Step]

    def __str__(self) -> str:
        return self.name

    def shows(self, seen: object, *, right: object, wrong: object) -> None:
        """Hold what was seen against what is right and against the defect."""
        if self is not UPSTREAM:
            assert seen == right
        elif seen == right:
            pytest.skip(f"langchain-core {langchain_core.__version__} has repaired this; it is required of ours only")
        else:
            assert seen == wrong


RETRY = BranchPolicy(retry=RetryPolicy(initial_interval=0.001))


def _branch(step: Step, policy: BranchPolicy) -> Step:
    return plus({"x": step}).with_policy(policy).pick("x")


UPSTREAM = Side(
    "upstream",
    lambda step: step.with_retry(wait_exponential_jitter=False),
    lambda step, other: step.with_fallbacks([other]),
)
ALONE = Side(
    "alone",
    lambda step: RunnableWithPolicy(step, RETRY),
    lambda step, other: RunnableWithPolicy(step, BranchPolicy(fallbacks=[other])),
)
BRANCH = Side(
    "branch",
    lambda step: _branch(step, RETRY),
    lambda step, other: _branch(step, BranchPolicy(fallbacks=[other])),
)


@pytest.fixture(params=[UPSTREAM, ALONE, BRANCH], ids=str)
def side(request: pytest.FixtureRequest) -> Side:
    """Upstream, and ours in both of its forms."""
    chosen: Side = request.param
    return chosen


def counted(error: Exception | None, *, times: int = 9) -> tuple[Step, list[Any]]:
    """Return a step that raises in its first calls, and its calls."""
    calls: list[Any] = []

    def work(value: Any) -> Any:
        calls.append(value)
        if error is not None and len(calls) <= times:
            raise error
        return value

    async def awork(value: Any) -> Any:
        return work(value)

    return RunnableLambda(work, afunc=awork), calls


def chunks(make: Callable[[list[Any]], Iterator[Any]]) -> Step:
    """Return a step that streams what `make` says of its whole input."""

    def sync(inputs: Iterator[Any]) -> Iterator[Any]:
        yield from make(list(inputs))

    async def tasks(inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
        for chunk in make([one async for one in inputs]):
            yield chunk

    return RunnableGenerator(sync, tasks)


async def run_all(step: Step, inputs: list[Any], *, tasks: bool, config: Any = None, **options: Any) -> Any:
    return await step.abatch(inputs, config, **options) if tasks else step.batch(inputs, config, **options)


class Items:
    """Fails twice for 0, always for 1, never for 2."""

    def __init__(self) -> None:
        self._calls: list[int] = []
        self._lock = threading.Lock()

    def __call__(self, item: int) -> str:
        with self._lock:
            self._calls.append(item)
            seen = self._calls.count(item)
        if item == 1 or (item == 0 and seen <= 2):
            raise ConnectionError(f"no answer to {item}")
        return f"r{item}"


@BATCHES
@pytest.mark.parametrize("collect", [True, False], ids=["return_exceptions", "raise"])
async def test_a_failed_item_of_a_batch_never_gets_another_ones_output(side: Side, tasks: bool, collect: bool) -> None:
    step = side.retrying(RunnableLambda(Items()))
    try:
        outputs = await run_all(step, [0, 1, 2], tasks=tasks, return_exceptions=collect)
    except ConnectionError as error:
        outputs = error
    seen = [str(one) for one in outputs] if isinstance(outputs, list) else f"raised: {outputs}"
    right = ["r0", "no answer to 1", "r2"] if collect else "raised: no answer to 1"
    side.shows(seen, right=right, wrong=["r0", "r0", "r2"])


@pytest.mark.looptime
async def test_an_item_of_a_batch_is_retried_without_waiting_for_the_others(side: Side) -> None:
    begun: list[tuple[str, float]] = []
    loop = asyncio.get_running_loop()

    async def work(item: str) -> str:
        begun.append((item, loop.time()))
        if item == "flaky" and len(begun) <= 2:
            raise ConnectionError
        await asyncio.sleep(60 if item == "slow" else 0)
        return item

    assert await side.retrying(RunnableLambda(work)).abatch(["flaky", "slow"]) == ["flaky", "slow"]
    first, second = (when for item, when in begun if item == "flaky")
    side.shows(second - first < 1, right=True, wrong=False)


@WHOLE
@pytest.mark.parametrize("error", [TypeError("a bug"), ModelInvalidRequestError("bad")], ids=lambda e: type(e).__name__)
async def test_what_no_retry_can_repair_is_not_retried(side: Side, mode: Mode, error: Exception) -> None:
    step, calls = counted(error)
    with pytest.raises(type(error)):
        await mode.run(side.retrying(step), "in", None)
    side.shows(len(calls), right=1, wrong=3)


class QuotaError(Exception):
    status_code = 429
    code = "insufficient_quota"


@WHOLE
async def test_an_exhausted_account_is_not_asked_three_times(side: Side, mode: Mode) -> None:
    step, calls = counted(QuotaError("You exceeded your current quota"))
    with pytest.raises(QuotaError):
        await mode.run(side.retrying(step), "in", None)
    side.shows(len(calls), right=1, wrong=3)


@WHOLE
async def test_an_interrupt_is_not_retried(side: Side, mode: Mode) -> None:
    step, calls = counted(GraphInterrupt(()))
    with pytest.raises(GraphInterrupt):
        await mode.run(side.retrying(step), "in", None)
    side.shows(len(calls), right=1, wrong=3)


@EACH
async def test_an_interrupt_is_not_answered_by_a_fallback(side: Side, mode: Mode) -> None:
    step, _ = counted(GraphInterrupt(()))
    instead, _ = counted(None)
    try:
        seen = await mode.run(side.falling_back(step, instead), "in", None)
    except GraphInterrupt:
        seen = "interrupted"
    side.shows(seen, right="interrupted", wrong="in")


class RateLimitedError(Exception):
    status_code = 429

    def __init__(self) -> None:
        super().__init__("slow down")
        self.headers = {"retry-after": "7"}


@pytest.mark.looptime
async def test_the_wait_that_the_provider_asks_for_is_kept(side: Side) -> None:
    step, calls = counted(RateLimitedError(), times=1)
    began = asyncio.get_running_loop().time()
    await side.retrying(step).ainvoke("in")
    waited = asyncio.get_running_loop().time() - began
    assert len(calls) == 2
    side.shows(round(waited), right=7, wrong=0)


class Retries(BaseCallbackHandler):
    """Counts what is told to `on_retry`."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def on_retry(self, retry_state: Any, **_: Any) -> None:
        self.told.append(retry_state.attempt_number)


@WHOLE
async def test_callbacks_hear_of_retries(side: Side, mode: Mode) -> None:
    step, _ = counted(ConnectionError(), times=2)
    retries = Retries()
    await mode.run(side.retrying(step), "in", {"callbacks": [retries]})
    side.shows(retries.told, right=[1, 2], wrong=[])


@STREAMS
async def test_a_stream_that_fails_before_its_first_chunk_is_retried(side: Side, mode: Mode) -> None:
    runs: list[int] = []

    def words(inputs: list[Any]) -> Iterator[str]:
        runs.append(1)
        if len(runs) == 1:
            raise ConnectionError
        yield from ("one ", "two")

    try:
        seen = await mode.run(side.retrying(chunks(words)), "in", None)
    except ConnectionError:
        seen = "failed"
    side.shows(seen, right="one two", wrong="failed")


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.name in ("invoke", "ainvoke")], ids=str)
async def test_runs_below_a_fallback_are_its_children(side: Side, mode: Mode) -> None:
    runs = Runs()
    step, _ = counted(ConnectionError())
    instead, _ = counted(None)
    await mode.run(side.falling_back(step, instead), "in", {"callbacks": [runs]})
    assert runs.open == []
    roots = [run.name for run in runs.started if run.parent is None]
    assert len(runs.started) >= 3
    side.shows(len(roots), right=1, wrong=3)


@BATCHES
async def test_a_batch_that_raises_leaves_no_run_open(side: Side, tasks: bool) -> None:
    def work(item: int) -> int:
        if item == 0:
            raise ValueError("not to be handled")
        return item

    step = RunnableLambda(work)
    other: Step = RunnableLambda(work)
    handled: Any = {"exceptions_to_handle": (KeyError,)}
    tried = step.with_fallbacks([other], **handled) if side is UPSTREAM else side.falling_back(step, other)
    runs = Runs()
    with pytest.raises(ValueError, match="not to be handled"):
        await run_all(tried, [0, 1], tasks=tasks, config={"callbacks": [runs]})
    # The error does not wait for the items that are still at work in their threads.
    patience = time.monotonic() + (0.1 if side is UPSTREAM else 5)
    while runs.open and time.monotonic() < patience:
        await asyncio.to_thread(time.sleep, 0.005)
    side.shows(runs.open == [], right=True, wrong=False)


@WHOLE
async def test_the_callers_input_is_left_as_it_was(side: Side, mode: Mode) -> None:
    step, _ = counted(ConnectionError())
    instead, calls = counted(None)
    told = (
        step.with_fallbacks([instead], exception_key="error") if side is UPSTREAM else side.falling_back(step, instead)
    )
    given = {"question": "why?"}
    await mode.run(told, given, None)
    assert len(calls) == 1
    side.shows(list(given), right=["question"], wrong=["question", "error"])


@STREAMS
async def test_an_empty_stream_is_an_answer_and_no_failure(side: Side, mode: Mode) -> None:
    instead, calls = counted(None)
    await mode.run(side.falling_back(chunks(lambda _: iter(())), instead), "in", None)
    side.shows(len(calls), right=0, wrong=1)


@pytest.mark.parametrize("tasks", [False, True], ids=["stream", "astream"])
async def test_a_stream_that_is_closed_early_closes_its_run(side: Side, tasks: bool) -> None:
    runs = Runs()
    instead, _ = counted(None)
    step = side.falling_back(chunks(lambda _: iter(("one", "two"))), instead)
    if side is BRANCH:
        step = step.first  # type: ignore[attr-defined]  # the fan-out itself: a RunnableSequence closes its steps later
    config: RunnableConfig = {"callbacks": [runs]}
    if tasks:
        async_stream: Any = step.astream("in", config)
        await anext(async_stream)
        await async_stream.aclose()
    else:
        stream: Any = step.stream("in", config)
        next(stream)
        stream.close()
    side.shows(runs.open == [], right=True, wrong=False)


@pytest.mark.parametrize("tasks", [False, True], ids=["transform", "atransform"])
async def test_a_streamed_input_is_passed_on_chunk_by_chunk(side: Side, tasks: bool) -> None:
    def shout(inputs: Iterator[str]) -> Iterator[str]:
        yield from (word.upper() for word in inputs)

    async def ashout(inputs: AsyncIterator[str]) -> AsyncIterator[str]:
        async for word in inputs:
            yield word.upper()

    instead, _ = counted(None)
    words = chunks(lambda _: iter(("one", "two")))
    chain = words | side.falling_back(RunnableGenerator(shout, ashout), instead)
    seen = [word async for word in chain.astream("in")] if tasks else list(chain.stream("in"))
    side.shows(seen, right=["ONE", "TWO"], wrong=["ONETWO"])
