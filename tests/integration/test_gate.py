"""The gate on every way in which LangChain calls a model: admitted once, refusals that hold, nothing left open."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, CallbackManager
from langchain_core.language_models import BaseLLM, FakeListChatModel, FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import Generation, LLMResult
from langchain_core.runnables import RunnableLambda

from langchain_parallel_plus import RunnableParallelPlus
from langchain_parallel_plus.errors import (
    BranchAbandonedError,
    LimiterTimeoutError,
    QuotaExhaustedError,
    RequestTooLargeError,
)
from langchain_parallel_plus.limits import Cost, RateLimiter
from langchain_parallel_plus.limits.gate import branch_gate as gate_module
from langchain_parallel_plus.limits.gate.branch_gate import BranchGate
from langchain_parallel_plus.limits.tokens.usage import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = [
    pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning"),
    # langchain-core, when the first of several prompts is refused: it has made the coroutines of the others already.
    pytest.mark.filterwarnings("ignore:coroutine 'ahandle_event' was never awaited:RuntimeWarning"),
]

PROMPT = "x" * 384  # 96 tokens, and 4 for the message
USAGE = {"input_tokens": 90, "output_tokens": 30, "total_tokens": 120}
CURRENT: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("test_scope", default=None)


@dataclass(eq=False)
class Scope:
    """A branch as small as can be."""

    limiters: tuple[RateLimiter, ...] = ()
    lane: str = "branch"
    weight: float = 1.0
    left: float | None = None
    at_once: bool = False
    ended: bool = False
    waits: list[dict[str, Any]] = field(default_factory=list)
    uses: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[dict[str, Any]] = field(default_factory=list)
    suspensions: int = 0
    standing: int = 0
    _callbacks: list[Callable[[], None]] = field(default_factory=list)

    def current(self) -> Scope:
        return CURRENT.get() or self

    def check(self) -> None:
        if self.ended:
            msg = "the branch has ended"
            raise BranchAbandonedError(msg)

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def cancel(self) -> None:
        self.ended = True
        for callback in list(self._callbacks):
            callback()

    def remaining(self) -> float | None:
        return self.left

    def stand_still(self) -> Callable[[], None]:
        self.standing += 1

        def go_on() -> None:
            self.standing -= 1

        return go_on

    @contextmanager
    def suspended(self) -> Iterator[None]:
        self.suspensions += 1
        yield

    @asynccontextmanager
    async def asuspended(self) -> AsyncIterator[None]:
        self.suspensions += 1
        yield

    def waited(self, **fact: Any) -> None:
        self.waits.append(fact)

    def queued(self, **fact: Any) -> None:
        """Nothing is to be remembered."""

    def refused(self, **fact: Any) -> None:
        self.refusals.append(fact)

    def called(self, **fact: Any) -> None:
        """Nothing is to be remembered."""

    def settled(self, *, usage: Usage | None, model: str, **fact: Any) -> None:
        if usage is not None:
            tokens = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
            self.uses.append({**tokens, "model": model})


@dataclass(eq=False)
class Branch:
    """A gate around a scope, in a context of its own."""

    scope: Scope

    def __post_init__(self) -> None:
        self.gate = BranchGate(self.scope)
        self.context = contextvars.copy_context()
        self.gate.enter(self.context)
        self.context.run(CURRENT.set, self.scope)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.context.run(function, *args)

    def task(self, coroutine: Any) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(coroutine, context=self.context)


def counted(**limits: Any) -> RateLimiter:
    """A limiter whose counters do not refill, since its clock stands still, at a provider that counts what is used."""
    quota = {"requests_per_day": 1_000, "tokens_per_day": 100_000, "provider": "groq", "clock": lambda: 1.0}
    return RateLimiter(**{**quota, **limits})


def spent(limiter: RateLimiter) -> dict[str, float]:
    rates = limiter.statistics().rates
    return {name: round(rate.burst - rate.available) for name, rate in rates.items()}


def model(calls: int = 20, usage: dict[str, int] | None = USAGE, **fields: Any) -> GenericFakeChatModel:
    messages = (AIMessage(content="well then", usage_metadata=usage) for _ in range(calls))
    return GenericFakeChatModel(messages=messages, **fields)


def consume(iterable: Any) -> list[Any]:
    return list(iterable)


async def aconsume(iterable: Any) -> list[Any]:
    return [item async for item in iterable]


async def v3_async(chat: GenericFakeChatModel) -> Any:
    stream = await chat.astream_events(PROMPT, version="v3")
    return await stream.output


async def sync_on_loop(chat: GenericFakeChatModel) -> Any:
    return chat.invoke(PROMPT)


async def sync_stream_on_loop(chat: GenericFakeChatModel) -> Any:
    return list(chat.stream(PROMPT))


MESSAGES = [[HumanMessage(PROMPT)]] * 3
SYNC_PATHS = {
    "invoke": (lambda chat: chat.invoke(PROMPT), 1),
    "stream": (lambda chat: consume(chat.stream(PROMPT)), 1),
    "batch": (lambda chat: chat.batch([PROMPT, PROMPT]), 2),
    "generate": (lambda chat: chat.generate(MESSAGES), 3),
    "v3 stream": (lambda chat: chat.stream_events(PROMPT, version="v3").output, 1),
    "in a lambda": (lambda chat: RunnableLambda(lambda text: chat.invoke(text)).invoke(PROMPT), 1),
    "without callbacks": (lambda chat: chat.invoke(PROMPT, {"callbacks": []}), 1),
    "in a thread of batch": (lambda chat: RunnableLambda(chat.invoke).batch([PROMPT]), 1),
}
ASYNC_PATHS = {
    "ainvoke": (lambda chat: chat.ainvoke(PROMPT), 1),
    "astream": (lambda chat: aconsume(chat.astream(PROMPT)), 1),
    "abatch": (lambda chat: chat.abatch([PROMPT, PROMPT]), 2),
    "agenerate": (lambda chat: chat.agenerate(MESSAGES), 3),
    "astream_events v2": (lambda chat: aconsume(chat.astream_events(PROMPT, version="v2")), 1),
    "v3 astream": (v3_async, 1),
    "in an async chain": (lambda chat: (RunnableLambda(lambda text: text) | chat).ainvoke(PROMPT), 1),
    "sync lambda in a thread": (lambda chat: RunnableLambda(lambda text: chat.invoke(text)).ainvoke(PROMPT), 1),
    "invoke on the loop's thread": (sync_on_loop, 1),
    "stream on the loop's thread": (sync_stream_on_loop, 1),
}
PATHS = {**SYNC_PATHS, **ASYNC_PATHS}


def travel(path: str, branch: Branch, chat: Any) -> int:
    """Call `chat` on `path` inside `branch`; return how many calls that makes."""
    try:
        if path in SYNC_PATHS:
            call, calls = SYNC_PATHS[path]
            branch.run(call, chat)
        else:
            call, calls = ASYNC_PATHS[path]
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                runner.run(_run_in(branch, call(chat)))
    finally:
        if path == "agenerate":
            gc.collect()  # so that what langchain-core leaves behind is reported here
    return calls


async def _run_in(branch: Branch, coroutine: Any) -> Any:
    return await branch.task(coroutine)


@pytest.fixture(autouse=True, scope="module")
def _no_implicit_loop() -> None:
    """Without a loop set, pytest-asyncio's look at the current one would make one that nobody closes."""
    asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    yield
    assert gate_module._LEDGER._calls == {}


