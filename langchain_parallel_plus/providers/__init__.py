"""What providers say: errors, wait hints and rate limit headers, read without importing any provider's package."""

from __future__ import annotations

from langchain_parallel_plus.providers.classified import Classified
from langchain_parallel_plus.providers.classify import classify
from langchain_parallel_plus.providers.facts import KindFacts
from langchain_parallel_plus.providers.headers import parse_rate_limit_headers
from langchain_parallel_plus.providers.registry import register_classifier
from langchain_parallel_plus.providers.retry_after import retry_after
from langchain_parallel_plus.providers.snapshot import Quota, Snapshot

__all__ = (
    "Classified",
    "KindFacts",
    "Quota",
    "Snapshot",
    "classify",
    "parse_rate_limit_headers",
    "register_classifier",
    "retry_after",
)
