"""Three ways to run a chain, as measured, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_parallel_plus.observe.report import RunReport

__all__ = ("Comparison", "Way")

_PAYS_FROM = 1.1
"""How many times faster it must be, for a few measurements to mean anything."""
_SAVES_FROM = 0.01
"""Seconds that it must save; less is the noise of a machine."""
_TOLD_FROM = 0.01
"""Seconds; calls that waited less for rate limits did not wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to run the chain, as measured."""

    name: str
    seconds: float
    """Of all inputs; the median, if it was run several times."""
    inputs: int
    """Of all its runs."""
    failed: int
    """Inputs without a result, or with one in which a branch is missing because it failed."""
    report: RunReport
    """Of the run that took the median."""
    runs: tuple[float, ...] = ()
    """The seconds of each run."""
    waited: float = 0.0
    """Seconds of that run that went on waiting for rate limits."""
    cut_off: int = 0
    """Branches that were not in by a join's deadline."""
    short_of: tuple[str, ...] = ()
    """Rate limits that were not full when it began."""
    left: int = 0
    """Runs of `RunnableParallelPlus` in the way that is to do without: in a function it cannot be replaced."""

    @property
    def succeeded(self) -> int:
        """Inputs with a result."""
        return self.inputs - self.failed


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Comparison:
    """Three ways to run one chain on the same inputs, and what follows."""

    sequential: Way
    """Branches one after another, under the chain's policies and limits."""
    parallel: Way
    """LangChain's `RunnableParallel` in each fan-out's place."""
    ours: Way
    """The chain as it is."""
    warm_up: bool = False
    """Whether the chain was called once before, which was not measured."""
    rested: float = 0.0
    """Seconds between the ways, until the limiters' quota was there again."""

    @property
    def ways(self) -> tuple[Way, Way, Way]:
        """All three."""
        return self.sequential, self.parallel, self.ours

    @property
    def speedup(self) -> float | None:
        """Measured: seconds one after another / seconds of the chain; `None` unless both gave all results."""
        if self.sequential.failed or self.ours.failed or self.ours.seconds <= 0:
            return None
        return self.sequential.seconds / self.ours.seconds

    @property
    def pays(self) -> bool:
        """Whether the chain is better run as it is than one after another."""
        if self.ours.succeeded != self.sequential.succeeded:
            return self.ours.succeeded > self.sequential.succeeded
        saved = self.sequential.seconds - self.ours.seconds
        return self.speedup is not None and self.speedup >= _PAYS_FROM and saved >= _SAVES_FROM

    @property
    def verdict(self) -> str:
        """What follows, in one sentence, with what is to be known of it."""
        return "; ".join([_verdict(self), *self.caveats])

    @property
    def caveats(self) -> tuple[str, ...]:
        """What the ways had to bear that is not their own: quota, deadlines, unsteady times."""
        return tuple(_caveats(self))

    @property
    def conditions(self) -> str:
        """How it was measured."""
        times = len(self.ours.runs) or 1
        told = ["each way once, in this order" if times == 1 else f"each way {times} times, in turn: medians"]
        if self.warm_up:
            told.append("after one call that is not counted")
        if self.rested:
            told.append(f"with {self.rested:.1f} s of rest for the quota, which all ways share, to come in again")
        return ", ".join(told)

    def __str__(self) -> str:
        from langchain_parallel_plus.display.comparison import comparison_text  # display reads observe

        return comparison_text(self)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from langchain_parallel_plus.display.comparison import comparison_html

        return comparison_html(self)


def _verdict(told: Comparison) -> str:
    alone, plain, ours = told.ways
    if not ours.succeeded and not alone.succeeded:
        return "nothing can be said: every run failed"
    if ours.succeeded < alone.succeeded:
        return f"do not parallelise: {ours.failed} of {ours.inputs} inputs fail, one after another {alone.failed} do"
    if ours.succeeded > alone.succeeded:
        return f"parallelise: {ours.succeeded} of {ours.inputs} inputs succeed, one after another {alone.succeeded} do"
    if told.speedup is None:
        return "nothing can be said of time: some inputs fail both ways"
    if not told.pays and told.speedup >= _PAYS_FROM:
        return f"do not parallelise: it saves {alone.seconds - ours.seconds:.4f} s; the branches are too short"
    if not told.pays:
        return f"do not parallelise: it is {told.speedup:.2f}x as fast as one after another; {_why_not(ours)}"
    gain = f"parallelise: it is {told.speedup:.2f}x as fast as one after another"
    if plain.failed:
        return f"{gain}; with RunnableParallel {plain.failed} of {plain.inputs} inputs fail"
    if plain.seconds * _PAYS_FROM < ours.seconds and ours.waited >= _TOLD_FROM:
        return f"{gain}; RunnableParallel is {ours.seconds / plain.seconds:.2f}x as fast again: no limit held it up"
    return gain


def _why_not(ours: Way) -> str:
    whole = ours.report.together
    run = whole or max(ours.report.fan_outs, key=lambda one: one.seconds or 0.0, default=None)
    efficiency = None if run is None else run.measures.limit_efficiency
    if efficiency is not None and efficiency >= 0.9:
        return f"the limits are the bottleneck (limit efficiency {efficiency:.0%})"
    return "the branches are too short, wait for the same thing, or share one processor"


def _caveats(told: Comparison) -> Iterator[str]:
    names = {id(told.sequential): "one after another", id(told.ours): "in parallel"}
    limited = [(names[id(way)], way) for way in (told.sequential, told.ours)]
    waits = [f"{way.waited:.2f} s {name}" for name, way in limited if way.waited >= _TOLD_FROM]
    if waits:
        yield f"mind that rate limits took {' and '.join(waits)}"
    for name, way in limited:
        if way.cut_off:
            branches = "1 branch" if way.cut_off == 1 else f"{way.cut_off} branches"
            yield f"mind that {name} the join's deadline cut {branches} off"
        if way.short_of and way.waited >= _TOLD_FROM:
            yield f"mind that {name} it began with less than the full quota of {', '.join(way.short_of)}"
    if told.parallel.left:
        runs = "1 run" if told.parallel.left == 1 else f"{told.parallel.left} runs"
        where = "called where it cannot be replaced, such as in a function"
        yield f"mind that the way called RunnableParallel has {runs} of RunnableParallelPlus in it, {where}"
    if told.speedup is not None and _overlap(told.sequential.runs, told.ours.runs) and told.pays:
        yield "mind that the times of single runs overlap: repeat it more often"


def _overlap(slower: tuple[float, ...], faster: tuple[float, ...]) -> bool:
    return len(slower) > 1 and len(faster) > 1 and max(faster) > min(slower)
