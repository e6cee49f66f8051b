"""The quota of one key as a pure model: several limits, one decision over all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.testing.quota.bucket import Bucket
from langchain_parallel_plus.testing.quota.cost import DIMENSIONS, Cost
from langchain_parallel_plus.testing.quota.fixed_window import FixedWindow
from langchain_parallel_plus.testing.quota.limit import LimitModel, tolerance_of
from langchain_parallel_plus.testing.quota.sliding_window import SlidingWindow
from langchain_parallel_plus.testing.quota.sub_windows import SubWindows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_parallel_plus.testing.quota.cost import Dimension

__all__ = ("QUOTA_MODELS", "Charge", "Decision", "Quota", "QuotaModel", "QuotaState", "Reading", "Refusal")

QuotaModel = Literal["bucket_minute", "bucket_second", "fixed_window", "sliding_window", "sub_windows"]
"""How a provider counts over time: a continuous bucket that holds a minute's or a second's quota, a counter for each
minute, the last 60 seconds exactly, or a sixth of the limit in each ten seconds."""

QUOTA_MODELS: Mapping[QuotaModel, Callable[[int], LimitModel[Any]]] = {
    "bucket_minute": Bucket,
    "bucket_second": lambda limit: Bucket(limit, window=1.0),
    "fixed_window": FixedWindow,
    "sliding_window": SlidingWindow,
    "sub_windows": SubWindows,
}

_DAY = 86_400.0
_COUNTED_WHEN_REFUSED: frozenset[Dimension] = frozenset({"requests", "requests_per_day"})


@dataclass(frozen=True, slots=True)
class Reading:
    """One limit at one moment, with all that any provider says about it."""

    dimension: Dimension
    limit: int
    """Units admitted in `per` seconds."""
    per: float
    used: int
    """Units that count at present: whole, rounded up; more than the limit after a debt."""
    reset: float
    """Seconds until nothing is used: in whole milliseconds, rounded up."""
    capacity: int
    """Units admitted at once when nothing is used; less than the limit where the server counts over a shorter time."""
    window: float
    """The seconds over which the server counts."""

    @property
    def remaining(self) -> int:
        """What `used` leaves of the limit."""
        return max(0, self.limit - self.used)

    @property
    def free(self) -> int:
        """What `used` leaves of the capacity: the units that would be admitted now."""
        return max(0, self.capacity - self.used)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was not admitted: the limit that makes it wait longest, with the numbers of the message."""

    dimension: Dimension
    limit: int
    used: int
    """Units that counted when the request came, as in `Reading`."""
    requested: int
    retry_after: float | None
    """Seconds after which the same request is admitted if nobody else asks: exact, in whole milliseconds, rounded up.
    None if it needs more than the limit itself."""


@dataclass(frozen=True, slots=True)
class QuotaState:
    """The state of each limit of a `Quota`, in the order of its limits; what they are, their models know."""

    limits: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Charge:
    """What an admitted request took, to be corrected by `Quota.settle` when it has ended."""

    at: float
    cost: Cost


