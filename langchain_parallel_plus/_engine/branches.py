"""Setting a branch up: its config, its context, its scope and its gate, the same for threads and tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.runnables.config import RunnableConfig, ensure_config

from langchain_parallel_plus._engine import abandonment, pulse
from langchain_parallel_plus._engine.cancel import CancelToken
from langchain_parallel_plus._engine.capacity import Capacity, Permit, checked_max_concurrency
from langchain_parallel_plus._engine.context import EnteredContext
from langchain_parallel_plus._engine.open_calls import follow_calls
from langchain_parallel_plus._engine.scope import Scope, blocked_loop, callbacks_for, current_scope
from langchain_parallel_plus.limits.gate.branch_gate import BranchGate
from langchain_parallel_plus.observe.event import listening
from langchain_parallel_plus.observe.followers import followers_below

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun

    from langchain_parallel_plus._engine.fan_out import Branch, FanOutRun
    from langchain_parallel_plus._engine.open_calls import OpenCalls
    from langchain_parallel_plus.observe.event import EventKind

    RunManager = AsyncCallbackManagerForChainRun | CallbackManagerForChainRun

BEFORE_THE_GATE = (abandonment, pulse)
"""Modules with callback handlers of ours, which are to be asked before the gate's: LangChain asks in the order in which
they were registered, and Python warns of those that are not asked any more because one before them has refused."""

__all__ = ("RunningBranch", "Surroundings", "blocking_scope", "capacity_for")


def capacity_for(config: RunnableConfig, outer: Scope | None) -> Capacity | None:
    """Return the cap for the work below a call: the one of the tree around it, or a new one if the config sets its own.

    The config hands `max_concurrency` down, so that a nested call finds the number of the tree again.
    """
    limit = checked_max_concurrency(config.get("max_concurrency"))
    above = outer.capacity if outer is not None else None
    if limit is None or (above is not None and above.limit == limit):
        return above
    return Capacity(limit, above)


def blocking_scope() -> Scope | None:
    """Return the scope around a synchronous call.

    On a loop's thread the call's branches have the slot of the branch around for themselves, one at a time: any other
    slot could be given to a task of the loop, which cannot run before this call is done.
    """
    outer = current_scope.get()
    if outer is None or outer.permit is None or not blocked_loop():
        return outer
    return replace(outer, permit=None, capacity=Capacity(1))


def _for_children(config: RunnableConfig) -> RunnableConfig:
    """Return the config without what is meant for the fan-out's own run."""
    config = ensure_config(config)
    config.pop("run_name", None)
    config.pop("run_id", None)
    return config


class RunningBranch:
    """One branch of one call, ready to run in a context of its own."""

    __slots__ = ("_entered", "_gate", "_set_up_at", "branch", "calls", "config", "context", "index", "scope")

    def __init__(self, index: int, branch: Branch, config: RunnableConfig, scope: Scope) -> None:
        self.index = index
        self.branch = branch
        self.config = config
        self.scope = scope
        self._entered = EnteredContext(config, scope, later=branch.policed)
        self.context = self._entered.context
        self.calls: OpenCalls | None = None
        self._set_up_at = scope.now() if scope.heard else None
        # Where somebody has subscribed the gate is there for its ears: it hears of each model call and its tokens.
        # Followers ask for neither, and it would double what they cost.
        self._gate = BranchGate(scope) if scope.limiters or listening() else None
        if self._gate is not None:
            self._gate.enter(self.context)

    def follow_calls(self) -> None:
        """Know the model calls that it makes in tasks, so that none is left open."""
        self.calls = follow_calls(self.config, self.context)

    def begin(self) -> None:
        """Note that the branch has started, which it may not have by the time the fan-out ends."""
        self.scope.tally.attempts = max(self.scope.tally.attempts, 1)
        if self._set_up_at is not None:
            self._tell("branch.start", seconds=self.scope.now() - self._set_up_at)

    def came_late(self, error: BaseException | None) -> None:
        """Note that a thread which nobody waits for any more has returned."""
        if self._set_up_at is not None:
            self._tell("branch.late", outcome="ok" if error is None else "failed")

    def _tell(self, kind: EventKind, **facts: Any) -> None:
        """Tell those who listen in the branch's context, which may be entered already."""
        self.context.copy().run(partial(self.scope.emit, kind, **facts))

    def end(self) -> None:
        """Give back whatever the branch still holds; call it once, when nothing runs in its context any more."""
        if self.scope.permit is not None:
            self.scope.permit.close()
        if self._gate is not None:
            self._gate.sweep()
        self._entered.leave()


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What all branches of one call have in common."""

    run: FanOutRun
    config: RunnableConfig
    manager: RunManager
    outer: Scope | None
    token: CancelToken
    capacity: Capacity | None
    deadline: float | None

    @classmethod
    def of(
        cls,
        run: FanOutRun,
        config: RunnableConfig,
        manager: RunManager,
        now: Callable[[], float],
        outer: Scope | None,
    ) -> Surroundings:
        """Find out where a call stands; validates `max_concurrency` before anything is started."""
        ends = [run.fan_out.deadline, outer.remaining() if outer is not None else None]
        left = [seconds for seconds in ends if seconds is not None]
        around = cls(
            run=run,
            config=_for_children(config),
            manager=manager,
            outer=outer,
            token=CancelToken(outer.token if outer is not None else None),
            capacity=capacity_for(config, outer),
            deadline=now() + min(left) if left else None,
        )
        # A batch has a scope as well, and as many outermost runs as items.
        inherited = followers_below(outer.followers if outer is not None and outer.path else None, manager.handlers)
        run.telling.started(outer, around.capacity, inherited, manager.run_id)
        run.scopes.extend(around._scope(branch) for branch in run.fan_out.branches)
        return around

    def _scope(self, branch: Branch) -> Scope:
        outer = self.outer
        limiters = self.run.fan_out.limiters
        if outer is not None and outer.limiters:
            limiters = tuple(dict.fromkeys((*outer.limiters, *limiters)))
        return Scope(
            path=(*(outer.path if outer is not None else ()), branch.key),
            run_id=self.run.run_id,
            token=self.token,
            now=self.run.now,
            deadline=self.deadline,
            limiters=limiters,
            weight=branch.weight,
            capacity=self.capacity,
            permit=Permit(self.capacity) if self.capacity is not None else None,
            step=branch.step,
            at_once=outer is not None and outer.at_once,
            fan_out=self.run.fan_out.name,
            followers=self.run.telling.followers,
            time=outer.time if outer is not None else None,
        )

    def set_up(self, index: int) -> RunningBranch:
        """Return branch `index` with its child run's config, as upstream gives it (`map:key:<key>`)."""
        branch = self.run.fan_out.branches[index]
        config = self.config.copy()
        config["tags"] = config["tags"].copy()
        config["metadata"] = config["metadata"].copy()
        config["configurable"] = config["configurable"].copy()
        scope = self.run.scopes[index]
        config["callbacks"] = callbacks_for(scope, self.manager.get_child(f"map:key:{branch.key}"))
        return RunningBranch(index, branch, config, scope)
