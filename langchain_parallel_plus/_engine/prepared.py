"""Branches as threads and tasks call them: the same runnables, with what langchain-core leaves out or does slowly.

`Runnable.ainvoke` and a `RunnableLambda` of a plain function run in the loop's default executor, which has cpu + 4
threads for everything in the process: on two cores, 60 blocking branches go 6 at a time. In tasks, blocking parts run
in this package's threads instead. In both, streams close what they read, and signatures are read once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableLambda, RunnableSequence
from langchain_core.runnables.base import RunnableBinding

from langchain_parallel_plus._engine.closing_steps import closing_binding, closing_sequence
from langchain_parallel_plus._engine.in_worker import in_worker
from langchain_parallel_plus._engine.lambdas import read_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    Prepare = Callable[[Runnable[Any, Any]], Runnable[Any, Any]]

__all__ = ("for_tasks", "for_threads")


class _InWorker(Runnable[Any, Any]):
    """A runnable that has no async form of its own, called in a worker thread."""

    def __init__(self, step: Runnable[Any, Any]) -> None:
        self._step = step

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return self._step.invoke(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return await in_worker(lambda: self._step.invoke(input, config, **kwargs))


def for_threads(step: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return `step` as sync runs call it; the same if it cannot be taken apart."""
    return _taken_apart(step, for_threads) or step


def for_tasks(step: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return `step` as async runs call it; the same if it cannot be taken apart."""
    return _taken_apart(step, for_tasks) or (_InWorker(step) if _is_sync(step) else step)


def _taken_apart(step: Runnable[Any, Any], prepare: Prepare) -> Runnable[Any, Any] | None:
    # Subclasses may have replaced what is relied on here, so only these very types are taken apart.
    kind = type(step)
    if isinstance(step, RunnableLambda) and kind is RunnableLambda:
        return read_once(step)
    if isinstance(step, RunnableSequence) and kind is RunnableSequence:
        return closing_sequence(step, [prepare(one) for one in step.steps])
    if isinstance(step, RunnableBinding) and kind is RunnableBinding:
        return closing_binding(step, prepare(step.bound))
    return None


def _is_sync(step: Runnable[Any, Any]) -> bool:
    """Return whether a runnable has no async form of its own."""
    kind = type(step)
    return (
        kind.ainvoke is Runnable.ainvoke and kind.atransform is Runnable.atransform and kind.astream is Runnable.astream
    )
