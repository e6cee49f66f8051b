"""The limiter: how much of a quota is used, at how many refusals, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks.quota.crowds import crowds, uncontended
from tests.benchmarks.quota.idle import idle_key
from tests.benchmarks.quota.learned import learned_quotas
from tests.benchmarks.quota.matrix import quota_bound, quota_bound_in_short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("CASES",)

CASES: dict[str, Callable[[], Iterator[str]]] = {
    "uncontended": uncontended,
    "crowds": crowds,
    "idle": idle_key,
    "learned": learned_quotas,
    "quota": quota_bound,
    "quota-short": quota_bound_in_short,
}