@pytest.mark.parametrize("path", PATHS)
def test_each_call_is_admitted_once_and_settled_with_what_it_used(path: str) -> None:
    limiter = counted(concurrency=1)
    scope = Scope((limiter,))
    calls = travel(path, branch := Branch(scope), model())
    assert len(scope.waits) == calls
    # GenericFakeChatModel's streams carry no usage: then the estimate stays (100 in, 250 out).
    tokens = {"tokens_per_day": 350 * calls if not scope.uses else 120 * calls}
    assert spent(limiter) == {"requests_per_day": calls, **tokens}
    assert limiter.statistics().in_flight == 0
    branch.gate.sweep()
    assert spent(limiter) == {"requests_per_day": calls, **tokens}


@pytest.mark.parametrize("path", ["invoke", "ainvoke", "batch", "agenerate", "invoke on the loop's thread"])
def test_usage_is_reported(path: str) -> None:
    scope = Scope()
    calls = travel(path, Branch(scope), model())
    assert scope.uses == [{"input_tokens": 90, "output_tokens": 30, "model": ""}] * calls
    assert scope.waits == []


@pytest.mark.parametrize("path", PATHS)
def test_a_refused_call_is_not_made_and_costs_nothing(path: str) -> None:
    limiter = counted(tokens_per_minute=90)
    chat = model()
    branch = Branch(Scope((limiter,)))
    with pytest.raises(RequestTooLargeError):
        travel(path, branch, chat)
    branch.gate.sweep()
    assert set(spent(limiter).values()) == {0}
    assert len(list(chat.messages)) == 20
    assert {fact["reason"] for fact in branch.scope.refusals} == {"request_too_large"}


