"""A call as a run of its own: started before the work, and ended whatever becomes of it.

`Runnable._call_with_config` does the same and inspects the signature of the work each time, which costs more than the
rest of a fan-out's bookkeeping. It also leaves LangSmith's inheritable metadata out in sync runs (`thread_id` is lost).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.runnables.config import (
    ensure_config,
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
)

from langchain_parallel_plus._engine.capacity import checked_max_concurrency

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
    from langchain_core.runnables import RunnableConfig

__all__ = ("atraced", "traced")


def traced(
    name: str,
    value: Any,
    config: RunnableConfig | None,
    work: Callable[[RunnableConfig, CallbackManagerForChainRun], Any],
) -> Any:
    """Do `work` as a run called `name`, unless the config names it."""
    config = ensure_config(config)
    checked_max_concurrency(config.get("max_concurrency"))
    run_manager = get_callback_manager_for_config(config).on_chain_start(
        None, value, name=config.get("run_name") or name, run_id=config.pop("run_id", None)
    )
    try:
        output = work(config, run_manager)
    except BaseException as error:
        run_manager.on_chain_error(error)
        raise
    run_manager.on_chain_end(output)
    return output


async def atraced(
    name: str,
    value: Any,
    config: RunnableConfig | None,
    work: Callable[[RunnableConfig, AsyncCallbackManagerForChainRun], Awaitable[Any]],
) -> Any:
    """Do `work` as a run called `name`, unless the config names it."""
    config = ensure_config(config)
    checked_max_concurrency(config.get("max_concurrency"))
    run_manager = await get_async_callback_manager_for_config(config).on_chain_start(
        None, value, name=config.get("run_name") or name, run_id=config.pop("run_id", None)
    )
    try:
        output = await work(config, run_manager)
    except BaseException as error:
        await run_manager.on_chain_error(error)
        raise
    await run_manager.on_chain_end(output)
    return output
