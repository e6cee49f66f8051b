"""What is known of one run so far, while events come in, and the record of it at any moment."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from langchain_parallel_plus.observe.records import Attempt, BranchReport, ModelCall, Wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from langchain_parallel_plus.observe.event import Event
    from langchain_parallel_plus.observe.records import FanOutReport
    from langchain_parallel_plus.outcome import BranchOutcome, ErrorKind

__all__ = ("Known", "Moment", "heard_call", "placed")

_OPEN = float("inf")
"""When something ends of which nobody has told an end."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When the records are made; times of the clock of the runs."""

    zero: float
    """When the report began: times in records are counted from it."""
    now: float


@dataclass(slots=True)
class Known:
    """One run of a branch, or of a policy below it; times are those of its clock."""

    path: tuple[str, ...]
    """As it is shown: what has run before under this name has a number."""
    started: float
    capped: bool = False
    began: float | None = None
    ended: float | None = None
    outcome: BranchOutcome | None = None
    error: ErrorKind | None = None
    error_type: str | None = None
    attempts: int = 1
    log: list[Attempt] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    waiting: dict[UUID, Wait] = field(default_factory=dict)
    """By model call: those that are not over."""
    backoffs: list[tuple[float, float]] = field(default_factory=list)
    reader: tuple[tuple[float, float], ...] = ()
    calls: dict[UUID, ModelCall] = field(default_factory=dict)
    late: int = 0
    inner: list[Known] = field(default_factory=list)
    """The policies' runs in it."""
    nested: list[UUID] = field(default_factory=list)
    """The fan-outs that it called."""

    def take_in(self, event: Event) -> None:
        """Record an event of this run."""
        if self.began is None and self.ended is None and event.kind != "branch.end":
            self.began = event.at  # also where nobody has listened when it began
        match event.kind:
            case "branch.end":
                self.ended, self.outcome, self.error = event.at, event.outcome, event.error
                self.error_type = event.detail.get("error_type")
                self.reader = event.detail.get("reader", ())
                hedges = (one.number for one in self.log if one.role == "hedge")
                self.attempts = max(event.attempt or 0, *hedges, 0)
                self._give_up(event.at)
            case "attempt.start" | "attempt.end":
                self._attempt(event)
            case "backoff":
                self.backoffs.append((event.at - (event.seconds or 0.0), event.at))
            case "limiter.queue" | "limiter.refusal" | "limiter.wait":
                self._wait(event)
            case "model.start" | "model.usage":
                self._model(event)
            case "branch.late" | "attempt.late":
                self.late += 1

    def record(
        self, moment: Moment, nested: Mapping[UUID, FanOutReport], around_ended: float | None = None
    ) -> BranchReport:
        """Return the record of this run and of all below it; what still runs goes on to now.

        Args:
            moment: When this is.
            nested: The records of the fan-outs that it called.
            around_ended: When what called it ended: nobody waits for it any more.
        """
        zero = moment.zero
        end = self.ended
        if end is None:
            end = max(moment.now if around_ended is None else around_ended, self.started)
        return BranchReport(
            path=self.path,
            outcome=self.outcome,
            error=self.error,
            error_type=self.error_type,
            started=self.started - zero,
            began=None if self.began is None else self.began - zero,
            capped=self.capped,
            seconds=max(end - self.started, 0.0),
            attempts=self.attempts,
            attempt_log=tuple(
                replace(
                    one,
                    started=one.started - zero,
                    ended=max(end if one.outcome is None else one.ended, one.started) - zero,
                )
                for one in self.log
            ),
            wait_log=tuple(
                replace(one, started=one.started - zero, ended=_until(one, end) - zero)
                for one in (*self.waits, *self.waiting.values())
            ),
            backoff_log=tuple((start - zero, stop - zero) for start, stop in self.backoffs),
            reader_log=tuple((start - zero, min(stop, end) - zero) for start, stop in self.reader),
            model_calls=placed(self.calls.values(), zero, end),
            late=self.late,
            nested=tuple(nested[one] for one in self.nested if one in nested),
            inner=tuple(
                one.record(moment, nested, end if self.ended is not None else around_ended) for one in self.inner
            ),
        )

    def _attempt(self, event: Event) -> None:
        number, role = event.attempt or 0, event.detail["role"]
        if event.kind == "attempt.start":
            self.attempts = number
            self.log.append(Attempt(number=number, role=role, started=event.at, ended=event.at))
            return
        started = event.at - (event.seconds or 0.0)
        known = Attempt(number=number, role=role, started=started, ended=event.at)
        place = next(
            (i for i in reversed(range(len(self.log))) if self.log[i].number == number and not self.log[i].outcome),
            None,
        )
        if place is None:
            place = len(self.log)
            self.log.append(known)
        self._give_up(event.at, number)
        self.log[place] = replace(known, started=self.log[place].started, outcome=event.outcome, error=event.error)

    def _give_up(self, at: float, attempt: int | None = None) -> None:
        """End the waits and the calls of an attempt, or of all, that nobody waits for any more: nobody tells of it."""
        for call, one in list(self.waiting.items()):
            if attempt is None or one.attempt in (None, attempt):
                self.waits.append(replace(self.waiting.pop(call), ended=at))
        for call, made in self.calls.items():
            if made.ended == _OPEN and (attempt is None or made.attempt == attempt):
                self.calls[call] = replace(made, ended=at)

    def _wait(self, event: Event) -> None:
        call = event.detail["call"]
        self.waiting.pop(call, None)
        if event.kind == "limiter.wait":
            self.waits.append(_admission(event))
            return
        wait = Wait(
            limiter=event.detail["limiter"],
            dimension="not admitted",
            started=event.at,
            ended=_OPEN,
            call=call,
            admitted=False,
            attempt=event.attempt,
        )
        if event.kind == "limiter.queue":
            self.waiting[call] = wait
        elif event.seconds:
            self.waits.append(replace(wait, started=event.at - event.seconds, ended=event.at))

    def _model(self, event: Event) -> None:
        call = event.detail["call"]
        self.calls[call] = heard_call(self.calls.get(call), event)


def heard_call(known: ModelCall | None, event: Event) -> ModelCall:
    """Return what is known of a model call after an event of it."""
    told = event.detail
    call = known or ModelCall(
        model=told["model"], call=told["call"], started=event.at, ended=_OPEN, attempt=event.attempt
    )
    if event.kind != "model.usage":
        return call
    return replace(
        call,
        ended=min(call.ended, event.at),
        failed=event.outcome == "failed",
        input_tokens=told["input_tokens"],
        output_tokens=told["output_tokens"],
        cached_tokens=told["cached_tokens"],
    )


def placed(calls: Iterable[ModelCall], zero: float, end: float) -> tuple[ModelCall, ...]:
    """Return calls as a report that began at `zero` shows them; what is still open ends at `end`."""
    return tuple(replace(one, started=one.started - zero, ended=_until(one, end) - zero) for one in calls)


def _until(one: ModelCall | Wait, end: float) -> float:
    """Return when it ended: at `end` at the latest, unless it began later, in a thread that nobody waits for."""
    return max(min(one.ended, end), one.started)


def _admission(event: Event) -> Wait:
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
