"""From events to records: what has been heard of each run so far."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from langchain_parallel_plus.observe.known import Known, Moment, heard_call, placed
from langchain_parallel_plus.observe.records import BranchReport, FanOutReport, ModelCall, SynthesisReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from uuid import UUID

    from langchain_parallel_plus.observe.event import Event
    from langchain_parallel_plus.observe.limiter_state import LimiterState
    from langchain_parallel_plus.observe.prices import PriceOf
    from langchain_parallel_plus.outcome import BranchOutcome

__all__ = ("Collector",)

_Path = tuple[str, ...]


@dataclass(slots=True)
class _FanOut:
    """One run of a fan-out, and everything that runs below it up to the next fan-out."""

    start: Event
    """Of the fan-out, or the first that was heard of a run under a policy outside any."""
    path: _Path
    """As it is shown."""
    alone: bool
    parent: UUID | None = None
    """The fan-out around it, if that is known."""
    ended: Event | None = None
    own: list[Known] = field(default_factory=list)
    declared: dict[_Path, Known] = field(default_factory=dict)
    """The branches that nothing has been heard of."""
    units: dict[int | _Path, Known] = field(default_factory=dict)
    """By the number of the run; one name may run several times."""
    latest: dict[_Path, Known] = field(default_factory=dict)
    """The last to begin, by path as it is told."""
    times: Counter[_Path] = field(default_factory=Counter)
    """How many runs are shown, by path."""

    def declare(self, keys: tuple[str, ...], capped: bool) -> None:
        """Take note of the branches that it is to run."""
        for key in keys:
            told, shown = (*self.start.path, key), (*self.path, key)
            self.own.append(Known(shown, self.start.at, capped))
            self.declared[told] = self.latest[told] = self.own[-1]
            self.times[shown] = 1

    def known(self, event: Event) -> Known:
        """Return the run that an event is of."""
        number = event.unit or event.path
        known = self.units.get(number)
        if known is None:
            declared = self.declared.pop(event.path, None)
            known = self.units[number] = self._below(event) if declared is None else declared
        return known

    def around(self, number: object, path: _Path) -> Known | None:
        """Return the run that something stands in, by its number, or where nobody says it by its path."""
        return self.units.get(number) or self.latest.get(path)  # type: ignore[call-overload]  # any number, or None

    def _below(self, event: Event) -> Known:
        around = self.around(event.detail.get("parent_unit"), event.path[:-1])
        known = Known(self._shown((*(event.path[:-1] if around is None else around.path), event.path[-1])), event.at)
        (self.own if around is None else around.inner).append(known)
        self.latest[event.path] = known
        return known

    def _shown(self, path: _Path) -> _Path:
        """Return the path that a run is shown with: where the name has run before, with a number."""
        shown = path
        while shown in self.times:
            self.times[path] += 1
            shown = (*path[:-1], f"{path[-1]} #{self.times[path]}")
        self.times[shown] = 1
        return shown


class Collector:
    """Takes events in, from any thread, and says what they tell so far."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ahead = 0.0
        self._began = 0.0
        self._latest = 0.0
        self._heard = 0
        self._fan_outs: dict[UUID, _FanOut] = {}
        self._syntheses: dict[UUID, SynthesisReport] = {}
        self._calls: dict[UUID, dict[UUID, ModelCall]] = {}
        """Of the syntheses: their model calls, on their clock."""

    @property
    def heard(self) -> int:
        """How many events there were."""
        return self._heard

    def take_in(self, event: Event) -> None:
        """Record an event."""
        with self._lock:
            if not self._heard:
                self._began = event.at
                self._ahead = event.at - self._clock()  # runs may have a clock with another zero
            self._heard += 1
            self._latest = max(self._latest, event.at)
            match event.kind:
                case "fan_out.start":
                    self._start(event)
                case "fan_out.end":
                    self._fan_out(event).ended = event
                case "synthesis.start" | "synthesis.end":
                    self._synthesis(event)
                case "model.start" | "model.usage" if not event.path and event.run_id in self._syntheses:
                    calls, call = self._calls[event.run_id], event.detail["call"]
                    calls[call] = heard_call(calls.get(call), event)
                case _:
                    self._branch(event)

    def syntheses(self, price: PriceOf | None) -> tuple[SynthesisReport, ...]:
        """Return what is known of the syntheses, in the order in which they began."""
        with self._lock:
            now = max(self._clock() + self._ahead, self._latest)
            return tuple(
                replace(
                    one,
                    price=price,
                    model_calls=placed(
                        self._calls[run_id].values(),
                        self._began,
                        now if one.seconds is None else self._began + one.started + one.seconds,
                    ),
                )
                for run_id, one in self._syntheses.items()
            )

    def fan_outs(self, price: PriceOf | None) -> tuple[FanOutReport, ...]:
        """Return what is known of the fan-outs, in the order in which they began."""
        with self._lock:
            moment = Moment(self._began, max(self._clock() + self._ahead, self._latest))
            made: dict[UUID, FanOutReport] = {}
            for run_id in reversed(self._fan_outs):  # a nested fan-out begins after the one around it
                made[run_id] = _record(run_id, self._fan_outs[run_id], moment, made, price)
            return tuple(made[run_id] for run_id in self._fan_outs)

    def _start(self, event: Event) -> _FanOut:
        alone, path, told = event.kind != "fan_out.start", event.path, event.detail
        parent = None if alone else self._fan_outs.get(told.get("parent_run_id"))  # type: ignore[arg-type]
        around = None if parent is None else parent.around(told.get("parent_unit"), path)
        if around is not None:
            around.nested.append(event.run_id)
            path = around.path
        fan_out = _FanOut(event, path, alone, None if parent is None else parent.start.run_id)
        fan_out.declare(tuple(told.get("branches", ())), told.get("max_concurrency") is not None)
        self._fan_outs[event.run_id] = fan_out
        return fan_out

    def _fan_out(self, event: Event) -> _FanOut:
        known = self._fan_outs.get(event.run_id)
        if known is None:
            known = self._start(replace(event, path=(), detail={"name": event.path[0] if event.path else "run"}))
        return known

    def _synthesis(self, event: Event) -> None:
        known = self._syntheses.get(event.run_id)
        if known is None:
            known = SynthesisReport(
                strategy=event.detail["strategy"],
                inputs=event.detail["inputs"],
                path=event.path,
                started=event.at - self._began,
                run_id=event.run_id,
            )
            self._calls[event.run_id] = {}
        if event.kind == "synthesis.end":
            known = replace(known, inputs=event.detail["inputs"], seconds=event.seconds, outcome=event.outcome)
        self._syntheses[event.run_id] = known

    def _branch(self, event: Event) -> None:
        fan_out = self._fan_out(event)
        fan_out.known(event).take_in(event)
        if event.kind == "branch.end" and fan_out.alone and len(event.path) == 1:
            fan_out.ended = event


