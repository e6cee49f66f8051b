"""`collect_report()`: what each branch waited for, how often it was called, how long it took, and what that cost."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.observe.aggregates import FanOutAggregate, aggregate
from langchain_parallel_plus.observe.chrome_trace import chrome_trace
from langchain_parallel_plus.observe.collector import Collector
from langchain_parallel_plus.observe.costs import sum_of_costs
from langchain_parallel_plus.observe.event import subscribed
from langchain_parallel_plus.observe.nested_limits import judged
from langchain_parallel_plus.observe.plain_report import plain, rows
from langchain_parallel_plus.observe.prices import PriceOf, Prices, price_of
from langchain_parallel_plus.observe.records import BranchReport, FanOutReport, SynthesisReport
from langchain_parallel_plus.observe.together import sharing, together
from langchain_parallel_plus.observe.tree import roots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

    from langchain_parallel_plus.observe.event import Event

__all__ = ("BranchReport", "FanOutReport", "RunReport", "collect_report")


class RunReport:
    """Everything that ran inside `collect_report()`, as it was at the time of reading.

    `print(report)` shows it as text, and a notebook as a waterfall. Its numbers are those of `FanOutReport.measures`.

    Args:
        prices: What tokens cost; see `collect_report`.
        clock: See `collect_report`.
    """

    def __init__(self, prices: Prices | None = None, *, clock: Callable[[], float] | None = None) -> None:
        self._price: PriceOf | None = price_of(prices)
        self._collector = Collector(clock or _clock())
        self._known: tuple[int, tuple[FanOutReport, ...]] = (0, ())

    @property
    def fan_outs(self) -> list[FanOutReport]:
        """The fan-outs, nested ones too, in the order in which they began."""
        heard, known = self._known
        if heard != self._collector.heard or any(one.seconds is None for one in known):
            heard = self._collector.heard
            known = _marked(self._collector.fan_outs(self._price))
            self._known = heard, known
        return list(known)

    @property
    def branches(self) -> list[BranchReport]:
        """The branches of all fan-outs."""
        return [branch for fan_out in self.fan_outs for branch in fan_out.branches.values()]

    @property
    def syntheses(self) -> list[SynthesisReport]:
        """The syntheses, in the order in which they began."""
        return list(self._collector.syntheses(self._price))

    @property
    def aggregates(self) -> list[FanOutAggregate]:
        """The runs of each fan-out together: p50 and p95 of their times and waits, and their costs."""
        return list(aggregate(self.fan_outs))

    @property
    def together(self) -> FanOutReport | None:
        """Runs that went on at the same time, as in a batch, as one fan-out with numbers of its own.

        `None` for a single run, and for runs that did not overlap. A limit that several runs share says little about
        each of them.
        """
        return together(roots(self.fan_outs))

    @property
    def cost(self) -> float | None:
        """Of all model calls, those of syntheses included; `None` without a price for each of them."""
        costs = [*(one.measures.cost for one in roots(self.fan_outs)), *(one.cost for one in self.syntheses)]
        return sum_of_costs(costs) if costs else None

    @property
    def fan_out_error_rate(self) -> float | None:
        """Share of fan-outs that failed, of those that have ended."""
        ended = [one for one in self.fan_outs if one.seconds is not None]
        return sum(one.failed for one in ended) / len(ended) if ended else None

    def take_in(self, event: Event) -> None:
        """Record an event."""
        self._collector.take_in(event)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: a list of fan-outs, each with its numbers and a list of branches; seconds as floats."""
        return plain(self.fan_outs, self.syntheses, self.aggregates)

    def to_json(self, indent: int | None = None) -> str:
        """Return `to_dict()` as JSON."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat dict for each branch and each synthesis, such as `pandas.DataFrame(report.rows())` takes.

        `kind` says which. What a branch called has rows of its own, with a greater `depth`. The branch's seconds and
        costs include theirs: to add them up, take the rows of depth 1. Its tokens are of its own model calls. A
        synthesis has the costs and tokens of those of its model calls that are in no branch.

        `useful`, `wait`, `backoff`, `wasted`, `queued`, `reader` and `overhead` are the text's, and add up.
        `call_wait` counts each of the calls that wait at the same time; `wasted_work` also what a hedge lost beside.
        """
        return rows(self.fan_outs, self.syntheses)

    def to_chrome_trace(self) -> dict[str, Any]:
        """Return the timelines in the Trace Event Format: write it as JSON and open it at ui.perfetto.dev.

        Example:
            ```python
            Path("trace.json").write_text(json.dumps(report.to_chrome_trace()))
            ```
        """
        return chrome_trace(self.fan_outs, self.syntheses)

    def to_html(self, path: str | PathLike[str] | None = None) -> str:
        """Return the waterfall as a piece of HTML; write it to a file as a page, if `path` is given."""
        from langchain_parallel_plus.display.page import page
        from langchain_parallel_plus.display.waterfall import report_html

        html = report_html(self)
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(page("Report", html))
        return html

    def _repr_html_(self) -> str:
        return self.to_html()

    def __str__(self) -> str:
        from langchain_parallel_plus.display.text import report_text  # display reads observe

        return report_text(self)

    def __repr__(self) -> str:
        return str(self)


def _marked(fan_outs: tuple[FanOutReport, ...]) -> tuple[FanOutReport, ...]:
    """Return them with whether other runs used their limits at the same time."""
    fan_outs = tuple(judged(fan_outs))
    top = roots(fan_outs)
    shared = {top[index].run_id for index in sharing(top)}
    return tuple(replace(one, shared=True) if one.run_id in shared else one for one in fan_outs)


def _clock() -> Callable[[], float]:
    try:
        return asyncio.get_running_loop().time
    except RuntimeError:
        return time.monotonic


@contextmanager
def collect_report(prices: Prices | None = None, *, clock: Callable[[], float] | None = None) -> Iterator[RunReport]:
    """Collect what every fan-out does that is called inside, and in tasks started inside.

    A thread that you start yourself has a context of its own: run its work with `contextvars.copy_context().run`.

    Args:
        prices: What a million tokens cost, by model, such as `{"gpt-4o-mini*": Price(input=0.15, output=0.60)}`; or a
            function of a `ModelCall`, such as `observe.genai_prices()`. Without it the report has no costs.
        clock: Seconds that never go back, for how long something has run that still runs; by default the event loop's,
            or the monotonic clock outside of one.

    Raises:
        DeclarationError: Something in `prices` is no price.

    Example:
        ```python
        with collect_report() as report:
            chain.invoke({"document": text})
        print(report)
        ```
    """
    report = RunReport(prices, clock=clock)
    with subscribed(report.take_in):
        yield report
