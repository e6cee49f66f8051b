"""Cancellation that threads can hear: a flag with listeners, linked to the work around it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("CancelToken",)


def _nothing() -> None:
    """Stand in for the un-subscription of a listener that was called at once."""


class CancelToken:
    """Tells everything that runs below one piece of work that nobody waits for it any more.

    A thread cannot be stopped from outside. What can be done is to end its waits (back-off, quota, permits, nested
    fan-outs) and to refuse its next model call; each of them listens here.
    """

    __slots__ = ("_cancelled", "_last", "_listeners", "_lock", "_unlink")

    def __init__(self, parent: CancelToken | None = None) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._listeners: dict[int, Callable[[], None]] = {}
        self._last = 0
        self._unlink = _nothing if parent is None else parent.subscribe(self.cancel)

    @property
    def cancelled(self) -> bool:
        """Whether the work has been given up."""
        return self._cancelled

    def cancel(self) -> None:
        """Give the work up: call every listener once, in the order they came."""
        with self._lock:
            if self._cancelled:
                return
            self._cancelled = True
            listeners, self._listeners = list(self._listeners.values()), {}
        for listener in listeners:
            listener()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` once when the work is given up, at once if it already is; return the un-subscription."""
        with self._lock:
            if not self._cancelled:
                self._last += 1
                key = self._last
                self._listeners[key] = listener
                return lambda: self._forget(key)
        listener()
        return _nothing

    def close(self) -> None:
        """Stop listening to the work around this one: it has ended."""
        self._unlink()

    def _forget(self, key: int) -> None:
        with self._lock:
            self._listeners.pop(key, None)
