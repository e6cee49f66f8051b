"""From events to spans and metrics.

Spans are opened and closed by events, and each is entered where its work runs. Content never comes here: events have
none, and of an error only its kind, its class and its HTTP status are told, because providers quote prompts in theirs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Link, SpanContext, Status, StatusCode, set_span_in_context

from langchain_parallel_plus.observe.following import Follower
from langchain_parallel_plus.observe.otel import semconv
from langchain_parallel_plus.observe.otel.foreign import adopt, exports_to_otel, foreign_span
from langchain_parallel_plus.observe.otel.judging import Record
from langchain_parallel_plus.observe.otel.measuring import Measuring
from langchain_parallel_plus.observe.otel.place import belongs_to, go_into, here, inside
from langchain_parallel_plus.observe.otel.settings import recording, settings
from langchain_parallel_plus.observe.otel.surroundings import Surroundings, surroundings_of
from langchain_parallel_plus.observe.otel.units import AttemptUnit, BranchUnit, FanOutUnit, Known, Opened
from langchain_parallel_plus.observe.otel.wording import (
    attempt_outcome,
    branch_attributes,
    error_attributes,
    fan_out_name,
    status_of,
    wait_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from langchain_core.callbacks import BaseCallbackHandler
    from opentelemetry.context import Context

    from langchain_parallel_plus.observe.event import Event
    from langchain_parallel_plus.observe.following import Followed

__all__ = ("otel_follower",)

SHOWN_WAIT = 0.001
"""Seconds; a shorter wait for a limiter gets no span and no measurement."""


def otel_follower(handlers: Iterable[object]) -> Follower | None:
    """Return who writes spans and metrics of a run with these callback handlers; `None` if nobody would see them."""
    if not recording():
        return None
    return OtelFollower(spans=not exports_to_otel(handlers), around=surroundings_of(handlers))


class OtelFollower(Follower):
    """Writes spans and metrics of one run and everything below it.

    Args:
        spans: Whether there are spans of ours.
        around: What is around the run.
        known: What is remembered of what runs, if the run is below one that is followed already.
    """

    def __init__(self, *, spans: bool, around: Surroundings | None = None, known: Known | None = None) -> None:
        self._spans = spans
        self._around = around
        self._known = known = Known() if known is None else known
        self._fan_outs = known.fan_outs
        self._branches = known.branches
        self._syntheses = known.syntheses
        self._take = {
            "fan_out.start": self._fan_out_started,
            "fan_out.end": self._fan_out_ended,
            "policy.start": self._policy_started,
            "policy.end": self._policy_ended,
            "branch.end": self._branch_ended,
            "attempt.start": self._attempt_started,
            "attempt.end": self._attempt_ended,
            "backoff": self._backed_off,
            "limiter.queue": self._queued,
            "limiter.wait": self._waited,
            "limiter.refusal": self._refused,
            "breaker": self._breaker_changed,
            "synthesis.start": self._synthesis_started,
            "synthesis.end": self._synthesis_ended,
        }

    def below(self, handlers: Iterable[object]) -> OtelFollower:
        """Return who follows a run inside: the same, unless something else is around that."""
        around = surroundings_of(handlers)
        if around is None or around is self._around:
            return self
        return OtelFollower(spans=self._spans, around=around, known=self._known)

    def take(self, event: Event) -> None:
        """Write what the event says."""
        self._record(event)
        if (take := self._take.get(event.kind)) is not None:
            take(event)

    def _record(self, event: Event) -> None:
        """Let the fan-out, and those around it, take the event in."""
        starts = event.kind == "fan_out.start"  # which its own record begins with
        run_id: UUID | None = event.detail.get("parent_run_id") if starts else event.run_id
        while run_id is not None and (unit := self._fan_outs.get(run_id)) is not None:
            unit.record.take_in(event)
            run_id = unit.above

    def enter(self, work: Followed, *, later: bool) -> None:
        """Make the span of a branch, or of an attempt, the current one of its context."""
        unit = self._branches.get(work.unit)
        if work.attempt is None:
            unit = self._enter_branch(work, later)
        if unit is not None:
            go_into(inside(unit.context_of(work.attempt), None, unit.number, work.attempt or 0))

    def _enter_branch(self, work: Followed, later: bool) -> BranchUnit:
        fan_out = self._fan_outs.get(work.run_id)
        parent = here() if fan_out is None else fan_out.opened.context
        unit = BranchUnit(work.unit, work.path[-1], fan_out, parent, time.time_ns())
        self._branches[unit.number] = unit
        if fan_out is not None:
            fan_out.branches[work.path] = unit.number
        if not later:
            self._open_branch(unit, None)
        _measuring().branch_began(unit)
        return unit

    def _open(
        self, name: str, run_id: UUID | None, attributes: dict[str, Any], parent: Context, **given: Any
    ) -> Opened:
        """Open a span, or find the one that another instrumentation has opened for the same run."""
        if not self._spans:
            return Opened(parent)
        mode = settings().mode
        attributes[semconv.OPENINFERENCE_KIND] = semconv.OPENINFERENCE_CHAIN
        foreign = None if run_id is None else foreign_span(run_id)
        if foreign is not None:
            parent = set_span_in_context(foreign, parent)
            if mode != "spans":
                foreign.set_attributes(attributes)
                return Opened(parent, foreign)
        if mode == "enrich":
            return Opened(parent)
        span = settings().tracer.start_span(name, context=parent, attributes=attributes, **given)
        return Opened(set_span_in_context(span, parent), span, own=True)

    def _place_of(self, run_id: UUID | None) -> Context:
        """Return what the span of a run belongs to."""
        place = here()
        return place if self._around is None or not self._spans else self._around.place_of(run_id, place)

    def _adopt(self, run_id: UUID | None) -> None:
        if run_id is not None and self._spans and settings().mode != "enrich":
            adopt(run_id, here)

    def _fan_out_started(self, event: Event) -> None:
        name, told = fan_out_name(event.detail["name"]), event.detail
        attributes = {
            semconv.OPERATION_NAME: semconv.INVOKE_WORKFLOW,
            semconv.WORKFLOW_NAME: name,
            semconv.BRANCH_COUNT: len(told["branches"]),
            semconv.FAILURE_POLICY: told.get("failure_policy", "raise"),
        }
        opened = self._open(f"{semconv.INVOKE_WORKFLOW} {name}", event.run_id, attributes, self._place_of(event.run_id))
        above = told.get("parent_run_id")
        required = frozenset(told.get("required", ()))
        items = {key: place for place, key in enumerate(told["branches"])} if told.get("dynamic") else {}
        self._fan_outs[event.run_id] = FanOutUnit(
            name, opened, Record(event), required=required, items=items, above=above
        )
        self._adopt(event.run_id)

    def _fan_out_ended(self, event: Event) -> None:
        unit = self._fan_outs.pop(event.run_id, None)
        if unit is None:
            return
        for number in unit.branches.values():
            self._branches.pop(number, None)
        told = event.detail
        attributes = {
            semconv.SUCCEEDED: told["succeeded"],
            semconv.FAILED: told["failed"],
            semconv.SKIPPED: told["skipped"],
            **unit.record.attributes(),
        }
        _measuring().fan_out_ended(unit, event)
        _settle(unit.opened, attributes, event, failed=event.outcome == "failed")

    def _open_branch(self, unit: BranchUnit, run_id: UUID | None) -> Opened:
        required = unit.fan_out is not None and unit.key in unit.fan_out.required
        which = {semconv.BRANCH_KEY: unit.key} if unit.item is None else {semconv.ITEM_INDEX: unit.item}
        name = f"branch {unit.key}" if unit.item is None else "map_item"
        attributes = {**which, semconv.BRANCH_REQUIRED: required}
        opened = self._open(name, run_id, attributes, unit.parent, start_time=unit.began)
        unit.opened = opened
        return opened

    def _policy_started(self, event: Event) -> None:
        unit = self._branches.get(event.unit)
        if unit is None and not event.detail["own"]:  # a thread that begins when its fan-out has ended
            return
        if unit is None:
            parent = self._place_of(event.detail["run"])
            unit = BranchUnit(event.unit, fan_out_name(event.path[-1]), None, parent, time.time_ns())
            self._branches[unit.number] = unit
            _measuring().branch_began(unit)
        unit.several = event.detail["several"]
        if unit.opened is None:
            self._open_branch(unit, event.detail["run"])
        self._adopt(event.detail["run"])

    def _policy_ended(self, event: Event) -> None:
        unit = self._branches.get(event.unit)
        if unit is not None and unit.opened is not None and not unit.opened.own:  # before the span's owner ends it
            _settle(unit.opened, branch_attributes(unit, event), event, failed=False)

    def _branch_ended(self, event: Event) -> None:
        unit = self._branches.pop(event.unit, None)
        if unit is None:
            return
        for number in list(unit.attempts):
            self._end_attempt(unit, number, {semconv.ATTEMPT_OUTCOME: "cancelled"})
        opened = unit.opened or self._open_branch(unit, None)  # cancelled before its policy's run had begun
        _measuring().branch_ended(unit, event)
        if opened.own:
            failed = event.outcome in {"failed", "timed_out"}
            _settle(opened, branch_attributes(unit, event), event, failed=failed)

    def _attempt_started(self, event: Event) -> None:
        unit, number = self._branches.get(event.unit), event.attempt or 1
        if unit is None:
            return
        role, target = event.detail["role"], event.detail["target"]
        opened = Opened(unit.context)
        if unit.several or role == "hedge":
            attributes: dict[str, Any] = {
                semconv.ATTEMPT_NUMBER: number,
                semconv.ATTEMPT_ROLE: role,
                semconv.ATTEMPT_TARGET: target,
            }
            if role != "hedge" and unit.delay is not None:  # a fallback may be tried again as well
                attributes[semconv.RETRY_DELAY] = unit.delay
            if role == "fallback":
                attributes[semconv.FALLBACK_FROM] = target - 1
            if role == "hedge":
                attributes[semconv.HEDGE_DELAY] = event.at - unit.primary_at
            opened = self._open("attempt", None, attributes, unit.context, links=_links(unit, role, target))
        unit.delay = None
        if role != "hedge":
            unit.primary_at = event.at
            unit.primary = None if opened.span is None else opened.span.get_span_context()
        unit.attempts[number] = AttemptUnit(opened, role)

    def _attempt_ended(self, event: Event) -> None:
        unit, number = self._branches.get(event.unit), event.attempt or 1
        if unit is None or (one := unit.attempts.get(number)) is None:
            return
        outcome = attempt_outcome(event)
        seconds = max((event.seconds or 0.0) - one.waited, 0.0)
        if outcome != "ok":
            unit.wasted += seconds
        if outcome in {"error", "timed_out"} and one.opened.span is not None:
            unit.failed = event.detail["target"], one.opened.span.get_span_context()
        attributes: dict[str, Any] = {semconv.ATTEMPT_OUTCOME: outcome, **error_attributes(event)}
        if one.role == "hedge":
            attributes[semconv.HEDGE_WON] = outcome == "ok"
        if "breaker" in event.detail:
            attributes |= {semconv.BREAKER_STATE: "open", semconv.BREAKER_NAME: event.detail["breaker"]}
        _measuring().attempt_ended(unit, one, event, outcome)
        self._end_attempt(unit, number, attributes, status_of(event) if outcome in {"error", "timed_out"} else None)

    def _end_attempt(
        self, unit: BranchUnit, number: int, attributes: Mapping[str, Any], status: Status | None = None
    ) -> None:
        one = unit.attempts.pop(number)
        if one.opened.own and one.opened.span is not None:
            one.opened.span.set_attributes(attributes)
            if status is not None:
                one.opened.span.set_status(status)
            one.opened.end()

    def _backed_off(self, event: Event) -> None:
        if (unit := self._branches.get(event.unit)) is not None:
            unit.delay = event.seconds

    def _waited(self, event: Event) -> None:
        unit, seconds = self._branches.get(event.unit), event.seconds or 0.0
        if unit is not None:
            unit.waited += seconds
            if (one := _attempt_of(unit, event.attempt)) is not None:
                one.waited += seconds
        if seconds >= SHOWN_WAIT:
            self._show_wait(event, unit, seconds)

    def _refused(self, event: Event) -> None:
        unit, seconds = self._branches.get(event.unit), event.seconds or 0.0
        if seconds >= SHOWN_WAIT:
            self._show_wait(event, unit, seconds, Status(StatusCode.ERROR, event.detail["reason"]))
        _measuring().refused(event, _parent_of(unit, event.attempt))

    def _queued(self, event: Event) -> None:
        if (unit := self._branches.get(event.unit)) is not None:
            unit.queues[event.detail["call"]] = event.detail["depth"]

    def _show_wait(self, event: Event, unit: BranchUnit | None, seconds: float, status: Status | None = None) -> None:
        depth = None if unit is None else unit.queues.pop(event.detail["call"], None)
        attributes = wait_attributes(event, depth)
        began = time.time_ns() - int(seconds * 1e9)
        parent = _parent_of(unit, event.attempt)
        opened = self._open("rate_limit.wait", None, dict(attributes), parent, start_time=began)
        if status is None:
            _measuring().waited(attributes, seconds, opened.context)
        elif opened.own and opened.span is not None:
            opened.span.set_status(status)
        opened.end()

    def _breaker_changed(self, event: Event) -> None:
        _measuring().breaker_changed(event, _parent_of(self._branches.get(event.unit), event.attempt))

    def _synthesis_started(self, event: Event) -> None:
        told = event.detail
        attributes = {semconv.SYNTHESIS_STRATEGY: told["strategy"], semconv.SYNTHESIS_INPUTS: told["inputs"]}
        parent = self._place_of(event.run_id)
        opened = self._open(f"synthesize {told['strategy']}", event.run_id, attributes, parent)
        self._syntheses[event.run_id] = opened
        if self._spans and settings().mode != "enrich":
            inside = Surroundings(opened.context)
            adopt(event.run_id, lambda: inside.place_of(None, here()))

    def surround(self, run_id: UUID, handlers: list[BaseCallbackHandler]) -> list[BaseCallbackHandler]:
        """Put what a synthesis calls inside its span."""
        opened = self._syntheses.get(run_id)
        if opened is None or not self._spans:
            return handlers
        return [*(one for one in handlers if not isinstance(one, Surroundings)), Surroundings(opened.context)]

    def _synthesis_ended(self, event: Event) -> None:
        opened = self._syntheses.pop(event.run_id, None)
        if opened is not None:
            names = {
                "inputs": semconv.SYNTHESIS_INPUTS,  # behind a stream it is known in the end
                "dropped": semconv.SYNTHESIS_DROPPED,
                "agreement": semconv.SYNTHESIS_AGREEMENT,
            }
            attributes = {names[key]: value for key, value in event.detail.items() if key in names}
            _measuring().synthesis_ended(event, opened)
            _settle(opened, attributes, event, failed=event.outcome == "failed")


def _measuring() -> Measuring:
    return Measuring(settings().instruments)


def _settle(opened: Opened, attributes: Mapping[str, Any], event: Event, *, failed: bool) -> None:
    """Give a span its last attributes and its status, which stays unset unless it failed; end it if it is ours."""
    if opened.span is None:
        return
    opened.span.set_attributes(attributes)
    if failed and opened.own:
        if (error_type := event.detail.get("error_type")) is not None:
            opened.span.set_attribute(semconv.ERROR_TYPE, error_type)
        opened.span.set_status(status_of(event))
    opened.end()


def _links(unit: BranchUnit, role: str, target: int) -> list[Link]:
    """Link a hedge to the call beside it, and a fallback to the attempt that failed before it."""
    failed = None if unit.failed is None or unit.failed[0] == target else unit.failed[1]
    linked: dict[str, tuple[SpanContext | None, str]] = {
        "hedge": (unit.primary, "hedge_of"),
        "fallback": (failed, "fallback_of"),
    }
    other, kind = linked.get(role, (None, ""))
    return [] if other is None or not other.is_valid else [Link(other, {semconv.LINK_TYPE: kind})]


def _attempt_of(unit: BranchUnit, number: int | None) -> AttemptUnit | None:
    """Return an attempt under way; without a number the last one."""
    if number is None:
        number = next(reversed(unit.attempts), 0)
    return unit.attempts.get(number)


def _parent_of(unit: BranchUnit | None, attempt: int | None) -> Context:
    """Return what a wait is inside of: the place of whoever waits, if it is inside the branch, or else the attempt."""
    place = here()
    if unit is None or (belongs_to(place, unit.number) and attempt is not None):
        return place
    one = _attempt_of(unit, attempt)
    return unit.context if one is None else one.opened.context
