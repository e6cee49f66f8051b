"""LangSmith: what its runs say of branches, attempts and waits.

Nothing has to be called: where LangSmith's tracer follows a run, our facts go onto its runs.

- Every run below a branch, model runs included, has the metadata `lcpp_branch` (the path, such as `research/summary`),
  `lcpp_fan_out` (the fan-out's name) and `lcpp_run_id` (the fan-out's run); below a policy also `lcpp_attempt`. They
  are on LangSmith's runs alone: what callbacks and steps are given is as without it.
- The run of a policy has `lcpp_attempts`, `lcpp_wait_s`, `lcpp_backoff_s` and `lcpp_outcome`, and an event `retry` for
  each back-off. Its attempts are tagged `retry:attempt:2`, `fallback:1` and so on.
- The run of a fan-out has `lcpp_outcomes`, by branch.
- A model run that waited for a limiter has an event `limiter_wait` and `lcpp_wait_s`; one that was refused has
  `limiter_refusal`.

langchain-core leaves a model run open when its call is cancelled, or refused before it has begun: it would stay pending
for ever. Such runs are ended with their branch or attempt.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_parallel_plus.errors import BranchAbandonedError
from langchain_parallel_plus.observe.following import Follower

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from uuid import UUID

    from langchain_core.callbacks import BaseCallbackManager
    from langchain_core.tracers.langchain import LangChainTracer
    from langchain_core.tracers.schemas import Run

    from langchain_parallel_plus.observe.event import Event
    from langchain_parallel_plus.observe.following import Followed

__all__ = ("langsmith_follower",)

C = TypeVar("C", bound="BaseCallbackManager")

PLACE = ("lcpp_branch", "lcpp_fan_out", "lcpp_run_id", "lcpp_attempt")
"""The metadata that say where a run belongs."""
NOTED_WAIT = 0.001
"""Seconds; a shorter wait for a limiter is none."""


def langsmith_follower(handlers: Iterable[object]) -> Follower | None:
    """Return who writes to LangSmith's runs, if its tracer is among `handlers`."""
    tracers: list[Any] = [handler for handler in handlers if _is_tracer(handler)]
    return LangSmithFollower(tracers) if tracers else None


def _is_tracer(handler: object) -> bool:
    """Tell LangSmith's tracer by what it has, because to import its class takes a tenth of a second."""
    return hasattr(handler, "copy_with_metadata_defaults") and hasattr(handler, "run_map")


