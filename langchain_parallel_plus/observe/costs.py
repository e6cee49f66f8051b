"""What branches cost: all of their model calls, and those whose result was used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_parallel_plus.observe.timeline import used_attempt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_parallel_plus.observe.prices import PriceOf
    from langchain_parallel_plus.observe.records import BranchReport, ModelCall

__all__ = ("costs_of", "sum_of_calls", "sum_of_costs")


def costs_of(branch: BranchReport, price: PriceOf | None) -> tuple[float | None, float | None]:
    """Return the cost of all calls of a branch, at any depth, and of those whose result was used.

    `None` without a price for each of them.
    """
    if price is None:
        return None, None
    used = used_attempt(branch)
    own = [(one, used is not None and one.attempt in (None, used.number)) for one in branch.model_calls]
    prices = [(_cost_of(call, price), counts) for call, counts in own]
    spent, useful = sum_of_costs(cost for cost, _ in prices), sum_of_costs(cost for cost, counts in prices if counts)
    for child in (*branch.inner, *(one for fan_out in branch.nested for one in fan_out.own_branches)):
        all_of_it, of_use = costs_of(child, price)
        spent = sum_of_costs((spent, all_of_it))
        if used is not None and used.started <= child.started <= used.ended:
            useful = sum_of_costs((useful, of_use))
    return spent, useful


def sum_of_calls(calls: Iterable[ModelCall], price: PriceOf | None) -> float | None:
    """Return what calls cost; `None` without a price for each of them."""
    return None if price is None else sum_of_costs(_cost_of(call, price) for call in calls)


def _cost_of(call: ModelCall, price: PriceOf) -> float | None:
    # What failed and was not counted is taken to cost nothing; what succeeded has a price that nobody knows.
    return 0.0 if call.failed and call.input_tokens is None else price(call)


def sum_of_costs(costs: Iterable[float | None]) -> float | None:
    """Return the sum; `None` if one of them is not known."""
    known = list(costs)
    return None if None in known else float(sum(cost or 0.0 for cost in known))
