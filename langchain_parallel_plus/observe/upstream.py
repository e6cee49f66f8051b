"""A chain seen from outside: what it is made of, and the same with `RunnableParallel` for each of its fan-outs."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import Runnable, RunnableBranch, RunnableParallel, RunnableSequence, RunnableWithFallbacks

__all__ = ("parts", "with_upstream")

_FIELDS = ("bound", "mapper", "reducer")
"""Where a binding, a retry, a `map()`, a policy, an `assign` and a `MapReduce` hold what they run."""


def parts(step: object) -> list[Runnable[Any, Any]]:
    """Return what a runnable runs, as far as that can be seen: what a function or a graph calls cannot."""
    if isinstance(step, RunnableParallel):
        return list(step.steps__.values())
    if isinstance(step, RunnableSequence):
        return step.steps
    if isinstance(step, RunnableWithFallbacks):
        return [step.runnable, *step.fallbacks]
    if isinstance(step, RunnableBranch):
        return [*(one for _, one in step.branches), step.default]
    return [getattr(step, name) for name in _held(step)]


def with_upstream(step: Runnable[Any, Any]) -> tuple[Runnable[Any, Any], int]:
    """Return `step` with upstream's class for each fan-out that can be seen, and how many it had of ours.

    What is around a fan-out stays: a retry, a fallback or a policy is a choice of its own.
    """
    changed = [with_upstream(one) for one in parts(step)]
    made, found = [one for one, _ in changed], sum(count for _, count in changed)
    if callable(as_upstream := getattr(type(step), "_as_upstream", None)):  # it makes its fan-out when it runs
        return as_upstream(step, *made), found + 1
    ours = isinstance(step, RunnableParallel) and hasattr(step, "policies")
    return (_rebuilt(step, made), found + ours) if found or ours else (step, 0)


def _rebuilt(step: Runnable[Any, Any], made: list[Runnable[Any, Any]]) -> Runnable[Any, Any]:
    if isinstance(step, RunnableParallel):
        return RunnableParallel(dict(zip(step.steps__, made, strict=True)))
    if isinstance(step, RunnableSequence):
        return RunnableSequence(*made, name=step.name)
    if isinstance(step, RunnableWithFallbacks):
        return step.model_copy(update={"runnable": made[0], "fallbacks": made[1:]})
    if isinstance(step, RunnableBranch):
        conditions = [condition for condition, _ in step.branches]
        branches = list(zip(conditions, made[:-1], strict=True))
        return step.model_copy(update={"branches": branches, "default": made[-1]})
    copied: Runnable[Any, Any] = step.model_copy(update=dict(zip(_held(step), made, strict=True)))  # type: ignore[attr-defined]
    return copied


def _held(step: object) -> list[str]:
    names = (name for name in _FIELDS if name in getattr(type(step), "model_fields", {}))
    return [name for name in names if isinstance(getattr(step, name), Runnable)]
