"""Branches to measure with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableLambda

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import Runnable

    Make = Callable[[dict[str, Any]], Runnable[Any, Any]]

__all__ = ("blocking", "trivial")


async def _same(value: Any) -> Any:
    return value


def trivial(count: int) -> dict[str, Any]:
    """Return branches that hand their input back, with an async form of their own."""
    return {f"b{i}": RunnableLambda(lambda x: x, _same) for i in range(count)}


def blocking(count: int, seconds: float) -> dict[str, Any]:
    """Return branches that are plain functions and block their thread."""

    def work(value: Any) -> Any:
        time.sleep(seconds)
        return value

    return dict.fromkeys((f"b{i}" for i in range(count)), work)
