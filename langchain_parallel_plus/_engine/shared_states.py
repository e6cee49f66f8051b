"""The running state behind frozen policies: one for all of a name in a process, or for one object."""

from __future__ import annotations

import threading
import weakref
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from langchain_parallel_plus._engine.forks import survive_forks
from langchain_parallel_plus.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Shared", "SharedStates")


class Named(Protocol):
    """A policy that may declare a shared state: a frozen dataclass."""

    @property
    def name(self) -> str | None:
        """Under which it is shared."""


D_co = TypeVar("D_co", bound=Named, covariant=True)
D = TypeVar("D", bound=Named)


class Shared(Protocol[D_co]):
    """A running state."""

    @property
    def declared(self) -> D_co:
        """The policy that it was opened with: a copy, so that the state keeps no declaration alive."""


S = TypeVar("S", bound=Shared[Any])


class SharedStates(Generic[D, S]):
    """Finds the state of a declaration, or opens one. Usable from any thread.

    A state lives as long as one of the declarations that were looked up for it. Declarations without a name share
    nothing, even if they are equal.
    """

    def __init__(self, make: Callable[[D], S]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._by_object: dict[int, tuple[weakref.ref[D], S]] = {}
        self._by_name: weakref.WeakValueDictionary[str, S] = weakref.WeakValueDictionary()
        survive_forks(self)

    def of(self, declared: D) -> S:
        """Return the state of `declared`.

        Raises:
            DeclarationError: One of its name is open with other values.
        """
        known = self._by_object.get(id(declared))
        if known is not None and known[0]() is declared:
            return known[1]
        with self._lock:
            state = self._by_name.get(declared.name) if declared.name is not None else None
            if state is None:
                state = self._make(_copy(declared))
            elif state.declared != declared:
                raise _declared_otherwise(state.declared, declared)
            if declared.name is not None:
                self._by_name[declared.name] = state
            key, by_object = id(declared), self._by_object
            # A callback without a lock: it may come at any time, also while this thread holds it.
            by_object[key] = (weakref.ref(declared, lambda _: by_object.pop(key, None) and None), state)
            return state

    def after_fork(self) -> None:
        """Start with a fresh lock."""
        self._lock = threading.Lock()


def _copy(declared: D) -> D:
    values = {f.name: getattr(declared, f.name) for f in fields(declared)}  # type: ignore[arg-type]  # a dataclass
    return type(declared)(**values)


def _declared_otherwise(before: Any, now: Any) -> DeclarationError:
    pairs = [(f.name, getattr(before, f.name), getattr(now, f.name)) for f in fields(now)]
    changed = "; ".join(f"{name} {ours!r}, then {theirs!r}" for name, ours, theirs in pairs if ours != theirs)
    return DeclarationError(
        f"{type(now).__name__} {now.name!r} was declared before with other values: {changed}",
        help="those of one name share one state: declare it once and use that, or take another name",
    )
