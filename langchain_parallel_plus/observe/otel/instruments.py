"""The metrics, and the limiters whose state is one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from opentelemetry.metrics import Observation

from langchain_parallel_plus.observe.otel import semconv

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opentelemetry.metrics import CallbackOptions, Histogram, Meter

__all__ = ("Instruments", "Limiter", "resource_of", "watch")


class Rate(Protocol):
    """One rate of a limiter at one moment."""

    @property
    def available(self) -> float:
        """What would pass now."""


class Statistics(Protocol):
    """A limiter at one moment."""

    @property
    def rates(self) -> Mapping[str, Rate]:
        """By name."""


class Limiter(Protocol):
    """What the gauge needs of a limiter."""

    @property
    def name(self) -> str:
        """Its name."""

    def statistics(self) -> Statistics:
        """Return what it is doing."""


_WATCHED: WeakSet[Limiter] = WeakSet()


def watch(*limiters: Limiter) -> None:
    """Show what `limiters` have left in `lcpp.limiter.available`, for as long as they live."""
    _WATCHED.update(limiters)


class Instruments:
    """One instrument for each metric of `langchain_parallel_plus.observe.otel`."""

    def __init__(self, meter: Meter) -> None:
        self.fan_out = meter.create_histogram(
            "lcpp.fan_out.duration",
            unit="s",
            description="Duration of a fan-out",
            explicit_bucket_boundaries_advisory=semconv.WORKFLOW_BUCKETS,
        )
        self.branch = _seconds(meter, "lcpp.branch.duration", "Duration of a branch, waits included")
        self.attempt = _seconds(meter, "lcpp.attempt.duration", "Duration of one attempt; those of role retry count")
        self.wait = _seconds(meter, "lcpp.limiter.wait.duration", "Wait of a call for a rate limiter")
        self.synthesis = _seconds(meter, "lcpp.synthesis.duration", "Duration of a synthesis")
        self.rejections = meter.create_counter(
            "lcpp.limiter.rejections", unit="{request}", description="Requests that a rate limiter refused"
        )
        self.active = meter.create_up_down_counter(
            "lcpp.branch.active", unit="{branch}", description="Branches between their start and their end"
        )
        self.transitions = meter.create_counter(
            "lcpp.breaker.transitions", unit="{transition}", description="Changes of a circuit breaker's state"
        )
        self.available = meter.create_observable_gauge(
            "lcpp.limiter.available",
            [_available],
            unit="1",
            description="Requests or tokens that a rate limiter would let through now",
        )


def _seconds(meter: Meter, name: str, description: str) -> Histogram:
    return meter.create_histogram(
        name, unit="s", description=description, explicit_bucket_boundaries_advisory=semconv.CLIENT_BUCKETS
    )


def resource_of(rate: str) -> str:
    """Return what a rate counts: `"requests"`, `"tokens"`, `"input_tokens"` or `"output_tokens"`."""
    return rate.partition("_per_")[0]


def _available(options: CallbackOptions) -> Iterable[Observation]:
    """Observe what each limiter has left of each resource: the least, where several windows or limiters say."""
    least: dict[tuple[str, str], float] = {}
    for limiter in list(_WATCHED):
        for rate, now in limiter.statistics().rates.items():
            key = limiter.name, resource_of(rate)
            least[key] = min(now.available, least.get(key, now.available))
    return [
        Observation(available, {semconv.LIMITER_NAME: name, semconv.LIMITER_RESOURCE: resource})
        for (name, resource), available in least.items()
    ]
