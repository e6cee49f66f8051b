"""Whether parallelising pays: a chain one after another, with `RunnableParallel`, and as it is, all really run."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_parallel_plus.errors import DeadlineExceededError, DeclarationError
from langchain_parallel_plus.observe.comparison import Comparison, Way
from langchain_parallel_plus.observe.event import error_type
from langchain_parallel_plus.observe.intervals import minus, total, union
from langchain_parallel_plus.observe.refill import Quotas, limiters_of
from langchain_parallel_plus.observe.report import RunReport, collect_report
from langchain_parallel_plus.observe.tree import roots
from langchain_parallel_plus.observe.upstream import with_upstream

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from typing import TypeAlias

    from langchain_core.runnables import Runnable, RunnableConfig

    Actions: TypeAlias = "Generator[_Rest | _Run, _Ran | None, Comparison]"

__all__ = ("Comparison", "Way", "acompare", "compare")

_log = logging.getLogger("langchain_parallel_plus")

_NAMES = ("one after another", "RunnableParallel", "RunnableParallelPlus")
_SEQUENTIAL, _UPSTREAM, _OURS = range(3)


class _Rest(NamedTuple):
    """Do nothing for a while."""

    seconds: float


class _Run(NamedTuple):
    """Run all inputs, as a batch or one after another."""

    step: Runnable[Any, Any]
    inputs: list[Any]
    one_by_one: bool


class _Ran(NamedTuple):
    """What came of it."""

    outputs: list[Any]
    """Or errors."""
    seconds: float
    report: RunReport


@dataclass(slots=True)
class _Measured:
    """The runs of one way."""

    name: str
    ran: list[_Ran] = field(default_factory=list)
    short_of: tuple[str, ...] = ()

    def way(self) -> Way:
        """Return them together."""
        in_order = sorted(self.ran, key=lambda one: one.seconds)
        middle = in_order[len(in_order) // 2]
        even = len(in_order) % 2 == 0
        fan_outs = [one for ran in self.ran for one in ran.report.fan_outs]
        branches = [branch for one in fan_outs for branch in one.branches.values()]
        return Way(
            name=self.name,
            seconds=(middle.seconds + in_order[len(in_order) // 2 - 1].seconds) / 2 if even else middle.seconds,
            inputs=sum(len(one.outputs) for one in self.ran),
            failed=sum(_raised(one) + _gaps(one) for one in self.ran),
            gaps=sum(_gaps(one) for one in self.ran),
            missing=sum(_missing(one) for one in self.ran),
            report=middle.report,
            runs=tuple(one.seconds for one in self.ran),
            waited=_waited_alone(middle) if self.name == _NAMES[_SEQUENTIAL] else _waited(middle),
            cut_off=sum(branch.error_type == error_type(DeadlineExceededError) for branch in branches),
            short_of=self.short_of,
            left=max(_ours(one) for one in self.ran) if self.name == _NAMES[_UPSTREAM] else 0,
        )


def _measuring(
    steps: tuple[Runnable[Any, Any], ...], inputs: list[Any], repeats: int, warm_up: bool, refill_timeout: float
) -> Actions:
    """Yield what is to be done, take in what came of it, and return the comparison."""
    quotas = Quotas(limiters_of(steps[_OURS]))
    measured = [_Measured(name) for name in _NAMES]
    rested, unseen, warm = 0.0, 0.0, 0.0
    if warm_up:
        first = yield _Run(steps[_OURS], inputs[:1], one_by_one=False)
        assert first is not None
        warm = max(first.seconds - _waited(first), 0.0)
    for turn in range(repeats):
        for index in (*range(turn % 3, 3), *range(turn % 3)):
            rested += yield from _refilled(quotas, refill_timeout, unseen)
            measured[index].short_of = measured[index].short_of or quotas.short()
            ran = yield _Run(steps[index], inputs, index == _SEQUENTIAL)
            assert ran is not None
            measured[index].ran.append(ran)
            # Upstream's class asks no limiter, but uses the provider's quota: as much as another way did.
            unseen = quotas.time_for(_used(measured)) if index == _UPSTREAM else 0.0
    sequential, parallel, ours = (one.way() for one in measured)
    return Comparison(
        sequential=sequential, parallel=parallel, ours=ours, warm_up=warm_up, warm_up_seconds=warm, rested=rested
    )


def _ours(ran: _Ran) -> int:
    return sum(not one.alone for one in ran.report.fan_outs)


def _waited(ran: _Ran) -> float:
    """Return how much earlier the last branch would have been in without rate limits."""
    tops = roots(ran.report.fan_outs)
    run = ran.report.together or max(tops, key=lambda one: one.seconds or 0.0, default=None)
    return 0.0 if run is None else run.measures.lost.get("wait", 0.0)


def _waited_alone(ran: _Ran) -> float:
    """Return how long calls waited while nothing worked: while another branch does, it is that one's turn."""
    lines = [line.timeline for one in roots(ran.report.fan_outs) for line in one.measures.branches.values()]
    return total(minus(union(*(one.wait for one in lines)), *(one.active for one in lines)))


