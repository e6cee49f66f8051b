"""One process-wide pool of threads that grows on demand.

A bounded pool deadlocks when a parent in it waits for its children; a new pool for every call starts threads for every
call (upstream: 344 threads for a batch of 100). This one reuses idle threads, and bounds the threads that *run*: those
that wait for their own children do not count.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("WORKERS", "WorkerPool")

_IDLE_SECONDS = 10.0
"""An idle thread ends after this long: a burst of a thousand branches leaves nothing behind."""

_RUNNING_LIMIT = 1024
"""Threads running at once before jobs queue. A thread costs about 50 kB of memory and 0.1 ms to start."""

_here = threading.local()


class _Worker:
    __slots__ = ("inbox",)

    def __init__(self) -> None:
        self.inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()


class WorkerPool:
    """Runs jobs in daemon threads, each at once unless more than `limit` are running.

    Threads are daemons because an abandoned one (its branch timed out, its fan-out has ended) must not hold up the
    interpreter's exit.
    """

    def __init__(self, limit: int = _RUNNING_LIMIT, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._queue: deque[Callable[[], None]] = deque()
        self._running = 0
        self._started = 0

    @property
    def started(self) -> int:
        """Threads started since the process began."""
        return self._started

    @property
    def running(self) -> int:
        """Threads that run a job and do not wait for children."""
        return self._running

    def submit(self, job: Callable[[], None]) -> None:
        """Run `job`, which must not raise, in a thread of the pool."""
        with self._lock:
            if self._running >= self._limit:
                self._queue.append(job)
                return
            worker = self._take_worker()
        self._hand(worker, job)

    @contextmanager
    def waiting_for_children(self) -> Iterator[None]:
        """Do not count this thread as running while it waits for jobs that it has submitted."""
        if getattr(_here, "pool", None) is not self:
            yield
            return
        with self._lock:
            self._running -= 1
            job = self._queue.popleft() if self._queue and self._running < self._limit else None
            worker = self._take_worker() if job is not None else None
        if job is not None:
            self._hand(worker, job)
        try:
            yield
        finally:
            with self._lock:
                self._running += 1

    def _take_worker(self) -> _Worker | None:
        """Count a job as running and return an idle worker for it, if any; the lock is held."""
        self._running += 1
        if self._idle:
            return self._idle.pop()
        self._started += 1
        return None

    def _hand(self, worker: _Worker | None, job: Callable[[], None]) -> None:
        if worker is not None:
            worker.inbox.put(job)
            return
        # Not as an argument: a thread keeps its arguments for as long as it lives.
        worker = _Worker()
        worker.inbox.put(job)
        threading.Thread(target=self._work, args=(worker,), name="lcpp-branch", daemon=True).start()

    def _work(self, worker: _Worker) -> None:
        _here.pool = self
        job: Callable[[], None] | None = worker.inbox.get()
        while job is not None:
            job()
            job = self._next_queued(worker)
            if job is None:
                job = self._await_job(worker)

    def _next_queued(self, worker: _Worker) -> Callable[[], None] | None:
        with self._lock:
            if self._queue and self._running <= self._limit:
                return self._queue.popleft()
            self._running -= 1
            self._idle.append(worker)
            return None

    def _await_job(self, worker: _Worker) -> Callable[[], None] | None:
        try:
            return worker.inbox.get(timeout=self._idle_seconds)
        except Empty:
            with self._lock:
                if worker in self._idle:
                    self._idle.remove(worker)
                    return None
            return worker.inbox.get()  # handed a job in the very moment it gave up waiting


WORKERS = WorkerPool()
"""The process's pool."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WORKERS._reset)  # the threads did not come along
