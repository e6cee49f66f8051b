"""What a branch ended as, when it did not end with its output."""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.load.serializable import Serializable
from langchain_core.runnables.utils import AddableDict
from pydantic import ConfigDict, PrivateAttr

from langchain_parallel_plus.errors import ParallelPlusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = (
    "BranchFailure",
    "BranchOutcome",
    "ErrorKind",
    "FanOutDict",
    "FanOutResults",
    "described",
    "fan_out_results",
    "redact",
)

BranchOutcome = Literal["ok", "recovered", "failed", "timed_out", "skipped", "cancelled"]
"""How a branch ended: at once, after a retry or fallback, with an error, on a clock, not needed, or cancelled."""


class ErrorKind(StrEnum):
    """What an error means for retry, fallback, breaker and limiter, whoever raised it."""

    RATE_LIMIT = "rate_limit"
    QUOTA_EXHAUSTED = "quota_exhausted"
    TOO_LARGE_FOR_QUOTA = "too_large_for_quota"
    OVERLOADED = "overloaded"
    SERVER = "server"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTER = "content_filter"
    OUTPUT_LENGTH = "output_length"
    AUTH = "auth"
    NOT_FOUND = "not_found"
    BAD_REQUEST = "bad_request"
    LOCAL = "local"
    """Raised by this package: a limiter's timeout, an open breaker, a passed deadline."""
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """An error that nothing is known about, such as a bug in the branch: never retried by default."""


_SECRETS = (
    # Keys that say by their first letters what they are: OpenAI, Groq, xAI, GitHub, Hugging Face, LangSmith, AWS ...
    re.compile(r"\b(?:sk|pk|rk|gsk|xai|ghp|gho|hf|r8|pplx|tvly|lsv2|pcsk|nvapi)[-_][A-Za-z0-9_\-*]{8,}"),
    re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{12,}|\bAIza[0-9A-Za-z_\-]{12,}"),
    # What follows a name that announces a secret, in headers, URLs and JSON.
    re.compile(
        r"(?i)(?<=\bBearer )[^\s\"',;]{8,}|(?<=\bBasic )[A-Za-z0-9+/=]{8,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
        r"|(?<=key[=:])[^\s&\"',;]{8,}|(?<=key: )[^\s&\"',;]{16,}|(?<=token[=:])[^\s&\"',;]{8,}"
        r"|(?<=secret[=:])[^\s&\"',;]{8,}|(?<=password[=:])[^\s&\"',;]+"
    ),
)
_MESSAGE_LIMIT = 500


def described(error: BaseException, *, limit: int = _MESSAGE_LIMIT) -> str:
    """Return an error's message, redacted; also where the error's own `__str__` fails, and without our `help:` line."""
    try:
        text = error.message if isinstance(error, ParallelPlusError) else str(error)
    except Exception as failure:  # noqa: BLE001  # a foreign class's own code
        text = f"(no message: its __str__ raised {type(failure).__name__})"
    return redact(text, limit=limit)


def redact(text: str, *, limit: int = _MESSAGE_LIMIT) -> str:
    """Return a provider's message cut to `limit` characters and without anything shaped like an API key.

    Providers quote the key in refusals ("Incorrect API key provided: sk-...").

    Example:
        ```python
        assert redact("bad key sk-abcdefgh12345678") == "bad key [redacted]"
        ```
    """
    shown = text[: 4 * limit]
    for secret in _SECRETS:
        shown = secret.sub("[redacted]", shown)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


class BranchFailure(Serializable):
    """Stands at a branch's key when the branch failed and its policy says `on_failure="keep"`.

    It is a plain value: it survives `|`, adding stream chunks, JSON (`model_dump_json`) and `dumpd`, and reads well in
    a prompt. It is falsy, so `results["summary"] or default` works.

    Example:
        ```python
        results = fan_out.invoke(document)
        if isinstance(results["summary"], BranchFailure):
            print(results["summary"].kind, results["summary"].message)
        ```
    """

    model_config = ConfigDict(frozen=True)

    branch: str
    """The branch's name in the fan-out."""
    kind: ErrorKind
    """What the last error means."""
    message: str
    """The last error's message, without secrets and at most 500 characters long."""
    error_type: str
    """Class name of the last error."""
    attempts: int = 1
    """Calls made, all retries and fallbacks included; 0 when the branch was never started."""
    seconds: float = 0.0
    """From the branch's start to its end."""
    partial: Any = None
    """What the branch had streamed before it failed, if it was streamed."""

    _error: BaseException | None = PrivateAttr(default=None)

    @classmethod
    def of(
        cls,
        branch: str,
        error: BaseException,
        *,
        kind: ErrorKind,
        attempts: int = 1,
        seconds: float = 0.0,
        partial: Any = None,
    ) -> BranchFailure:
        """Describe `error`, keeping the exception itself in `.error` for this process."""
        failure = cls(
            branch=branch,
            kind=kind,
            message=described(error),
            error_type=type(error).__name__,
            attempts=attempts,
            seconds=round(seconds, 6),
            partial=partial,
        )
        failure._error = error
        return failure

    @property
    def error(self) -> BaseException | None:
        """The exception itself; `None` after the failure crossed a process or JSON."""
        return self._error

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return `True`: `dumpd` writes it with its fields."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return the module path, which `load` needs for classes outside langchain-core."""
        return cls.__module__.split(".")

    def __bool__(self) -> bool:
        return False

    def __radd__(self, streamed: Any) -> BranchFailure:
        """Take in what was streamed before the failure: `"some te" + failure` is the failure with `.partial` set."""
        failure = self.model_copy(update={"partial": streamed})
        failure._error = self._error
        return failure

    def __add__(self, later: Any) -> BranchFailure:
        """Stay a failure: nothing that follows makes the branch's output whole."""
        return self

    def __str__(self) -> str:
        calls = "not started" if self.attempts == 0 else f"{self.attempts} attempt{'s' * (self.attempts != 1)}"
        return f"[branch {self.branch!r} failed: {self.kind.value}, {calls}, {self.seconds:.1f} s: {self.message}]"

    def __getstate__(self) -> dict[Any, Any]:
        # The exception may hold sockets, locks or a response: only its description travels.
        state = {**super().__getstate__(), "__pydantic_private__": {"_error": None}}
        return {**state, "__dict__": {**state["__dict__"], "partial": _portable(self.partial)}}


