"""Wide fan-outs in tasks: the event loop serves what has been started before all is started."""

from __future__ import annotations

import asyncio

__all__ = ("breath",)

_AT_ONCE = 32
"""How many tasks are started before the loop turns for the first time."""
_THEN = 8
"""How many are started between further turns, of which there are as many."""


async def breath(index: int) -> None:
    """Let the loop turn before the task of this number is started, if it is the first of the next few.

    A model call takes some ten turns to come to its first wait for the network. Were all tasks started in a row, a
    thousand calls would prepare themselves for more than a second before the first one is sent, and each would open a
    connection; with one turn a task (on average) the first are answered while others start, and leave theirs to them.
    """
    if index >= _AT_ONCE and index % _THEN == 0:
        for _ in range(_THEN):
            await asyncio.sleep(0)
