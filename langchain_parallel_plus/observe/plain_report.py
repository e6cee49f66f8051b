"""Reports as plain data: nested for JSON, flat for tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.observe.measures import measure_branch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_parallel_plus.observe.aggregates import FanOutAggregate
    from langchain_parallel_plus.observe.measures import FanOutMeasures
    from langchain_parallel_plus.observe.records import BranchReport, FanOutReport, SynthesisReport

__all__ = ("plain", "rows")

_TOLD = ("outcome", "error", "error_type", "started", "seconds", "attempts", "calls")
_TOKENS = ("input_tokens", "output_tokens")
_NUMBERS_OF_BRANCHES = (
    "useful",
    "wait",
    "backoff",
    "wasted",
    "queued",
    "reader",
    "overhead",
    "call_wait",
    "wasted_work",
    "slack",
    "cost",
    "cost_useful",
)
_NUMBERS = (
    "ran",
    "useful",
    "speedup",
    "efficiency",
    "floor",
    "limit_efficiency",
    "utilisation",
    "straggler",
    "attempts",
    "failed_attempts",
    "failed_branches",
    "attempt_error_rate",
    "branch_error_rate",
    "cost",
    "cost_useful",
)


def plain(
    fan_outs: Sequence[FanOutReport], syntheses: Sequence[SynthesisReport], aggregates: Sequence[FanOutAggregate]
) -> dict[str, Any]:
    """Return a report as dicts, lists, strings and numbers; what is not known is `None`."""
    return {
        "fan_outs": [_fan_out(one) for one in fan_outs],
        "syntheses": [{**_fields(one), "path": list(one.path)} for one in syntheses],
        "aggregates": [{**asdict(one), "path": list(one.path)} for one in aggregates],
    }


def _fields(one: SynthesisReport) -> dict[str, Any]:
    return {
        **{name: getattr(one, name) for name in ("strategy", "inputs", "started", "seconds", "outcome")},
        "calls": len(one.model_calls),
        **{name: getattr(one, name) for name in _TOKENS},
        "cost": one.cost,
    }


def _fan_out(fan_out: FanOutReport) -> dict[str, Any]:
    measures = fan_out.measures
    return {
        "name": fan_out.name,
        "run_id": None if fan_out.run_id is None else str(fan_out.run_id),
        "path": list(fan_out.path),
        "started": fan_out.started,
        "seconds": fan_out.seconds,
        "failed": fan_out.failed,
        "outcome": fan_out.outcome,
        "max_concurrency": fan_out.max_concurrency,
        "measures": _measures(measures),
        "branches": [_branch(branch, fan_out) for branch in fan_out.branches.values()],
    }


def _measures(measures: FanOutMeasures) -> dict[str, Any]:
    return {
        **{name: getattr(measures, name) for name in _NUMBERS},
        "critical": None if measures.critical is None else "/".join(measures.critical),
        "critical_path": ["/".join(path) for path in measures.critical_path],
        "lost": dict(measures.lost),
        "limiters": [{**asdict(one), "share": one.share} for one in measures.limiter_use],
    }


def _branch(branch: BranchReport, fan_out: FanOutReport) -> dict[str, Any]:
    waits = [
        {"limiter": limiter, "dimension": dimension, "seconds": seconds}
        for (limiter, dimension), seconds in branch.waits.items()
    ]
    attempts = [
        {
            "number": one.number,
            "role": one.role,
            "started": one.started,
            "ended": one.ended,
            "outcome": one.outcome,
            "error": one.error,
        }
        for one in branch.attempt_log
    ]
    known = {name: getattr(branch, name) for name in (*_TOLD, *_TOKENS)}
    return {
        "name": branch.name,
        **known,
        "waits": waits,
        "attempt_log": attempts,
        "late": branch.late,
        **_numbers(branch, fan_out),
    }


def _numbers(branch: BranchReport, fan_out: FanOutReport) -> dict[str, Any]:
    """Return a branch's numbers, what it called included; that has numbers of its own.

    Those from "useful" to "overhead" add up to its seconds, as the text shows them. Beside them, "call_wait" counts
    each of its calls that wait at the same time, and "wasted_work" also what was lost beside useful work.
    """
    told = fan_out.measures
    own = told.branches.get(branch.path) or measure_branch(branch, fan_out.price)
    return {
        "depth": len(branch.path),
        "useful": own.useful,
        "wait": own.lost["wait"],
        "backoff": own.lost["backoff"],
        "wasted": own.lost["wasted"],
        "queued": own.lost["cap"],
        "reader": own.lost["reader"],
        "overhead": own.lost["overhead"],
        "call_wait": branch.wait,
        "wasted_work": own.wasted,
        "slack": own.slack,
        "cost": own.cost,
        "cost_useful": own.cost_useful,
        "critical": branch.path == told.critical,
    }


def rows(fan_outs: Sequence[FanOutReport], syntheses: Sequence[SynthesisReport]) -> list[dict[str, Any]]:
    """Return one flat dict for each branch, and for each synthesis; what has no meaning for one is `None`."""
    found = _branch_rows(fan_outs)
    return [*found, *(_synthesis_row(one) for one in syntheses)]


def _synthesis_row(one: SynthesisReport) -> dict[str, Any]:
    known = {"kind": "synthesis", "fan_out": None, "run_id": None if one.run_id is None else str(one.run_id)}
    unknown = dict.fromkeys((*_TOLD, *_TOKENS, "depth", *_NUMBERS_OF_BRANCHES))
    return {
        **known,
        "branch": one.strategy,
        **unknown,
        **{name: value for name, value in _fields(one).items() if name not in ("strategy", "inputs")},
        "depth": len(one.path) + 1,
        "critical": False,
    }


def _branch_rows(fan_outs: Sequence[FanOutReport]) -> list[dict[str, Any]]:
    return [
        {
            "kind": "branch",
            "fan_out": fan_out.name,
            "run_id": None if fan_out.run_id is None else str(fan_out.run_id),
            "branch": branch.name,
            **{name: getattr(branch, name) for name in (*_TOLD, *_TOKENS)},
            **_numbers(branch, fan_out),
        }
        for fan_out in fan_outs
        for branch in fan_out.branches.values()
    ]
