"""What every model of one limit answers, as a protocol: frozen values in, frozen values out, no clock and no I/O."""

from __future__ import annotations

import math
from typing import Protocol, TypeVar

from langchain_parallel_plus.errors import DeclarationError

__all__ = ("AN_INSTANT", "LimitModel", "check_limit", "check_seconds", "tolerance_of")

S = TypeVar("S")

AN_INSTANT = 1e-6
"""Seconds below which two moments are the same: clocks are floats, and a wait that is added to one may round down."""

_TOLERANCE = 1e-8


class LimitModel(Protocol[S]):
    """One limit as a provider enforces it; `S` is its state, a frozen value.

    All methods but `fresh` and `at` take a state that is up to date: one that `at` has returned for the present moment.
    Times are seconds of any clock that does not go back. A request larger than `capacity` is admitted when nothing is
    used, and leaves a debt; one larger than `limit` is never admitted.
    """

    @property
    def limit(self) -> int:
        """Units admitted in `per` seconds."""

    @property
    def per(self) -> float:
        """The seconds that `limit` is for."""

    @property
    def window(self) -> float:
        """The seconds over which the server counts; `per`, or a part of it."""

    @property
    def capacity(self) -> float:
        """Units that are admitted at once when nothing is used."""

    def fresh(self, now: float) -> S:
        """Return the state of a key that has used nothing."""

    def at(self, state: S, now: float) -> S:
        """Return the state as it is at `now`; a clock that went back changes nothing."""

    def used(self, state: S) -> float:
        """Return the units that count at present."""

    def wait(self, state: S, cost: float) -> float:
        """Return the seconds until `cost` units are admitted if nobody else asks; 0.0 if they are now."""

    def reset(self, state: S) -> float:
        """Return the seconds until nothing is used."""

    def charged(self, state: S, cost: float) -> S:
        """Return the state with `cost` more units used, whether they fit or not."""

    def refunded(self, state: S, amount: float, charged_at: float) -> S:
        """Return the state with `amount` units of a charge given back, as far as that charge still counts."""


def tolerance_of(limit: int) -> float:
    """Return the units below which two amounts are the same."""
    return limit * _TOLERANCE


def check_limit(limit: object) -> None:
    """Check the units of a limit.

    Raises:
        DeclarationError: If it is not a whole number >= 1.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise DeclarationError(
            f"a quota must be a whole number >= 1, got {limit!r}", help="leave it out (None) for no limit"
        )


def check_seconds(value: object, name: str, *, zero: bool = False) -> None:
    """Check a length of time.

    Raises:
        DeclarationError: If it is not a number of seconds > 0 (or >= 0 if `zero`).
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (number and (value > 0 or (zero and value == 0))):  # type: ignore[operator]  # a number, says the first half
        raise DeclarationError(f"a quota's {name} must be seconds {'>=' if zero else '>'} 0, got {value!r}")