class LangSmithFollower(Follower):
    """Writes to the runs of one outermost run and everything below it."""

    def __init__(self, tracers: list[LangChainTracer]) -> None:
        self._tracers = tracers
        self._within: dict[UUID, UUID] = {}
        self._names: dict[UUID, str] = {}
        self._outcomes: dict[UUID, dict[str, str]] = {}
        self._paths: dict[UUID, tuple[str, ...]] = {}
        self._policies: dict[int, UUID] = {}
        self._working: Counter[tuple[str | None, str | None, int | None]] = Counter()
        self._parents: dict[tuple[int, int | None], list[tuple[LangChainTracer, Run]]] = {}

    def take(self, event: Event) -> None:
        """Write what the event says."""
        match event.kind:
            case "fan_out.start":
                self._within[event.run_id] = event.detail["run"]
                self._names[event.run_id] = event.detail["name"]
                self._outcomes[event.run_id] = {}
                self._paths[event.run_id] = event.path
            case "branch.end":
                if self._paths.get(event.run_id) == event.path[:-1]:  # else of a policy inside a branch
                    self._outcomes[event.run_id][event.path[-1]] = str(event.outcome)
                self._policies.pop(event.unit, None)
            case "fan_out.end":
                self._names.pop(event.run_id, None)
                self._paths.pop(event.run_id, None)
                self._add_metadata(event.run_id, lcpp_outcomes=self._outcomes.pop(event.run_id, {}))
                self._within.pop(event.run_id, None)
            case "policy.start" if event.detail["run"] is not None:
                self._policies[event.unit] = event.detail["run"]
            case "policy.end" if event.unit in self._policies:
                self._end_policy(event)
            case "limiter.wait":
                self._waited(event)
            case "limiter.refusal":
                self._note(event, "limiter_refusal", reason=event.detail["reason"])
                self._end_call(event.detail["call"])
            case "call.refused":
                self._end_call(event.detail["call"])

    def callbacks_for(self, work: Followed, callbacks: C) -> C:
        """Return the callbacks with tracers that write down where a run belongs."""
        place: dict[str, Any] = {"lcpp_branch": "/".join(work.path), "lcpp_run_id": str(self._run_of(work.run_id))}
        if (name := self._names.get(work.run_id)) is not None:
            place["lcpp_fan_out"] = name
        if work.attempt is not None:
            place["lcpp_attempt"] = work.attempt
        # One copy of each: managers that are merged tell handlers apart by identity, and each would write the run.
        placed = {id(one): _placed(one, place) for one in callbacks.handlers if _is_tracer(one)}
        callbacks.handlers = [placed.get(id(one), one) for one in callbacks.handlers]
        callbacks.inheritable_handlers = [placed.get(id(one), one) for one in callbacks.inheritable_handlers]
        return callbacks

    def enter(self, work: Followed, *, later: bool) -> None:
        """Remember under which run the work will be."""
        run_id = work.run_id if work.attempt is None else self._policies.get(work.unit)
        if run_id is not None:
            self._parents[work.unit, work.attempt] = list(self._runs(run_id))
            self._working[self._place(work)] += 1

    def leave(self, work: Followed) -> None:
        """End what is still open below the work, if that did not end well."""
        parents = self._parents.pop((work.unit, work.attempt), None)
        if parents is None:
            return
        self._working[self._place(work)] -= 1
        for tracer, parent in parents:
            for run in _children_of(parent, work):
                if run.end_time is None or run.error is not None:
                    self._end_open_runs(tracer, run)

    def _end_open_runs(self, tracer: LangChainTracer, run: Run) -> None:
        """End what nobody else will; what a thread that was left behind works at will end by itself."""
        told = run.metadata
        if self._working[told.get("lcpp_run_id"), told.get("lcpp_branch"), told.get("lcpp_attempt")] > 0:
            return
        for child in list(run.child_runs):
            self._end_open_runs(tracer, child)
        _end_run(tracer, run)

    def _end_call(self, call: UUID) -> None:
        for tracer in self._tracers:
            if (run := tracer.run_map.get(str(call))) is not None:
                _end_run(tracer, run)

    def _run_of(self, run_id: UUID) -> UUID:
        """Return LangChain's run of a fan-out, or that which it is within."""
        return self._within.get(run_id, run_id)

    def _place(self, work: Followed) -> tuple[str | None, str | None, int | None]:
        return str(self._run_of(work.run_id)), "/".join(work.path), work.attempt

    def _runs(self, run_id: UUID) -> Iterator[tuple[LangChainTracer, Run]]:
        """Return the open run, for each tracer that has it."""
        for tracer in self._tracers:
            if (run := tracer.run_map.get(str(self._run_of(run_id)))) is not None:
                yield tracer, run

    def _add_metadata(self, run_id: UUID, **facts: Any) -> None:
        for _, run in self._runs(run_id):
            run.add_metadata(facts)

    def _end_policy(self, event: Event) -> None:
        self._add_metadata(
            self._policies[event.unit],
            lcpp_attempts=event.attempt,
            lcpp_wait_s=event.detail["wait"],
            lcpp_backoff_s=event.detail["backoff"],
            lcpp_outcome=str(event.outcome),
        )

    def _waited(self, event: Event) -> None:
        seconds = event.seconds or 0.0
        if seconds < NOTED_WAIT:
            return
        self._note(event, "limiter_wait", dimension=event.detail["dimension"])
        for _, run in self._runs(event.detail["call"]):
            before = run.metadata.get("lcpp_wait_s", 0.0)
            run.add_metadata({"lcpp_wait_s": before + seconds})  # several limiters may govern one call

    def _note(self, event: Event, name: str, **facts: Any) -> None:
        """Add an event to the model's run; where that has not begun for the tracer, to the run above."""
        told = {"limiter": event.detail["limiter"], "seconds": event.seconds, "branch": "/".join(event.path), **facts}
        for run_id in (event.detail["call"], self._policies.get(event.unit), event.run_id):
            runs = [] if run_id is None else [run for _, run in self._runs(run_id)]
            for run in runs:
                run.add_event({"name": name, "time": datetime.now(UTC).isoformat(), "kwargs": told})
            if runs:
                return


def _placed(tracer: Any, place: dict[str, Any]) -> Any:
    """Return the tracer with more metadata; of nested branches, the innermost counts."""
    placed = tracer.copy_with_metadata_defaults()
    around = placed.tracing_metadata or {}
    placed.tracing_metadata = {**{key: value for key, value in around.items() if key not in PLACE}, **place}
    return placed


def _children_of(parent: Run, work: Followed) -> list[Run]:
    """Return the runs that the work began with."""
    tag = f"map:key:{work.path[-1]}"
    return [
        run
        for run in list(parent.child_runs)
        if (tag in (run.tags or ()) if work.attempt is None else run.metadata.get("lcpp_attempt") == work.attempt)
    ]


def _end_run(tracer: LangChainTracer, run: Run) -> None:
    if run.end_time is not None or str(run.id) not in tracer.run_map:
        return
    error = BranchAbandonedError(
        "cancelled, or refused before it began: nothing had ended this run when its branch did"
    )
    ends: dict[str, Callable[..., object]] = {
        "llm": tracer.on_llm_error,
        "chat_model": tracer.on_llm_error,
        "tool": tracer.on_tool_error,
        "retriever": tracer.on_retriever_error,
    }
    end: Callable[..., object] = ends.get(run.run_type, tracer.on_chain_error)
    end(error, run_id=run.id)