def _refilled(quotas: Quotas, timeout: float, unseen: float) -> Generator[_Rest | _Run, _Ran | None, float]:
    """Rest until the quota is there that a way is to begin with; return for how long."""
    rested = 0.0
    for _ in range(5):  # the first is a guess; if the limiter's clock stands still, so would this
        seconds = min(max(quotas.missing(timeout), unseen - rested), timeout - rested)
        if seconds <= 0:
            break
        if not rested:
            short = ", ".join(quotas.short()) or "what RunnableParallel has used without asking"
            _log.info("compare rests for about %.0f s, at most %.0f s, for the quota: %s", seconds, timeout, short)
        yield _Rest(seconds)
        rested += seconds
    return rested


def _used(measured: list[_Measured]) -> dict[tuple[str, str], float]:
    """Return what one run uses of each rate limit: the most that any has used."""
    most: dict[tuple[str, str], float] = {}
    for ran in (one for way in measured for one in way.ran):
        used: dict[tuple[str, str], float] = {}
        for use in (use for run in roots(ran.report.fan_outs) for use in run.measures.limiter_use):
            key = use.limiter, use.dimension
            used[key] = used.get(key, 0.0) + use.used
        most |= {key: max(amount, most.get(key, 0.0)) for key, amount in used.items()}
    return most


def _raised(ran: _Ran) -> int:
    return sum(isinstance(one, Exception) for one in ran.outputs)


def _gaps(ran: _Ran) -> int:
    """Return how many results lack a branch that failed and was kept or dropped: to go on without may well be quick."""
    with_gaps = sum(not one.failed and one.measures.failed_branches > 0 for one in roots(ran.report.fan_outs))
    return min(with_gaps, len(ran.outputs) - _raised(ran))


def _missing(ran: _Ran) -> int:
    return sum(one.measures.failed_branches for one in roots(ran.report.fan_outs) if not one.failed)


def compare(
    chain: Runnable[Any, Any],
    inputs: Sequence[Any],
    *,
    config: RunnableConfig | None = None,
    repeats: int = 1,
    warm_up: bool = True,
    refill_timeout: float = 150.0,
) -> Comparison:
    """Run `chain` on `inputs` one after another, with `RunnableParallel`, and as it is; return what each took.

    All three really run, so it costs three times the calls, and one call of the chain before. Each way begins with full
    limiters: between two, it is waited until the quota has come in again. (The provider's quota is one for all of them,
    and `RunnableParallel` asks no limiter: after it, as long is waited as its calls need under the limits.) What it
    leaves behind elsewhere the next way finds, such as a filled prompt cache: inputs that the provider has not seen, or
    `repeats`, tell. LangChain's cache (`set_llm_cache`) answers all ways once it is filled: compare without it. `print`
    the comparison to see how it was measured; its verdict names what a way had to bear.

    Args:
        chain: A fan-out, or a chain that contains some: also in retries, fallbacks, policies and `MapReduce`. One that
            a function or a graph calls runs as it is each way, and the verdict says so.
        inputs: Run one after another first, and then as a batch.
        config: For each of the runs.
        repeats: How many times each way is run; each time another one begins, and the medians count.
        warm_up: Call the chain on the first input before anything is measured, so that no way has to pay for imports
            and connections.
        refill_timeout: Seconds to wait at most before each run of a way: at worst `3 * repeats * refill_timeout` in
            all, 450 s if nothing is said. What takes longer, and the quota of a day, is not waited for. Each wait is
            logged when it begins, at INFO.

    Raises:
        DeclarationError: There are no inputs, or no fan-out in `chain`, or a number makes no sense. Nothing was called.

    Example:
        ```python
        comparison = compare(chain, [{"document": text}])
        print(comparison.verdict)
        ```
    """
    actions = _checked(chain, inputs, repeats, warm_up, refill_timeout)
    done: _Ran | None = None
    while True:
        try:
            action = actions.send(done)
        except StopIteration as over:
            result: Comparison = over.value
            return result
        if isinstance(action, _Rest):
            threading.Event().wait(action.seconds)
            done = None
            continue
        began = time.monotonic()
        with collect_report() as report:
            outputs = _outputs(action, config)
        done = _Ran(outputs, time.monotonic() - began, report)