@pytest.mark.parametrize("path", PATHS)
def test_a_branch_that_has_ended_makes_no_more_calls(path: str) -> None:
    branch = Branch(Scope((counted(),), ended=True))
    chat = model()
    with pytest.raises(BranchAbandonedError):
        travel(path, branch, chat)
    branch.gate.sweep()
    assert len(list(chat.messages)) == 20


@pytest.mark.parametrize("path", PATHS)
def test_a_wait_that_does_not_fit_the_deadline_fails_at_once(path: str) -> None:
    limiter = RateLimiter(requests_per_minute=6, burst=1)
    limiter.acquire()
    branch = Branch(Scope((limiter,), left=2.0))
    begin = time.monotonic()
    with pytest.raises(LimiterTimeoutError):
        travel(path, branch, model())
    branch.gate.sweep()
    assert time.monotonic() - begin < 1
    assert limiter.statistics().queued == 0


@pytest.mark.parametrize("path", PATHS)
def test_calls_wait_for_their_turn_and_say_so(path: str) -> None:
    limiter = RateLimiter(requests_per_minute=400, burst=0.1, name="waited for")
    limiter.acquire()
    scope = Scope((limiter,))
    begin = time.monotonic()
    calls = travel(path, Branch(scope), model())
    assert time.monotonic() - begin > calls * 0.15 - 0.1
    assert [wait["seconds"] > 0.02 for wait in scope.waits] == [True] * calls
    assert {(wait["limiter"], wait["dimension"]) for wait in scope.waits} == {("waited for", "requests_per_minute")}
    assert scope.suspensions == (0 if path.endswith("loop's thread") else calls)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("own", [True, False], ids=["its own limiter", "none of its own"])
def test_a_model_with_the_same_limiter_is_not_charged_twice(path: str, own: bool) -> None:
    limiter = counted()
    calls = travel(path, Branch(Scope((limiter,))), model(rate_limiter=limiter if own else None))
    assert spent(limiter)["requests_per_day"] == calls


def test_a_limiter_acquired_by_hand_in_the_same_branch_is_charged() -> None:
    limiter = counted()

    def work() -> None:
        model().invoke(PROMPT)
        limiter.acquire(Cost(tokens=7))
        limiter.acquire()

    Branch(Scope((limiter,))).run(work)
    assert spent(limiter)["requests_per_day"] == 3


