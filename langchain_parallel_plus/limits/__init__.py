"""The rate limiter: one quota, shared by every branch, thread and event loop that uses the key.

At the top stands what a user holds (`RateLimiter`, `Cost`, tickets) and the state of one key behind it (`Account`).
Below, by concept: `planning` decides who is admitted and when, `waiting` wakes threads and tasks, `learning` sets the
rates, `tokens` counts what calls take, and `gate` puts the limiter in front of every model call of a branch.
"""

from __future__ import annotations

from langchain_parallel_plus.limits.cost import Cost
from langchain_parallel_plus.limits.gate.hidden_retries import HiddenRetriesWarning
from langchain_parallel_plus.limits.hold import Hold
from langchain_parallel_plus.limits.limiter import RateLimiter, reset
from langchain_parallel_plus.limits.statistics import LimiterStatistics, RateStatistics
from langchain_parallel_plus.limits.ticket import Ticket
from langchain_parallel_plus.limits.tokens.estimate import ModelCall

__all__ = (
    "Cost",
    "HiddenRetriesWarning",
    "Hold",
    "LimiterStatistics",
    "ModelCall",
    "RateLimiter",
    "RateStatistics",
    "Ticket",
    "reset",
)
