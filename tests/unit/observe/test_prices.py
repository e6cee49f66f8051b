"""What runs cost, and what many of them are like."""

from __future__ import annotations

import sys
from decimal import Decimal
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from langchain_parallel_plus import DeclarationError
from langchain_parallel_plus.observe import Price, RunReport, genai_prices
from langchain_parallel_plus.observe.aggregates import aggregate, percentiles
from langchain_parallel_plus.observe.prices import price_of
from tests.unit.observe.records import attempt, branch, call, fan_out


def test_the_longest_pattern_prices_a_call_and_cached_tokens_have_their_own_price() -> None:
    prices = price_of({"gpt-*": (10, 10), "gpt-4o*": Price(2, 8, cached=1), "exact": {"input": 1, "output": 1}})
    assert prices is not None
    told = call(0, 1, model="gpt-4o-mini", tokens=(1_000_000, 500_000), cached_tokens=400_000)
    assert prices(told) == pytest.approx(0.6 * 2 + 0.4 * 1 + 0.5 * 8)
    assert prices(call(0, 1, model="exact", tokens=(1_000_000, 0))) == 1
    assert prices(call(0, 1, model="other", tokens=(1, 1))) is None


def test_what_a_failed_attempt_cost_is_no_useful_cost() -> None:
    calls = [call(0, 1, tokens=(1_000_000, 0), attempt=1), call(1, 2, tokens=(1_000_000, 0), attempt=2)]
    log = (attempt(1, 0, 1, "failed"), attempt(2, 1, 2, "ok"))
    one = branch("a", 0, 2, outcome="recovered", attempt_log=log, model_calls=tuple(calls))
    told = fan_out(one, seconds=2, price=price_of({"small": (3, 3)})).measures
    assert (told.cost, told.cost_useful) == (6, 3)


@pytest.mark.parametrize("prices", [{"m": "free"}, {"m": (1, 2, 3, 4)}, {"m": {"in": 1}}, {"m": (-1, 2)}, [1]])
def test_what_is_no_price_is_refused(prices: Any) -> None:
    with pytest.raises(DeclarationError):
        RunReport(prices)


def test_genai_prices_is_imported_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(DeclarationError, match="not installed"):
        genai_prices()

    def calc_price(usage: Any, model_ref: str) -> Any:
        if model_ref == "unknown":
            raise LookupError(model_ref)
        return SimpleNamespace(total_price=Decimal(usage.input_tokens + usage.output_tokens))

    stand_in: Any = ModuleType("genai_prices")
    stand_in.Usage, stand_in.calc_price = SimpleNamespace, calc_price
    monkeypatch.setitem(sys.modules, "genai_prices", stand_in)
    assert genai_prices()(call(0, 1, tokens=(1, 2))) == 3
    assert genai_prices()(call(0, 1, model="unknown", tokens=(1, 2))) is None


def test_percentiles_lie_between_the_nearest_values() -> None:
    assert percentiles([1.0]).p50 is None
    told = percentiles([float(n) for n in range(1, 101)])
    assert (told.p50, told.p95) == (pytest.approx(50.5), pytest.approx(95.05))


def test_a_success_pays_for_the_failures() -> None:
    price = price_of({"small": (1, 1)})
    paid = branch("a", 0, 1, model_calls=(call(0, 1, tokens=(1_000_000, 0)),))
    runs = [fan_out(paid, seconds=n, outcome="failed" if n == 4 else "ok", price=price) for n in (1, 2, 3, 4)]
    [told] = aggregate(runs)
    assert (told.runs, told.failed, told.error_rate, told.cost) == (4, 1, 0.25, 4)
    assert told.cost_per_success == pytest.approx(4 / 3)
    assert told.seconds.p50 == 2.5
