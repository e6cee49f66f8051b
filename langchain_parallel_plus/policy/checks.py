"""What every policy checks of its fields, and how it shows them."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta

from langchain_parallel_plus.errors import DeclarationError

__all__ = ("ShortRepr", "check_instance", "check_seconds", "check_whole")

LONGEST = 31 * 86_400.0
"""Seconds; more is a mistake, and too much for the timers of some platforms."""


def check_seconds(owner: object, name: str, *, zero: bool = False, optional: bool = True) -> None:
    """Turn the field into float seconds, or refuse it."""
    value = getattr(owner, name)
    if value is None and optional:
        return
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not (0 < seconds <= LONGEST or (zero and seconds == 0)):
        least = "0 or more" if zero else "more than 0"
        msg = f"{type(owner).__name__}.{name} must be {least} seconds and at most 31 days, got {value!r}"
        raise DeclarationError(msg, help="give seconds as a number or a timedelta, or leave it out")
    object.__setattr__(owner, name, float(seconds))


def check_whole(owner: object, name: str, value: object, least: int) -> None:
    """Refuse `value` unless it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"{type(owner).__name__}.{name} must be a whole number of at least {least}, got {value!r}"
        raise DeclarationError(msg, help=f"use {name}={least} or more")


class ShortRepr:
    """Shows only what differs from the defaults: the repr is the code that makes the value."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)  # type: ignore[arg-type]  # only dataclasses derive from this
            if getattr(self, f.name) != f.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def check_instance(owner: object, name: str, kind: type, *, or_false: bool = False) -> None:
    """Refuse the field unless it is left out, of type `kind`, or the `False` that switches a default off."""
    value = getattr(owner, name)
    if value is not None and not isinstance(value, kind) and not (or_false and value is False):
        msg = f"{type(owner).__name__}.{name} takes a {kind.__name__}, got {value!r}"
        raise DeclarationError(msg, help=f"write {name}={kind.__name__}(...)")
