"""Classifiers of the user's own, consulted before the built-in one."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.providers.classified import Classified

if TYPE_CHECKING:
    from collections.abc import Callable

    Classifier = Callable[[Exception], Classified | None]

__all__ = ("ask_registered", "register_classifier")

_log: Final = logging.getLogger("langchain_parallel_plus.providers")
_lock: Final = threading.Lock()
_registered: tuple[Callable[[], Classifier], ...] = ()


def register_classifier(classifier: Classifier) -> Callable[[], None]:
    """Ask `classifier` about every error before the package judges it itself; the one registered last is asked first.

    It is asked for the error that was raised and then for each of its causes, until somebody knows. It must be quick
    and safe to call from any thread. One that raises, or returns something else, is skipped with a warning in the log.
    It is never asked about what is no failure: cancellation, keyboard interrupts, LangGraph's interrupts.

    Args:
        classifier: Takes the exception, returns a `Classified`, or `None` if it does not know.

    Returns:
        A function that takes the classifier out again; calling it twice does no harm.

    Raises:
        DeclarationError: `classifier` cannot be called.

    Example:
        ```python
        def search_api(error: Exception) -> Classified | None:
            return Classified(ErrorKind.RATE_LIMIT, retry_after=1.0) if isinstance(error, SearchBusy) else None

        unregister = register_classifier(search_api)
        ```
    """
    global _registered
    given: object = classifier
    if not callable(given):
        msg = f"a classifier must be a function of the exception, got {given!r}"
        raise DeclarationError(msg, help="pass a function that returns a Classified or None")

    def registration() -> Classifier:  # one of its own for each call, so that a function can be registered twice
        return classifier

    def unregister() -> None:
        global _registered
        with _lock:
            _registered = tuple(one for one in _registered if one is not registration)

    with _lock:
        _registered = (registration, *_registered)
    return unregister


def ask_registered(error: Exception) -> Classified | None:
    """Return what the first registered classifier that knows `error` says of it."""
    for registration in _registered:
        classifier = registration()
        try:
            answer: object = classifier(error)
        except Exception as raised:  # noqa: BLE001 - the error at hand must not be lost over this one
            # No traceback: its context is the provider's error, which may quote a key.
            _log.warning("classifier %s raised %s; it is skipped", _name(classifier), type(raised).__name__)
            continue
        if isinstance(answer, Classified):
            return answer
        if answer is not None:
            _log.warning("classifier %s returned %s, not Classified", _name(classifier), type(answer).__name__)
    return None


def _name(classifier: Classifier) -> str:
    return str(getattr(classifier, "__qualname__", type(classifier).__qualname__))