@pytest.mark.parametrize("own", [True, False])
def test_a_limiter_acquired_by_hand_while_a_call_is_open_is_charged(own: bool) -> None:
    limiter = counted()

    def work() -> None:
        chat = model(rate_limiter=limiter if own else None)
        for number, _ in enumerate(chat.stream(PROMPT)):
            assert limiter.try_acquire() if number % 2 else limiter.acquire()

    Branch(Scope((limiter,))).run(work)
    assert spent(limiter)["requests_per_day"] == 1 + 3  # "well", " ", "then"


def test_outside_a_branch_a_model_s_limiter_is_charged_an_average_call() -> None:
    limiter = counted()
    model(rate_limiter=limiter).invoke(PROMPT)
    assert spent(limiter) == {"requests_per_day": 1, "tokens_per_day": 750}


def test_the_average_follows_what_the_gate_has_seen() -> None:
    limiter = counted()
    Branch(Scope((limiter,))).run(lambda: model().batch([PROMPT] * 20))
    before = spent(limiter)["tokens_per_day"]
    limiter.acquire()
    assert spent(limiter)["tokens_per_day"] - before < 300


@pytest.mark.parametrize("path", PATHS)
def test_nested_fan_outs_admit_once_for_the_innermost(path: str) -> None:
    outer_limiter, inner_limiter = counted(), counted()
    outer, inner = Scope((outer_limiter,)), Scope((outer_limiter, inner_limiter))
    calls = 0

    def nested(_: Any) -> None:
        nonlocal calls
        calls = travel(path, Branch(inner), model())

    Branch(outer).run(RunnableLambda(nested).invoke, None)
    assert spent(outer_limiter)["requests_per_day"] == spent(inner_limiter)["requests_per_day"] == calls
    assert (len(outer.waits), len(inner.waits)) == (0, 2 * calls)


def test_limiters_of_one_name_are_passed_once() -> None:
    first, second = (counted(name="passed once") for _ in range(2))
    Branch(Scope((first, second))).run(model().invoke, PROMPT)
    assert spent(first)["requests_per_day"] == 1


def test_only_limiters_that_govern_the_model_are_passed() -> None:
    ours, others = counted(models="genericfake*:*"), counted(models="openai:*")
    Branch(Scope((ours, others))).run(model().invoke, PROMPT)
    assert (spent(ours)["requests_per_day"], spent(others)["requests_per_day"]) == (1, 0)


@pytest.mark.parametrize("path", ["invoke", "ainvoke", "generate", "agenerate"])
def test_a_cache_hit_costs_nothing(path: str) -> None:
    limiter = counted(concurrency=1)
    chat = model(cache=InMemoryCache())
    scope = Scope((limiter,))
    calls = travel(path, Branch(scope), chat)
    first = spent(limiter)
    travel(path, Branch(scope), chat)
    assert spent(limiter) == first
    assert limiter.statistics().in_flight == 0
    assert calls > 0


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "generate", "agenerate", "stream", "astream"])
def test_completion_models_are_gated_too(way: str) -> None:
    limiter = counted(concurrency=1)
    llm = FakeListLLM(responses=["well"])
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "invoke": (lambda: llm.invoke(PROMPT), 1),
        "generate": (lambda: llm.generate([PROMPT] * 3), 3),
        "stream": (lambda: consume(llm.stream(PROMPT)), 1),
        "ainvoke": (lambda: llm.ainvoke(PROMPT), 1),
        "agenerate": (lambda: llm.agenerate([PROMPT] * 3), 3),
        "astream": (lambda: aconsume(llm.astream(PROMPT)), 1),
    }
    call, calls = ways[way]
    branch = Branch(Scope((limiter,)))
    if way.startswith("a"):
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(_run_in(branch, call()))
    else:
        branch.run(call)
    assert spent(limiter) == {"requests_per_day": calls, "tokens_per_day": (96 + 250) * calls}
    assert limiter.statistics().in_flight == 0


