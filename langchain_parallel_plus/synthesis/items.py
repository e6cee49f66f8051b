"""A fan-out with a branch for each item of a list, made when the list is known."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig

from langchain_parallel_plus._engine.chunks import whole
from langchain_parallel_plus._engine.prepared import for_tasks, for_threads
from langchain_parallel_plus.fanout import RunnableParallelPlus
from langchain_parallel_plus.policy import BranchPolicies, BranchPolicy, Fallback
from langchain_parallel_plus.resilient import RunnableWithPolicy

if TYPE_CHECKING:
    from langchain_parallel_plus.limits import RateLimiter
    from langchain_parallel_plus.policy import JoinPolicy

__all__ = ("fan_out_over",)

Items = Mapping[str, Any]


class _OnItem(Runnable[Items, Any]):
    """Runs a runnable on one of the items. It has no run of its own in traces."""

    def __init__(self, bound: Runnable[Any, Any], key: str) -> None:
        self._bound = bound
        self._in_threads = for_threads(bound)
        self._in_tasks = for_tasks(bound)
        self._key = key

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        return self._bound.get_name(suffix, name=name)

    def invoke(self, input: Items, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return self._in_threads.invoke(input[self._key], config, **kwargs)

    async def ainvoke(self, input: Items, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return await self._in_tasks.ainvoke(input[self._key], config, **kwargs)

    def transform(self, input: Iterator[Items], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        item = whole(input)[self._key]
        with closing(self._in_threads.transform(iter([item]), config, **kwargs)) as chunks:  # type: ignore[type-var]
            yield from chunks

    async def atransform(
        self, input: AsyncIterator[Items], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        item = whole([chunk async for chunk in input])[self._key]

        async def items() -> AsyncIterator[Any]:
            yield item

        stream = self._in_tasks.atransform(items(), config, **kwargs)
        async with aclosing(stream) as chunks:  # type: ignore[type-var]  # a generator, typed as an iterator
            async for chunk in chunks:
                yield chunk


def fan_out_over(
    items: Items,
    step: Runnable[Any, Any],
    *,
    policy: BranchPolicy,
    join: JoinPolicy | None,
    limits: tuple[RateLimiter, ...],
    name: str = "map",
) -> RunnableParallelPlus[Items]:
    """Return a fan-out over `items`: its input is `items`, each branch sees its own.

    A `join` that asks for more items than there are asks for all of them.
    """
    made = RunnableParallelPlus[Items](
        {key: _OnItem(step, key) for key in items},
        name=name,
        policies=BranchPolicies(policy, {key: _for_item(policy, key) for key in items} if _sees_input(policy) else {}),
        join=_at_most(join, len(items)),
        limits=limits,
    )
    made._dynamic = True
    return made


def _sees_input(policy: BranchPolicy) -> bool:
    return bool(policy.fallbacks) or callable(policy.cost)


def _for_item(policy: BranchPolicy, key: str) -> BranchPolicy:
    """Return `policy` with what it gives a branch's input to given the item instead."""
    cost = policy.cost
    return replace(
        policy,
        fallbacks=tuple(_fallback(one, key) for one in policy.fallbacks or ()),
        cost=(lambda items: cost(items[key])) if callable(cost) else cost,
    )


def _fallback(given: Any, key: str) -> Any:
    """Return a fallback that is given the item; what it is for, and its own policy, stay where they are looked for."""
    if isinstance(given, Fallback):
        return replace(given, runnable=_fallback(given.runnable, key))
    if isinstance(given, RunnableWithPolicy):
        return RunnableWithPolicy(_OnItem(given.bound, key), _for_item(given.policy, key), name=given.name)
    return _OnItem(given, key)


def _at_most(join: JoinPolicy | None, items: int) -> JoinPolicy | None:
    if join is None:
        return None
    wait_for = min(join.wait_for, items) if isinstance(join.wait_for, int) else join.wait_for
    min_success = None if join.min_success is None else min(join.min_success, items)
    return replace(join, wait_for=wait_for, min_success=min_success)
