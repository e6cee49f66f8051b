"""One process-wide pool of threads that grows on demand.

A bounded pool deadlocks when a parent in it waits for its children; a new pool for every call starts threads for every
call (upstream: 344 threads for a batch of 100). This one reuses idle threads, and bounds the threads that *run*: those
that wait for their own children do not count.

It also paces them. Threads that all want the interpreter wake every five milliseconds to ask for it: a thousand of them
cost four times what a few cost for the same work. So a few jobs are *at work*; the rest queue, and whoever ends a job
takes the next. That alone would let a job wait behind others that block, so while jobs queue the pacer looks every
millisecond how busy the process is: if it is not, those at work are blocked, count no longer, and more start.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Job = Callable[[], None]

__all__ = ("WORKERS", "Pace", "WorkerPool")

_IDLE_SECONDS = 10.0
"""An idle thread ends after this long: a burst of a thousand branches leaves nothing behind."""

_RUNNING_LIMIT = 1024
"""Threads running at once before jobs queue. A thread costs about 50 kB of memory and 0.1 ms to start."""

_AT_WORK = 8
"""Jobs that start without being paced: enough for most fan-outs, few enough not to fight for the interpreter."""

_MOST_AT_ONCE = 64
"""Jobs that the pacer starts in one go, at most."""

_TICK = 0.001
"""Seconds between two looks of the pacer."""

_TICK_AT_LIMIT = 0.005
"""The same while nothing more may run, whatever the pacer sees."""

_BUSY_PATIENCE = 0.005
"""Seconds after which a job counts as blocked although the process is busy: the interpreter's own switch interval."""

_PATIENCE = 32
"""Jobs that go before a patient one, at most: callers that never pause do not keep a batch from its turn."""

_here = threading.local()


class Pace:
    """Decides from the clock and the CPU time of the process which jobs are blocked, and how many may start instead."""

    def __init__(self, now: float, cpu: float) -> None:
        self._at = now
        self._cpu = cpu
        self._room = _AT_WORK
        self._ended = 0

    def patience(self, now: float, cpu: float) -> float:
        """Return the seconds after which a job is blocked, judged by the time since the last look.

        In a process that used less than half of a core nobody waits for the interpreter. In one that used more, a job
        may be waiting for its turn. Code that computes outside the interpreter looks the same: hence not for ever.
        """
        busy = cpu - self._cpu > (now - self._at) / 2
        self._at, self._cpu = now, cpu
        return _BUSY_PATIENCE if busy else _TICK / 2

    def room(self, blocked: int, ended: int) -> int:
        """Return how many jobs may be at work, now that so many are blocked and so many more have ended in all."""
        if ended - self._ended >= _AT_WORK:  # the jobs are quick, and a few threads do them fastest
            self._room = _AT_WORK
        self._ended = ended
        if not blocked:
            return _AT_WORK
        self._room = min(2 * self._room, _MOST_AT_ONCE)
        return self._room


class _Worker:
    __slots__ = ("inbox", "since", "started")

    def __init__(self) -> None:
        self.inbox: SimpleQueue[Job] = SimpleQueue()
        self.since = 0.0
        self.started = False


