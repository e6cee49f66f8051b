"""`RunnableLambda` in async runs: a blocking function goes to a thread, and signatures are read once.

langchain-core reads four signatures at every call of one, which is most of what a quick function costs.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.config import call_func_with_variable_args, patch_config
from langchain_core.runnables.utils import coro_with_context

from langchain_parallel_plus._engine.context import EnteredContext
from langchain_parallel_plus._engine.in_worker import in_worker
from langchain_parallel_plus._engine.traced import atraced, traced

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
    from langchain_core.runnables import RunnableConfig

__all__ = ("read_once",)


class _ReadOnce(RunnableLambda[Any, Any]):
    """A `RunnableLambda` that knows what `_invoke` and `_ainvoke` take, and runs what has no async form in a thread."""

    def _call_with_config(  # type: ignore[override]  # only ever called with `_invoke`
        self, func: Callable[..., Any], input_: Any, config: RunnableConfig | None, **kwargs: Any
    ) -> Any:
        def work(config: RunnableConfig, manager: CallbackManagerForChainRun) -> Any:
            config = patch_config(config, callbacks=manager.get_child())
            entered = EnteredContext(config)
            try:
                return entered.context.run(func, input_, manager, config, **kwargs)
            finally:
                entered.leave()

        return traced(self.get_name(), input_, config, work)

    async def _acall_with_config(  # type: ignore[override]  # only ever called with `_ainvoke`
        self, func: Callable[..., Coroutine[Any, Any, Any]], input_: Any, config: RunnableConfig | None, **kwargs: Any
    ) -> Any:
        async def work(config: RunnableConfig, manager: AsyncCallbackManagerForChainRun) -> Any:
            config = patch_config(config, callbacks=manager.get_child())
            entered = EnteredContext(config)
            try:
                return await coro_with_context(func(input_, manager, config, **kwargs), entered.context)
            finally:
                entered.leave()

        return await atraced(self.get_name(), input_, config, work)

    async def _ainvoke(
        self, value: Any, run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Any:
        if hasattr(self, "afunc"):
            return await super()._ainvoke(value, run_manager, config, **kwargs)
        # A generator function, whose chunks are added up.
        return await in_worker(lambda: self._invoke(value, run_manager.get_sync(), config, **kwargs))


def read_once(step: RunnableLambda[Any, Any]) -> RunnableLambda[Any, Any]:
    """Return `step` as branches call it."""
    shadow = _ReadOnce.__new__(_ReadOnce)
    vars(shadow).update(vars(step), name=step.get_name())
    for name in ("func", "afunc"):
        if hasattr(step, name):
            setattr(shadow, name, _known(getattr(step, name)))
    if not hasattr(step, "afunc") and not inspect.isgeneratorfunction(step.func):
        shadow.afunc = _known(_threaded(shadow.func))
    return shadow


def _threaded(func: Callable[..., Any]) -> Callable[..., Any]:
    async def afunc(
        value: Any, run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Any:
        sync = run_manager.get_sync()
        return await in_worker(lambda: call_func_with_variable_args(func, value, config, sync, **kwargs))

    return afunc


def _known(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return `func` with its signature at hand, for `inspect` to find."""
    if not inspect.isroutine(func):
        return func  # langchain-core looks into its `__call__`
    try:
        signature = inspect.signature(func)
    except ValueError:  # a builtin may have none
        return func
    known = partial(func)
    known.__signature__ = signature  # type: ignore[attr-defined]
    return known
