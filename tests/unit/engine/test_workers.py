from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

import pytest

from langchain_parallel_plus._engine.workers import Pace, WorkerPool


def _run(pool: WorkerPool, jobs: int, seconds: float = 0.0) -> None:
    left = threading.Semaphore(0)

    def job() -> None:
        time.sleep(seconds)
        left.release()

    for _ in range(jobs):
        pool.submit(job)
    for _ in range(jobs):
        assert left.acquire(timeout=10)


def _meet(barrier: threading.Barrier) -> None:
    barrier.wait(10)


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
        pool.submit(lambda: _meet(barrier))
    _meet(barrier)


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


def test_more_parents_than_may_run_wait_for_their_children_at_the_same_time() -> None:
    pool, waiting, ended = WorkerPool(limit=100), threading.Semaphore(0), threading.Semaphore(0)
    go_on = threading.Event()

    def child(finished: threading.Semaphore) -> None:
        go_on.wait(20)
        finished.release()

    def parent() -> None:
        finished = threading.Semaphore(0)
        with pool.waiting_for_children():
            for _ in range(2):
                pool.submit(lambda: child(finished))
            waiting.release()
            ok = all(finished.acquire(timeout=20) for _ in range(2))
        if ok:
            ended.release()

    for _ in range(150):
        pool.submit(parent)
    go_on.set()
    assert all(ended.acquire(timeout=20) for _ in range(150))
    assert pool.running <= 100


def test_a_tree_of_1500_parents_finishes() -> None:
    pool, under_way, ended = WorkerPool(), threading.Semaphore(0), threading.Semaphore(0)
    all_wait = threading.Event()

    def parent() -> None:
        finished = threading.Semaphore(0)
        with pool.waiting_for_children():
            under_way.release()
            all_wait.wait(20)
            for _ in range(2):
                pool.submit(finished.release)
            assert all(finished.acquire(timeout=20) for _ in range(2))
        ended.release()

    for _ in range(1500):
        pool.submit(parent)
    assert all(under_way.acquire(timeout=20) for _ in range(1500))
    all_wait.set()
    assert all(ended.acquire(timeout=20) for _ in range(1500))


def test_jobs_that_end_one_after_the_other_hold_up_none_that_block() -> None:
    pool, barrier, enough = WorkerPool(), threading.Barrier(151), threading.Event()

    def again() -> None:
        if not enough.wait(0.002):
            pool.submit(again)

    for _ in range(4):
        pool.submit(again)
    for _ in range(150):
        pool.submit(lambda: _meet(barrier))
    _meet(barrier)
    enough.set()


def test_quick_jobs_need_few_threads() -> None:
    pool = WorkerPool()
    for _ in range(3):
        _run(pool, 1000)
    assert pool.started < 300


def test_patient_jobs_come_after_the_others_and_yet_get_their_turn() -> None:
    pool, order, done = WorkerPool(limit=1), [], threading.Semaphore(0)
    go_on = threading.Event()

    def note(kind: str) -> None:
        order.append(kind)
        done.release()

    def hold() -> None:
        go_on.wait(10)

    pool.submit(hold)
    for _ in range(3):
        pool.submit(lambda: note("patient"), patient=True)
    for _ in range(40):
        pool.submit(lambda: note("ordinary"))
    go_on.set()
    assert all(done.acquire(timeout=10) for _ in range(43))
    assert order.index("patient") == 32
    assert order[-2:] == ["patient", "patient"]


def test_queued_jobs_wait_for_a_thread_that_the_system_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, go_on, done = WorkerPool(), threading.Event(), threading.Semaphore(0)
    start, full = threading.Thread.start, threading.Event()

    def refused(thread: threading.Thread) -> None:
        if full.is_set() and thread.name == "lcpp-branch":
            raise RuntimeError("can't start new thread")
        start(thread)

    def job() -> None:
        go_on.wait(10)
        done.release()

    monkeypatch.setattr(threading.Thread, "start", refused)
    for _ in range(8):
        pool.submit(job)
    full.set()
    taken = 8
    for _ in range(8):
        with suppress(RuntimeError):  # the pacer has found the eight blocked already, and this one need not queue
            pool.submit(job)
            taken += 1
    time.sleep(0.03)
    assert pool.running <= 9
    assert taken > 8
    go_on.set()
    assert all(done.acquire(timeout=10) for _ in range(taken))


def test_in_a_process_that_does_little_the_jobs_at_work_are_blocked() -> None:
    pace = Pace(now=10.0, cpu=1.0)
    assert pace.patience(now=10.001, cpu=1.0001) < 0.001
    assert pace.patience(now=10.002, cpu=1.0011) == 0.005
    assert pace.patience(now=10.003, cpu=1.0012) < 0.001


def test_the_more_jobs_block_the_more_start_until_some_end_quickly() -> None:
    pace = Pace(now=0.0, cpu=0.0)
    assert [pace.room(blocked, ended=0) for blocked in (8, 16, 0, 32, 64)] == [16, 32, 8, 64, 64]
    assert pace.room(1, ended=100) == 16


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
