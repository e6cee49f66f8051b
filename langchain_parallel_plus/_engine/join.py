"""When a fan-out is done: counting, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_parallel_plus.policy import JoinPolicy

__all__ = ("JoinCount", "JoinRule", "Verdict")


class Verdict(Enum):
    """What to do after a branch has ended."""

    WAIT = auto()
    DONE = auto()
    TOO_FEW = auto()


@dataclass(frozen=True, slots=True)
class JoinRule:
    """A `JoinPolicy`'s numbers for a fan-out of known size."""

    enough: int | None
    """Successes after which the others are not waited for; `None` waits for all."""
    least: int
    """Successes below which the fan-out fails."""

    @classmethod
    def of(cls, policy: JoinPolicy | None) -> JoinRule:
        """Read the numbers off a policy."""
        if policy is None:
            return cls(enough=None, least=0)
        enough = policy.wait_for if isinstance(policy.wait_for, int) else None
        least = policy.min_success if policy.min_success is not None else (enough or 0)
        return cls(enough=enough, least=least)


@dataclass(frozen=True, slots=True)
class JoinCount:
    """How many branches are where."""

    pending: int
    required: int
    """Those of the pending ones that must be waited for."""
    successes: int = 0

    def ended(self, *, success: bool, required: bool) -> JoinCount:
        """Return the count after one more branch has ended."""
        return JoinCount(self.pending - 1, self.required - required, self.successes + success)

    def verdict(self, rule: JoinRule) -> Verdict:
        """Return what to do now."""
        if self.successes + self.pending < rule.least:
            return Verdict.TOO_FEW
        if self.pending == 0:
            return Verdict.DONE
        if rule.enough is not None and self.successes >= rule.enough and self.required == 0:
            return Verdict.DONE
        return Verdict.WAIT
