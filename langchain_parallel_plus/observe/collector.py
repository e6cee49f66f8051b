"""From events to records: what has been heard of each run so far."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from langchain_parallel_plus.observe.records import (
    Attempt,
    BranchReport,
    FanOutReport,
    ModelCall,
    SynthesisReport,
    Wait,
)

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_parallel_plus.observe.event import Event
    from langchain_parallel_plus.observe.prices import PriceOf
    from langchain_parallel_plus.outcome import BranchOutcome, ErrorKind

__all__ = ("Collector",)

_Path = tuple[str, ...]


@dataclass(slots=True)
class _Branch:
    """What is known of a branch; times are those of its clock."""

    path: _Path
    started: float
    capped: bool = False
    began: float | None = None
    ended: float | None = None
    outcome: BranchOutcome | None = None
    error: ErrorKind | None = None
    attempts: int = 1
    log: list[Attempt] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    backoffs: list[tuple[float, float]] = field(default_factory=list)
    calls: dict[UUID, ModelCall] = field(default_factory=dict)
    late: int = 0


@dataclass(slots=True)
class _FanOut:
    start: Event
    """Of the fan-out, or the first that was heard of a run under a policy outside any."""
    alone: bool
    ended: Event | None = None
    branches: dict[_Path, _Branch] = field(default_factory=dict)


class Collector:
    """Takes events in, from any thread, and says what they tell so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = 0.0
        self._latest = 0.0
        self._heard = 0
        self._fan_outs: dict[UUID, _FanOut] = {}
        self._syntheses: dict[UUID, SynthesisReport] = {}

    @property
    def heard(self) -> int:
        """How many events there were."""
        return self._heard

    def take_in(self, event: Event) -> None:
        """Record an event."""
        with self._lock:
            if not self._heard:
                self._began = event.at
            self._heard += 1
            self._latest = max(self._latest, event.at)
            match event.kind:
                case "fan_out.start":
                    self._start(event)
                case "fan_out.end":
                    self._fan_out(event).ended = event
                case "synthesis.start" | "synthesis.end":
                    self._synthesis(event)
                case _:
                    self._branch(event)

    def syntheses(self) -> tuple[SynthesisReport, ...]:
        """Return what is known of the syntheses, in the order in which they began."""
        with self._lock:
            return tuple(self._syntheses.values())

    def fan_outs(self, price: PriceOf | None) -> tuple[FanOutReport, ...]:
        """Return what is known of the fan-outs, in the order in which they began."""
        with self._lock:
            nested: dict[tuple[UUID, _Path], list[UUID]] = {}
            for run_id, one in self._fan_outs.items():
                parent = one.start.detail.get("parent_run_id")
                if parent in self._fan_outs and not one.alone:
                    nested.setdefault((parent, one.start.path), []).append(run_id)
            made: dict[UUID, FanOutReport] = {}
            for run_id in reversed(self._fan_outs):  # a nested fan-out begins after the one around it
                made[run_id] = self._record(run_id, nested, made, price)
            return tuple(made[run_id] for run_id in self._fan_outs)

    def _start(self, event: Event) -> _FanOut:
        fan_out = _FanOut(event, alone=event.kind != "fan_out.start")
        capped = event.detail.get("max_concurrency") is not None
        for key in event.detail.get("branches", ()):
            path = (*event.path, key)
            fan_out.branches[path] = _Branch(path, event.at, capped)
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
            )
        if event.kind == "synthesis.end":
            known = replace(known, inputs=event.detail["inputs"], seconds=event.seconds, outcome=event.outcome)
        self._syntheses[event.run_id] = known

    def _branch(self, event: Event) -> None:
        fan_out = self._fan_out(event)
        branch = fan_out.branches.get(event.path)
        if branch is None:
            branch = fan_out.branches[event.path] = _Branch(event.path, event.at)
        match event.kind:
            case "branch.start":
                branch.began = event.at if branch.began is None else branch.began
            case "branch.end":
                branch.ended, branch.outcome, branch.error = event.at, event.outcome, event.error
                branch.attempts = event.attempt or 0
                if fan_out.alone and len(event.path) == 1:
                    fan_out.ended = event
            case "attempt.start" | "attempt.end":
                _attempt(branch, event)
            case "backoff":
                branch.backoffs.append((event.at - (event.seconds or 0.0), event.at))
            case "limiter.wait":
                branch.waits.append(_wait(event))
            case "model.start" | "model.usage":
                _model(branch, event)
            case "branch.late" | "attempt.late":
                branch.late += 1

    def _record(
        self,
        run_id: UUID,
        nested: dict[tuple[UUID, _Path], list[UUID]],
        made: dict[UUID, FanOutReport],
        price: PriceOf | None,
    ) -> FanOutReport:
        fan_out = self._fan_outs[run_id]
        ended, detail = fan_out.ended, fan_out.start.detail
        below = {path: tuple(made[one] for one in nested.get((run_id, path), ())) for path in fan_out.branches}
        records: dict[_Path, BranchReport] = {}
        for path in sorted(fan_out.branches, key=len, reverse=True):
            inner = tuple(one for other, one in records.items() if other[:-1] == path)
            records[path] = self._branch_record(fan_out.branches[path], below[path], inner)
        failed = ended is not None and (ended.error is not None if fan_out.alone else ended.outcome != "ok")
        how: BranchOutcome | None = None if ended is None else "ok"
        if failed and ended is not None:
            how = "cancelled" if ended.outcome == "cancelled" else "failed"
        return FanOutReport(
            name=detail["name"],
            path=fan_out.start.path,
            started=fan_out.start.at - self._began,
            seconds=None if ended is None else ended.at - fan_out.start.at,
            outcome=how,
            alone=fan_out.alone,
            max_concurrency=detail.get("max_concurrency"),
            limiters=detail.get("limiters", ()),
            shared=detail.get("parent_run_id") in self._fan_outs,  # with the branches beside the one around it
            branches={path: records[path] for path in fan_out.branches},
            run_id=run_id,
            parent_run_id=detail.get("parent_run_id"),
            price=price,
        )

    def _branch_record(
        self, branch: _Branch, nested: tuple[FanOutReport, ...], inner: tuple[BranchReport, ...]
    ) -> BranchReport:
        zero = self._began
        end = self._latest if branch.ended is None else branch.ended
        return BranchReport(
            path=branch.path,
            outcome=branch.outcome,
            error=branch.error,
            started=branch.started - zero,
            began=None if branch.began is None else branch.began - zero,
            capped=branch.capped,
            seconds=max(end - branch.started, 0.0),
            attempts=branch.attempts,
            attempt_log=tuple(
                replace(one, started=one.started - zero, ended=(end if one.outcome is None else one.ended) - zero)
                for one in branch.log
            ),
            wait_log=tuple(replace(one, started=one.started - zero, ended=one.ended - zero) for one in branch.waits),
            backoff_log=tuple((start - zero, stop - zero) for start, stop in branch.backoffs),
            model_calls=tuple(
                replace(one, started=one.started - zero, ended=min(one.ended, end) - zero)
                for one in branch.calls.values()
            ),
            late=branch.late,
            nested=nested,
            inner=inner,
        )


