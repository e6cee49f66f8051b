from __future__ import annotations

import os
import threading
import time

import pytest

from langchain_parallel_plus._engine.workers import WorkerPool


def _run(pool: WorkerPool, jobs: int, seconds: float = 0.0) -> None:
    left = threading.Semaphore(0)

    def job() -> None:
        time.sleep(seconds)
        left.release()

    for _ in range(jobs):
        pool.submit(job)
    for _ in range(jobs):
        assert left.acquire(timeout=10)


def test_idle_threads_are_used_again() -> None:
    pool = WorkerPool()
    for _ in range(50):
        _run(pool, 1)
        while pool.running:
            time.sleep(0.001)
    assert pool.started == 1


def test_all_jobs_run_at_once() -> None:
    pool, barrier = WorkerPool(), threading.Barrier(40)
    for _ in range(39):
        pool.submit(lambda: barrier.wait(10))
    barrier.wait(10)


def test_beyond_the_limit_jobs_wait_their_turn() -> None:
    pool = WorkerPool(limit=2)
    _run(pool, 20, 0.001)
    assert pool.started <= 2


def test_parents_that_wait_for_children_do_not_count() -> None:
    pool, done = WorkerPool(limit=1), threading.Event()

    def parent(depth: int, finished: threading.Event) -> None:
        if depth:
            inner = threading.Event()
            with pool.waiting_for_children():
                pool.submit(lambda: parent(depth - 1, inner))
                assert inner.wait(10)
        finished.set()

    pool.submit(lambda: parent(5, done))
    assert done.wait(10)


def test_idle_threads_end() -> None:
    pool = WorkerPool(idle_seconds=0.02)
    before = threading.active_count()
    _run(pool, 5)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
    _run(pool, 5)  # and new ones are started


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which this platform does not have")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own() -> None:
    from langchain_parallel_plus._engine.workers import WORKERS

    _run(WORKERS, 3)
    child = os.fork()
    if child == 0:
        try:
            _run(WORKERS, 3)
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
