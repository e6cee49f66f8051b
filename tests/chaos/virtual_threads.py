"""Threads on virtual time: real ones, of which one runs at a time, in an order drawn at random.

A thread runs until it waits. When all wait, the clock jumps to the next moment somebody waits for; if there is none,
they wait for each other. So a run is exact however busy the machine is, and takes no longer than what it computes.
"""

from __future__ import annotations

import heapq
import importlib
import pkgutil
import queue
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import TIMEOUT_MAX
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from langchain_parallel_plus import _engine
from langchain_parallel_plus.limits.waiting import waiters

__all__ = ("DeadlockError", "VirtualThreads")


class DeadlockError(BaseException):
    """All threads wait for each other. No `Exception`: a branch's failure could not be told from it."""


class _Thread:
    """One thread: it runs while it has the baton."""

    def __init__(self) -> None:
        self.baton = threading.Lock()
        self.baton.acquire()
        self.ticket = 0
        """Which wait this is: what wakes an earlier one comes too late."""
        self.waiting = False
        self.woken = False
        self.error: BaseException | None = None


_Waiters = deque[tuple[_Thread, int]]
_spare: list[queue.SimpleQueue[Callable[[], None]]] = []
"""Real threads with nothing to do, for any run."""


class VirtualThreads:
    """Everything that the engine's threads wait with, also at a limiter, on a clock of its own.

    A limiter has to be made with this clock, too.

    Args:
        seed: Decides who goes on when several can.
    """

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.alive = 0
        """Threads that have been started and have not ended."""
        self._random = random.Random(seed)
        self._ready: list[_Thread] = []
        self._timers: list[tuple[float, int, _Thread, int]] = []
        self._interrupt_at: float | None = None
        self._timers_made = 0
        self._main = self._running = _Thread()

    def run(self, call: Callable[[], Any], *, interrupt_at: float | None = None) -> Any:
        """Return what `call` returns, with the engine's threads on this clock.

        Args:
            call: What to run, in this thread.
            interrupt_at: When to raise `KeyboardInterrupt` in it, if it still waits.
        """
        with self._in_place():
            self._interrupt_at = interrupt_at
            try:
                return call()
            finally:
                self._interrupt_at = None
                self._let_the_rest_end()

    def _let_the_rest_end(self) -> None:
        """Wait for threads that were left behind."""
        give_up = self.now + 1000
        while self.alive:
            if self.now > give_up:
                raise DeadlockError(f"{self.alive} threads never end")
            self.wait(None, self.now + 1)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.wait(None, self.now + seconds)

    def wait(self, waiters: _Waiters | None, until: float | None) -> bool:
        """Have this thread wait; return whether it was woken, and did not wait for too long."""
        me = self._running
        me.ticket += 1
        me.waiting, me.woken = True, False
        if waiters is not None:
            waiters.append((me, me.ticket))
        if until is not None:
            self._timers_made += 1
            heapq.heappush(self._timers, (until, self._timers_made, me, me.ticket))
        self._switch(me)
        if me.error is not None:
            error, me.error = me.error, None
            raise error
        return me.woken

    def wake(self, waiters: _Waiters, number: int = 1) -> None:
        """Let so many of those that wait go on."""
        while waiters and number:
            thread, ticket = waiters.popleft()
            if thread.waiting and thread.ticket == ticket:
                self._let_go_on(thread, woken=True)
                number -= 1

    def submit(self, job: Callable[[], None], *, patient: bool = False) -> None:
        """Run `job` in a thread."""
        thread = _Thread()
        self.alive += 1

        def work() -> None:
            thread.baton.acquire()
            job()
            self.alive -= 1
            self._switch(None)

        if not _spare:
            _spare.append(_started())
        _spare.pop().put(work)
        self._ready.append(thread)

    def waiting_for_children(self) -> AbstractContextManager[None]:
        """There is no bound on threads here."""
        return nullcontext()

    def _let_go_on(self, thread: _Thread, *, woken: bool) -> None:
        thread.waiting, thread.woken = False, woken
        self._ready.append(thread)

    def _switch(self, me: _Thread | None) -> None:
        """Hand the baton on."""
        chosen = self._next()
        self._running = chosen
        if chosen is me:
            return
        chosen.baton.release()
        if me is not None:
            me.baton.acquire()

    def _next(self) -> _Thread:
        if not self._ready:
            self._advance()
        return self._ready.pop(self._random.randrange(len(self._ready)))

    def _advance(self) -> None:
        while self._timers:
            until, _, thread, ticket = self._timers[0]
            if self._interrupt_at is not None and self._interrupt_at <= until:
                break
            heapq.heappop(self._timers)
            if thread.waiting and thread.ticket == ticket:
                self.now = max(self.now, until)
                self._let_go_on(thread, woken=False)
                return
        self._main.error = DeadlockError(f"{self.alive} threads wait for each other at {self.now}")
        if self._interrupt_at is not None:
            self.now, self._interrupt_at = max(self.now, self._interrupt_at), None
            self._main.error = KeyboardInterrupt()
        self._let_go_on(self._main, woken=False)

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        """Replace what the engine's modules wait with."""
        primitives = SimpleNamespace(Event=lambda: _Event(self), Lock=lambda: _Lock(self))
        replaced: dict[str, Any] = {
            "SimpleQueue": lambda: _Queue(self),
            "WORKERS": self,
            "time": SimpleNamespace(monotonic=lambda: self.now),
        }
        patches = [patch.object(waiters, "threading", SimpleNamespace(Lock=primitives.Lock, TIMEOUT_MAX=TIMEOUT_MAX))]
        for module in _modules():
            names = {name: value for name, value in replaced.items() if hasattr(module, name)}
            if module.__name__.rpartition(".")[2] in (
                "capacity",
                "clock",
                "in_worker",
                "pump",
                "replay",
                "shared_input",
            ):
                names["threading"] = primitives
            patches += [patch.object(module, name, value) for name, value in names.items()]
        try:
            for one in patches:
                one.start()
            yield
        finally:
            for one in patches:
                one.stop()


