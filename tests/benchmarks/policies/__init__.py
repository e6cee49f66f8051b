"""Policies: what they cost a call that succeeds, and what hedging makes of a slow tail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks.policies.costs import full_policy, single_policies
from tests.benchmarks.policies.tail import hedged_tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("CASES",)

CASES: dict[str, Callable[[], Iterator[object]]] = {
    "full-policy": full_policy,
    "single-policies": single_policies,
    "tail": hedged_tail,
}
