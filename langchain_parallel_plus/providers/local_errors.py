"""What this package's own errors mean."""

from __future__ import annotations

from typing import Final

from langchain_parallel_plus.errors import (
    AgreementError,
    BranchAbandonedError,
    BranchTimeoutError,
    DeadlineExceededError,
    FanOutError,
    JudgementError,
    ParallelPlusError,
    QuotaExhaustedError,
    RequestTooLargeError,
)
from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.providers.classified import Classified

__all__ = ("classify_local",)

_MEANINGS: Final[tuple[tuple[type[ParallelPlusError], Classified], ...]] = (
    (BranchAbandonedError, Classified(ErrorKind.CANCELLED, detail="local")),
    (BranchTimeoutError, Classified(ErrorKind.TIMEOUT, detail="local")),
    # The time is over for another attempt as well.
    (DeadlineExceededError, Classified(ErrorKind.TIMEOUT, retry=False, detail="local")),
    (QuotaExhaustedError, Classified(ErrorKind.QUOTA_EXHAUSTED, detail="local")),
    (RequestTooLargeError, Classified(ErrorKind.TOO_LARGE_FOR_QUOTA, detail="local")),
    # What models have said, who may say something else when they are asked again: for whoever asks for that.
    (JudgementError, Classified(ErrorKind.UNKNOWN, detail="local")),
    (AgreementError, Classified(ErrorKind.UNKNOWN, detail="local")),
    (ParallelPlusError, Classified(ErrorKind.LOCAL, detail="local")),
)


def classify_local(error: BaseException) -> Classified | None:
    """Return what `error` means if this package raised it by itself.

    A `FanOutError` stands for its branches' errors, so it is left to them.
    """
    if not isinstance(error, ParallelPlusError) or isinstance(error, FanOutError):
        return None
    return next(meaning for cls, meaning in _MEANINGS if isinstance(error, cls))
