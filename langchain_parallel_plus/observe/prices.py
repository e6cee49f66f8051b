"""What model calls cost: prices come from the user, or from the optional package `genai-prices`; none are built in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeAlias

from langchain_parallel_plus.errors import DeclarationError

if TYPE_CHECKING:
    from langchain_parallel_plus.observe.records import ModelCall

__all__ = ("Price", "PriceOf", "Prices", "genai_prices", "price_of")

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one model's tokens, in any currency, for a million of them.

    Raises:
        DeclarationError: A price is negative or no number.

    Example:
        ```python
        with collect_report(prices={"gpt-4o-mini*": Price(input=0.15, output=0.60, cached=0.075)}) as report:
            chain.invoke({"document": text})
        ```
    """

    input: float
    output: float
    cached: float | None = None
    """Of input tokens read from the provider's prompt cache; `None`: as other input."""

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached"):
            value: object = getattr(self, name)
            if value is None and name == "cached":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                msg = f"Price({name}={value!r}) is no price"
                raise DeclarationError(msg, help="give what a million tokens cost, such as Price(0.15, 0.60)")

    def of(self, call: ModelCall) -> float | None:
        """Return what `call` cost; `None` if nobody has counted its tokens."""
        if call.input_tokens is None or call.output_tokens is None:
            return None
        cached = min(call.cached_tokens or 0, call.input_tokens)
        cached_price = self.input if self.cached is None else self.cached
        sent = (call.input_tokens - cached) * self.input + cached * cached_price
        return (sent + call.output_tokens * self.output) / _MILLION


PriceOf: TypeAlias = "Callable[[ModelCall], float | None]"
"""What a call cost; `None` if its price is not known."""
Prices: TypeAlias = "Mapping[str, Price | Sequence[float] | Mapping[str, float]] | PriceOf"
"""By model, as a shell pattern such as "gpt-4o-mini*": a `Price`, or its numbers. Or a function of the call."""


def price_of(prices: Prices | None) -> PriceOf | None:
    """Return the function that prices a call.

    Raises:
        DeclarationError: Something in the table is no price.
    """
    if prices is None or callable(prices):
        return prices
    given: object = prices
    if not isinstance(given, Mapping):
        msg = f"prices takes a dict by model or a function of a call, got {prices!r}"
        raise DeclarationError(msg, help="for example prices={'gpt-4o-mini*': Price(input=0.15, output=0.60)}")
    table = {model: _price(model, price) for model, price in given.items()}

    def find(call: ModelCall) -> float | None:
        exact = table.get(call.model)
        if exact is not None:
            return exact.of(call)
        fitting = [model for model in table if fnmatchcase(call.model, model)]
        return table[max(fitting, key=len)].of(call) if fitting else None  # the longest pattern says most

    return find


def _price(model: str, price: object) -> Price:
    if isinstance(price, Price):
        return price
    try:
        if isinstance(price, Mapping):
            return Price(**price)
        if isinstance(price, Sequence) and not isinstance(price, str):
            return Price(*price)
    except TypeError:
        pass  # too many numbers, or other names
    msg = f"the price of {model!r} is {price!r}"
    raise DeclarationError(msg, help="give Price(input=0.15, output=0.60), or the two numbers, for a million tokens")


def genai_prices() -> PriceOf:
    """Return the prices of the package `genai-prices`, which is imported by this call alone.

    Raises:
        DeclarationError: It is not installed.

    Example:
        ```python
        with collect_report(prices=genai_prices()) as report:
            chain.invoke({"document": text})
        ```
    """
    try:
        from genai_prices import Usage, calc_price
    except ImportError as error:
        msg = "genai_prices() needs the package genai-prices, which is not installed"
        raise DeclarationError(
            msg, help="pip install 'langchain-parallel-plus[prices]', or give prices={'model': Price(...)}"
        ) from error

    def find(call: ModelCall) -> float | None:
        if call.input_tokens is None or call.output_tokens is None:
            return None
        usage = Usage(
            input_tokens=call.input_tokens,
            output_tokens=call.output_tokens,
            cache_read_tokens=call.cached_tokens or 0,
        )
        try:
            return float(calc_price(usage, model_ref=call.model).total_price)
        except LookupError:  # a model that it does not know
            return None

    return find