def _attempt(branch: _Branch, event: Event) -> None:
    number, role = event.attempt or 0, event.detail["role"]
    if event.kind == "attempt.start":
        branch.attempts = number
        branch.log.append(Attempt(number=number, role=role, started=event.at, ended=event.at))
        return
    ended = {"ended": event.at, "outcome": event.outcome, "error": event.error}
    for index, one in enumerate(branch.log):
        if one.number == number and one.outcome is None:
            branch.log[index] = replace(one, role=role, **ended)  # type: ignore[arg-type]  # as the fields are
            return
    started = event.at - (event.seconds or 0.0)
    branch.log.append(Attempt(number=number, role=role, started=started, **ended))  # type: ignore[arg-type]


def _wait(event: Event) -> Wait:
    told = event.detail
    amounts = {name: told.get(name, 0.0) for name in ("requests", "tokens", "input_tokens", "output_tokens")}
    return Wait(
        limiter=told["limiter"],
        dimension=told["dimension"],
        started=event.at - (event.seconds or 0.0),
        ended=event.at,
        call=told["call"],
        attempt=event.attempt,
        **amounts,
    )


def _model(branch: _Branch, event: Event) -> None:
    told = event.detail
    call = branch.calls.get(told["call"]) or ModelCall(
        model=told["model"], call=told["call"], started=event.at, ended=float("inf"), attempt=event.attempt
    )
    if event.kind == "model.usage":
        call = replace(
            call,
            ended=event.at,
            failed=event.outcome == "failed",
            input_tokens=told["input_tokens"],
            output_tokens=told["output_tokens"],
            cached_tokens=told["cached_tokens"],
        )
    branch.calls[told["call"]] = call
