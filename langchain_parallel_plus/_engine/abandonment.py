"""Ending work that nobody waits for: a thread cannot be stopped, but its next model call can be refused."""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from langchain_parallel_plus._engine.scope import current_scope
from langchain_parallel_plus.errors import BranchAbandonedError
from langchain_parallel_plus.limits.gate.refusals import refuses

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ("refuse_when_abandoned",)


@refuses
class _Refusal(BaseCallbackHandler):
    """Raises at the start of a model call whose fan-out has ended."""

    raise_error = True
    run_inline = True
    ignore_agent = True
    ignore_chain = True
    ignore_custom_event = True
    ignore_retriever = True
    ignore_retry = True

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **kwargs: Any) -> None:
        _check(run_id)

    def on_llm_start(self, serialized: Any, prompts: Any, *, run_id: UUID, **kwargs: Any) -> None:
        _check(run_id)


def _check(run_id: UUID) -> None:
    scope = current_scope.get()
    if scope is None:
        return
    try:
        scope.check()
    except BranchAbandonedError:
        scope.tell_followers("call.refused", detail={"call": run_id})  # nobody else ends the run
        raise


_HANDLER = _Refusal()
_hook: ContextVar[_Refusal | None] = ContextVar("lcpp_refusal", default=None)
register_configure_hook(_hook, inheritable=True)


def refuse_when_abandoned(context: Context) -> None:
    """Refuse model calls that start in `context`, or in a copy of it, after its branch has been given up."""
    context.run(_hook.set, _HANDLER)
