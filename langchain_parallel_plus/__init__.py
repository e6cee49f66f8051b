"""`RunnableParallel` for production: rate-limit-aware fan-out, per-branch policies and synthesis, as Runnables."""

import logging

from langchain_parallel_plus.errors import (
    BranchTimeoutError,
    CircuitOpenError,
    CoverageError,
    DeadlineExceededError,
    DeclarationError,
    FanOutError,
    LimiterError,
    LimiterTimeoutError,
    ParallelPlusError,
    QuotaExhaustedError,
    RequestTooLargeError,
    SynthesisError,
    UnknownBranchError,
)
from langchain_parallel_plus.fanout import RunnableParallelPlus
from langchain_parallel_plus.limits import RateLimiter
from langchain_parallel_plus.observe import CorrelationFilter, collect_report
from langchain_parallel_plus.outcome import BranchFailure, ErrorKind, FanOutResults, fan_out_results
from langchain_parallel_plus.policy import (
    BranchPolicy,
    CircuitBreaker,
    Fallback,
    HedgePolicy,
    JoinPolicy,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
)
from langchain_parallel_plus.resilient import RunnableWithPolicy
from langchain_parallel_plus.synthesis import RunnableSynthesis

__all__ = (
    "BranchFailure",
    "BranchPolicy",
    "BranchTimeoutError",
    "CircuitBreaker",
    "CircuitOpenError",
    "CoverageError",
    "DeadlineExceededError",
    "DeclarationError",
    "ErrorKind",
    "Fallback",
    "FanOutError",
    "FanOutResults",
    "HedgePolicy",
    "JoinPolicy",
    "LimiterError",
    "LimiterTimeoutError",
    "ParallelPlusError",
    "QuotaExhaustedError",
    "RateLimiter",
    "RequestTooLargeError",
    "RetryBudget",
    "RetryPolicy",
    "RunnableParallelPlus",
    "RunnableSynthesis",
    "RunnableWithPolicy",
    "SynthesisError",
    "TimeoutPolicy",
    "UnknownBranchError",
    "collect_report",
    "fan_out_results",
)

# The library's user decides where its records go; without this, warnings would go to stderr.
logging.getLogger(__name__).addHandler(logging.NullHandler())
for _name in ("", ".providers", ".testing.simulator.service"):
    logging.getLogger(__name__ + _name).addFilter(CorrelationFilter())
