"""Work that fails where it is not alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ("only_one_at_once",)


def only_one_at_once() -> Callable[[Any], Awaitable[Any]]:
    """Return a function that takes a second, and raises if another call of it runs when that is over."""
    running = 0

    async def crowded(value: Any) -> Any:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(1)
            if running > 1:
                raise ConnectionError("too many at once")
            return value
        finally:
            running -= 1

    return crowded
