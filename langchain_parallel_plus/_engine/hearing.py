"""Hearing of model calls that are in no branch: a synthesis's, and those of a policy outside of any fan-out.

A branch hears of its calls by its gate; these have gates as well, without limits. What runs in a branch is for that to
tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_parallel_plus._engine.cancel import CancelToken
from langchain_parallel_plus._engine.scope import Scope, current_scope
from langchain_parallel_plus.limits.gate.branch_gate import BranchGate
from langchain_parallel_plus.observe.event import listening
from langchain_parallel_plus.observe.synthesis import heard_by

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

__all__ = ("SynthesisGate", "hear")


@dataclass(slots=True, eq=False)
class _SynthesisScope(Scope):
    """A synthesis outside of any branch."""

    def current(self) -> Scope:
        """Return the branch that runs; this one where there is none, also in a batch, whose scope is no branch."""
        here = current_scope.get()
        return self if here is None or not here.path else here


class SynthesisGate(BranchGate):
    """Hears of a synthesis's model calls."""


def hear(scope: Scope) -> Scope:
    """Give the scope of a policy's run outside of any fan-out a gate, if somebody listens."""
    if listening():
        scope.ears = BranchGate(scope)
    return scope


def _for_synthesis(run_id: UUID, now: Callable[[], float]) -> SynthesisGate | None:
    here = current_scope.get()
    if here is not None and here.path:
        return None
    return SynthesisGate(_SynthesisScope(path=(), run_id=run_id, token=CancelToken(), now=now))


heard_by(_for_synthesis)