class FanOutDict(AddableDict):
    """A fan-out's output where a plain dict would not say all: what its streams add up to, and results with gaps.

    It is a dict. Adding the chunks of a stream lets a branch's failure stand at its key whatever came before it, which
    chunks of messages and dicts do not by themselves.
    """

    order: tuple[str, ...] = ()
    """All branches as declared, on what came in a stream: its keys are in the order of arrival, as upstream's are."""
    missing: Mapping[str, str]
    """The branches that are absent, each with the reason in a word or two: dropped, or not waited for."""
    ended: tuple[str, ...] = ()
    """In a stream whose reader asks for it: branches whose output is whole, no further chunks of which follow."""

    def __init__(
        self, outputs: Mapping[str, Any] = MappingProxyType({}), missing: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(outputs)
        self.missing = dict(missing or {})

    @classmethod
    def end_of(cls, branch: str) -> FanOutDict:
        """Return the chunk that says that a branch's output is whole."""
        mark = cls()
        mark.ended = (branch,)
        return mark

    @classmethod
    def of_chunks(cls, chunks: Iterable[FanOutDict]) -> FanOutDict:
        """Return what the chunks of a stream add up to, as `+` does, but not copied for each of them."""
        total = cls()
        missing: dict[str, str] = {}
        for chunk in chunks:
            missing |= chunk.missing
            total.order = total.order or chunk.order
            for key, value in chunk.items():
                total[key] = _added(total.get(key), value)
        total.missing = missing
        return total

    def __add__(self, other: Any) -> FanOutDict:
        total = FanOutDict(self, {**self.missing, **getattr(other, "missing", {})})
        if ended := (*self.ended, *getattr(other, "ended", ())):
            total.ended = ended
        for key, value in other.items():
            total[key] = _added(total.get(key), value)
        total.order = self.order or getattr(other, "order", ())
        return total

    @property
    def in_order(self) -> FanOutDict:
        """The same with its keys as declared, so that a stream ends in what `invoke` returns."""
        declared = [key for key in self.order if key in self]
        return FanOutDict({key: self[key] for key in dict.fromkeys((*declared, *self))}, self.missing)

    def __radd__(self, other: Any) -> FanOutDict:
        return FanOutDict(other) + self


def _added(before: Any, value: Any) -> Any:
    if before is None or isinstance(value, BranchFailure):
        return value if before is None else value.__radd__(before)
    if value is None:
        return before
    try:
        return before + value
    except TypeError:  # as in AddableDict: what cannot be added is left as it was
        return before


@dataclass(frozen=True, slots=True)
class FanOutResults:
    """What a fan-out had when it raised: on every exception that leaves one, as `exc.fan_out`."""

    outputs: Mapping[str, Any] = field(default_factory=dict)
    """What the finished branches returned, by branch, in declared order."""
    failures: Mapping[str, BranchFailure] = field(default_factory=dict)
    """The branches that failed, by branch, in declared order."""
    inner: Mapping[str, FanOutResults] = field(default_factory=dict)
    """Where a failed branch was, or held, a fan-out itself: what that one had finished, by branch."""

    def __reduce__(self) -> tuple[Any, ...]:
        # On an exception: an output that cannot travel must not keep the error from travelling.
        outputs = {key: _portable(output) for key, output in self.outputs.items()}
        return FanOutResults, (outputs, dict(self.failures), dict(self.inner))


def _portable(value: Any) -> Any:
    """Return `value`, or what it was if it cannot be pickled."""
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - whatever a foreign `__reduce__` raises
        return f"<{type(value).__name__}, which cannot be pickled>"
    return value


def fan_out_results(error: BaseException | None) -> FanOutResults | None:
    """Return what the fan-out that raised `error` had finished, or `None` if no fan-out raised it.

    Example:
        ```python
        try:
            fan_out.invoke(document)
        except Exception as error:
            finished = fan_out_results(error)
            save(finished.outputs)
            raise
        ```
    """
    results = getattr(error, "fan_out", None)
    return results if isinstance(results, FanOutResults) else None
