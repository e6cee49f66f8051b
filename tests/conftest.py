from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from langchain_parallel_plus.limits import reset
from tests.modes import MODES, Mode

# pytest-asyncio 1.x asks for the main thread's loop before each async test, and drops unclosed whatever that creates.
# Once the loop has been set to none, nothing is created.
asyncio.set_event_loop(None)

_FOREIGN = ("LANGSMITH_", "LANGCHAIN_", "OPENAI_")


@pytest.fixture(autouse=True, scope="session")
def _no_accounts() -> Iterator[None]:
    """No test reaches a real provider or tracing account, whatever the developer's shell has set."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_FOREIGN)}
    yield
    os.environ.update(kept)


@pytest.fixture(autouse=True)
def _no_names() -> Iterator[None]:
    """No test meets the limiter that another one has named."""
    yield
    reset()


@pytest.fixture(params=MODES, ids=str)
def mode(request: pytest.FixtureRequest) -> Mode:
    """Each way to run a Runnable."""
    return request.param