async def acompare(
    chain: Runnable[Any, Any],
    inputs: Sequence[Any],
    *,
    config: RunnableConfig | None = None,
    repeats: int = 1,
    warm_up: bool = True,
    refill_timeout: float = 150.0,
) -> Comparison:
    """Do what `compare` does, in tasks instead of threads.

    Raises:
        DeclarationError: As for `compare`. Nothing was called.
    """
    actions = _checked(chain, inputs, repeats, warm_up, refill_timeout)
    now = asyncio.get_running_loop().time
    done: _Ran | None = None
    while True:
        try:
            action = actions.send(done)
        except StopIteration as over:
            result: Comparison = over.value
            return result
        if isinstance(action, _Rest):
            await asyncio.sleep(action.seconds)
            done = None
            continue
        began = now()
        with collect_report() as report:
            outputs = await _aoutputs(action, config)
        done = _Ran(outputs, now() - began, report)


def _outputs(action: _Run, config: RunnableConfig | None) -> list[Any]:
    if not action.one_by_one:
        return action.step.batch(action.inputs, config, return_exceptions=True)
    outputs: list[Any] = []
    for one in action.inputs:
        try:
            outputs.append(action.step.invoke(one, _one_at_a_time(config)))
        except Exception as error:  # noqa: BLE001 - that it fails is a result
            outputs.append(error)
    return outputs


async def _aoutputs(action: _Run, config: RunnableConfig | None) -> list[Any]:
    if not action.one_by_one:
        return await action.step.abatch(action.inputs, config, return_exceptions=True)
    outputs: list[Any] = []
    for one in action.inputs:
        try:
            outputs.append(await action.step.ainvoke(one, _one_at_a_time(config)))
        except Exception as error:  # noqa: BLE001 - that it fails is a result
            outputs.append(error)
    return outputs


def _one_at_a_time(config: RunnableConfig | None) -> RunnableConfig:
    one: RunnableConfig = {**(config or {}), "max_concurrency": 1}
    return one


def _checked(
    chain: Runnable[Any, Any], inputs: Sequence[Any], repeats: object, warm_up: bool, refill_timeout: object
) -> Actions:
    if isinstance(inputs, str) or not hasattr(inputs, "__len__") or isinstance(inputs, dict) or not len(inputs):
        msg = f"compare takes a list of inputs, got {type(inputs).__name__}" if inputs else "compare got no inputs"
        raise DeclarationError(msg, help="for one input give [input]")
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        msg = f"compare cannot run each way repeats={repeats!r} times"
        raise DeclarationError(msg, help="give a whole number from 1")
    if isinstance(refill_timeout, bool) or not isinstance(refill_timeout, int | float) or not refill_timeout >= 0:
        msg = f"refill_timeout={refill_timeout!r} is no time"
        raise DeclarationError(msg, help="give seconds, or 0 for no waiting between the ways")
    plain, found = with_upstream(chain)
    if not found:
        msg = f"compare found no RunnableParallelPlus in {type(chain).__name__}"
        way_out = "give the fan-out, or a chain that contains it; one that a function or a graph calls cannot be seen"
        raise DeclarationError(msg, help=way_out)
    return _measuring((chain, plain, chain), list(inputs), repeats, warm_up, float(refill_timeout))
