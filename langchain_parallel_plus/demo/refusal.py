"""Why the demo cannot go on, in one line that says what to do."""

from __future__ import annotations

from langchain_parallel_plus.errors import FanOutError, ParallelPlusError
from langchain_parallel_plus.outcome import ErrorKind, redact
from langchain_parallel_plus.providers.classify import classify

__all__ = ("Refusal", "explained")

_NEXT_STEP = {
    ErrorKind.AUTH: "check OPENAI_API_KEY, or unset it to use the embedded model",
    ErrorKind.QUOTA_EXHAUSTED: "add credit to the account, or unset OPENAI_API_KEY to use the embedded model",
    ErrorKind.RATE_LIMIT: "wait a minute and try again, or unset OPENAI_API_KEY to use the embedded model",
    ErrorKind.TOO_LARGE_FOR_QUOTA: "give a shorter document",
    ErrorKind.CONTEXT_LENGTH: "give a shorter document, or set OPENAI_MODEL to a model with a larger window",
    ErrorKind.NOT_FOUND: "check OPENAI_MODEL and OPENAI_BASE_URL",
    ErrorKind.BAD_REQUEST: "check OPENAI_MODEL and OPENAI_BASE_URL",
    ErrorKind.CONNECTION: "check the network and OPENAI_BASE_URL, or unset OPENAI_API_KEY to use the embedded model",
    ErrorKind.TIMEOUT: "try again, or give a shorter document",
    ErrorKind.OVERLOADED: "try again in a minute",
    ErrorKind.SERVER: "try again in a minute",
}


class Refusal(ParallelPlusError):
    """The demo cannot go on for a reason that the user can remove; ends it with exit code 2."""

    code = "DEMO_REFUSAL"

    def __init__(self, message: str, *, help: str) -> None:
        super().__init__(message, help=help)
        self.message = message
        self.next_step = help

    @property
    def line(self) -> str:
        """Message and next step in one line."""
        return f"{' '.join(self.message.split())}; {self.next_step}"


def explained(error: Exception) -> Refusal | None:
    """Return the refusal that explains a model's error, or `None` for one that only its traceback explains."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, FanOutError) and error.failures:
        failure = next(iter(error.failures.values()))
        kind, message = failure.kind, failure.message
    else:
        kind, message = classify(error).kind, redact(str(error), limit=200)
    step = _NEXT_STEP.get(kind)
    return None if step is None else Refusal(f"the model refused or failed ({kind.value}): {message}", help=step)
