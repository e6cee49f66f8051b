"""Defects of `RunnableParallel` in threads: each function tells whether a class shows one."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnablePassthrough
from langchain_core.tracers.langchain import LangChainTracer
from langsmith import Client

from langchain_parallel_plus import BranchPolicy, RetryPolicy, RunnableParallelPlus
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.contract.probes import Gauge, Parallel, leaf

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("REAL_TIME", "SYNC")


def d2_the_cap_multiplies_in_batch(parallel: Parallel) -> bool:
    gauge = Gauge()
    parallel({str(n): leaf(gauge, 10) for n in range(6)}).batch([0] * 4, {"max_concurrency": 2})
    return gauge.peak > 2


def d2_the_cap_multiplies_in_nested_fan_outs(parallel: Parallel) -> bool:
    gauge = Gauge()
    inner = {str(n): leaf(gauge, 10) for n in range(4)}
    parallel({str(n): parallel(inner) for n in range(4)}).invoke(0, {"max_concurrency": 3})
    return gauge.peak > 3


def d2_the_cap_multiplies_in_the_batch_of_a_sequence(parallel: Parallel) -> bool:
    gauge = Gauge()
    chain = RunnableLambda(int) | parallel({str(n): leaf(gauge, 10) for n in range(4)})
    chain.batch([0] * 4, {"max_concurrency": 3})
    return gauge.peak > 3


def d3_every_call_starts_a_pool_of_threads(parallel: Parallel) -> bool:
    threads: set[threading.Thread] = set()

    def meet(together: threading.Barrier) -> None:
        threads.add(threading.current_thread())
        together.wait(5)

    fan_out = parallel({str(n): meet for n in range(4)})
    for _ in range(20):
        fan_out.invoke(threading.Barrier(4))
    return len(threads) > 40


async def d4_blocking_branches_share_the_loops_few_threads(parallel: Parallel) -> bool:
    together = threading.Barrier(40)  # the loop's executor has at most 32 threads
    try:
        await parallel({str(n): RunnableLambda(lambda _: together.wait(0.3)) for n in range(40)}).ainvoke(0)
    except threading.BrokenBarrierError:
        return True
    return False


def _fails_beside(outlived: threading.Event, released: threading.Event) -> dict[str, Callable[[Any], Any]]:
    def fails(_: Any) -> None:
        msg = "at once"
        raise ValueError(msg)

    def slow(_: Any) -> None:
        released.wait(0.2)
        outlived.set()

    return {"fails": fails, "slow": slow}


def d5_a_failure_waits_for_the_slowest_sibling(parallel: Parallel) -> bool:
    outlived, released = threading.Event(), threading.Event()
    with pytest.raises(ValueError, match="at once"):
        parallel(_fails_beside(outlived, released)).invoke(0)
    waited = outlived.is_set()
    released.set()
    return waited


def d5_a_failed_stream_waits_for_the_slowest_sibling(parallel: Parallel) -> bool:
    outlived, released = threading.Event(), threading.Event()
    with pytest.raises(ValueError, match="at once"):
        list(parallel(_fails_beside(outlived, released)).stream(0))
    waited = outlived.is_set()
    released.set()
    return waited


def d6_sync_runs_raise_the_first_error_by_name_and_not_by_time(parallel: Parallel) -> bool:
    raised = threading.Event()

    def later(_: Any) -> None:
        raised.wait(1)
        time.sleep(0.05)
        raise KeyError

    def first(_: Any) -> None:
        raised.set()
        raise ValueError

    try:
        parallel(a=later, b=first).invoke(0)
    except (KeyError, ValueError) as error:
        return isinstance(error, KeyError)
    return True


def d11_a_retry_repeats_branches_that_had_succeeded(parallel: Parallel) -> bool:
    calls: list[str] = []

    def good(_: Any) -> None:
        calls.append("good")

    def flaky(_: Any) -> None:
        calls.append("flaky")
        if calls.count("flaky") < 3:
            raise TimeoutError

    fan_out = parallel(good=good, flaky=flaky)
    if isinstance(fan_out, RunnableParallelPlus):
        fan_out.with_policy(BranchPolicy(retry=RetryPolicy(initial_interval=0))).invoke(0)
    else:
        fan_out.with_retry(wait_exponential_jitter=False).invoke(0)
    return calls.count("good") > 1


def d12_sync_runs_lose_the_thread_id_in_traces(parallel: Parallel) -> bool:
    session = MagicMock()
    tracer = LangChainTracer(client=Client(session=session, api_key="x", auto_batch_tracing=False))
    parallel(a=len).invoke("abc", {"callbacks": [tracer], "configurable": {"thread_id": "thread-1"}})
    posts = [json.loads(call.kwargs["data"]) for call in session.request.mock_calls if call.args[:1] == ("POST",)]
    root = next(post for post in posts if post.get("parent_run_id") is None)
    return bool(root["extra"]["metadata"].get("thread_id") != "thread-1")


async def d13_an_abandoned_thread_calls_its_model(parallel: Parallel) -> bool:
    model = ScriptedChatModel(["late"])
    going_on, ended = threading.Event(), threading.Event()

    def slow(_: Any) -> None:
        going_on.wait(5)
        try:
            model.invoke("still wanted?")
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(parallel(slow=slow).ainvoke(0), 0.05)
    going_on.set()
    await asyncio.to_thread(ended.wait, 5)
    return len(model.calls) > 0


def d14_the_graph_ignores_the_config(parallel: Parallel) -> bool:
    step = RunnablePassthrough[Any](name="as_it_is").configurable_alternatives(
        ConfigurableField(id="which"), default_key="as_it_is", other=RunnablePassthrough[Any](name="the_other")
    )
    nodes = parallel(a=step).get_graph({"configurable": {"which": "other"}}).nodes.values()
    return not any(node.name.endswith("the_other") for node in nodes)


SYNC: tuple[Callable[[Parallel], bool], ...] = (
    d2_the_cap_multiplies_in_batch,
    d2_the_cap_multiplies_in_nested_fan_outs,
    d2_the_cap_multiplies_in_the_batch_of_a_sequence,
    d3_every_call_starts_a_pool_of_threads,
    d5_a_failure_waits_for_the_slowest_sibling,
    d5_a_failed_stream_waits_for_the_slowest_sibling,
    d6_sync_runs_raise_the_first_error_by_name_and_not_by_time,
    d11_a_retry_repeats_branches_that_had_succeeded,
    d12_sync_runs_lose_the_thread_id_in_traces,
    d14_the_graph_ignores_the_config,
)

REAL_TIME: tuple[Callable[[Parallel], Awaitable[bool]], ...] = (
    d4_blocking_branches_share_the_loops_few_threads,
    d13_an_abandoned_thread_calls_its_model,
)
