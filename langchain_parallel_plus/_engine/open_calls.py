"""Model calls that were cancelled: their runs end too.

langchain-core tells nobody that an `ainvoke` of a model was cancelled: its run would stay open in every trace.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseCallbackHandler
from langchain_core.outputs import LLMResult
from langchain_core.tracers.context import register_configure_hook

from langchain_parallel_plus._engine.scope import blocked_loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig

__all__ = ("OpenCalls", "end_calls", "follow_calls")

_log = logging.getLogger("langchain_parallel_plus")


class OpenCalls(BaseCallbackHandler):
    """Keeps which model calls of one branch have begun and not ended; of its tasks, because threads end theirs."""

    run_inline = True
    ignore_agent = True
    ignore_chain = True
    ignore_custom_event = True
    ignore_retriever = True
    ignore_retry = True

    def __init__(self, handlers: Sequence[BaseCallbackHandler]) -> None:
        self._handlers = list(handlers)
        self._open: dict[UUID, tuple[AsyncCallbackManagerForLLMRun, asyncio.Task[Any] | None]] = {}

    def on_chat_model_start(self, serialized: Any, messages: Any, **facts: Any) -> None:
        self._begun(**facts)

    def on_llm_start(self, serialized: Any, prompts: Any, **facts: Any) -> None:
        self._begun(**facts)

    def on_llm_end(self, response: Any, *, run_id: UUID, **facts: Any) -> None:
        self._open.pop(run_id, None)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **facts: Any) -> None:
        self._open.pop(run_id, None)

    def _begun(
        self, *, run_id: UUID, parent_run_id: UUID | None = None, tags: list[str] | None = None, **facts: Any
    ) -> None:
        if parent_run_id is None or not blocked_loop():  # none of the branch's handlers has heard of it, or a thread's
            return
        run = AsyncCallbackManagerForLLMRun(
            run_id=run_id, handlers=self._handlers[:], inheritable_handlers=[], parent_run_id=parent_run_id, tags=tags
        )
        self._open[run_id] = run, asyncio.current_task()

    async def end(self) -> None:
        """Tell the handlers of every call whose task has ended without its end that it was cancelled.

        A task that the branch has left behind on purpose goes on, and tells of its calls itself.
        """
        over = [run_id for run_id, (_, task) in self._open.items() if task is None or task.done()]
        for run, _ in [self._open.pop(run_id) for run_id in over]:
            run.handlers = [handler for handler in run.handlers if _has_open(handler, run.run_id)]
            try:
                await run.on_llm_error(asyncio.CancelledError(), response=LLMResult(generations=[]))
            except Exception as error:  # a handler's: it must not hide why the calls were cancelled
                _log.warning("a callback handler failed on a cancelled model call: %r", error)


def _has_open(handler: BaseCallbackHandler, run_id: UUID) -> bool:
    """Return whether a handler still waits for a run's end; a tracer that has been told of it complains."""
    return str(run_id) in getattr(handler, "run_map", (str(run_id),))


_hook: ContextVar[OpenCalls | None] = ContextVar("lcpp_open_calls", default=None)
register_configure_hook(_hook, inheritable=True)


def follow_calls(config: RunnableConfig, context: Context) -> OpenCalls | None:
    """Follow the model calls that tasks make in `context` or copies of it, if a handler would hear of their end.

    Only where a handler works inline, as tracers do: langchain-core leaves the others out of the start of completion
    models' calls as soon as there is one that does.
    """
    callbacks = config.get("callbacks") or []
    handlers = callbacks if isinstance(callbacks, list) else callbacks.handlers
    if not any(handler.run_inline for handler in handlers):
        return None
    calls = OpenCalls([handler for handler in handlers if not handler.ignore_llm])
    context.run(_hook.set, calls)
    return calls


async def end_calls(calls: Iterable[OpenCalls | None]) -> None:
    """End whatever is open of branches that have ended."""
    for one in calls:
        if one is not None:
            await one.end()