def _record(
    run_id: UUID, fan_out: _FanOut, moment: Moment, made: dict[UUID, FanOutReport], price: PriceOf | None
) -> FanOutReport:
    ended, detail = fan_out.ended, fan_out.start.detail
    own = [known.record(moment, made, None if ended is None else ended.at) for known in fan_out.own]
    return FanOutReport(
        name=detail["name"],
        path=fan_out.path,
        place=fan_out.start.path,
        started=fan_out.start.at - moment.zero,
        seconds=None if ended is None else ended.at - fan_out.start.at,
        outcome=None if ended is None else _outcome(ended, fan_out.alone),
        alone=fan_out.alone,
        max_concurrency=detail.get("max_concurrency"),
        limiters=_limiters(detail.get("limiters", ()), None if ended is None else ended.detail.get("unused")),
        shared=fan_out.parent is not None,  # with the branches beside the one around it
        branches={one.path: one for branch in own for one in _with_inner(branch)},
        run_id=run_id,
        parent_run_id=detail.get("parent_run_id"),
        price=price,
    )


def _limiters(
    states: Sequence[LimiterState], unused: Mapping[str, Mapping[str, float]] | None
) -> tuple[LimiterState, ...]:
    """Return the states of the start with what the end tells of them."""
    if not unused:
        return tuple(states)
    return tuple(
        replace(
            state,
            rates={
                name: replace(rate, unused=unused.get(state.name, {}).get(name, 0.0))
                for name, rate in state.rates.items()
            },
        )
        for state in states
    )


def _outcome(ended: Event, alone: bool) -> BranchOutcome:
    if ended.outcome == "cancelled":
        return "cancelled"
    failed = ended.error is not None if alone else ended.outcome != "ok"
    return "failed" if failed else "ok"


def _with_inner(branch: BranchReport) -> Iterator[BranchReport]:
    yield branch
    for one in branch.inner:
        yield from _with_inner(one)