class Completion(BaseLLM):
    """A completion model that counts: 100 tokens in and 50 out a prompt, in the middle."""

    @property
    def _llm_type(self) -> str:
        return "counting"

    def _generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        counts = {"prompt_tokens": 100 * len(prompts), "completion_tokens": 50 * len(prompts)}
        return LLMResult(generations=[[Generation(text="well")] for _ in prompts], llm_output={"token_usage": counts})

    async def _agenerate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        return self._generate(prompts)


@pytest.mark.parametrize("way", ["generate", "agenerate"])
@pytest.mark.parametrize("provider", ["openai", "bedrock", "groq", None])
@pytest.mark.parametrize("lengths", [[400], [400] * 4, [700, 100, 400]])
def test_a_batch_of_a_completion_model_is_charged_once(provider: str | None, way: str, lengths: list[int]) -> None:
    limiter = RateLimiter(
        requests_per_minute=6_000,
        tokens_per_day=1_000_000,
        provider=provider,
        estimate=lambda call: Cost(input_tokens=len(call.prompt) / 4, output_tokens=len(call.prompt) / 8),
    )
    llm, scope = Completion(), Scope((limiter,))
    branch, prompts = Branch(scope), ["x" * length for length in lengths]
    if way == "generate":
        branch.run(lambda: llm.generate(prompts))
    else:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(_run_in(branch, llm.agenerate(prompts)))
    tokens = limiter.statistics().rates["tokens_per_day"]
    assert 1_000_000 - tokens.available == pytest.approx(150 * len(lengths), abs=1)
    assert tokens.unused == pytest.approx(0, abs=0.01)
    assert sum(use["input_tokens"] + use["output_tokens"] for use in scope.uses) == 150 * len(lengths)
    assert limiter.account.typical.cost().input_tokens > 100


class Answer:
    """An HTTP response as far as errors carry it."""

    def __init__(self, status: int, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None) -> None:
        self.status_code = status
        self.headers = headers or {}
        self._body = body or {}

    def json(self) -> dict[str, Any]:
        return self._body


class ProviderError(Exception):
    """A provider's refusal, shaped like openai's."""

    def __init__(self, message: str, response: Answer, code: str | None = None) -> None:
        super().__init__(message)
        self.response = response
        self.status_code = response.status_code
        self.code = code


class Failing(GenericFakeChatModel):
    """A model that raises."""

    error: Exception

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        raise self.error

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        raise self.error


@pytest.mark.parametrize("path", PATHS)
def test_a_429_pauses_the_key_for_its_retry_after(path: str) -> None:
    limiter = counted(concurrency=1)
    refused = ProviderError("slow down", Answer(429, {"Retry-After": "17"}))
    branch = Branch(Scope((limiter,)))
    failed: BaseException | None = None
    try:
        travel(path, branch, Failing(messages=iter(()), error=refused))
    except ProviderError as error:
        failed = error
    branch.gate.sweep()
    assert failed is refused or path == "v3 astream"
    assert limiter.statistics().paused_for == pytest.approx(17, abs=10)
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("path", ["invoke", "ainvoke", "stream", "astream"])
def test_an_exhausted_quota_closes_the_key(path: str) -> None:
    limiter = counted()
    refused = ProviderError(
        "You exceeded your current quota",
        Answer(429, {"retry-after": "1"}, {"error": {"code": "insufficient_quota"}}),
        code="insufficient_quota",
    )
    branch = Branch(Scope((limiter,)))
    with pytest.raises(ProviderError):
        travel(path, branch, Failing(messages=iter(()), error=refused))
    with pytest.raises(QuotaExhaustedError, match="insufficient_quota"):
        travel(path, branch, model())
    assert limiter.statistics().paused_for == 0


