"""How a waiting thread or task is woken and given a timer, from any other thread or loop."""

from __future__ import annotations

import contextlib
import math
import threading
from functools import partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ("Leader", "LoopWaiter", "ThreadWaiter", "Waiter")

_ROUND_UP = 1e-6
"""Seconds added to a timer, so that a loop whose clock is coarser than ours does not fire it a moment too early."""


class Waiter(Protocol):
    """Somebody who waits for a ticket."""

    def wake(self) -> bool:
        """Wake it; `False` if it can never wake again."""

    def arm(self, delay: float, tick: Callable[[], None]) -> bool:
        """See to it that `tick` is called, or its own equivalent runs, in `delay` seconds; `False` if it cannot."""


class ThreadWaiter:
    """A thread that waits on a lock of its own."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, seconds: float) -> None:
        """Block until woken, at most `seconds`."""
        self._lock.acquire(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))

    def wake(self) -> bool:
        """End the present wait, or the next one."""
        with contextlib.suppress(RuntimeError):  # woken twice before it ran
            self._lock.release()
        return True

    def arm(self, delay: float, tick: Callable[[], None]) -> bool:
        """Wake the thread, which then looks up by itself how long it has to wait."""
        return self.wake()


class LoopWaiter:
    """A task that waits on a future of its loop."""

    __slots__ = ("_thread", "_timers", "future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._thread = threading.get_ident()
        self.future: asyncio.Future[None] = loop.create_future()
        self._timers: list[asyncio.TimerHandle] = []

    def later(self, delay: float, function: Callable[..., object], *args: object) -> None:
        """Call `function` in `delay` seconds, unless the wait is over by then. On the waiter's own thread only."""
        self._timers.append(self.loop.call_later(max(delay, 0.0), function, *args))

    def cancel_timers(self) -> None:
        """End the wait."""
        for timer in self._timers:
            timer.cancel()

    def wake(self) -> bool:
        """Resolve the future on its loop."""
        return self._call(self._resolve)

    def arm(self, delay: float, tick: Callable[[], None]) -> bool:
        """Set a timer on the loop."""
        return self._call(self.loop.call_later, delay, tick)

    def _call(self, function: Callable[..., object], *args: object) -> bool:
        try:
            if threading.get_ident() == self._thread and not self.loop.is_closed():
                function(*args)
            else:
                self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _resolve(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Leader:
    """Who has the exact timer, and for when. All but `until` is called under the turnstile's lock.

    Args:
        tick: What the timer calls, with its number and whose it is.
    """

    __slots__ = ("_at", "_number", "_tick", "waiter")

    def __init__(self, tick: Callable[[int, Waiter], None]) -> None:
        self._tick = tick
        self._at = 0.0
        self.waiter: Waiter | None = None
        self._number = 0

    def covers(self, wake_at: float, now: float) -> bool:
        """Tell whether a timer runs that fires by `wake_at`. One that should have fired already does not count."""
        return self.waiter is not None and now < self._at <= wake_at

    def appoint(self, waiter: Waiter, wake_at: float, now: float, *, is_awake: bool) -> bool:
        """Give `waiter` the timer; a thread that `is_awake` looks it up by itself. `False` if it can never wake."""
        self._at, self.waiter = wake_at, waiter
        self._number += 1
        if is_awake or waiter.arm(wake_at - now + _ROUND_UP, partial(self._tick, self._number, waiter)):
            return True
        self.waiter = None
        return False

    def awakes(self, waiter: Waiter | None) -> None:
        """Take the timer back from a thread that is awake."""
        if waiter is not None and waiter is self.waiter:
            self.waiter = None

    def until(self, waiter: Waiter) -> float | None:
        """Return until when `waiter` has to sleep as the leader; `None` if it is not."""
        return self._at if self.waiter is waiter else None

    def at(self) -> float:
        """Return when the timer fires; infinite if none runs."""
        return self._at if self.waiter is not None else math.inf

    def fired(self, number: int) -> None:
        """Take note of a timer; an older one than the present is of somebody who was due later."""
        if number == self._number:
            self.waiter = None
