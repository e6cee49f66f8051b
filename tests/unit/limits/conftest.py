from __future__ import annotations

import asyncio

import pytest


@pytest.fixture(autouse=True, scope="session")
def _no_implicit_loop() -> None:
    """Without a loop set, pytest-asyncio's look at the current one would make one that nobody closes."""
    asyncio.set_event_loop(None)