class WorkerPool:
    """Runs jobs in daemon threads: at once, or within some milliseconds if those before them block.

    More than `limit` never run. Threads are daemons because an abandoned one (its branch timed out, its fan-out has
    ended) must not hold up the interpreter's exit.
    """

    def __init__(self, limit: int = _RUNNING_LIMIT, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._at_work: set[_Worker] = set()
        self._queue: deque[Job] = deque()
        self._patient: deque[Job] = deque()
        self._passed = 0
        self._running = 0
        self._started = self._ended_jobs = 0
        self._bell = threading.Lock()
        self._bell.acquire()
        self._pacing = self._has_pacer = False

    @property
    def started(self) -> int:
        """Threads started since the process began."""
        return self._started

    @property
    def running(self) -> int:
        """Threads that run a job and do not wait for children."""
        return self._running

    def submit(self, job: Job, *, patient: bool = False) -> None:
        """Run `job`, which must not raise, in a thread of the pool.

        Of the jobs that queue, the `patient` ones come after the others, but at least every 33rd is one of them.

        Raises:
            RuntimeError: The system has no thread for it; one that must queue is tried again instead.
        """
        with self._lock:
            worker = self._take_worker() if self._has_room() else None
            if worker is None:
                (self._patient if patient else self._queue).append(job)
        if worker is None:
            self._call_pacer()
        else:
            self._hand(worker, job)

    @contextmanager
    def waiting_for_children(self) -> Iterator[None]:
        """Do not count this thread as running while it waits for jobs that it has submitted."""
        if getattr(_here, "pool", None) is not self:
            yield
            return
        me: _Worker = _here.worker
        with self._lock:
            self._running -= 1
            self._at_work.discard(me)
            job = self._next_queued()
            worker = self._take_worker() if job is not None else None
        if worker is not None and job is not None:
            self._hand_queued(worker, job)
        try:
            yield
        finally:
            with self._lock:
                self._count(me)

    def _has_room(self) -> bool:
        return len(self._at_work) < _AT_WORK and self._running < self._limit

    def _count(self, worker: _Worker) -> None:
        self._running += 1
        worker.since = time.monotonic()
        self._at_work.add(worker)

    def _take_worker(self) -> _Worker:
        """Return an idle worker, or a new one, counted as running; the lock is held."""
        worker = self._idle.pop() if self._idle else _Worker()
        self._count(worker)
        return worker

    def _next_queued(self) -> Job | None:
        return self._pop() if self._has_room() and (self._queue or self._patient) else None

    def _pop(self) -> Job:
        if self._queue and (not self._patient or self._passed < _PATIENCE):
            self._passed += 1
            return self._queue.popleft()
        self._passed = 0
        return self._patient.popleft()

    def _hand(self, worker: _Worker, job: Job) -> None:
        # Not as an argument: a thread keeps its arguments for as long as it lives.
        worker.inbox.put(job)
        if worker.started:
            return
        worker.started = True
        thread = threading.Thread(target=self._work, args=(worker,), name="lcpp-branch", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                self._running -= 1
                self._at_work.discard(worker)
            raise
        self._started += 1

    def _hand_queued(self, worker: _Worker, job: Job) -> None:
        """Hand over a job of another thread, which cannot be told that the system has no more threads: try later."""
        try:
            self._hand(worker, job)
        except RuntimeError:
            with self._lock:
                self._queue.appendleft(job)
            self._call_pacer()

    def _work(self, worker: _Worker) -> None:
        _here.pool, _here.worker = self, worker
        job: Job | None = worker.inbox.get()
        while job is not None:
            job()
            job = self._ended(worker)
            if job is None:
                job = self._await_job(worker)

    def _ended(self, worker: _Worker) -> Job | None:
        """Return a queued job for a worker that has done its own, which costs no wake-up; else it is idle."""
        with self._lock:
            self._running -= 1
            self._ended_jobs += 1
            self._at_work.discard(worker)
            job = self._next_queued()
            if job is not None:
                self._count(worker)
            else:
                self._idle.append(worker)
            return job

    def _await_job(self, worker: _Worker) -> Job | None:
        try:
            return worker.inbox.get(timeout=self._idle_seconds)
        except Empty:
            with self._lock:
                if worker in self._idle:
                    self._idle.remove(worker)
                    return None
            return worker.inbox.get()  # handed a job in the very moment it gave up waiting

    def _call_pacer(self) -> None:
        with self._lock:
            if self._pacing:
                return
            self._pacing, here, self._has_pacer = True, self._has_pacer, True
            if self._bell.locked():  # else it still rings
                self._bell.release()
        if here:
            return
        try:
            threading.Thread(target=self._pace, name="lcpp-pacer", daemon=True).start()
        except RuntimeError:  # no more threads: the jobs at work take the queued ones when they end
            with self._lock:
                self._pacing = self._has_pacer = False
                self._bell.acquire(blocking=False)

    def _pace(self) -> None:
        while True:
            if self._bell.acquire(timeout=self._idle_seconds):
                pace = Pace(time.monotonic(), time.process_time())
                while self._pacing:
                    time.sleep(_TICK if self._running < self._limit else _TICK_AT_LIMIT)
                    self._look(pace)
                continue
            with self._lock:
                if not self._pacing:
                    self._has_pacer = False
                    return

    def _look(self, pace: Pace) -> None:
        """Start queued jobs in the place of those that are blocked."""
        with self._lock:
            queued = len(self._queue) + len(self._patient)
            self._pacing = queued > 0
            now = time.monotonic()
            long_ago = now - pace.patience(now, time.process_time())
            blocked = [worker for worker in self._at_work if worker.since <= long_ago]
            self._at_work.difference_update(blocked)
            room = pace.room(len(blocked), self._ended_jobs) - len(self._at_work)
            room = min(room, queued, self._limit - self._running)
            handed = [(self._take_worker(), self._pop()) for _ in range(room)]
        for worker, job in handed:
            self._hand_queued(worker, job)


WORKERS = WorkerPool()
"""The process's pool."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WORKERS._reset)  # the threads did not come along
