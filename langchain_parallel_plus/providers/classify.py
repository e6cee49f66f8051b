"""Exception -> `Classified`, duck-typed: no provider's package is imported.

The first of these that knows decides, for the exception itself, then for its members and causes, 8 deep:
a registered classifier; this package's own errors; a body code; an HTTP status; the class, langchain-core's
`ModelError` family included; and, when all of that is silent along the whole chain, phrases in the message.

Body codes come first because a status hides them: OpenAI sends 429 both for a rate limit and for an exhausted account,
and langchain-openai's error for the latter says `is_retryable = True`. Words that say no more than the first digit of a
status (`invalid_request_error`, `server_error`, `api_error`) come after a status that says more, such as 401 or 503.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from langchain_parallel_plus.errors import FanOutError, ParallelPlusError
from langchain_parallel_plus.outcome import ErrorKind, redact
from langchain_parallel_plus.providers.causes import first_known, is_control_flow
from langchain_parallel_plus.providers.classified import Classified
from langchain_parallel_plus.providers.evidence import TELLING, Evidence, read_evidence
from langchain_parallel_plus.providers.exception_type import ClassKind, facts_of, is_network_error
from langchain_parallel_plus.providers.facts import FACTS
from langchain_parallel_plus.providers.foreign import guarded, text_of
from langchain_parallel_plus.providers.local_errors import classify_local
from langchain_parallel_plus.providers.registry import ask_registered
from langchain_parallel_plus.providers.retry_after import hint_in
from langchain_parallel_plus.providers.verdict import judge, kind_of_message, retry_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Classified", "classify")

_CANCELLED: Final = Classified(ErrorKind.CANCELLED, detail="control flow")
_UNKNOWN: Final = Classified(ErrorKind.UNKNOWN)
_LOCAL: Final = Classified(ErrorKind.LOCAL, detail="local")
_SILENT: Final = Evidence()


def classify(error: BaseException, *, now: Callable[[], float] = time.time) -> Classified:
    """Return what `error` means for retry, fallback, breaker and limiter; raises nothing.

    Cancellation, `KeyboardInterrupt` and LangGraph's interrupts are `CANCELLED`: no failures, never handled. What
    nothing is known about is `UNKNOWN` and not retried. Attributes are read, messages as far as some kB; the network
    is left alone.

    Args:
        error: What a runnable raised.
        now: POSIX time in seconds, for wait hints that are instants.

    Example:
        ```python
        try:
            answer = chain.invoke(question)
        except Exception as error:
            if not classify(error).retryable:
                raise
        ```
    """
    if is_control_flow(error) or not isinstance(error, Exception):
        return _CANCELLED
    known = first_known(error, lambda one: _by_facts(one, now)) or first_known(error, lambda one: _by_message(one, now))
    return known or (_LOCAL if isinstance(error, FanOutError) else _UNKNOWN)


def _by_facts(error: Exception, now: Callable[[], float]) -> Classified | None:
    """Judge one exception by everything but the wording of its message."""
    settled = ask_registered(error) or classify_local(error)
    if settled is not None:
        return settled
    facts = facts_of(type(error))
    by_class = facts.kind or (ClassKind(ErrorKind.CONNECTION, "OSError") if is_network_error(error) else None)
    tells = facts.telling or guarded(lambda: TELLING.isdisjoint(error.__dict__)) is not True
    if by_class is None and not tells:
        return None
    evidence = read_evidence(error) if tells else _SILENT
    verdict = judge(evidence, by_class)
    retry = retry_of(verdict, evidence)
    if verdict is None and not retry:
        return None
    kind = ErrorKind.UNKNOWN if verdict is None else verdict.kind
    code = verdict.said if verdict and verdict.basis == "code" else next(iter(evidence.codes), None)
    waiting_helps = FACTS[kind].retry if retry is None else retry
    return Classified(
        kind,
        # An exhausted account may say when its next day or month begins.
        retry_after=hint_in(evidence, now=now()) if waiting_helps or kind is ErrorKind.QUOTA_EXHAUSTED else None,
        status=evidence.status,
        code=None if code is None else redact(code),
        retry=retry,
        detail=redact(f"{verdict.basis} {verdict.said}") if verdict else "asks to be retried",
    )


def _by_message(error: Exception, now: Callable[[], float]) -> Classified | None:
    """Judge one exception by phrases in its message; this package's own messages quote others'."""
    if isinstance(error, ParallelPlusError):
        return None
    message = text_of(error)
    kind = kind_of_message(message)
    if kind is None:
        return None
    hint = hint_in(Evidence(message=message), now=now()) if FACTS[kind].retry else None
    return Classified(kind, retry_after=hint, detail="message")
