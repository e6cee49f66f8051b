"""The engine: what a fan-out costs, and how long it takes where work blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks.engine.blocking import blocking_calls, threads_started
from tests.benchmarks.engine.calls import (
    limited_calls,
    model_calls,
    model_streams,
    policy_calls,
    reported_calls,
    trivial_calls,
)
from tests.benchmarks.engine.shapes import batches, nested_calls, wide_calls
from tests.benchmarks.engine.streams import streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.benchmarks.table import Row

__all__ = ("CASES",)

# Those bound by the CPU first: the others leave idle threads behind for some seconds.
CASES: dict[str, Callable[[], Iterator[Row]]] = {
    "trivial": trivial_calls,
    "policy": policy_calls,
    "reported": reported_calls,
    "limited": limited_calls,
    "models": model_calls,
    "streams": streams,
    "words": model_streams,
    "nested": nested_calls,
    "batches": batches,
    "wide": wide_calls,
    "threads": threads_started,
    "blocking": blocking_calls,
}
