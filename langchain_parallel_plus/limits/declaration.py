"""What a user declares about a key's quota: validated, frozen, comparable."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.limits.learning.profile import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = (
    "DAY",
    "DIMENSIONS",
    "MINUTE",
    "Dimension",
    "Learning",
    "Quota",
    "check_limit",
    "check_seconds",
    "check_share",
    "check_timeout",
    "seconds_until",
)

MINUTE: Final = 60.0
DAY: Final = 86_400.0
_LONGEST_PAUSE: Final = 31 * DAY
"""A longer one is a moment that was given as the seconds since 1970."""

Learning: TypeAlias = Literal["declared", "adaptive", "headers"]
"""Where the limits come from: the user; what the provider refuses; what the provider's headers say."""


class Dimension(NamedTuple):
    """How a declared limit is counted."""

    unit: str
    """The attribute of `Cost` that it charges."""
    window: float
    """Seconds."""


DIMENSIONS: Final = {
    "requests_per_minute": Dimension("requests", MINUTE),
    "tokens_per_minute": Dimension("total_tokens", MINUTE),
    "input_tokens_per_minute": Dimension("input_tokens", MINUTE),
    "output_tokens_per_minute": Dimension("output_tokens", MINUTE),
    "requests_per_day": Dimension("requests", DAY),
    "tokens_per_day": Dimension("total_tokens", DAY),
}
"""Every rate that can be declared, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """The limits of one key, as the provider states them.

    Raises:
        DeclarationError: Nothing is limited, or a limit is no positive number.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    requests_per_day: float | None = None
    tokens_per_day: float | None = None
    concurrency: int | None = None
    burst: float | None = None
    """Seconds' worth of the per-minute limits that an idle key lets through at once; `None`: as the provider's
    profile says."""
    models: Sequence[str] | None = None
    """Patterns; a single string is one."""
    provider: str | None = None
    """Whose profile to use; `None`: that of the providers that are called."""
    learning: Learning = "declared"
    """With `adaptive`, the limits are where it starts; with `headers`, there are none to begin with."""

    def __post_init__(self) -> None:
        for name in DIMENSIONS:
            if getattr(self, name) is not None:
                check_limit(name, getattr(self, name))
        if self.learning != "headers" and all(getattr(self, name) is None for name in (*DIMENSIONS, "concurrency")):
            msg = "a RateLimiter without any limit was declared"
            raise DeclarationError(msg, help=f"give at least one of {', '.join((*DIMENSIONS, 'concurrency'))}")
        self._check_concurrency()
        self._check_burst()
        self._check_models()
        self._check_provider()

    def limits(self) -> dict[str, float]:
        """Return the declared limits, by name; with `headers` every one there is, without an end."""
        if self.learning == "headers":
            return dict.fromkeys(DIMENSIONS, math.inf)
        return {name: limit for name in DIMENSIONS if (limit := getattr(self, name)) is not None}

    def governs(self, provider: str, model: str) -> bool:
        """Tell whether a call of `model` is under these limits."""
        if self.models is None:
            return True
        full = f"{provider}:{model}"
        return any(
            fnmatchcase(model, pattern) or (":" in pattern and fnmatchcase(full, pattern)) for pattern in self.models
        )

    def declared(self) -> dict[str, object]:
        """Return what was given, by parameter name."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "learning"}
        return {name: value for name, value in given.items() if value is not None}

    def difference(self, other: Quota) -> str:
        """Say in which parameters two declarations differ, with both values."""
        names = [field.name for field in fields(self)]
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in names]
        return "; ".join(f"{name} {ours!r}, then {theirs!r}" for name, ours, theirs in pairs if ours != theirs)

    def _check_concurrency(self) -> None:
        value = self.concurrency
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            msg = f"concurrency={value!r} is no number of calls"
            raise DeclarationError(msg, help="give a whole number from 1, or leave it out for no cap")

    def _check_burst(self) -> None:
        if self.burst is None:
            return
        if isinstance(self.burst, bool) or not isinstance(self.burst, int | float) or not self.burst > 0:
            msg = f"burst={self.burst!r} lets nothing pass"
            raise DeclarationError(
                msg, help="give seconds' worth of quota, up to 60: a little, such as 0.1, lets one request go at a time"
            )
        if self.burst > MINUTE:
            msg = f"burst={self.burst:g} is more than the {MINUTE:g} s of quota that a per-minute limit holds"
            raise DeclarationError(msg, help="burst is in seconds' worth of quota; 60 is a whole minute at once")

    def _check_models(self) -> None:
        models: object = (self.models,) if isinstance(self.models, str) else self.models
        if models is None:
            return
        patterns = tuple(models) if isinstance(models, Iterable) else ()
        object.__setattr__(self, "models", patterns or self.models)
        if not patterns or not all(isinstance(one, str) and one for one in patterns):
            msg = f"models={self.models!r} matches no model"
            raise DeclarationError(msg, help='give patterns such as "openai:gpt-4o*", or leave it out for all models')

    def _check_provider(self) -> None:
        if self.provider is not None and self.provider not in PROVIDERS:
            close = difflib.get_close_matches(str(self.provider), PROVIDERS, n=1)
            msg = f"provider={self.provider!r} is none that is known"
            known = ", ".join(PROVIDERS)
            raise DeclarationError(
                msg, help=f"did you mean {close[0]!r}?" if close else f"give one of {known}, or leave it out"
            )


def check_limit(name: str, value: object) -> None:
    """Check a limit.

    Raises:
        DeclarationError: It is no positive, finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
        msg = f"{name}={value!r} is no limit"
        raise DeclarationError(msg, help="give a positive number, or leave it out for no limit")
    if name in DIMENSIONS and value < 1:
        msg = f"{name}={value!r} lets no request pass: each needs 1 of it, and at most the limit itself is there"
        raise DeclarationError(msg, help="give 1 or more; for less than one request a minute declare requests_per_day")


