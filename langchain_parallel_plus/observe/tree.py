"""A report's fan-outs as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_parallel_plus.observe.records import BranchReport, FanOutReport

__all__ = ("Row", "roots", "subtree", "walk")


class Row(NamedTuple):
    """One branch in its place."""

    depth: int
    """0 for a branch of an outermost fan-out."""
    branch: BranchReport


def roots(fan_outs: Sequence[FanOutReport]) -> list[FanOutReport]:
    """Return the fan-outs that stand in no other one of them."""
    known = {one.run_id for one in fan_outs}
    return [one for one in fan_outs if one.parent_run_id is None or one.parent_run_id not in known]


def walk(fan_out: FanOutReport, depth: int = 0) -> Iterator[Row]:
    """Yield the branches in the order in which they began, each with what it called below it."""
    for branch in _in_order(fan_out.own_branches):
        yield from _below(branch, depth)


def subtree(branch: BranchReport) -> Iterator[BranchReport]:
    """Yield a branch and everything that it called, at any depth."""
    for row in _below(branch, 0):
        yield row.branch


def _below(branch: BranchReport, depth: int) -> Iterator[Row]:
    yield Row(depth, branch)
    for inner in branch.inner:
        yield from _below(inner, depth + 1)
    for nested in branch.nested:
        yield from walk(nested, depth + 1)


def _in_order(branches: Sequence[BranchReport]) -> list[BranchReport]:
    """Return them by when their turn came; all that began at once stay in declared order."""
    return sorted(branches, key=lambda one: one.began if one.capped and one.began is not None else one.started)
