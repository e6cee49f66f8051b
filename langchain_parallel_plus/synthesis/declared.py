"""What reducers check of the arguments they are declared with, before any call is made."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import Runnable

from langchain_parallel_plus.errors import DeclarationError

__all__ = ("choice", "number", "plain_function")


def plain_function(value: object, what: str, help: str) -> Any:
    """Return `value` if it is a plain function, or left out."""
    call = getattr(value, "__call__", None)  # noqa: B004  # an object with an async __call__ is an async function too
    awaited = inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(call)
    if value is None or (callable(value) and not awaited and not isinstance(value, Runnable | Mapping)):
        return value
    given = "an async function" if awaited else repr(value)
    raise DeclarationError(f"{what} takes a plain function, got {given}", help=help)


def number(value: object, what: str, help: str, *, least: float, most: float = math.inf, whole: bool = False) -> Any:
    """Return `value` if it is a number from `least` to `most`."""
    kind = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most or not math.isfinite(value):
        bounds = f"of at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise DeclarationError(f"{what} must be a {'whole ' * whole}number {bounds}, got {value!r}", help=help)
    return value


def choice(value: object, what: str, choices: tuple[str, ...], help: str) -> Any:
    """Return `value` if it is one of `choices`."""
    if isinstance(value, str) and value in choices:
        return value
    words = ", ".join(map(repr, choices))
    raise DeclarationError(f"{what} must be one of {words}, got {value!r}", help=help)
