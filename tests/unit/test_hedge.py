"""`BranchPolicy(hedge=HedgePolicy(...))`, in every way to run it."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd, load
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda, RunnablePassthrough

from langchain_parallel_plus import (
    BranchPolicy,
    BranchTimeoutError,
    CircuitBreaker,
    DeclarationError,
    HedgePolicy,
    RateLimiter,
    RetryPolicy,
    RunnableWithPolicy,
    TimeoutPolicy,
)
from langchain_parallel_plus._engine.hedge_state import HEDGES
from langchain_parallel_plus.observe.event import Event, subscribed
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.contract.probes import others, plus
from tests.modes import MODES, Mode

ALL = pytest.mark.parametrize("mode", MODES, ids=str)
DELAY = 0.03


def soon(**options: Any) -> HedgePolicy:
    """Return a policy with a budget of its own."""
    return HedgePolicy(DELAY, **options)


class Slow:
    """Numbers its calls; those in `hang` wait until they are let go, or cancelled, and those in `fail` raise."""

    def __init__(self, hang: tuple[int, ...] = (1,), fail: dict[int, Exception] | None = None) -> None:
        self.hang, self.fail = hang, fail or {}
        self.release = threading.Event()
        self.begun = self.cancelled = self.ended = 0
        self._lock = threading.Lock()

    def _begin(self) -> int:
        with self._lock:
            self.begun += 1
            return self.begun

    def _end(self, number: int) -> str:
        with self._lock:
            self.ended += 1
        if number in self.fail:
            raise self.fail[number]
        return f"call {number}"

    def call(self, _: Any) -> str:
        number = self._begin()
        if number in self.hang:
            self.release.wait(5)
        return self._end(number)

    async def acall(self, _: Any) -> str:
        number = self._begin()
        if number in self.hang:
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                await asyncio.sleep(0.001)
                self.cancelled += 1
                raise
        return self._end(number)

    @property
    def runnable(self) -> Runnable[Any, Any]:
        def chunks(inputs: Iterator[Any]) -> Iterator[str]:
            for one in inputs:
                yield self.call(one)
            yield "!"

        async def achunks(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
            async for one in inputs:
                yield await self.acall(one)
            yield "!"

        return RunnableGenerator(chunks, achunks)


@pytest.fixture
def slow() -> Iterator[Callable[..., Slow]]:
    made: list[Slow] = []

    def make(*args: Any, **options: Any) -> Slow:
        made.append(Slow(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.release.set()


def alone(step: Any, policy: BranchPolicy) -> Runnable[Any, Any]:
    return RunnableWithPolicy(step, policy)


def in_fan_out(step: Any, policy: BranchPolicy) -> Runnable[Any, Any]:
    return plus(x=step, other=lambda _: "other").with_policy(x=policy).pick("x")


@pytest.fixture(params=[alone, in_fan_out])
def under(request: pytest.FixtureRequest) -> Callable[[Any, BranchPolicy], Runnable[Any, Any]]:
    return request.param


@ALL
async def test_the_hedge_of_a_slow_call_wins_and_the_call_is_cancelled_and_awaited(
    mode: Mode, under: Any, slow: Any
) -> None:
    calls, began = slow(), time.monotonic()
    assert await mode.run(under(calls.runnable, BranchPolicy(hedge=soon())), "in") == "call 2!"
    assert DELAY <= time.monotonic() - began < 2
    assert calls.begun == 2
    if not mode.sync:
        assert calls.cancelled == 1
        assert not others()


@ALL
async def test_a_quick_call_is_made_once(mode: Mode, under: Any, slow: Any) -> None:
    calls = slow(())
    assert await mode.run(under(calls.runnable, BranchPolicy(hedge=HedgePolicy(5))), "in") == "call 1!"
    assert calls.begun == 1


@ALL
async def test_without_a_policy_nothing_is_hedged(mode: Mode, slow: Any) -> None:
    calls = slow()
    threading.Timer(0.1, calls.release.set).start()
    policy = BranchPolicy(timeout=TimeoutPolicy(run_timeout=0.2 if not mode.sync else 5))
    if mode.sync:
        assert await mode.run(alone(calls.runnable, policy), "in") == "call 1!"
    else:
        with pytest.raises(BranchTimeoutError):
            await mode.run(alone(calls.runnable, policy), "in")
    assert calls.begun == 1


@ALL
async def test_the_first_call_may_still_win(mode: Mode, under: Any, slow: Any) -> None:
    calls = slow((1, 2), {2: KeyError("the hedge's")})
    if mode.sync:
        threading.Timer(0.5, calls.release.set).start()
        calls.fail = {}
        assert (await mode.run(under(calls.runnable, BranchPolicy(hedge=soon())), "in")).startswith("call ")
    else:
        calls = slow((), {2: KeyError("the hedge's")})
        original = calls.acall

        async def late(value: Any) -> str:
            if calls.begun == 0:
                calls.begun += 1
                await asyncio.sleep(0.5)
                return "call 1"
            return await original(value)

        calls.acall = late
        assert await mode.run(under(calls.runnable, BranchPolicy(hedge=soon())), "in") == "call 1!"
    assert calls.begun == 2


@ALL
async def test_when_both_fail_the_first_calls_error_is_raised_and_it_is_one_attempt(mode: Mode, slow: Any) -> None:
    calls = slow((1,), {1: ConnectionError("the first"), 2: KeyError("the hedge's")})
    threading.Timer(0.5, calls.release.set).start()

    async def fails(_: Any) -> str:
        calls.begun += 1
        if calls.begun == 1:
            await asyncio.sleep(0.5)
            raise ConnectionError("the first")
        raise KeyError("the hedge's")

    calls.acall = fails
    step = plus(x=calls.runnable).with_policy(BranchPolicy(hedge=soon(), on_failure="keep"))
    failure = (await mode.run(step, "in"))["x"]
    assert (failure.error_type, failure.attempts, calls.begun) == ("ConnectionError", 1, 2)


@ALL
async def test_each_attempt_is_hedged_anew(mode: Mode, slow: Any) -> None:
    calls = slow((2,), {1: ConnectionError("at once")})
    policy = BranchPolicy(hedge=HedgePolicy(0.3), retry=RetryPolicy(initial_interval=0.001))
    assert await mode.run(alone(calls.runnable, policy), "in") == "call 3!"


@ALL
async def test_fallbacks_are_not_hedged(mode: Mode, slow: Any) -> None:
    calls = slow((1,))
    threading.Timer(0.15, calls.release.set).start()

    async def late(_: Any) -> str:
        calls.begun += 1
        await asyncio.sleep(0.1)
        return "call 1"

    calls.acall = late
    policy = BranchPolicy(hedge=soon(), fallbacks=[calls.runnable])
    assert await mode.run(alone(lambda _: 1 / 0, policy), "in") == "call 1!"
    assert calls.begun == 1


@ALL
async def test_hedges_are_bounded_by_a_share_of_the_calls(mode: Mode) -> None:
    policy = BranchPolicy(hedge=HedgePolicy(DELAY, budget=0.5))
    begun = []

    def work(_: Any) -> str:
        begun.append(1)
        time.sleep(8 * DELAY)
        return "x"

    async def awork(_: Any) -> str:
        begun.append(1)
        await asyncio.sleep(8 * DELAY)
        return "x"

    step = alone(RunnableLambda(work, afunc=awork), policy)
    for _ in range(6):
        await mode.run(step, "in")
    assert len(begun) == 6 + 1 + 3


@ALL
async def test_after_a_rate_limit_nothing_is_hedged(mode: Mode, slow: Any) -> None:
    limited = type("RateLimitError", (Exception,), {"status_code": 429})("slow down")
    calls = slow((2,), {1: limited})
    threading.Timer(0.15, calls.release.set).start()

    async def acall(_: Any) -> str:
        calls.begun += 1
        if calls.begun == 1:
            raise limited
        await asyncio.sleep(0.1)
        return "call 2"

    calls.acall = acall
    policy = BranchPolicy(hedge=soon(), retry=RetryPolicy(initial_interval=0.001))
    assert await mode.run(alone(calls.runnable, policy), "in") == "call 2!"
    assert calls.begun == 2


@ALL
async def test_a_hedge_never_queues_at_the_limiter_of_its_branch(mode: Mode, slow: Any) -> None:
    calls, limiter = slow(()), RateLimiter(requests_per_day=1)
    seen = []

    def late(_: Any) -> str:
        seen.append(1)
        time.sleep(0.1)
        return "call 1"

    async def alate(_: Any) -> str:
        seen.append(1)
        await asyncio.sleep(0.1)
        return "call 1"

    calls.call, calls.acall = late, alate
    policy = BranchPolicy(hedge=soon(), limiter=limiter, breaker=CircuitBreaker(minimum_calls=1))
    assert await mode.run(alone(calls.runnable, policy), "in") == "call 1!"
    assert len(seen) == 1
    assert limiter.statistics().queued == 0


@ALL
@pytest.mark.parametrize("room", [1, 2])
async def test_a_model_call_in_a_hedge_is_admitted_at_once_or_not_made(mode: Mode, room: int) -> None:
    limiter, calls, released = RateLimiter(requests_per_day=room), [], threading.Event()
    model = ScriptedChatModel(["answer"] * 9)

    def gated(_: Any) -> Any:
        answer = model.invoke("hi").content
        calls.append(1)
        if len(calls) == 1:
            released.wait(0.6)
            return "first"
        return answer

    async def agated(_: Any) -> Any:
        answer = (await model.ainvoke("hi")).content
        calls.append(1)
        if len(calls) == 1:
            await asyncio.sleep(0.6)
            return "first"
        return answer

    fan_out = plus(x=RunnableLambda(gated, afunc=agated)).with_limits(limiter)
    hedged = fan_out.with_policy(BranchPolicy(hedge=soon(), breaker=CircuitBreaker(minimum_calls=1)))
    output = await mode.run(hedged, "in")
    released.set()
    assert output == {"x": "first" if room == 1 else "answer"}
    assert len(calls) == room
    if room == 1:
        assert limiter.statistics().queued == 0
        assert limiter.statistics().rates["requests_per_day"].available == pytest.approx(0, abs=0.01)


@ALL
async def test_a_hedge_takes_no_more_than_the_cap(mode: Mode, slow: Any) -> None:
    begun = []

    def work(_: Any) -> str:
        begun.append(1)
        time.sleep(0.5)
        return "x"

    async def awork(_: Any) -> str:
        begun.append(1)
        await asyncio.sleep(0.5)
        return "x"

    step = plus(x=RunnableLambda(work, afunc=awork)).with_policy(BranchPolicy(hedge=soon()))
    assert await mode.run(step, "in", {"max_concurrency": 1}) == {"x": "x"}
    assert len(begun) == 1
    assert await mode.run(step, "in", {"max_concurrency": 2}) == {"x": "x"}
    assert len(begun) == 3


@ALL
async def test_an_open_breaker_refuses_the_hedge(mode: Mode, slow: Any) -> None:
    breaker = CircuitBreaker(minimum_calls=1)
    from langchain_parallel_plus._engine.breaker import Result
    from langchain_parallel_plus._engine.breaker_guard import BREAKERS

    guard, begun = BREAKERS.of(breaker), []

    def opens(now: float) -> None:
        begun.append(1)
        guard.leave(guard.enter(now), Result("bad"), now)

    def work(_: Any) -> str:
        opens(time.monotonic())
        time.sleep(0.5)
        return "x"

    async def awork(_: Any) -> str:
        opens(asyncio.get_running_loop().time())
        await asyncio.sleep(0.5)
        return "x"

    step = alone(RunnableLambda(work, afunc=awork), BranchPolicy(hedge=HedgePolicy(0.3), breaker=breaker))
    assert await mode.run(step, "in") == "x"
    assert len(begun) == 1


@ALL
async def test_runs_and_events_tell_of_the_hedge(mode: Mode, slow: Any) -> None:
    calls, events, tags, names = slow(), list[Event](), [], {}

    class Recorder(BaseCallbackHandler):
        def on_chain_start(
            self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any = None, **kw: Any
        ) -> None:
            names[run_id] = kw.get("name")
            if kw.get("name") == "work":
                tags.append((names.get(parent_run_id), [tag for tag in kw.get("tags") or [] if "hedge" in tag]))

    step = plus(x=calls.runnable.with_config(run_name="work")).with_policy(BranchPolicy(hedge=soon()))
    with subscribed(events.append):
        await mode.run(step, "in", {"callbacks": [Recorder()]})
    assert tags == [("branch:x", []), ("branch:x", ["hedge:1"])]
    told = [(e.kind, e.attempt, e.detail["role"], e.outcome) for e in events if e.kind.startswith("attempt")]
    assert told == [
        ("attempt.start", 1, "primary", None),
        ("attempt.start", 2, "hedge", None),
        ("attempt.end", 1, "primary", "cancelled"),
        ("attempt.end", 2, "hedge", "ok"),
    ]
    [end] = [e for e in events if e.kind == "branch.end"]
    assert (end.outcome, end.attempt) == ("ok", 1)


@pytest.mark.parametrize("made", [alone, in_fan_out])
async def test_a_cancelled_caller_leaves_no_call_behind(made: Any, slow: Any) -> None:
    calls = slow((1, 2))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(made(calls.runnable, BranchPolicy(hedge=soon())).ainvoke("in"), 5 * DELAY)
    assert (calls.begun, calls.cancelled) == (2, 2)
    assert not others()


@pytest.mark.looptime
async def test_p95_is_the_branchs_own_after_enough_calls() -> None:
    seconds, begun = iter([*[1.0] * 19, 2.0, 50.0, 0.5, 1.0]), []

    async def work(_: Any) -> None:
        took = next(seconds)
        begun.append(asyncio.get_running_loop().time())
        await asyncio.sleep(took)

    step = alone(RunnableLambda(lambda _: None, afunc=work), BranchPolicy(hedge=HedgePolicy("p95", minimum_calls=20)))
    for _ in range(20):
        await step.ainvoke("in")
    assert len(begun) == 20
    before = asyncio.get_running_loop().time()
    await step.ainvoke("in")
    assert begun[21] - before == pytest.approx(1.0, abs=0.01)  # 95 % have taken a second
    assert asyncio.get_running_loop().time() - before == pytest.approx(1.5, abs=0.01)


@pytest.mark.looptime
async def test_a_stream_is_hedged_until_its_first_chunk_and_no_longer() -> None:
    begun: list[int] = []

    async def chunks(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
        async for _ in inputs:
            pass
        begun.append(1)
        me = len(begun)
        await asyncio.sleep(100 if me == 1 else 1)
        yield f"{me}a"
        await asyncio.sleep(50)
        yield f"{me}b"

    def never(inputs: Iterator[Any]) -> Iterator[Any]:
        yield from inputs

    step = alone(RunnableGenerator(never, chunks), BranchPolicy(hedge=HedgePolicy(5)))
    assert [chunk async for chunk in step.astream("in")] == ["2a", "2b"]
    assert len(begun) == 2
    assert asyncio.get_running_loop().time() == pytest.approx(56, abs=0.1)
    assert not others()


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.streams], ids=str)
async def test_a_stream_that_waits_for_its_input_is_not_hedged(mode: Mode, slow: Any) -> None:
    calls = slow(())

    def late(inputs: Iterator[Any]) -> Iterator[str]:
        for _ in inputs:
            yield "a"
            time.sleep(0.6)
            yield "b"

    async def alate(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
        async for _ in inputs:
            yield "a"
            await asyncio.sleep(0.6)
            yield "b"

    answer = RunnableLambda(calls.call, afunc=calls.acall)  # reads its input whole
    chain = RunnableGenerator(late, alate) | alone(answer, BranchPolicy(hedge=HedgePolicy(0.4)))
    assert await mode.run(chain, "in") == "call 1"
    assert calls.begun == 1


def _wait(**timeouts: Any) -> BranchPolicy:
    return BranchPolicy(hedge=HedgePolicy(5), timeout=TimeoutPolicy(**timeouts))


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: HedgePolicy(0), "delay must be more than 0 seconds"),
        (lambda: HedgePolicy("p99"), "delay must be seconds or 'p95', got 'p99'"),  # type: ignore[arg-type]
        (lambda: HedgePolicy(1, max_hedges=-1), "max_hedges must be a whole number of at least 0"),
        (lambda: HedgePolicy(1, budget=0), "budget must be more than 0 and at most 1"),
        (lambda: HedgePolicy(1, name=""), "name must be a string"),
        (lambda: BranchPolicy(hedge=2), "hedge takes a HedgePolicy, got 2"),  # type: ignore[arg-type]
        (lambda: _wait(attempt_timeout=5), "HedgePolicy(delay=5) never hedges: TimeoutPolicy(attempt_timeout=5)"),
        (lambda: _wait(run_timeout=3), "HedgePolicy(delay=5) never hedges: TimeoutPolicy(run_timeout=3)"),
    ],
)
def test_hedges_that_make_no_sense_are_refused_with_the_way_out(declare: Any, says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert says in str(caught.value)
    assert "\nhelp: " in str(caught.value)


def test_a_hedge_and_a_timeout_that_meet_in_a_merge_are_checked_too() -> None:
    fan_out = plus(a=len).with_policy(BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=3)))
    with pytest.raises(DeclarationError, match="never hedges"):
        fan_out.with_policy(a=BranchPolicy(hedge=HedgePolicy(5)))


def shout(text: str) -> str:
    return text.upper()


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_a_hedge_policy_is_data() -> None:
    policy = HedgePolicy(timedelta(seconds=2), max_hedges=2, name="search")  # type: ignore[arg-type]
    assert repr(policy) == "HedgePolicy(delay=2.0, max_hedges=2, name='search')"
    assert eval(repr(policy)) == policy
    assert pickle.loads(pickle.dumps(policy)) == policy
    step: Runnable[Any, Any] = RunnableWithPolicy(RunnablePassthrough(), BranchPolicy(hedge=HedgePolicy("p95")))
    loaded = load(
        dumpd(step),
        valid_namespaces=["langchain_parallel_plus"],
        allowed_objects=[RunnableWithPolicy, RunnablePassthrough],
    )
    assert loaded.policy.hedge == HedgePolicy("p95")


def test_policies_of_one_name_share_one_budget() -> None:
    one, other = HedgePolicy(1, name="shared hedges"), HedgePolicy(1, name="shared hedges")
    assert HEDGES.of(one) is HEDGES.of(other)
    assert HEDGES.of(HedgePolicy(1)) is not HEDGES.of(HedgePolicy(1))
    with pytest.raises(DeclarationError, match="declared before with other values"):
        HEDGES.of(HedgePolicy(2, name="shared hedges"))
