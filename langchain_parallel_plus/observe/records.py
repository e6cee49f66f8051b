"""What is known of a run, as frozen records. Times are seconds after the report began."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from langchain_parallel_plus.observe.limiter_state import LimiterState
    from langchain_parallel_plus.observe.measures import FanOutMeasures
    from langchain_parallel_plus.outcome import BranchOutcome, ErrorKind

__all__ = ("Attempt", "BranchReport", "FanOutReport", "ModelCall", "SynthesisReport", "Wait")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One call of a branch under a policy."""

    number: int
    role: str = "primary"
    """`"primary"`, `"retry"`, `"fallback"` or `"hedge"`."""
    started: float
    ended: float
    outcome: BranchOutcome | None = None
    """`None` while it runs."""
    error: ErrorKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One admission by one limiter, and the wait for it; or a wait without any."""

    limiter: str
    dimension: str
    """What was waited for: a rate's name, "concurrency", "pause" (after a refusal), "probe" (for the answer to the
    first call at a quota that nobody knows) or "burst" (for its turn in a large burst); empty if it passed at once, and
    "not admitted" if it has not passed."""
    started: float
    ended: float
    call: UUID
    admitted: bool = True
    """Whether the call was let through; else the limiter has refused it, nobody waits for it any more, or it still
    waits."""
    attempt: int | None = None
    requests: float = 0.0
    """Charged; and so are the following."""
    tokens: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One call of a model."""

    model: str
    started: float
    ended: float
    call: UUID
    attempt: int | None = None
    failed: bool = False
    input_tokens: int | None = None
    """`None` where nobody says; and so are the following."""
    output_tokens: int | None = None
    cached_tokens: int | None = None
    """Of the input: read from the provider's prompt cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisReport:
    """One joining of a fan-out's outputs."""

    strategy: str
    inputs: int
    path: tuple[str, ...]
    started: float
    seconds: float | None = None
    """`None` while it runs."""
    outcome: BranchOutcome | None = None
    run_id: UUID | None = None
    model_calls: tuple[ModelCall, ...] = ()
    """Its model calls that are in no branch: of one inside a branch, all are that branch's. Digests are the branches of
    a fan-out of their own, and so is an answer under `limits=`."""
    price: Callable[[ModelCall], float | None] | None = field(default=None, repr=False)
    """What a model call costs."""

    @property
    def input_tokens(self) -> int:
        """Of `model_calls`."""
        return sum(one.input_tokens or 0 for one in self.model_calls)

    @property
    def output_tokens(self) -> int:
        """Of `model_calls`."""
        return sum(one.output_tokens or 0 for one in self.model_calls)

    @property
    def cost(self) -> float | None:
        """Of `model_calls`; `None` without a price for each of them."""
        from langchain_parallel_plus.observe.costs import sum_of_calls  # which reads these records

        return sum_of_calls(self.model_calls, self.price)


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchReport:
    """One branch of one call."""

    path: tuple[str, ...]
    """The branch's name, after those of the branches around it. The second run of one name is `"name #2"`."""
    outcome: BranchOutcome | None = None
    """`None` while it runs."""
    error: ErrorKind | None = None
    error_type: str | None = None
    """The exception's class by its full name; never what it says, which may quote prompts."""
    started: float = 0.0
    """When its fan-out began."""
    began: float | None = None
    """When it began itself, after it had waited for its turn under `max_concurrency`; `None` if it never did."""
    capped: bool = False
    """Whether it had to wait for its turn under `max_concurrency`."""
    seconds: float = 0.0
    """From `started` to its end, all of the following included; until now while it runs."""
    attempts: int = 1
    """Calls made."""
    attempt_log: tuple[Attempt, ...] = ()
    """The calls, where a policy made them."""
    wait_log: tuple[Wait, ...] = ()
    backoff_log: tuple[tuple[float, float], ...] = ()
    """The waits between a failed attempt and the next."""
    reader_log: tuple[tuple[float, float], ...] = ()
    """Of a stream that has ended: when it waited for whoever reads it, because its next chunk was ready."""
    model_calls: tuple[ModelCall, ...] = ()
    late: int = 0
    """Results of its threads that came after nobody waited for them any more, and were discarded."""
    nested: tuple[FanOutReport, ...] = ()
    """The fan-outs that it called."""
    inner: tuple[BranchReport, ...] = ()
    """The `RunnableWithPolicy`s that it called, each with all its calls."""

    @property
    def name(self) -> str:
        """The path as one string."""
        return "/".join(self.path)

    @property
    def ended(self) -> float:
        """When it ended."""
        return self.started + self.seconds

    @property
    def wait(self) -> float:
        """Seconds that its calls waited for rate limits; calls at the same time count each."""
        return sum(one.ended - one.started for one in self.wait_log)

    @property
    def waits(self) -> dict[tuple[str, str], float]:
        """Of `wait`: the seconds by limiter and by what was waited for (see `Wait.dimension`)."""
        found: dict[tuple[str, str], float] = {}
        for one in self.wait_log:
            if one.dimension:  # else it passed at once, in microseconds
                key = one.limiter, one.dimension
                found[key] = found.get(key, 0.0) + one.ended - one.started
        return found

    @property
    def backoff(self) -> float:
        """Seconds between a failed attempt and the next."""
        return sum(end - start for start, end in self.backoff_log)

    @property
    def calls(self) -> int:
        """Model calls, and attempts that were charged to a limiter: several limiters may admit one."""
        charged = {one.call for one in self.wait_log if one.admitted and (one.requests or one.tokens)}
        return len(charged | {one.call for one in self.model_calls})

    @property
    def input_tokens(self) -> int:
        """Of all its model calls, those of failed attempts included."""
        return sum(one.input_tokens or 0 for one in self.model_calls)

    @property
    def output_tokens(self) -> int:
        """Of all its model calls, those of failed attempts included."""
        return sum(one.output_tokens or 0 for one in self.model_calls)


