"""One run of one contender: in a process of its own, against a simulator in another."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from tests.benchmarks.measure import Watch, settled
from tests.benchmarks.quota.contenders import CONTENDERS, chat_model
from tests.benchmarks.quota.provider import running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.benchmarks.measure import Spent
    from tests.benchmarks.quota.load import Load

__all__ = ("PATIENCE", "Cell", "Ended", "run_apart")

PATIENCE = 2.0
"""Floors after which a run is broken off."""
_LEAST_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Cell:
    """A load and who is to make its calls."""

    load: Load
    contender: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a run came to."""

    seconds: float
    cpu: float
    """Of the client, in seconds."""
    answered: int
    refusals: tuple[tuple[int, float], ...]
    """Number and time of arrival of each request that got a 429, from the first request on."""
    first_arrival: float
    """Seconds from the call to the first request."""
    broken_off: bool


def run_apart(cell: Cell) -> Ended:
    """Run `cell` in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_run, cell).result()


def _run(cell: Cell) -> Ended:
    os.environ["NO_PROXY"] = "127.0.0.1"
    warnings.simplefilter("ignore")
    logging.disable()
    _allow_connections()
    load = cell.load
    with running(load.settings) as provider:
        work = CONTENDERS[cell.contender].prepare(load, provider.url)

        async def whole() -> tuple[float, Spent, bool]:
            await chat_model(provider.url).ainvoke("Are you there?")
            provider.reset()
            return await _timed(work, max(PATIENCE * load.floor, _LEAST_PATIENCE))

        began, spent, broken_off = asyncio.run(whole())
        tally = provider.tally()
    return _ended(tally, began, spent, broken_off)


async def _timed(work: Callable[[], Awaitable[object]], patience: float) -> tuple[float, Spent, bool]:
    """Return when the calls began, what they took, and whether they were broken off."""
    with settled():
        began, watch = time.monotonic(), Watch()  # the simulator's clock, which all processes of a machine share
        try:
            await asyncio.wait_for(work(), patience)
        except TimeoutError:
            return began, watch.spent(), True
        return began, watch.spent(), False


def _ended(tally: dict[str, Any], began: float, spent: Spent, broken_off: bool) -> Ended:
    arrivals = tally["arrivals"]
    refused = [record for record in tally["records"] if record["outcome"] == "refused"]
    return Ended(
        seconds=spent.wall,
        cpu=spent.cpu,
        answered=tally["ok"],
        refusals=tuple((record["index"], record["arrived"] - arrivals[0]) for record in refused),
        first_arrival=arrivals[0] - began,
        broken_off=broken_off,
    )


def _allow_connections() -> None:
    """Let all calls be on the wire at once, as clients without a limiter want."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 16_384) if most > 0 else 16_384, most))
