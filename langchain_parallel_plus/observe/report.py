"""`collect_report()`: what each branch waited for, how often it was called, and how long it took."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.observe.event import Event, subscribed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from langchain_parallel_plus.outcome import BranchOutcome, ErrorKind

__all__ = ("BranchReport", "FanOutReport", "RunReport", "collect_report")


@dataclass(slots=True)
class BranchReport:
    """One branch of one call."""

    path: tuple[str, ...]
    """The branch's name, after those of the branches around it."""
    outcome: BranchOutcome | None = None
    """`None` while it runs."""
    error: ErrorKind | None = None
    started: float = 0.0
    """Seconds after the report began."""
    seconds: float = 0.0
    """From start to end, all of the following included."""
    wait: float = 0.0
    """Seconds that its model calls waited for rate limits; calls at the same time count each."""
    backoff: float = 0.0
    """Seconds between a failed attempt and the next."""
    attempts: int = 1
    calls: int = 0
    """Model calls that rate limiters admitted."""
    waits: dict[tuple[str, str], float] = field(default_factory=dict)
    """Of `wait`: the seconds by limiter and by what was waited for: a rate's name, "concurrency", "pause" (after a
    refusal), "probe" (for the answer to the first call at a quota that nobody knows) or "burst" (for its turn in a
    large burst)."""
    input_tokens: int = 0
    output_tokens: int = 0
    _admitted: set[UUID] = field(default_factory=set, repr=False)
    """The runs of the calls: several limiters may admit one."""

    @property
    def name(self) -> str:
        """The path as one string."""
        return "/".join(self.path)

    def waited(self, seconds: float, *, limiter: str, dimension: str, call: UUID) -> None:
        """Record that a limiter has admitted a call, and after how long."""
        self.wait += seconds
        if dimension:  # else it passed at once, in microseconds
            self.waits[limiter, dimension] = self.waits.get((limiter, dimension), 0.0) + seconds
        self._admitted.add(call)
        self.calls = len(self._admitted)


@dataclass(slots=True)
class FanOutReport:
    """One call of one fan-out."""

    name: str
    path: tuple[str, ...]
    """The branches around it; empty for an outermost fan-out."""
    started: float
    """Seconds after the report began."""
    seconds: float | None = None
    """`None` while it runs."""
    failed: bool = False
    alone: bool = False
    """Whether it is no fan-out but a `RunnableWithPolicy` outside any."""
    branches: dict[tuple[str, ...], BranchReport] = field(default_factory=dict)
    """By path."""


class RunReport:
    """Everything that ran inside `collect_report()`, as it was at the time of reading.

    `print(report)` shows it as text.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began: float | None = None
        self._fan_outs: dict[UUID, FanOutReport] = {}

    @property
    def fan_outs(self) -> list[FanOutReport]:
        """The fan-outs, in the order in which they began."""
        with self._lock:
            return list(self._fan_outs.values())

    @property
    def branches(self) -> list[BranchReport]:
        """The branches of all fan-outs."""
        return [branch for fan_out in self.fan_outs for branch in fan_out.branches.values()]

    def take_in(self, event: Event) -> None:
        """Record an event."""
        with self._lock:
            if self._began is None:
                self._began = event.at
            match event.kind:
                case "fan_out.start":
                    self._start(event, event.detail["name"])
                case "fan_out.end":
                    fan_out = self._fan_out(event)
                    fan_out.seconds, fan_out.failed = event.seconds, event.outcome == "failed"
                case _:
                    self._branch(event)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: a list of fan-outs, each with a list of branches; seconds as floats."""
        return {
            "fan_outs": [
                {
                    "name": fan_out.name,
                    "path": list(fan_out.path),
                    "started": fan_out.started,
                    "seconds": fan_out.seconds,
                    "failed": fan_out.failed,
                    "branches": [_plain(branch) for branch in fan_out.branches.values()],
                }
                for fan_out in self.fan_outs
            ]
        }

    def __str__(self) -> str:
        from langchain_parallel_plus.display.text import report_text  # display reads observe

        return report_text(self)

    def __repr__(self) -> str:
        return str(self)

    def _start(self, event: Event, name: str) -> FanOutReport:
        fan_out = FanOutReport(name, event.path, event.at - (self._began or event.at))
        fan_out.alone = event.kind != "fan_out.start"
        for key in event.detail.get("branches", ()):
            path = (*event.path, key)
            fan_out.branches[path] = BranchReport(path, started=fan_out.started)
        self._fan_outs[event.run_id] = fan_out
        return fan_out

    def _fan_out(self, event: Event) -> FanOutReport:
        """Return the fan-out of an event; a run under a policy outside any fan-out counts as one of one branch."""
        known = self._fan_outs.get(event.run_id)
        if known is None:
            known = self._start(replace(event, path=()), event.path[0] if event.path else "run")
        if event.kind == "branch.end" and len(known.branches) == 1 and known.alone:
            known.seconds, known.failed = event.seconds, event.error is not None
        return known

    def _branch(self, event: Event) -> None:
        branches = self._fan_out(event).branches
        branch = branches.setdefault(event.path, BranchReport(event.path, started=event.at - (self._began or event.at)))
        match event.kind:
            case "branch.end":
                branch.outcome, branch.error = event.outcome, event.error
                branch.seconds = event.seconds or 0.0
                branch.attempts = event.attempt or 0
            case "attempt.start":
                branch.attempts = event.attempt or 0
            case "backoff":
                branch.backoff += event.seconds or 0.0
            case "limiter.wait":
                told = event.detail
                branch.waited(
                    event.seconds or 0.0, limiter=told["limiter"], dimension=told["dimension"], call=told["call"]
                )
            case "model.usage":
                branch.input_tokens += event.detail["input_tokens"] or 0
                branch.output_tokens += event.detail["output_tokens"] or 0


def _plain(branch: BranchReport) -> dict[str, Any]:
    names = ("outcome", "error", "started", "seconds", "wait", "backoff", "attempts", "calls")
    tokens = ("input_tokens", "output_tokens")
    waits = [
        {"limiter": limiter, "dimension": dimension, "seconds": seconds}
        for (limiter, dimension), seconds in branch.waits.items()
    ]
    return {"name": branch.name, **{name: getattr(branch, name) for name in (*names, *tokens)}, "waits": waits}


@contextmanager
def collect_report() -> Iterator[RunReport]:
    """Collect what every fan-out does that is called inside, and in tasks started inside.

    A thread that you start yourself has a context of its own: run its work with `contextvars.copy_context().run`.

    Example:
        ```python
        with collect_report() as report:
            chain.invoke({"document": text})
        print(report)
        ```
    """
    report = RunReport()
    with subscribed(report.take_in):
        yield report
