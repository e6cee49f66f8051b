"""Wide fan-outs in tasks: the event loop serves what has been started before all is started."""

from __future__ import annotations

import asyncio

__all__ = ("breath",)

_AT_ONCE = 32
"""How many tasks are started in one turn of the loop. A thousand model calls take more than a second to come to their
first wait for the network, and until then not one request would go out."""


async def breath(index: int) -> None:
    """Let the loop turn before the task of this number is started, if it is the first of the next few."""
    if index and index % _AT_ONCE == 0:
        await asyncio.sleep(0)
