"""Evidence -> kind: pure, over frozen values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.providers.facts import FACTS
from langchain_parallel_plus.providers.vocabulary import (
    AUTH_PHRASES,
    CODES,
    CONTENT_FILTER_PHRASES,
    CONTEXT_PHRASES,
    PHRASES,
    QUOTA_PHRASES,
    kind_of_status,
    normalised,
)

if TYPE_CHECKING:
    from langchain_parallel_plus.providers.evidence import Evidence
    from langchain_parallel_plus.providers.exception_type import ClassKind

__all__ = ("Verdict", "judge", "kind_of_message", "retry_of")


class Verdict(NamedTuple):
    """A kind, and what it rests on."""

    kind: ErrorKind
    basis: Literal["code", "status", "class"]
    said: str
    """The code, status or class name that decided."""


_RANKS: Final = {ErrorKind.QUOTA_EXHAUSTED: 0, ErrorKind.RATE_LIMIT: 2, ErrorKind.SERVER: 2, ErrorKind.BAD_REQUEST: 3}
# What the words `invalid_request_error`, `server_error` and `api_error` mean: no more than that a status begins with 4
# or 5. OpenAI sends the first with 401 and 404, the second with 503, Anthropic the third with 529, DeepSeek the first
# with 402 (November 2026), so a status that tells more outranks them.
_VAGUE: Final = frozenset({ErrorKind.SERVER, ErrorKind.BAD_REQUEST})
# What a class may say more narrowly than the status 400 or 429 of its base class.
_NARROW: Final = frozenset(
    {ErrorKind.QUOTA_EXHAUSTED, ErrorKind.CONTEXT_LENGTH, ErrorKind.CONTENT_FILTER, ErrorKind.OUTPUT_LENGTH}
)
_LIMIT_AND_REQUEST: Final = re.compile(r"limit:? ([0-9]{1,12})\b[^\n]{0,40}?\brequested:? ([0-9]{1,12})\b")
# "limit: 0": the model is not part of the account's plan (Gemini; UKGovernmentBEIS/inspect_ai issue 5526, 2026-09).
_NO_QUOTA: Final = re.compile(r"\blimit: 0(?!\.?\d)")
_SETTLED: Final = _NARROW | {ErrorKind.TOO_LARGE_FOR_QUOTA}


def judge(evidence: Evidence, by_class: ClassKind | None) -> Verdict | None:
    """Return what `evidence` amounts to, or `None` if it says nothing known."""
    verdict = _first(_by_code(evidence), _by_status(evidence), by_class)
    # Without an answer of a provider the message is the process's own, and may quote a model's output.
    answered = evidence.status is not None or evidence.is_retryable is not None
    if verdict is None or not (answered or verdict.basis == "code"):
        return verdict
    return verdict._replace(kind=_narrowed(verdict, evidence))


def retry_of(verdict: Verdict | None, evidence: Evidence) -> bool | None:
    """Return whether to retry, where that differs from what is usual for the kind.

    `x-should-retry: false` always counts; `true` unless a known code or the message says that a retry meets the same.
    """
    kind = ErrorKind.UNKNOWN if verdict is None else verdict.kind
    by_code = verdict is not None and verdict.basis == "code"
    usual = wanted = FACTS[kind].retry
    if evidence.is_retryable is not None and (verdict is None or verdict.basis == "class"):
        wanted = evidence.is_retryable
    if kind is ErrorKind.BAD_REQUEST and evidence.status in (409, 425):
        wanted = True
    if kind is ErrorKind.SERVER and evidence.status in (501, 505):
        wanted = False
    asked = evidence.should_retry
    if asked is False or (asked and not by_code):
        wanted = asked
    wanted = wanted and kind not in _SETTLED
    return None if wanted == usual else wanted


def kind_of_message(text: str) -> ErrorKind | None:
    """Return what the message of an otherwise unknown error says, if it is no more than a passing condition."""
    lowered = text.lower()
    return next((kind for kind, phrases in PHRASES.items() if _any(phrases, lowered)), None)


def _first(code: Verdict | None, status: Verdict | None, by_class: ClassKind | None) -> Verdict | None:
    """Return the verdict that counts: the one that tells more; of two that tell as much, the code's."""
    named = None if by_class is None else Verdict(by_class.kind, "class", by_class.name)
    if code is not None and code.kind not in _VAGUE:
        return code
    if named is not None and named.kind in _NARROW:
        return named
    if status is not None and status.kind not in _VAGUE:
        return status
    return code or status or named


def _rank(kind: ErrorKind) -> int:
    return _RANKS.get(kind, 1)


def _by_code(evidence: Evidence) -> Verdict | None:
    words = (*evidence.codes, *evidence.google.reasons)
    known = [Verdict(kind, "code", word) for word in words if (kind := CODES.get(normalised(word)))]
    return min(known, key=lambda verdict: _rank(verdict.kind), default=None)


def _by_status(evidence: Evidence) -> Verdict | None:
    kind = None if evidence.status is None else kind_of_status(evidence.status)
    return None if kind is None else Verdict(kind, "status", str(evidence.status))


def _narrowed(verdict: Verdict, evidence: Evidence) -> ErrorKind:
    """Return the kind that a rate limit or a bad request really is, as far as the provider's message tells."""
    kind, text = verdict.kind, evidence.message.lower()
    if kind is ErrorKind.RATE_LIMIT:
        if evidence.google.day_is_over or _any(QUOTA_PHRASES, text) or _NO_QUOTA.search(text):
            return ErrorKind.QUOTA_EXHAUSTED
        return ErrorKind.TOO_LARGE_FOR_QUOTA if _is_too_large(text) else kind
    if kind is ErrorKind.BAD_REQUEST:
        readings = (
            (ErrorKind.QUOTA_EXHAUSTED, QUOTA_PHRASES),
            (ErrorKind.CONTEXT_LENGTH, CONTEXT_PHRASES),
            (ErrorKind.CONTENT_FILTER, CONTENT_FILTER_PHRASES),
            (ErrorKind.AUTH, AUTH_PHRASES),
        )
        return next((narrower for narrower, phrases in readings if _any(phrases, text)), kind)
    # xAI and OpenRouter refuse a prompt with 403 as well (UKGovernmentBEIS/inspect_ai pull 2267; OpenRouter's page on
    # errors, November 2026), which is no reason to give up the key.
    if (verdict.basis, verdict.said) == ("status", "403") and _any(CONTENT_FILTER_PHRASES, text):
        return ErrorKind.CONTENT_FILTER
    return kind


def _is_too_large(text: str) -> bool:
    numbers = _LIMIT_AND_REQUEST.search(text)
    return "request too large" in text or (numbers is not None and int(numbers[2]) > int(numbers[1]))


def _any(phrases: tuple[str, ...], text: str) -> bool:
    return any(phrase in text for phrase in phrases)
