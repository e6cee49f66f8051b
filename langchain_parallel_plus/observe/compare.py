"""Whether parallelising pays: a chain one after another, with `RunnableParallel`, and as it is, all really run."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig, RunnableParallel, RunnableSequence
from langchain_core.runnables.base import RunnableBinding
from langchain_core.runnables.passthrough import RunnableAssign

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.observe.report import RunReport, collect_report
from langchain_parallel_plus.observe.tree import roots

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("Comparison", "Way", "acompare", "compare")

_PAYS_FROM = 1.1
"""How many times faster it must be, for one measurement each to mean anything."""
_SAVES_FROM = 0.01
"""Seconds that it must save; less is the noise of a machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to run the chain, as measured."""

    name: str
    seconds: float
    inputs: int
    failed: int
    """Inputs without a result, or with one in which a branch is missing because it failed."""
    report: RunReport

    @property
    def succeeded(self) -> int:
        """Inputs with a result."""
        return self.inputs - self.failed


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Comparison:
    """Three ways to run one chain on the same inputs, once each, and what follows."""

    sequential: Way
    """Branches one after another, under the chain's policies and limits."""
    parallel: Way
    """LangChain's `RunnableParallel` in each fan-out's place."""
    ours: Way
    """The chain as it is."""

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
        """What follows, in one sentence."""
        return _verdict(self)

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
    if not told.pays:
        return f"do not parallelise: it is {told.speedup:.2f}x as fast as one after another; {_why_not(ours)}"
    gain = f"parallelise: it is {told.speedup:.2f}x as fast as one after another"
    if plain.failed:
        return f"{gain}; with RunnableParallel {plain.failed} of {plain.inputs} inputs fail"
    if plain.seconds * _PAYS_FROM < ours.seconds:
        return f"{gain}; RunnableParallel is {ours.seconds / plain.seconds:.2f}x as fast again: no limit held it up"
    return gain


def _why_not(ours: Way) -> str:
    whole = ours.report.together
    run = whole or max(ours.report.fan_outs, key=lambda one: one.seconds or 0.0, default=None)
    efficiency = None if run is None else run.measures.limit_efficiency
    if efficiency is not None and efficiency >= 0.9:
        return f"the limits are the bottleneck (limit efficiency {efficiency:.0%})"
    return "the branches are too short, wait for the same thing, or share one processor"


def compare(chain: Runnable[Any, Any], inputs: Sequence[Any], *, config: RunnableConfig | None = None) -> Comparison:
    """Run `chain` on `inputs` one after another, with `RunnableParallel`, and as it is; return what each took.

    All three really run, in this order, so it costs three times the calls. What the first one leaves behind the next
    ones find: a rate limiter's quota used up, a provider's prompt cache filled.

    Args:
        chain: A fan-out, or a sequence or binding that contains some.
        inputs: Run one after another first, and then as a batch.
        config: For each of the runs.

    Raises:
        DeclarationError: There are no inputs, or no fan-out in `chain`. Nothing was called.

    Example:
        ```python
        comparison = compare(chain, [{"document": text}])
        print(comparison.verdict)
        ```
    """
    plain = _checked(chain, inputs)
    began = time.monotonic()
    alone: list[Any] = []
    with collect_report() as report:
        for one in inputs:
            try:
                alone.append(chain.invoke(one, _one_at_a_time(config)))
            except Exception as error:  # noqa: BLE001 - that it fails is a result
                alone.append(error)
    ways = [_way("one after another", alone, time.monotonic() - began, report)]
    for name, step in (("RunnableParallel", plain), ("RunnableParallelPlus", chain)):
        began = time.monotonic()
        with collect_report() as report:
            outputs = step.batch(list(inputs), config, return_exceptions=True)
        ways.append(_way(name, outputs, time.monotonic() - began, report))
    return Comparison(sequential=ways[0], parallel=ways[1], ours=ways[2])


async def acompare(
    chain: Runnable[Any, Any], inputs: Sequence[Any], *, config: RunnableConfig | None = None
) -> Comparison:
    """Do what `compare` does, in tasks instead of threads.

    Raises:
        DeclarationError: There are no inputs, or no fan-out in `chain`. Nothing was called.
    """
    plain = _checked(chain, inputs)
    now = asyncio.get_running_loop().time
    began = now()
    alone: list[Any] = []
    with collect_report() as report:
        for one in inputs:
            try:
                alone.append(await chain.ainvoke(one, _one_at_a_time(config)))
            except Exception as error:  # noqa: BLE001 - that it fails is a result
                alone.append(error)
    ways = [_way("one after another", alone, now() - began, report)]
    for name, step in (("RunnableParallel", plain), ("RunnableParallelPlus", chain)):
        began = now()
        with collect_report() as report:
            outputs = await step.abatch(list(inputs), config, return_exceptions=True)
        ways.append(_way(name, outputs, now() - began, report))
    return Comparison(sequential=ways[0], parallel=ways[1], ours=ways[2])


def _one_at_a_time(config: RunnableConfig | None) -> RunnableConfig:
    one: RunnableConfig = {**(config or {}), "max_concurrency": 1}
    return one


def _way(name: str, outputs: list[Any], seconds: float, report: RunReport) -> Way:
    raised = sum(isinstance(one, Exception) for one in outputs)
    # A branch that failed and was kept or dropped is no result either: going on without it may well be quick.
    with_gaps = sum(not one.failed and one.measures.failed_branches > 0 for one in roots(report.fan_outs))
    failed = min(raised + with_gaps, len(outputs))
    return Way(name=name, seconds=seconds, inputs=len(outputs), failed=failed, report=report)


def _checked(chain: Runnable[Any, Any], inputs: Sequence[Any]) -> Runnable[Any, Any]:
    if isinstance(inputs, str) or not hasattr(inputs, "__len__") or isinstance(inputs, dict) or not len(inputs):
        msg = f"compare takes a list of inputs, got {type(inputs).__name__}" if inputs else "compare got no inputs"
        raise DeclarationError(msg, help="for one input give [input]")
    plain, found = _with_upstream(chain)
    if not found:
        msg = f"compare found no RunnableParallelPlus in {type(chain).__name__}"
        raise DeclarationError(msg, help="give the fan-out, or a sequence that contains it")
    return plain


def _with_upstream(step: Runnable[Any, Any]) -> tuple[Runnable[Any, Any], int]:
    """Return `step` with upstream's class for each fan-out, and how many it had of ours."""
    if isinstance(step, RunnableParallel):
        made = {key: _with_upstream(one) for key, one in step.steps__.items()}
        own = int(type(step) is not RunnableParallel)
        return RunnableParallel({key: one for key, (one, _) in made.items()}), own + sum(n for _, n in made.values())
    if isinstance(step, RunnableSequence):
        steps = [_with_upstream(one) for one in step.steps]
        return RunnableSequence(*(one for one, _ in steps), name=step.name), sum(n for _, n in steps)
    if isinstance(step, RunnableBinding):
        bound, found = _with_upstream(step.bound)
        return (step.model_copy(update={"bound": bound}) if found else step), found
    if isinstance(step, RunnableAssign):
        mapper, found = _with_upstream(step.mapper)
        return (step.model_copy(update={"mapper": mapper}) if found else step), found
    return step, 0
