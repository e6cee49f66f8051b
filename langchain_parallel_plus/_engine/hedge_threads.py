"""The thread driver of hedging: begins calls beside a slow one, takes the first result, and leaves the rest behind."""

from __future__ import annotations

from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.hedging import FIRST, Await, Begin, Delivered, Lost, RaceAction, Won
from langchain_parallel_plus._engine.workers import WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_parallel_plus._engine.clock import Clock
    from langchain_parallel_plus._engine.hedged_run import HedgeCall, HedgedRun
    from langchain_parallel_plus._engine.machine import Call
    from langchain_parallel_plus._engine.policy_run import PolicyRun

    OpenHedge = Callable[[HedgeCall, ExitStack], Callable[[], Any]]
    Result = tuple[int, Any, BaseException | None]

__all__ = ("Leg", "race")

_GIVEN_UP = -1


@dataclass(slots=True, eq=False)
class Leg:
    """A call under way, in a thread."""

    hedge: HedgeCall | None = None
    opened: ExitStack = field(default_factory=ExitStack)
    """What a hedge holds; of the first call, what leaves its thread behind."""
    output: Any = None


def race(
    run: PolicyRun,
    call: Call,
    delay: float,
    first: Callable[[], Any],
    leave: Callable[[], None],
    hedge: OpenHedge,
    clock: Clock,
    held_up: Callable[[], bool] | None = None,
) -> Leg:
    """Return the call that was the first to deliver; the others have been left behind.

    Args:
        run: The run, under a policy that hedges.
        call: The first call, which has been under way for `delay` seconds.
        delay: Seconds between one call and the next.
        first: Waits for the first call.
        leave: Ends that wait, and leaves the call behind.
        hedge: Opens a hedge: what it holds goes into the stack, and what it returns waits for it.
        clock: The time.
        held_up: Whether the first call waits for its input, or for a limiter.

    Raises:
        Exception: The first call's, when all have failed.
    """
    results: SimpleQueue[Result] = SimpleQueue()
    hedged = run.hedging
    assert hedged is not None
    legs = {FIRST: Leg()}
    legs[FIRST].opened.callback(leave)
    forget = run.scope.token.subscribe(lambda: results.put((_GIVEN_UP, None, run.given_up())))
    try:
        _wait_in_worker(FIRST, first, results)
        action = hedged.start(delay, held_up)
        while True:
            match action:
                case Begin():
                    action = _begin(hedged, call, action, legs, hedge, results)
                case Await(until):
                    action = _next(hedged, call, legs, results, until, clock)
                case Won(number):
                    return _winner(legs.pop(number))
                case Lost(error):
                    raise error
    finally:
        forget()
        for leg in legs.values():
            leg.opened.close()


def _wait_in_worker(number: int, wait: Callable[[], Any], results: SimpleQueue[Result]) -> None:
    context = copy_context()  # else what is called there would know neither its limits nor its listeners

    def job() -> None:
        try:
            result: Result = (number, context.run(wait), None)
        except BaseException as error:  # carried to the waiting thread
            result = (number, None, error)
        results.put(result)

    WORKERS.submit(job)


def _begin(
    hedged: HedgedRun,
    call: Call,
    begin: Begin,
    legs: dict[int, Leg],
    hedge: OpenHedge,
    results: SimpleQueue[Result],
) -> RaceAction:
    beside = hedged.beside(call, begin)
    leg = Leg(beside)
    leg.opened.callback(beside.close)
    try:
        beside.open()
        waiting = hedge(beside, leg.opened)
    except Exception as error:
        action = beside.refused(error)
        leg.opened.close()
        return action
    except BaseException:
        leg.opened.close()
        raise
    legs[begin.leg] = leg
    _wait_in_worker(begin.leg, waiting, results)
    return Await(hedged.due)


def _next(
    hedged: HedgedRun,
    call: Call,
    legs: dict[int, Leg],
    results: SimpleQueue[Result],
    until: float | None,
    clock: Clock,
) -> RaceAction:
    try:
        with WORKERS.waiting_for_children():
            number, output, error = clock.get(results, until)
    except Empty:
        return hedged.slow()
    if error is not None and (number == _GIVEN_UP or not isinstance(error, Exception)):
        raise error
    leg = legs[number]
    if error is None:
        leg.output = output
        return hedged.step(Delivered(number))
    legs.pop(number)
    action = hedged.first_failed(call, error) if leg.hedge is None else leg.hedge.failed(error)
    leg.opened.close()
    return action


def _winner(leg: Leg) -> Leg:
    if leg.hedge is not None:
        leg.hedge.won()
    return leg