def check_seconds(name: str, value: object, *, endless: bool = False) -> None:
    """Check a time.

    Args:
        name: The parameter, for the message.
        value: What was given for it.
        endless: Whether it may be infinite.

    Raises:
        DeclarationError: It is no number.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or math.isnan(value) or (math.isinf(value) and not endless):  # type: ignore[arg-type]
        msg = f"{name}={value!r} is no time"
        raise DeclarationError(msg, help="give seconds, or None for no end" if endless else "give seconds, 0 or more")


def check_timeout(timeout: object) -> None:
    """Check how long a caller would wait.

    Raises:
        DeclarationError: It is no number from 0, and not `None`.
    """
    if timeout is None:
        return
    check_seconds("timeout", timeout, endless=True)
    if timeout < 0:  # type: ignore[operator]  # a number
        msg = f"timeout={timeout!r} is less than no time"
        raise DeclarationError(msg, help="give seconds; 0 for what can be had at once, or None for no end")


def check_share(name: str, share: object) -> None:
    """Check a lane's share.

    Raises:
        DeclarationError: It is no positive, finite number.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < math.inf:
        msg = f"{name}={share!r} is no share"
        raise DeclarationError(msg, help="give a positive number; 1 is a branch's normal share")


def seconds_until(until: datetime | timedelta | float) -> float:
    """Return the seconds from now, at least 0, to a moment with its time zone; all else counts from now.

    Raises:
        DeclarationError: It is no time, before now by its sign, a moment of no time zone, or more than 31 days away.
    """
    if isinstance(until, datetime):
        if until.utcoffset() is None:
            msg = f"pause(until={until!r}) says no time zone"
            raise DeclarationError(
                msg, help="give a moment such as datetime.now(UTC) + timedelta(minutes=1), or seconds"
            )
        seconds = max((until - datetime.now(until.tzinfo)).total_seconds(), 0.0)
    else:
        seconds = until.total_seconds() if isinstance(until, timedelta) else until
        check_seconds("pause: until", seconds)
    if seconds < 0:
        msg = f"pause(until={until!r}) is no time from now"
        raise DeclarationError(msg, help="give seconds or a timedelta, 0 or more, or a moment with its time zone")
    if seconds > _LONGEST_PAUSE:
        msg = f"pause(until={until!r}) would end in {seconds / DAY:,.0f} days, and 31 are the most"
        way_out = (
            "a number is seconds from now: give a moment as a datetime, such as datetime.fromtimestamp(moment, UTC)"
        )
        raise DeclarationError(msg, help=f"{way_out}; to stop for good call `close()`")
    return float(seconds)
