"""Many runs of one fan-out together: medians and 95th percentiles, because means lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langchain_parallel_plus.observe.records import FanOutReport

__all__ = ("FanOutAggregate", "Percentiles", "aggregate", "percentiles")


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of some seconds; `None` where there are fewer than two."""

    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOutAggregate:
    """All runs of one fan-out that have ended."""

    name: str
    path: tuple[str, ...]
    """The branches around it."""
    runs: int
    failed: int
    seconds: Percentiles
    """Of a run, from its start to its end."""
    wait: Percentiles
    """Of a branch, for rate limits."""
    cost: float | None
    """Of all runs that succeeded and failed."""

    @property
    def error_rate(self) -> float:
        """Share of runs that failed."""
        return self.failed / self.runs

    @property
    def cost_per_success(self) -> float | None:
        """What one successful run costs, the failed ones paid for."""
        succeeded = self.runs - self.failed
        return None if self.cost is None or not succeeded else self.cost / succeeded


def aggregate(fan_outs: Iterable[FanOutReport]) -> tuple[FanOutAggregate, ...]:
    """Return one summary for each fan-out, by name and by the branch that it stands in."""
    groups: dict[tuple[str, tuple[str, ...]], list[FanOutReport]] = {}
    for one in fan_outs:
        if one.seconds is not None:
            groups.setdefault((one.name, one.path if one.place is None else one.place), []).append(one)
    return tuple(_summary(name, path, runs) for (name, path), runs in groups.items())


def _summary(name: str, path: tuple[str, ...], runs: list[FanOutReport]) -> FanOutAggregate:
    waits = [line.timeline.seconds("wait") for one in runs for line in one.measures.branches.values()]
    costs = [one.measures.cost for one in runs]
    return FanOutAggregate(
        name=name,
        path=path,
        runs=len(runs),
        failed=sum(one.failed for one in runs),
        seconds=percentiles([one.seconds or 0.0 for one in runs]),
        wait=percentiles(waits),
        cost=None if None in costs else sum(cost or 0.0 for cost in costs),
    )


def percentiles(values: Sequence[float]) -> Percentiles:
    """Return the median and the 95th percentile, between the two nearest values where they lie between."""
    if len(values) < 2:
        return Percentiles(None, None)
    ordered = sorted(values)
    return Percentiles(_at(ordered, 0.5), _at(ordered, 0.95))


def _at(ordered: Sequence[float], share: float) -> float:
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
