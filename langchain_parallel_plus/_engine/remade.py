"""What is prepared once for running and holds closures and locks: no copy and no pickle takes it along."""

from __future__ import annotations

from typing import Any, Self, TypeVar

__all__ = ("Remade",)

K = TypeVar("K")
V = TypeVar("V")


class Remade(dict[K, V]):
    """A dict that is empty again in every copy of its owner, who fills it as needed."""

    def __deepcopy__(self, memo: Any) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()