@dataclass(frozen=True, slots=True)
class Decision:
    """What the provider decided about one request, and the state after it."""

    state: QuotaState
    readings: tuple[Reading, ...]
    refusal: Refusal | None
    """None if the request is admitted."""
    charge: Charge | None
    """None if it is refused."""

    @property
    def admitted(self) -> bool:
        """Whether the request may run."""
        return self.refusal is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What one API key may use. A limit that is None is not there.

    Example:
        ```python
        from langchain_parallel_plus.testing.quota import Bucket, Cost, Quota

        quota = Quota(requests=Bucket(3))
        state = quota.fresh(now=0.0)
        for _ in range(3):
            state = quota.admit(state, Cost(), now=0.0).state
        refusal = quota.admit(state, Cost(), now=0.0).refusal
        assert refusal is not None
        assert refusal.retry_after == 20.0
        ```
    """

    requests: LimitModel[Any] | None = None
    tokens: LimitModel[Any] | None = None
    """Input and output tokens together."""
    input_tokens: LimitModel[Any] | None = None
    output_tokens: LimitModel[Any] | None = None
    requests_per_day: LimitModel[Any] | None = None
    tokens_per_day: LimitModel[Any] | None = None
    failed_requests_count: bool = False
    """Whether a refused request counts against the limits of requests all the same, as far as they can hold it: then
    resending faster than the rate never succeeds. OpenAI does (its rate limit guide, "Error mitigation"), which is why
    public refusals read "Limit 3, Used 3, Requested 1. Please try again in 20s": always one whole unit away."""

    @classmethod
    def of(
        cls,
        model: QuotaModel = "bucket_minute",
        *,
        requests: int | None = None,
        tokens: int | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        requests_per_day: int | None = None,
        tokens_per_day: int | None = None,
        failed_requests_count: bool = False,
    ) -> Quota:
        """Return a quota whose limits by the minute all follow one model; those by the day are continuous buckets.

        Raises:
            DeclarationError: If `model` is unknown, or a limit not a whole number >= 1.
        """
        if model not in QUOTA_MODELS:
            raise DeclarationError(f"quota_model must be one of {', '.join(QUOTA_MODELS)}, got {model!r}")
        minute = QUOTA_MODELS[model]
        return cls(
            requests=None if requests is None else minute(requests),
            tokens=None if tokens is None else minute(tokens),
            input_tokens=None if input_tokens is None else minute(input_tokens),
            output_tokens=None if output_tokens is None else minute(output_tokens),
            requests_per_day=None if requests_per_day is None else Bucket(requests_per_day, _DAY, _DAY),
            tokens_per_day=None if tokens_per_day is None else Bucket(tokens_per_day, _DAY, _DAY),
            failed_requests_count=failed_requests_count,
        )

    @property
    def limits(self) -> tuple[tuple[Dimension, LimitModel[Any]], ...]:
        """The limits that there are, with what they count."""
        pairs = ((dimension, getattr(self, dimension)) for dimension in DIMENSIONS)
        return tuple((dimension, model) for dimension, model in pairs if model is not None)

    def fresh(self, *, now: float) -> QuotaState:
        """Return the state of a key that has used nothing."""
        return QuotaState(tuple(model.fresh(now) for _, model in self.limits))

    def admit(self, state: QuotaState, cost: Cost, *, now: float) -> Decision:
        """Decide about one request, all or nothing.

        An admitted request is charged on every limit, a refused one on none (but see `failed_requests_count`). If no
        other request comes, the same request is admitted `retry_after` seconds later.

        Args:
            state: The state left by the previous decision.
            cost: What the provider counts for the request at admission.
            now: The time of arrival, in seconds of any clock that does not go back.
        """
        rows = [(*limit, limit[1].at(one, now)) for limit, one in zip(self.limits, state.limits, strict=True)]
        refusal = _refusal(rows, cost)
        if refusal is None:
            rows = [(dimension, model, model.charged(one, cost.of(dimension))) for dimension, model, one in rows]
        elif self.failed_requests_count:
            rows = [_counted(row, cost) for row in rows]
            refusal = _refusal(rows, cost) or refusal
        return Decision(
            state=QuotaState(tuple(one for _, _, one in rows)),
            readings=tuple(_reading(*row) for row in rows),
            refusal=refusal,
            charge=Charge(now, cost) if refusal is None else None,
        )

    def settle(self, state: QuotaState, charge: Charge, actual: Cost, *, now: float) -> QuotaState:
        """Return the state after a request has turned out to cost `actual`.

        What it took too much is given back where it was charged, as far as that still counts there; what it took too
        little is charged now, whether it fits or not.
        """
        return QuotaState(
            tuple(
                _settled(model, model.at(one, now), actual.of(dimension) - charge.cost.of(dimension), charge.at)
                for (dimension, model), one in zip(self.limits, state.limits, strict=True)
            )
        )

    def readings(self, state: QuotaState, *, now: float) -> tuple[Reading, ...]:
        """Return what each limit says at `now`."""
        limits = zip(self.limits, state.limits, strict=True)
        return tuple(_reading(dimension, model, model.at(one, now)) for (dimension, model), one in limits)

    def __repr__(self) -> str:
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return f"Quota({', '.join(f'{name}={value!r}' for name, value in values if value)})"


_Row = tuple["Dimension", LimitModel[Any], Any]


def _settled(model: LimitModel[Any], one: Any, difference: int, charged_at: float) -> Any:
    if difference > 0:
        return model.charged(one, difference)
    return model.refunded(one, -difference, charged_at) if difference else one


def _counted(row: _Row, cost: Cost) -> _Row:
    dimension, model, one = row
    if dimension not in _COUNTED_WHEN_REFUSED:
        return row
    return dimension, model, model.charged(one, max(0.0, min(cost.requests, model.capacity - model.used(one))))


def _reading(dimension: Dimension, model: LimitModel[Any], one: Any) -> Reading:
    capacity = math.floor(model.capacity + tolerance_of(model.limit))
    used, reset = _whole(model.used(one), model), _ceil_ms(model.reset(one))
    return Reading(dimension, model.limit, model.per, used, reset, max(1, capacity), model.window)


def _refusal(rows: list[_Row], cost: Cost) -> Refusal | None:
    too_large = [row for row in rows if cost.of(row[0]) > row[1].limit]
    # The longest wait is the only one worth telling: after any shorter one the request is refused again.
    waits = [
        (model.wait(one, cost.of(dimension)), dimension, model, one) for dimension, model, one in too_large or rows
    ]
    wait, dimension, model, one = max(waits, key=lambda found: found[0], default=(0.0, None, None, None))
    if dimension is None or model is None or not (wait or too_large):
        return None
    after = None if too_large else _ceil_ms(wait)
    return Refusal(dimension, model.limit, _whole(model.used(one), model), cost.of(dimension), after)


def _whole(units: float, model: LimitModel[Any]) -> int:
    return math.ceil(units - tolerance_of(model.limit))


def _ceil_ms(seconds: float) -> float:
    # The nanosecond keeps 20.000000000001 s at 20 s.
    return math.ceil(seconds * 1000 - 1e-6) / 1000
