"""What a provider has said of the quota in an answer or an error, wherever LangChain has put it.

Nothing in here is trusted: headers are read by bounded parsers that keep numbers and the names of quotas, and no more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.providers.classify import classify
from langchain_parallel_plus.providers.evidence import read_evidence
from langchain_parallel_plus.providers.foreign import attribute, entry
from langchain_parallel_plus.providers.headers import parse_rate_limit_headers
from langchain_parallel_plus.providers.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_parallel_plus.providers.classified import Classified

__all__ = ("classify_failed_call", "heard_in_answer", "heard_in_error")

_DEEPEST: Final = 8


class AnsweredError(Exception):
    """A refusal as LangChain hands it on, in the shape that `classify` reads."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.body = entry(answer, "body")
        self.status_code = entry(answer, "status_code")
        self.headers = entry(answer, "headers")


def heard_in_answer(response: object, now: float) -> Snapshot | None:
    """Return what the headers of an answer say; `None` if the model does not include them, or they say nothing.

    `ChatOpenAI(include_response_headers=True)` does include them, in streams too.

    Args:
        response: The `LLMResult` of one prompt.
        now: POSIX time in seconds, for resets that are given as an instant.
    """
    headers = entry(_metadata(response), "headers")
    return (parse_rate_limit_headers(headers, now) or None) if headers else None


def heard_in_error(error: BaseException, response: object, now: float) -> Snapshot | None:
    """Return what a refusal says: the headers and details of the exception or of its causes, or LangChain's copy.

    Gemini has no headers, and names the limit in the details of its refusals.

    Args:
        error: What the model raised.
        response: The `LLMResult` that came with it, if any.
        now: POSIX time in seconds.
    """
    answer = _metadata(response)
    for one in (*_causes(error), *((AnsweredError(answer),) if answer else ())):
        evidence = read_evidence(one)
        quotas = parse_rate_limit_headers(evidence.headers, now).quotas + evidence.google.quotas
        if quotas:
            return Snapshot(quotas)
    return None


def classify_failed_call(error: BaseException, response: object) -> Classified:
    """Return what a failed model call means.

    The exception has the first word. LangChain's copy of the answer (`response_metadata` with body, status and headers)
    is asked where the exception is of a kind that nothing is known of, or does not say how long to wait.
    """
    verdict = classify(error)
    answer = _metadata(response)
    silent = verdict.kind is ErrorKind.UNKNOWN
    if not answer or not (silent or (verdict.retryable and verdict.retry_after is None)):
        return verdict
    copied = classify(AnsweredError(answer))
    if silent:
        return copied
    return replace(verdict, retry_after=copied.retry_after) if copied.retry_after is not None else verdict


def _metadata(response: object) -> Any:
    """Return what LangChain keeps of the answer; on every call's path, and nothing of other packages is run here."""
    try:
        return response.generations[0][0].message.response_metadata  # type: ignore[attr-defined]  # an LLMResult, if any
    except (AttributeError, IndexError, TypeError):
        return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it was raised from or in the course of, 8 deep."""
    found: BaseException | None = error
    for _ in range(_DEEPEST):
        if found is None:
            return
        yield found
        cause = attribute(found, "__cause__")
        hidden = cause is not None or attribute(found, "__suppress_context__")
        behind = cause if hidden else attribute(found, "__context__")
        found = behind if isinstance(behind, BaseException) else None
