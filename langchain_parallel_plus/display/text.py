"""Reports as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_parallel_plus.display import words
from langchain_parallel_plus.observe.costs import costs_of
from langchain_parallel_plus.observe.timeline import timeline
from langchain_parallel_plus.observe.tree import roots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_parallel_plus.observe.records import BranchReport, FanOutReport
    from langchain_parallel_plus.observe.report import RunReport
    from langchain_parallel_plus.observe.timeline import Activity, Timeline

__all__ = ("report_text",)

_BAR = 24
_ROWS = 50
_FAN_OUTS = 8
"""Shown one by one; of more, the summary and the slowest."""
_NAME = 28
_TEXTS = 2
"""Columns from the left that are text, and not numbers."""

_COLUMNS: dict[Activity, str] = {
    "useful": "useful s",
    "wait": "wait s",
    "backoff": "back-off s",
    "wasted": "wasted s",
    "cap": "queued s",
    "reader": "reader s",
}
"""What a branch's seconds went on; of most, only where some did."""
_ALWAYS = ("useful", "wait")


def report_text(report: RunReport) -> str:
    """Return a table for each fan-out; the bar shows what a branch did when, within the whole."""
    fan_outs = report.fan_outs
    if not fan_outs and not report.syntheses:
        return "no fan-out ran"
    top = roots(fan_outs)
    shown, parts = fan_outs, []
    if len(top) > 1:
        parts.append(_runs(report))
    if len(fan_outs) > _FAN_OUTS:
        slowest = max(top, key=lambda one: one.seconds or 0.0)
        shown = [slowest, *(one for branch in slowest.branches.values() for one in branch.nested)][:_FAN_OUTS]
        parts.append("the slowest run:")
    parts += [_fan_out_text(fan_out) for fan_out in shown]
    parts += _syntheses(report)
    if shown:
        parts.append("\n".join([*_legend(shown), _BARS]))
    return "\n\n".join(parts)


_BARS = "bars: " + ", ".join(
    [*(f"{look.letter} {look.name}" for look in words.LOOKS.values()), "t timed out", "c given up", "? still running"]
)


def _legend(fan_outs: Sequence[FanOutReport]) -> list[str]:
    """Return what the numbers mean that were shown."""
    told = {name: meaning for one in fan_outs for name, _, meaning in words.numbers(one)}
    return [f"{name}: {meaning}" for name, meaning in told.items()]


