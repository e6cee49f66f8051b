"""What a request takes from a limit: requests, tokens, and a slot of the concurrency."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from langchain_parallel_plus.errors import DeclarationError

__all__ = ("Cost", "check_cost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one request takes from a `RateLimiter`.

    Only the dimensions that the limiter declares are charged, so one cost fits every limiter.

    Raises:
        DeclarationError: An amount is negative, infinite or not a number.

    Example:
        ```python
        cost = Cost(input_tokens=1_200, output_tokens=300)
        assert cost.total_tokens == 1_500
        ```
    """

    requests: float = 1
    """Requests, against `requests_per_minute` and `requests_per_day`."""
    input_tokens: float = 0
    """Tokens sent, against `input_tokens_per_minute`."""
    output_tokens: float = 0
    """Tokens received, against `output_tokens_per_minute`."""
    tokens: float | None = None
    """All tokens, against `tokens_per_minute` and `tokens_per_day`; `None` means input plus output."""
    cached_tokens: float = 0
    """Of the input tokens, those read from the provider's prompt cache, which some providers do not count."""
    slots: int = 0
    """Slots of `concurrency`, held until they are released. 0 for whoever cannot promise to release them."""

    certain: Cost | None = field(default=None, repr=False, compare=False)
    """What is certain of a cost that is a guess: of the rest, no more than a limit itself is taken, so that no request
    is refused as too large for it. `None`: all is certain."""

    def __post_init__(self) -> None:
        for name in ("requests", "input_tokens", "output_tokens", "tokens", "cached_tokens"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and 0 <= value < math.inf):
                msg = f"Cost({name}={value!r}) is no amount"
                raise DeclarationError(msg, help="give a finite number that is 0 or more")
        if type(self.slots) is not int or self.slots < 0:
            msg = f"Cost(slots={self.slots!r}) is no number of slots"
            raise DeclarationError(msg, help="give a whole number; a call takes one")
        certain: object = self.certain
        if certain is not None and not isinstance(certain, Cost):
            msg = f"Cost(certain={self.certain!r}) is no cost"
            raise DeclarationError(msg, help="give a Cost, or leave it out if all of it is certain")

    @property
    def total_tokens(self) -> float:
        """The tokens charged against limits on all tokens."""
        return self.input_tokens + self.output_tokens if self.tokens is None else self.tokens


def check_cost(cost: object) -> None:
    """Check what is to be taken from a limit.

    Raises:
        DeclarationError: It is no `Cost`.
    """
    if cost is not None and not isinstance(cost, Cost):
        msg = f"{cost!r} is no Cost"
        raise DeclarationError(msg, help="give Cost(requests=..., tokens=...), or nothing for a call of average size")
