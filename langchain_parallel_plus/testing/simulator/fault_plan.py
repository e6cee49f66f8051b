"""Which requests fail, decided by their numbers and a seed: the same in every run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.testing.simulator.fault import AnyFault

if TYPE_CHECKING:
    from collections.abc import Container

    from langchain_parallel_plus.testing.simulator.chat import ChatRequest

__all__ = ("FaultPlan", "FaultRule")

_HASH_RANGE = float(1 << 64)


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One fault, and the requests that it befalls: a share of them, every n-th, or those of certain numbers.

    Requests are numbered by arrival from 0. A burst is a range: `at=range(100, 150)`.

    Raises:
        DeclarationError: If not exactly one of `share`, `every` and `at` is given, or one is out of range.
    """

    fault: AnyFault
    share: float | None = None
    """Probability, 0 to 1."""
    every: int | None = None
    """3 means requests 2, 5, 8 and so on."""
    at: Container[int] | None = None
    """Numbers of requests: a set, a list, a range."""

    def __post_init__(self) -> None:
        if not isinstance(self.fault, AnyFault):
            raise DeclarationError(f"a rule's fault must be one, got {self.fault!r}", help="such as Fault(status=503)")
        if [self.share, self.every, self.at].count(None) != 2:
            raise DeclarationError(
                f"a rule needs one of share, every and at, got share={self.share!r}, every={self.every!r}, "
                f"at={self.at!r}",
                help="use two rules for one fault in two ways",
            )
        share, every = self.share, self.every
        if share is not None and not (isinstance(share, int | float) and 0 <= share <= 1):
            raise DeclarationError(f"a rule's share must be between 0 and 1, got {share!r}")
        if every is not None and not (isinstance(every, int) and every >= 1):
            raise DeclarationError(f"a rule's every must be a whole number >= 1, got {every!r}")

    def befalls(self, index: int, chance: float) -> bool:
        """Return whether request `index`, which has drawn `chance` (0 to 1), is one of them."""
        if self.share is not None:
            return chance < self.share
        if self.every is not None:
            return index % self.every == self.every - 1
        return self.at is not None and index in self.at


class FaultPlan:
    """Faults by rule, to be given as `fail`; a pure function of a request's number.

    The first rule that befalls a request decides. Shares are drawn from `seed`, the number of the rule and the number
    of the request, so a second run has the same faults at the same numbers, whatever the timing.

    Args:
        *rules: The rules, the first one first.
        seed: Another seed strikes other requests.

    Example:
        ```python
        from langchain_parallel_plus.testing import Fault, FaultPlan, FaultRule, Hang, ProviderSimulator

        plan = FaultPlan(
            FaultRule(Fault(status=429), at=range(20, 30)),  # a burst of refusals without Retry-After
            FaultRule(Hang(), every=100),
            FaultRule(Fault(status=529), share=0.05),
            seed=7,
        )
        with ProviderSimulator(fail=plan) as sim:
            print(sim.base_url)
        ```

    Raises:
        DeclarationError: If a rule is no `FaultRule`.
    """

    def __init__(self, *rules: FaultRule, seed: int = 0) -> None:
        for rule in rules:
            if not isinstance(rule, FaultRule):
                raise DeclarationError(f"a plan's rules must be of FaultRule, got {rule!r}")
        self._rules = rules
        self._seed = seed

    def __call__(self, request: ChatRequest) -> AnyFault | None:
        """Return the fault for a request, or None."""
        return self.at(request.index)

    def at(self, index: int) -> AnyFault | None:
        """Return the fault for the request of that number, or None."""
        for place, rule in enumerate(self._rules):
            if rule.befalls(index, self._chance(place, index) if rule.share is not None else 0.0):
                return rule.fault
        return None

    def _chance(self, place: int, index: int) -> float:
        drawn = hashlib.blake2b(f"{self._seed}/{place}/{index}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn) / _HASH_RANGE

    def __repr__(self) -> str:
        return f"FaultPlan({', '.join([*map(repr, self._rules), f'seed={self._seed!r}'])})"
