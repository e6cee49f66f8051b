"""The lines of the table: what pairs of measurements add up to, and whether that meets a target."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.benchmarks.measure import Spent

__all__ = ("HEADER", "PEER", "Measure", "Row", "row", "time_rows")

Measure = Literal["wall", "CPU", "peak memory", "threads"]

PEER = "RunnableParallel"

_WIDTH = 62


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    measure: Measure
    ours: float
    """Median; seconds, bytes or threads."""
    theirs: float
    """Median of what it is compared with."""
    ratio: float
    """Median of the ratios within pairs."""
    low: float
    """First quartile of these ratios."""
    high: float
    """Third quartile."""
    target: float | None = None
    """The largest ratio that will do."""
    against: str = PEER

    @property
    def met(self) -> str:
        """Whether the ratio, as shown, meets its target; empty without one."""
        if self.target is None:
            return ""
        return "met" if round(self.ratio, 2) <= self.target else "missed"

    def __str__(self) -> str:
        ours, theirs = _shown(self.ours, self.measure), _shown(self.theirs, self.measure)
        target = "" if self.target is None else f"<= {self.target:g}x"
        spread = f"{self.low:.2f}-{self.high:.2f}"
        return (
            f"{self.name:<{_WIDTH}} {self.measure:<11} {ours:>10} {theirs:>10} {self.ratio:5.2f}x {spread:<10} "
            f"{target:<8} {self.met:<6} {self.against}"
        ).rstrip()


HEADER = (
    f"{'case':<{_WIDTH}} {'measure':<11} {'ours':>10} {'theirs':>10} {'ratio':>6} {'quartiles':<10} "
    f"{'target':<8} {'':<6} against"
)


def row(
    name: str,
    measure: Measure,
    pairs: Sequence[tuple[float, float]],
    *,
    target: float | None = None,
    against: str = PEER,
) -> Row:
    """Sum pairs of (ours, theirs) up."""
    ratios = [mine / other for mine, other in pairs]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    ours, theirs = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    return Row(name, measure, ours, theirs, statistics.median(ratios), low, high, target, against)


def time_rows(
    name: str, pairs: Sequence[tuple[Spent, Spent]], *, target: float | None = None, against: str = PEER
) -> Iterator[Row]:
    """Return the rows of work that is bound by the CPU: its wall time, and its CPU time, which the target holds for.

    How long threads wait for each other's turn depends on what else the machine does; what they compute hardly does.
    """
    yield row(name, "wall", [(mine.wall, other.wall) for mine, other in pairs], against=against)
    yield row(name, "CPU", [(mine.cpu, other.cpu) for mine, other in pairs], target=target, against=against)


def _shown(value: float, measure: Measure) -> str:
    if measure == "threads":
        return f"{value:.1f}"
    if measure == "peak memory":
        return f"{value / 2**20:.1f} MiB"
    if value >= 1:
        return f"{value:.3f} s"
    return f"{value * 1e3:.2f} ms" if value >= 1e-3 else f"{value * 1e6:.1f} us"
