"""Measurements, each in the context of the span it describes, so that it carries an exemplar of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.observe.otel import semconv

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from langchain_parallel_plus.observe.event import Event
    from langchain_parallel_plus.observe.otel.instruments import Instruments
    from langchain_parallel_plus.observe.otel.units import AttemptUnit, BranchUnit, FanOutUnit, Opened

__all__ = ("Measuring",)


@dataclass(frozen=True, slots=True)
class Measuring:
    """Writes to the instruments. All values of attributes are bounded: names that somebody has declared, and words."""

    instruments: Instruments

    def fan_out_ended(self, unit: FanOutUnit, event: Event) -> None:
        """Measure a fan-out."""
        attributes = {semconv.FAN_OUT_NAME: unit.name, **_error_type(event)}
        self.instruments.fan_out.record(event.seconds or 0.0, attributes, unit.opened.context)

    def branch_began(self, unit: BranchUnit) -> None:
        """Count a branch in."""
        self.instruments.active.add(1, _fan_out(unit), unit.context)

    def branch_ended(self, unit: BranchUnit, event: Event) -> None:
        """Count a branch out, and measure it."""
        self.instruments.active.add(-1, _fan_out(unit), unit.context)
        attributes = {**_branch(unit), semconv.BRANCH_OUTCOME: str(event.outcome), **_error_type(event)}
        self.instruments.branch.record(event.seconds or 0.0, attributes, unit.context)

    def attempt_ended(self, unit: BranchUnit, one: AttemptUnit, event: Event, outcome: str) -> None:
        """Measure an attempt."""
        attributes = {**_branch(unit), semconv.ATTEMPT_ROLE: one.role, semconv.ATTEMPT_OUTCOME: outcome}
        if event.error is not None:
            attributes[semconv.ERROR_KIND] = event.error.value
        self.instruments.attempt.record(event.seconds or 0.0, attributes, one.opened.context)

    def waited(self, attributes: dict[str, Any], seconds: float, context: Context) -> None:
        """Measure a wait for a limiter."""
        kept = (semconv.LIMITER_NAME, semconv.LIMITER_RESOURCE, semconv.LIMITER_REASON)
        bounded = {name: attributes[name] for name in kept if name in attributes}
        self.instruments.wait.record(seconds, bounded, context)

    def refused(self, event: Event, context: Context) -> None:
        """Count a request that a limiter has refused."""
        attributes = {semconv.LIMITER_NAME: event.detail["limiter"], semconv.LIMITER_REASON: event.detail["reason"]}
        self.instruments.rejections.add(1, attributes, context)

    def breaker_changed(self, event: Event, context: Context) -> None:
        """Count a breaker's change."""
        told = event.detail
        names = {"name": semconv.BREAKER_NAME, "before": semconv.BREAKER_FROM, "after": semconv.BREAKER_TO}
        self.instruments.transitions.add(1, {names[key]: told[key] for key in names}, context)

    def synthesis_ended(self, event: Event, opened: Opened) -> None:
        """Measure a synthesis."""
        attributes = {semconv.SYNTHESIS_STRATEGY: event.detail["strategy"], **_error_type(event)}
        self.instruments.synthesis.record(event.seconds or 0.0, attributes, opened.context)


def _fan_out(unit: BranchUnit) -> dict[str, str]:
    return {} if unit.fan_out is None else {semconv.FAN_OUT_NAME: unit.fan_out.name}


def _branch(unit: BranchUnit) -> dict[str, str]:
    return {**_fan_out(unit), **({} if unit.item is not None else {semconv.BRANCH_KEY: unit.key})}


def _error_type(event: Event) -> dict[str, str]:
    error_type = event.detail.get("error_type")
    return {} if error_type is None else {semconv.ERROR_TYPE: error_type}