def _runs(report: RunReport) -> str:
    rows = [("fan-out", "runs", "failed", "p50", "p95", "wait p50", "wait p95")]
    for one in report.aggregates[:_ROWS]:
        where = f" in {'/'.join(one.path)}" if one.path else ""
        times = (one.seconds.p50, one.seconds.p95, one.wait.p50, one.wait.p95)
        rows.append(
            (_short(one.name + where, 60), str(one.runs), str(one.failed), *map(words.seconds, times))  # type: ignore[arg-type]  # as many as there are headings
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [_line(row, widths, texts=1) for row in rows]
    together = report.together
    if together is not None:
        lines.append(
            ", ".join(f"{name} {value}" for name, value, _ in words.numbers(together)) + " (all runs together)"
        )
    return "\n".join(line.rstrip() for line in lines)


def _fan_out_text(fan_out: FanOutReport) -> str:
    branches = list(fan_out.branches.values())
    priced = fan_out.price is not None
    lines_of = [timeline(branch) for branch in branches[:_ROWS]]
    spent = [one for one in _COLUMNS if one in _ALWAYS or any(line.seconds(one) >= 0.005 for line in lines_of)]
    headings = ("branch", "outcome", "attempts", *(_COLUMNS[one] for one in spent), "seconds", "tokens")
    headings = (*headings, "cost") if priced else headings
    rows = [_row(fan_out, line, spent) for line in lines_of]
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    whole = fan_out.seconds or max((b.ended - fan_out.started for b in branches), default=0.0)
    lines = [*_header(fan_out), _line(headings, widths).rstrip()]
    for branch, row in zip(branches, rows, strict=False):
        mark = "  <- critical" if branch.path == fan_out.measures.critical and len(branches) > 1 else ""
        lines.append(f"{_line(row, widths)}  {_bar(branch, fan_out.started, whole)}{mark}".rstrip())
    if len(branches) > _ROWS:
        lines.append(f"... and {len(branches) - _ROWS} more branches")
    return "\n".join([*lines, *_waits(branches)])


def _header(fan_out: FanOutReport) -> list[str]:
    took = words.took(fan_out)
    where = f" in {'/'.join(fan_out.path)}" if fan_out.path else ""
    state = "" if fan_out.outcome in (None, "ok") else f", {fan_out.outcome}"
    lines = [f"{_short(fan_out.name, 60)}{where}: {took}{state}"]
    numbers = words.numbers(fan_out)
    if numbers:
        lines.append(", ".join(f"{name} {value}" for name, value, _ in numbers))
    told = fan_out.measures
    lost = [f"{words.LOOKS[cause].name} {words.seconds(value)}" for cause, value in told.lost.items() if value >= 0.005]
    if told.critical is not None and len(fan_out.branches) > 1:
        useful = f"useful work {words.seconds(told.branches[told.critical].useful)}"
        lines.append(f"critical branch {_short('/'.join(told.critical), 60)}: {', '.join([useful, *lost])}")
    advice = words.advice(fan_out)
    return [*lines, advice] if advice else lines


def _waits(branches: Sequence[BranchReport]) -> list[str]:
    """Return a line for each rate limit that a branch has waited for."""
    found = [
        (_name(branch.name), f"{seconds:.2f}", f"{_short(limiter, _NAME)}: {dimension}")
        for branch in branches
        for (limiter, dimension), seconds in branch.waits.items()
        if seconds >= 0.005
    ]
    shown = found[:_ROWS]
    if not shown:
        return []
    name, seconds = (max(len(row[i]) for row in shown) for i in range(2))
    lines = [f"  {row[0].ljust(name)}  {row[1].rjust(seconds)} s  {row[2]}" for row in shown]
    if len(found) > _ROWS:
        lines.append(f"  ... and {len(found) - _ROWS} more")
    return ["waited for rate limits:", *lines]


def _row(fan_out: FanOutReport, line: Timeline, spent: Sequence[Activity]) -> tuple[str, ...]:
    branch = line.branch
    cells = (
        _name(branch.name),
        words.outcome(branch),
        str(branch.attempts),
        *(f"{line.seconds(activity):.2f}" for activity in spent),
        f"{branch.seconds:.2f}",
        words.tokens(branch),
    )
    return (*cells, words.money(costs_of(branch, fan_out.price)[0])) if fan_out.price is not None else cells


def _line(cells: Sequence[str], widths: Sequence[int], texts: int = _TEXTS) -> str:
    return "  ".join(
        cell.ljust(width) if i < texts else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )


def _bar(branch: BranchReport, started: float, whole: float) -> str:
    """Return what the branch did at the middle of each of the bar's steps; at least one sign."""
    if whole <= 0:
        return ""
    segments = timeline(branch).segments
    signs = [" "] * _BAR
    for step in range(_BAR):
        at = started + (step + 0.5) / _BAR * whole
        if branch.started <= at < branch.ended:
            look = next((words.look_of(one) for one in segments if one.started <= at < one.ended), None)
            signs[step] = "-" if look is None else look.letter
    if segments and not "".join(signs).strip():
        first = segments[-1]
        at = min(int((first.started - started) / whole * _BAR), _BAR - 1)
        signs[max(at, 0)] = words.look_of(first).letter
    return "".join(signs).rstrip()


def _syntheses(report: RunReport) -> list[str]:
    found = report.syntheses
    lines = [words.synthesis(one) for one in found[:_FAN_OUTS]]
    if len(found) > _FAN_OUTS:
        lines.append(f"... and {len(found) - _FAN_OUTS} more syntheses")
    if cost := words.in_all(report):
        lines.append(cost)
    return lines


def _name(text: str) -> str:
    """Return a branch's name; a long one without its middle, because the numbers of runs stand at the end."""
    flat = _flat(text)
    return flat if len(flat) <= _NAME else f"{flat[: _NAME - 15]}...{flat[-12:]}"


def _flat(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _short(text: str, length: int) -> str:
    flat = _flat(text)
    return flat if len(flat) <= length else f"{flat[: length - 3]}..."
