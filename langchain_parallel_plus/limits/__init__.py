"""The rate limiter: one quota, shared by every branch, thread and event loop that uses the key."""

from __future__ import annotations

from langchain_parallel_plus.limits.cost import Cost
from langchain_parallel_plus.limits.limiter import RateLimiter
from langchain_parallel_plus.limits.statistics import LimiterStatistics, RateStatistics

__all__ = ("Cost", "LimiterStatistics", "RateLimiter", "RateStatistics")
