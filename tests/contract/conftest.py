from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest
from langchain_core.runnables import RunnableParallel

from langchain_parallel_plus import RunnableParallelPlus
from langchain_parallel_plus._engine.capacity import Capacity
from tests.contract.probes import Parallel, caps_made, in_use

# pytest-asyncio asks for the current loop before its first test, and Python 3.11 makes one that nobody closes: the next
# garbage collection would report it to whichever test runs then.
asyncio.set_event_loop(None)


@pytest.fixture(autouse=True, scope="package")
def _small_heap() -> Iterator[None]:
    """Take what was imported out of the garbage collector's sight: these tests ask it often what is left."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(params=[RunnableParallel, RunnableParallelPlus], ids=["upstream", "plus"])
def parallel(request: pytest.FixtureRequest) -> Parallel:
    """The class that sets the contract, and the one that must keep it."""
    cls: Parallel = request.param
    return cls


@pytest.fixture
def caps() -> Iterator[list[Capacity]]:
    """Every cap that the test's calls have made; at the end all their permits must have been given back."""
    with caps_made() as made:
        yield made
    assert not any(in_use(cap) for cap in made)