def _modules() -> list[Any]:
    names = [module.name for module in pkgutil.iter_modules(_engine.__path__) if module.name != "workers"]
    return [importlib.import_module(f"{_engine.__name__}.{name}") for name in names]


def _started() -> queue.SimpleQueue[Callable[[], None]]:
    inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def work() -> None:
        while True:
            inbox.get()()
            _spare.append(inbox)

    threading.Thread(target=work, name="virtual", daemon=True).start()
    return inbox


class _Event:
    def __init__(self, threads: VirtualThreads) -> None:
        self._threads = threads
        self._set = False
        self._waiters: _Waiters = deque()

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        self._threads.wake(self._waiters, len(self._waiters))

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            self._threads.wait(self._waiters, None if timeout is None else self._threads.now + timeout)
        return self._set


class _Lock:
    def __init__(self, threads: VirtualThreads) -> None:
        self._threads = threads
        self._held = False
        self._waiters: _Waiters = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        until = None if timeout < 0 else self._threads.now + timeout
        while self._held:
            if not blocking or (until is not None and self._threads.now >= until):
                return False
            self._threads.wait(self._waiters, until)
        self._held = True
        return True

    def release(self) -> None:
        if not self._held:
            raise RuntimeError("release unlocked lock")
        self._held = False
        self._threads.wake(self._waiters)

    def locked(self) -> bool:
        return self._held

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *raised: object) -> None:
        self.release()


class _Queue:
    def __init__(self, threads: VirtualThreads) -> None:
        self._threads = threads
        self._items: deque[Any] = deque()
        self._waiters: _Waiters = deque()

    def put(self, item: Any) -> None:
        self._items.append(item)
        self._threads.wake(self._waiters)

    def get(self, timeout: float | None = None) -> Any:
        until = None if timeout is None else self._threads.now + timeout
        while not self._items:
            if not self._threads.wait(self._waiters, until):
                break
        return self.get_nowait()

    def get_nowait(self) -> Any:
        if not self._items:
            raise queue.Empty
        return self._items.popleft()

    def empty(self) -> bool:
        return not self._items
