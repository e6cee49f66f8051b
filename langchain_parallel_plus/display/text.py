"""Reports as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_parallel_plus.observe.report import BranchReport, FanOutReport, RunReport

__all__ = ("report_text",)

_BAR = 24
_ROWS = 50
_NAME = 28

_HEADINGS = ("branch", "outcome", "attempts", "wait s", "back-off s", "seconds", "tokens")


def report_text(report: RunReport) -> str:
    """Return a table for each fan-out; the bar shows when a branch ran within the whole."""
    fan_outs = report.fan_outs
    if not fan_outs:
        return "no fan-out ran"
    shown = [_fan_out_text(fan_out) for fan_out in fan_outs[:_ROWS]]
    if len(fan_outs) > _ROWS:
        shown.append(f"... and {len(fan_outs) - _ROWS} more fan-outs")
    return "\n\n".join(shown)


def _fan_out_text(fan_out: FanOutReport) -> str:
    took = "running" if fan_out.seconds is None else f"{fan_out.seconds:.2f} s"
    where = f" in {'/'.join(fan_out.path)}" if fan_out.path else ""
    title = f"{_short(fan_out.name, 60)}{where}: {took}{', failed' if fan_out.failed else ''}"
    branches = list(fan_out.branches.values())
    rows = [_row(branch) for branch in branches[:_ROWS]]
    widths = [max(len(row[i]) for row in (_HEADINGS, *rows)) for i in range(len(_HEADINGS))]
    whole = fan_out.seconds or max((b.started + b.seconds - fan_out.started for b in branches), default=0.0)
    lines = [title, _line(_HEADINGS, widths)]
    for branch, row in zip(branches, rows, strict=False):
        lines.append(f"{_line(row, widths)}  {_bar(branch, fan_out.started, whole)}".rstrip())
    if len(branches) > _ROWS:
        lines.append(f"... and {len(branches) - _ROWS} more branches")
    return "\n".join([*lines, *_waits(branches)])


def _waits(branches: list[BranchReport]) -> list[str]:
    """Return a line for each rate limit that a branch has waited for."""
    found = [
        (_short(branch.name, _NAME), f"{seconds:.2f}", f"{_short(limiter, _NAME)}: {dimension}")
        for branch in branches
        for (limiter, dimension), seconds in branch.waits.items()
    ]
    shown = found[:_ROWS]
    if not shown:
        return []
    name, seconds = (max(len(row[i]) for row in shown) for i in range(2))
    lines = [f"  {row[0].ljust(name)}  {row[1].rjust(seconds)} s  {row[2]}" for row in shown]
    if len(found) > _ROWS:
        lines.append(f"  ... and {len(found) - _ROWS} more")
    return ["waited for rate limits:", *lines]


def _row(branch: BranchReport) -> tuple[str, ...]:
    outcome = branch.outcome or "running"
    tokens = branch.input_tokens + branch.output_tokens
    return (
        _short(branch.name, _NAME),
        f"{outcome} ({branch.error.value})" if branch.error else outcome,
        str(branch.attempts),
        f"{branch.wait:.2f}",
        f"{branch.backoff:.2f}",
        f"{branch.seconds:.2f}",
        str(tokens) if tokens else "-",
    )


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    texts = [
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(texts).rstrip() if cells is _HEADINGS else "  ".join(texts)


def _bar(branch: BranchReport, started: float, whole: float) -> str:
    if whole <= 0:
        return ""
    before = round(_BAR * min(max(branch.started - started, 0.0) / whole, 1.0))
    length = max(round(_BAR * min(branch.seconds / whole, 1.0)), 1)
    return " " * before + "#" * min(length, _BAR - before)


def _short(text: str, length: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[: length - 3]}..."
