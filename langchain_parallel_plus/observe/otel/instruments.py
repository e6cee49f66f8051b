"""The metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.metrics import Observation

from langchain_parallel_plus.observe.otel import semconv
from langchain_parallel_plus.observe.watched import resource_of, watched

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.metrics import CallbackOptions, Histogram, Meter

__all__ = ("Instruments",)


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


def _available(options: CallbackOptions) -> Iterable[Observation]:
    """Observe what each limiter has left of each resource: the least, where several windows or limiters say."""
    least: dict[tuple[str, str], float] = {}
    for limiter in watched():
        for rate, now in limiter.statistics().rates.items():
            key = limiter.name, resource_of(rate)
            least[key] = min(now.available, least.get(key, now.available))
    return [
        Observation(available, {semconv.LIMITER_NAME: name, semconv.LIMITER_RESOURCE: resource})
        for (name, resource), available in least.items()
    ]
