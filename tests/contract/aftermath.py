"""What a call may leave behind when it is over, however it ended: nothing."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.workers import WORKERS
from tests.contract.probes import Runs, others

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ("left_nothing", "left_nothing_in_tasks", "settled", "soon")

_OURS = ("/langchain_parallel_plus/", "/langchain_core/runnables/")


def soon(condition: Any, seconds: float = 2.0) -> bool:
    """Return whether `condition()` comes true while threads go on."""
    give_up = time.monotonic() + seconds
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.002)
    return bool(condition())


async def settled() -> None:
    """Wait until what the loop closes by itself has ended: generators of langchain-core around ours."""
    for _ in range(100):
        if others():
            await asyncio.sleep(0.1)


def _unfinished() -> Counter[str]:
    """Return the generators and coroutines of this package and of LangChain's runnables that still stand somewhere."""
    found = []
    for thing in gc.get_objects():
        if isinstance(thing, AsyncGeneratorType):
            code, frame = thing.ag_code, thing.ag_frame
        elif isinstance(thing, GeneratorType):
            code, frame = thing.gi_code, thing.gi_frame
        elif isinstance(thing, CoroutineType):
            code, frame = thing.cr_code, thing.cr_frame
        else:
            continue
        if frame is not None and any(part in code.co_filename for part in _OURS):
            found.append(code.co_qualname)
    return Counter(found)


@contextmanager
def left_nothing() -> Iterator[Runs]:
    """Check that the threads inside leave no generator, no open callback run and no busy thread."""
    runs = Runs()
    before = _unfinished()
    yield runs
    assert soon(lambda: not runs.open), runs.open
    assert soon(lambda: WORKERS.running == 0), f"{WORKERS.running} threads at work"
    gc.collect()
    left = _unfinished() - before
    assert not left, left


@asynccontextmanager
async def left_nothing_in_tasks() -> AsyncIterator[Runs]:
    """Check that the calls inside have ended everything they had started by the time they came back.

    Tasks and callback runs are not waited for. Generators may be closed by the garbage collector.
    """
    runs = Runs()
    before = _unfinished()
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    yield runs
    assert not others(), others()
    assert not runs.open, runs.open
    gc.collect()
    for _ in range(20):
        await asyncio.sleep(0)
    left = _unfinished() - before
    assert not left, left
    assert not reported, reported