@dataclass(frozen=True, kw_only=True)
class FanOutReport:
    """One call of one fan-out."""

    name: str
    path: tuple[str, ...] = ()
    """The branches around it; empty for an outermost fan-out."""
    place: tuple[str, ...] | None = None
    """`path` without the numbers of what runs several times; `None`: it is the same."""
    started: float = 0.0
    seconds: float | None = None
    """`None` while it runs."""
    outcome: BranchOutcome | None = None
    """`"ok"`, `"failed"` or `"cancelled"`; `None` while it runs."""
    alone: bool = False
    """Whether it is no fan-out but a `RunnableWithPolicy` outside any."""
    max_concurrency: int | None = None
    """The cap that it ran under."""
    limiters: tuple[LimiterState, ...] = ()
    """The rate limiters of its model calls, as they stood when it began; in a report also those of the fan-outs that it
    called, when those began."""
    shared: bool = False
    """Whether other runs used its limits at the same time, so that they cannot be judged by this one alone."""
    branches: Mapping[tuple[str, ...], BranchReport] = field(default_factory=dict)
    """By path; with the `RunnableWithPolicy`s inside branches, whose paths are longer."""
    run_id: UUID | None = None
    parent_run_id: UUID | None = None
    """The run of the fan-out around it."""
    price: Callable[[ModelCall], float | None] | None = field(default=None, repr=False)
    """What a model call costs."""

    @property
    def failed(self) -> bool:
        """Whether it raised."""
        return self.outcome not in (None, "ok")

    @property
    def own_branches(self) -> tuple[BranchReport, ...]:
        """Its branches, without what runs under a policy inside them."""
        depth = len(self.path) + 1
        return tuple(branch for path, branch in self.branches.items() if len(path) == depth)

    @cached_property
    def measures(self) -> FanOutMeasures:
        """Its numbers: speedup, efficiency, critical branch, lost time, cost."""
        from langchain_parallel_plus.observe.measures import measure  # which reads these records

        return measure(self)