@pytest.mark.parametrize("path", ["invoke", "agenerate", "astream"])
def test_a_call_that_never_reached_the_provider_is_refunded(path: str) -> None:
    limiter = counted(concurrency=1)
    branch = Branch(Scope((limiter,)))
    with pytest.raises(ConnectionError):
        travel(path, branch, Failing(messages=iter(()), error=ConnectionError("no route")))
    assert set(spent(limiter).values()) == {0}
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("path", ["invoke", "ainvoke", "stream", "astream"])
def test_a_429_without_a_hint_pauses_the_key_for_a_second(path: str) -> None:
    limiter = counted()
    branch = Branch(Scope((limiter,)))
    with pytest.raises(ProviderError):
        travel(path, branch, Failing(messages=iter(()), error=ProviderError("slow down", Answer(429))))
    assert limiter.statistics().paused_for == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("path", ["invoke", "ainvoke", "stream", "astream"])
def test_other_errors_leave_the_key_alone_and_the_estimate_spent(path: str) -> None:
    limiter = counted(concurrency=1)
    branch = Branch(Scope((limiter,)))
    with pytest.raises(ValueError, match="a bug"):
        travel(path, branch, Failing(messages=iter(()), error=ValueError("a bug")))
    statistics = limiter.statistics()
    assert (statistics.paused_for, statistics.closed, statistics.in_flight) == (0, None, 0)
    assert spent(limiter)["tokens_per_day"] == 350


@pytest.mark.parametrize("path", PATHS)
def test_a_refusal_by_a_limiter_of_the_model_s_own_says_nothing_of_the_provider(path: str) -> None:
    ours, own = counted(concurrency=1), RateLimiter(requests_per_minute=60)
    own.close("no credit")
    branch = Branch(Scope((ours,)))
    with contextlib.suppress(QuotaExhaustedError):
        travel(path, branch, model(rate_limiter=own))
    branch.gate.sweep()
    statistics = ours.statistics()
    assert (statistics.closed, statistics.in_flight) == (None, 0)
    if path in ("invoke", "ainvoke", "in a lambda"):  # elsewhere LangChain ends no run that its limiter has refused
        assert set(spent(ours).values()) == {0}


class Slow(GenericFakeChatModel):
    """A model that answers when it is let."""

    go: Any = None

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(30)


async def test_a_cancelled_call_keeps_its_tokens_and_gives_its_slot_back_at_the_sweep() -> None:
    limiter = counted(concurrency=1)
    branch = Branch(Scope((limiter,)))
    task = branch.task(Slow(messages=iter(())).ainvoke(PROMPT))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    branch.gate.sweep()
    branch.gate.sweep()
    assert limiter.statistics().in_flight == 0
    assert spent(limiter) == {"requests_per_day": 1, "tokens_per_day": 350}


async def test_a_call_cancelled_while_it_waits_costs_nothing() -> None:
    limiter = counted(requests_per_minute=1, burst=1)
    limiter.acquire(Cost())
    branch = Branch(Scope((limiter,)))
    task = branch.task(model().ainvoke(PROMPT))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert limiter.statistics().queued == 0
    assert spent(limiter)["tokens_per_day"] == 0


def test_a_thread_that_waits_stops_when_its_branch_is_given_up() -> None:
    limiter = RateLimiter(requests_per_minute=1, burst=1)
    limiter.acquire()
    scope = Scope((limiter,))
    branch = Branch(scope)
    raised: list[BaseException] = []

    def work() -> None:
        try:
            branch.run(model().invoke, PROMPT)
        except BranchAbandonedError as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not limiter.statistics().queued:
        threading.Event().wait(0.005)
    scope.cancel()
    thread.join(2)
    assert not thread.is_alive()
    assert len(raised) == 1
    assert limiter.statistics().queued == 0
    assert scope._callbacks == []


async def test_a_synchronous_call_on_the_loop_s_thread_does_not_wait_for_others_of_that_loop() -> None:
    """The slot is held by a task of the very loop that the call blocks."""
    limiter = counted(concurrency=1)
    branch = Branch(Scope((limiter,)))
    async with limiter.hold():
        queued = asyncio.create_task(limiter.aacquire(Cost(slots=1)))
        await asyncio.sleep(0)
        await branch.task(sync_on_loop(model()))
    await queued
    assert spent(limiter)["requests_per_day"] == 3


