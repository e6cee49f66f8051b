"""What an exception's class says, worked out once a class: most errors are of few types and say nothing else."""

from __future__ import annotations

import concurrent.futures
import errno
import functools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langchain_parallel_plus.providers.evidence import TELLING
from langchain_parallel_plus.providers.foreign import guarded
from langchain_parallel_plus.providers.vocabulary import NAMES, normalised

if TYPE_CHECKING:
    from langchain_parallel_plus.outcome import ErrorKind

__all__ = ("ClassKind", "TypeFacts", "facts_of", "is_network_error")

_NETWORK: Final = frozenset(
    {
        errno.EADDRNOTAVAIL, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN,
        errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH, errno.ENOTCONN, errno.EPIPE,
    }
)  # fmt: skip
_SILENT: Final = (Exception, BaseException, object)


class ClassKind(NamedTuple):
    """What a class's name means."""

    kind: ErrorKind
    name: str


class TypeFacts(NamedTuple):
    """What is the same for all instances of a class."""

    control_flow: bool
    """A LangGraph interrupt or a cancellation: no failure."""
    kind: ClassKind | None
    """The nearest class in the MRO whose name is known."""
    telling: bool
    """Whether the class itself has an attribute worth reading; instances may have some besides."""


def facts_of(cls: type[BaseException]) -> TypeFacts:
    """Return what `cls` says."""
    key: Any = cls
    # A metaclass may make its classes unhashable.
    return guarded(lambda: _cached(key)) or _facts(cls)


def is_network_error(error: Exception) -> bool:
    """Whether a plain `OSError` is about the network: by its number, or without one, as asyncio raises it.

    Files, permissions and full disks are not, and neither are subclasses of other packages without a number.
    """
    return isinstance(error, OSError) and (error.errno in _NETWORK or (type(error) is OSError and error.errno is None))


def _facts(cls: Any) -> TypeFacts:
    bases = [base for base in cls.__mro__ if not any(base is silent for silent in _SILENT)]
    names = [base.__name__ for base in bases]
    known = (ClassKind(kind, name[:96]) for name in names if (kind := NAMES.get(normalised(name))))
    own = {name for base in bases for name in vars(base)}
    return TypeFacts(
        # By name: langgraph is not imported here.
        control_flow="GraphBubbleUp" in names or issubclass(cls, concurrent.futures.CancelledError),
        kind=next(known, None),
        telling="__getattr__" in own or not TELLING.isdisjoint(own),
    )


_cached: Final = functools.lru_cache(maxsize=1024)(_facts)
