"""Where `load` finds a class again."""

from __future__ import annotations

from typing import Any

__all__ = ("namespace",)


def namespace(cls: Any) -> list[str]:
    """Return the module path of a class; of `RunnableParallelPlus[dict]`, too, which is made where it is written."""
    origin = cls.__pydantic_generic_metadata__["origin"] or cls
    return str(origin.__module__).split(".")
