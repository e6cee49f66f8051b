"""What can go wrong, as one tree.

```
ParallelPlusError
├── DeclarationError (ValueError)      a policy, limiter or fan-out was declared wrongly; no call was made
│   └── UnknownBranchError             a name that is no branch, with a did-you-mean
├── FanOutError                        too few branches succeeded; carries .outputs and .failures
├── BranchTimeoutError (TimeoutError)  a branch, or one attempt of it, ran longer than its policy allows
├── DeadlineExceededError (TimeoutError)  the fan-out's deadline passed before enough branches were in
├── LimiterError                       a rate limiter refused
│   ├── RequestTooLargeError           one request needs more than the limit itself; waiting cannot help
│   ├── LimiterTimeoutError (TimeoutError)  no admission within the time the caller gave
│   └── QuotaExhaustedError            the provider says that the account is out of quota; the key is closed
├── CircuitOpenError                   a circuit breaker is open, so the call was not made
├── BranchAbandonedError               raised inside a branch whose fan-out has already ended
└── SynthesisError
    ├── CoverageError                  too few branches came back to write from
    ├── AgreementError                 the branches of a vote did not agree enough; carries .result
    └── JudgementError                 a judge chose none of the candidates; carries .said
```

Every message says what happened, with the numbers, and ends with a `help:` line. Catch the whole tree with
`except ParallelPlusError`. A branch's own exception is never replaced: in fail-fast mode the caller catches the
original type, with a note naming the branch and the finished siblings' outputs in `exc.fan_out` (see `FanOutResults`).
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from langchain_parallel_plus.outcome import BranchFailure

__all__ = (
    "AgreementError",
    "BranchAbandonedError",
    "BranchTimeoutError",
    "CircuitOpenError",
    "CoverageError",
    "DeadlineExceededError",
    "DeclarationError",
    "FanOutError",
    "JudgementError",
    "LimiterError",
    "LimiterTimeoutError",
    "ParallelPlusError",
    "QuotaExhaustedError",
    "RequestTooLargeError",
    "SynthesisError",
    "UnknownBranchError",
)


class ParallelPlusError(Exception):
    """Base of every error that this package raises by itself.

    Args:
        message: What happened, with the numbers.
        help: The next step for the reader; shown as a last line `help: ...`.
    """

    code: ClassVar[str] = "PARALLEL_PLUS"
    """A stable name for the error, for logs and dashboards."""

    def __init__(self, message: str, *, help: str | None = None) -> None:
        super().__init__(message if help is None else f"{message}\nhelp: {help}")
        self.message = message
        self.help = help

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[ParallelPlusError], args: tuple[Any, ...], state: dict[str, Any]) -> ParallelPlusError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class DeclarationError(ParallelPlusError, ValueError):
    """A policy, limiter or fan-out was declared wrongly; raised before any call is made."""

    code = "DECLARATION"


class UnknownBranchError(DeclarationError):
    """A name was given that is no branch of this fan-out."""

    code = "UNKNOWN_BRANCH"

    def __init__(self, name: str, branches: Iterable[str], *, where: str) -> None:
        known = list(branches)
        close = difflib.get_close_matches(name, known, n=1)
        shown = ", ".join(repr(key) for key in known[:10]) + (", ..." if len(known) > 10 else "")
        super().__init__(
            f"{where} names {name!r}, which is no branch; the {len(known)} branches are: {shown or '(none)'}",
            help=f"did you mean {close[0]!r}?" if close else "use one of the branch names above",
        )
        self.name = name


class FanOutError(ParallelPlusError):
    """Too few branches succeeded for the fan-out's `JoinPolicy`.

    Attributes:
        outputs: What the finished branches returned, by branch.
        failures: A `BranchFailure` for each branch that did not, by branch.
    """

    code = "FAN_OUT"

    def __init__(
        self,
        message: str,
        *,
        outputs: Mapping[str, Any],
        failures: Mapping[str, BranchFailure],
        help: str | None = None,
    ) -> None:
        super().__init__(message, help=help)
        self.outputs = dict(outputs)
        self.failures = dict(failures)


class BranchTimeoutError(ParallelPlusError, TimeoutError):
    """A branch, or one attempt of it, ran longer than its `TimeoutPolicy` allows."""

    code = "BRANCH_TIMEOUT"


class DeadlineExceededError(ParallelPlusError, TimeoutError):
    """The fan-out's deadline passed before this branch had finished."""

    code = "DEADLINE"


class LimiterError(ParallelPlusError):
    """A rate limiter refused a request."""

    code = "LIMITER"


class RequestTooLargeError(LimiterError):
    """One request needs more than the limit itself allows; no wait can make it fit."""

    code = "REQUEST_TOO_LARGE"


class LimiterTimeoutError(LimiterError, TimeoutError):
    """The limiter could not admit the request within the time the caller gave."""

    code = "LIMITER_TIMEOUT"


class QuotaExhaustedError(LimiterError):
    """The provider says that the account is out of quota; waiting does not help."""

    code = "QUOTA_EXHAUSTED"


class CircuitOpenError(ParallelPlusError):
    """A `CircuitBreaker` is open: the call was not made. It is not retried; a fallback is tried at once.

    Attributes:
        retry_after: Seconds until the breaker lets a probe through; 0 while one is under way.
    """

    code = "CIRCUIT_OPEN"

    def __init__(self, message: str, *, retry_after: float, help: str | None = None) -> None:
        super().__init__(message, help=help)
        self.retry_after = retry_after


class BranchAbandonedError(ParallelPlusError):
    """Raised inside a branch whose fan-out has already ended, to stop work whose result nobody waits for."""

    code = "BRANCH_ABANDONED"


class SynthesisError(ParallelPlusError):
    """The synthesis step could not join what the branches returned."""

    code = "SYNTHESIS"


class CoverageError(SynthesisError):
    """Too few branches came back to write from; raised before the model is called."""

    code = "COVERAGE"


class AgreementError(SynthesisError):
    """The branches of a vote did not agree enough, or were tied.

    Attributes:
        result: The count, a `VoteResult`: what would have won, with how much agreement, and every ballot.
    """

    code = "AGREEMENT"

    def __init__(self, message: str, *, result: Any, help: str | None = None) -> None:
        super().__init__(message, help=help)
        self.result = result


class JudgementError(SynthesisError):
    """A judge chose none of the candidates.

    Attributes:
        said: What it returned instead.
    """

    code = "JUDGEMENT"

    def __init__(self, message: str, *, said: Any, help: str | None = None) -> None:
        super().__init__(message, help=help)
        self.said = said
