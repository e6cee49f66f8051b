"""Three ways to run a chain, as measured, and what follows."""

from __future__ import annotations

from collections import Counter
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
_HELD_UP_FROM = 0.1
"""Share of the time that went on waiting for rate limits, for them to be the reason."""
_CACHED_FROM = 10.0
"""How many times longer than all inputs one after another the call before took: none but a cold start is so much
slower, and a cache so much faster."""
_COLD_FROM = 0.25
"""Seconds; a call before that took less says nothing: the machine may have been busy."""


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
    gaps: int = 0
    """Of `failed`: those with a result in which a branch is missing, as the chain's policies allow."""
    missing: int = 0
    """Branches that are missing in results because they failed."""
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
        """Inputs with a whole result."""
        return self.inputs - self.failed

    @property
    def raised(self) -> int:
        """Inputs without a result."""
        return self.failed - self.gaps


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
    """Whether the chain was called once before, which does not count."""
    warm_up_seconds: float = 0.0
    """What that call took, without its waits for rate limits."""
    rested: float = 0.0
    """Seconds between the ways, until the limiters' quota was there again."""

    @property
    def ways(self) -> tuple[Way, Way, Way]:
        """All three."""
        return self.sequential, self.parallel, self.ours

    @property
    def speedup(self) -> float | None:
        """Measured: seconds one after another / seconds of the chain; `None` unless both gave results, and the same."""
        alone, ours = self.sequential, self.ours
        if alone.raised or _delivered(ours) != _delivered(alone) or ours.seconds <= 0:
            return None
        return self.sequential.seconds / self.ours.seconds

    @property
    def pays(self) -> bool:
        """Whether the chain is better run as it is than one after another, as far as was measured."""
        if _delivered(self.ours) != _delivered(self.sequential):
            return _delivered(self.ours) > _delivered(self.sequential)
        saved = self.sequential.seconds - self.ours.seconds
        return self.speedup is not None and self.speedup >= _PAYS_FROM and saved >= _SAVES_FROM

    @property
    def cached(self) -> bool:
        """Whether a cache seems to answer that the call before has filled: what was measured is the cache."""
        return self.warm_up_seconds >= max(_CACHED_FROM * self.sequential.seconds, _COLD_FROM)

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
    if (failing := _of_failures(alone, ours)) is not None:
        return failing
    if told.speedup is None:
        return "nothing can be said of time: some inputs fail both ways"
    if told.cached:
        return (
            f"nothing can be said of time: the call before took {told.warm_up_seconds:.2f} s, and then all inputs one "
            f"after another {alone.seconds:.4f} s, so a cache seems to answer, and these are its times (if it was a "
            "cold start, another comparison tells more)"
        )
    if not told.pays and told.speedup >= _PAYS_FROM:
        return f"do not parallelise: it saves {alone.seconds - ours.seconds:.4f} s; the branches are too short"
    if not told.pays:
        return f"do not parallelise: it is {told.speedup:.2f}x as fast as one after another; {_why_not(ours)}"
    gain = f"parallelise: it is {told.speedup:.2f}x as fast as one after another"
    if _batched(ours):
        gain = f"{gain}, by running inputs at once as a batch: the fan-out, of one branch, adds nothing to it"
    if plain.raised:
        return f"{gain}; with RunnableParallel {plain.raised} of {plain.inputs} inputs fail"
    if plain.seconds * _PAYS_FROM < ours.seconds and ours.waited >= _TOLD_FROM:
        return f"{gain}; RunnableParallel is {ours.seconds / plain.seconds:.2f}x as fast again: no limit held it up"
    return gain


def _of_failures(alone: Way, ours: Way) -> str | None:
    """Return what follows if more fails one way than the other, or everything does."""
    if not (ours.succeeded or alone.succeeded or ours.gaps or alone.gaps):
        return "nothing can be said: every run failed"
    if ours.succeeded < alone.succeeded:
        return f"do not parallelise: {ours.failed} of {ours.inputs} inputs fail, one after another {alone.failed} do"
    if ours.succeeded > alone.succeeded:
        return f"parallelise: {ours.succeeded} of {ours.inputs} inputs succeed, one after another {alone.succeeded} do"
    if _delivered(ours) == _delivered(alone):
        return None
    advice = "parallelise" if _delivered(ours) > _delivered(alone) else "do not parallelise"
    if ours.raised != alone.raised:
        return f"{advice}: {ours.raised} of {ours.inputs} inputs get no result, one after another {alone.raised}"
    return f"{advice}: {_branches(ours.missing)} failed, one after another {alone.missing}"


def _delivered(way: Way) -> tuple[int, int, int]:
    """Return what came of a way, to be compared: the more the better."""
    return way.succeeded, -way.raised, -way.missing


def _batched(ours: Way) -> bool:
    """Return whether nothing but inputs ran at once: each fan-out that ran has one branch."""
    ran = [len(one.own_branches) for one in ours.report.fan_outs if not one.alone]
    return ours.inputs > len(ours.runs) and bool(ran) and max(ran) == 1


def _why_not(ours: Way) -> str:
    whole = ours.report.together
    run = whole or max(ours.report.fan_outs, key=lambda one: one.seconds or 0.0, default=None)
    efficiency = None if run is None else run.measures.limit_efficiency
    if efficiency is not None and efficiency >= 0.9:
        return f"the limits are the bottleneck (limit efficiency {efficiency:.0%})"
    if ours.waited >= max(_HELD_UP_FROM * ours.seconds, _TOLD_FROM):
        return f"{_held_up_by(ours) or 'a rate limit'} held it up for {ours.waited:.2f} s of {ours.seconds:.2f} s"
    return "the branches are too short, wait for the same thing, or share one processor"


def _held_up_by(ours: Way) -> str:
    """Return the limit that calls waited for longest, such as "openai (requests_per_minute)"."""
    waits: Counter[tuple[str, str]] = Counter()
    for branch in ours.report.branches:
        waits.update(branch.waits)
    return next((f"{limiter} ({dimension})" for (limiter, dimension), _ in waits.most_common(1)), "")


def _branches(count: int) -> str:
    return "1 branch" if count == 1 else f"{count} branches"


def _caveats(told: Comparison) -> Iterator[str]:
    names = {id(told.sequential): "one after another", id(told.ours): "in parallel"}
    limited = [(names[id(way)], way) for way in (told.sequential, told.ours)]
    waits = [f"{way.waited:.2f} s {name}" for name, way in limited if way.waited >= _TOLD_FROM]
    if waits:
        yield f"mind that rate limits took {' and '.join(waits)}"
    for name, way in limited:
        if way.cut_off:
            yield f"mind that {name} the join's deadline cut {_branches(way.cut_off)} off"
        if way.short_of and way.waited >= _TOLD_FROM:
            yield f"mind that {name} it began with less than the full quota of {', '.join(way.short_of)}"
    if told.speedup is not None and told.ours.missing:
        yield f"mind that {_branches(told.ours.missing)} failed and no result has them, both ways"
    if told.parallel.left:
        runs = "1 run" if told.parallel.left == 1 else f"{told.parallel.left} runs"
        where = "called where it cannot be replaced, such as in a function"
        yield f"mind that the way called RunnableParallel has {runs} of RunnableParallelPlus in it, {where}"
    if told.speedup is not None and _overlap(told.sequential.runs, told.ours.runs) and told.pays:
        yield "mind that the times of single runs overlap: repeat it more often"


def _overlap(slower: tuple[float, ...], faster: tuple[float, ...]) -> bool:
    return len(slower) > 1 and len(faster) > 1 and max(faster) > min(slower)