async def test_waiting_calls_do_not_block_the_loop() -> None:
    limiter = RateLimiter(requests_per_minute=120, burst=0.5)
    limiter.acquire()
    beats = 0

    async def heart() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    beating = asyncio.create_task(heart())
    await Branch(Scope((limiter,))).task(model().ainvoke(PROMPT))
    beating.cancel()
    assert beats > 20


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize(
    "limits",
    [
        [{"requests_per_minute": 1_200, "burst": 0.05, "concurrency": 1}],
        [{"requests_per_minute": 1_200, "burst": 0.05}, {"concurrency": 1}],
        [{"concurrency": 2}, {"concurrency": 1}],
    ],
)
async def test_several_prompts_of_one_generate_do_not_wait_for_those_who_wait_for_its_slot(
    way: str, limits: list[dict[str, Any]]
) -> None:
    chat = FakeListChatModel(responses=["ok"])

    def generate(question: str) -> int:
        return len(chat.generate([[HumanMessage(question)]] * 3).generations)

    async def agenerate(question: str) -> int:
        return len((await chat.agenerate([[HumanMessage(question)]] * 3)).generations)

    limiters = [RateLimiter(**declared) for declared in limits]
    branches = {f"branch {number}": RunnableLambda(generate, afunc=agenerate) for number in range(4)}
    fan = RunnableParallelPlus(branches).with_limits(*limiters)
    answers = await (asyncio.to_thread(fan.invoke, "x") if way == "invoke" else fan.ainvoke("x"))
    assert answers == dict.fromkeys(branches, 3)
    assert all((one.statistics().queued, one.statistics().in_flight) == (0, 0) for one in limiters)


