"""Branches to measure with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableLambda

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    Make = Callable[[dict[str, Any]], Runnable[Any, Any]]

__all__ = ("bare", "blocking", "trivial")


async def _same(value: Any) -> Any:
    return value


class _Bare(Runnable[Any, Any]):
    """Does nothing, not even a run of its own."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return input

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return input


def bare(count: int) -> dict[str, Any]:
    """Return branches that cost nothing, so that only the fan-out's own cost is left."""
    return {f"b{i}": _Bare() for i in range(count)}


def trivial(count: int) -> dict[str, Any]:
    """Return branches that hand their input back, with an async form of their own."""
    return {f"b{i}": RunnableLambda(lambda x: x, _same) for i in range(count)}


def blocking(count: int, seconds: float) -> dict[str, Any]:
    """Return branches that are plain functions and block their thread."""

    def work(value: Any) -> Any:
        time.sleep(seconds)
        return value

    return dict.fromkeys((f"b{i}" for i in range(count)), work)
