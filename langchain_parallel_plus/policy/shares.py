"""What the policies that several branches share check of their names and ratios."""

from __future__ import annotations

from langchain_parallel_plus.errors import DeclarationError

__all__ = ("check_name", "check_ratio")


def check_name(owner: object, name: object) -> None:
    """Refuse a name under which nothing can be shared."""
    if name is not None and not (isinstance(name, str) and name):
        msg = f"{type(owner).__name__}.name must be a string that is not empty, got {name!r}"
        raise DeclarationError(msg, help='use a name such as "openai", or leave it out to share by object')


def check_ratio(owner: object, name: str, value: object) -> None:
    """Turn the field into a float above 0 and up to 1, or refuse it."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (isinstance(value, int | float) and number and 0 < value <= 1):
        msg = f"{type(owner).__name__}.{name} must be more than 0 and at most 1, got {value!r}"
        raise DeclarationError(msg, help="it is a ratio: 0.1 is ten percent")
    object.__setattr__(owner, name, float(value))