def test_two_limiters_with_slots_cannot_lock_each_other_out() -> None:
    first, second = RateLimiter(concurrency=1), RateLimiter(concurrency=1)
    done: list[int] = []

    def work(limiters: tuple[RateLimiter, ...]) -> None:
        branch = Branch(Scope(limiters))
        for _ in range(50):
            branch.run(model(calls=1).invoke, PROMPT)
            done.append(1)

    threads = [threading.Thread(target=work, args=(pair,), daemon=True) for pair in ((first, second), (second, first))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(done) == 100


async def test_a_quota_is_not_taken_while_the_call_has_to_wait_longer_for_another() -> None:
    """Else the first one's provider would meet, all at once, what was admitted over the time of the second's pause."""
    idle, paused = counted(), counted(clock=None)
    paused.pause(0.2)
    waiting = Branch(Scope((idle, paused))).task(model().ainvoke(PROMPT))
    await asyncio.sleep(0.1)
    assert spent(idle)["requests_per_day"] == 0
    await waiting
    assert spent(idle)["requests_per_day"] == 1


async def test_a_call_that_one_of_its_limiters_refuses_takes_nothing_from_the_others() -> None:
    first, second, closed = counted(), counted(), counted()
    closed.close("no money")
    with pytest.raises(QuotaExhaustedError):
        await Branch(Scope((first, closed, second))).task(model().ainvoke(PROMPT))
    assert first.statistics().submitted == second.statistics().submitted == 0


def test_where_the_context_is_lost_the_limiters_of_all_branches_around_admit() -> None:
    """A thread that is given the config, but no context: every handler in it is told of the call."""
    limiter, inside = counted(), counted()
    outer, inner = Branch(Scope((limiter,))), Branch(Scope((limiter, inside)))
    for handlers in itertools.permutations([outer.gate, inner.gate]):
        manager = CallbackManager(list(handlers), list(handlers))
        model().invoke(PROMPT, {"callbacks": manager})
    assert spent(limiter)["requests_per_day"] == spent(inside)["requests_per_day"] == 2


def test_where_the_context_is_lost_a_refusal_gives_everything_back() -> None:
    limiter, inside = counted(), counted(tokens_per_day=10)
    outer, inner = Branch(Scope((limiter,))), Branch(Scope((limiter, inside)))
    manager = CallbackManager([outer.gate, inner.gate])
    with pytest.raises(RequestTooLargeError):
        model().invoke(PROMPT, {"callbacks": manager})
    assert spent(limiter)["requests_per_day"] == 0


async def test_siblings_and_the_caller_are_not_gated() -> None:
    limiter = counted()
    await Branch(Scope((limiter,))).task(model().ainvoke(PROMPT))
    await model().ainvoke(PROMPT)
    assert spent(limiter)["requests_per_day"] == 1


class Tokens(BaseCallbackHandler):
    """Counts event loops that a synchronous stream would start for its tokens."""

    def __init__(self) -> None:
        self.seen = 0

    def on_llm_new_token(self, token: Any, **_: Any) -> None:
        self.seen += 1


def test_a_synchronous_stream_starts_no_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens()

    def no_loop(*_: Any, **__: Any) -> None:
        pytest.fail("an event loop was started for a callback")

    monkeypatch.setattr(asyncio, "Runner", no_loop)
    branch = Branch(Scope((counted(),)))
    branch.run(lambda: consume(model().stream(PROMPT, {"callbacks": [tokens]})))
    assert tokens.seen > 2


ORDERS = list(itertools.permutations(range(2)))


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("path", ["invoke", "ainvoke", "invoke on the loop's thread", "agenerate", "stream"])
def test_the_order_of_the_handlers_does_not_matter(path: str, order: tuple[int, ...]) -> None:
    """Managers that are merged (by `bind`, `with_retry`) put their handlers through a set."""
    limiter = counted(concurrency=1)
    outer, inner = Branch(Scope((limiter,))), Branch(scope := Scope((limiter,)))
    handlers = [outer.gate, inner.gate]
    chat = model(callbacks=None)
    shuffled = CallbackManager([handlers[index] for index in order], [handlers[index] for index in order])
    calls = travel(path, inner, Shuffled(chat, shuffled))
    assert len(scope.waits) == calls
    assert spent(limiter)["requests_per_day"] == calls
    # A synchronous call on a loop's thread waits for time only; in a coroutine nothing may block the loop.
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("path", ["invoke", "ainvoke", "invoke on the loop's thread"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_refusal_holds_in_any_order(path: str, order: tuple[int, ...]) -> None:
    limiter = counted(tokens_per_minute=90)
    outer, inner = Branch(Scope((limiter,))), Branch(Scope((limiter,)))
    handlers = [outer.gate, inner.gate]
    shuffled = CallbackManager([handlers[index] for index in order], [handlers[index] for index in order])
    chat = model()
    with pytest.raises(RequestTooLargeError):
        travel(path, inner, Shuffled(chat, shuffled))
    inner.gate.sweep()
    outer.gate.sweep()
    gc.collect()
    assert len(list(chat.messages)) == 20
    assert set(spent(limiter).values()) == {0}


class Shuffled:
    """A model under callbacks in a given order."""

    def __init__(self, chat: GenericFakeChatModel, manager: CallbackManager) -> None:
        self.chat = chat
        self.manager = manager

    def invoke(self, text: str) -> Any:
        return self.chat.invoke(text, {"callbacks": self.manager})

    def stream(self, text: str) -> Any:
        return self.chat.stream(text, {"callbacks": self.manager})

    def ainvoke(self, text: str) -> Any:
        return self.chat.ainvoke(text, {"callbacks": self._asynchronous()})

    def agenerate(self, messages: Any) -> Any:
        return self.chat.agenerate(messages, callbacks=self._asynchronous())

    def _asynchronous(self) -> AsyncCallbackManager:
        return AsyncCallbackManager(self.manager.handlers, self.manager.inheritable_handlers)
