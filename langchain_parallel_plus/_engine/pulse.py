"""Signs of life of a call: every callback of a run beneath it."""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Pulse",)


class Pulse(BaseCallbackHandler):
    """Knows when the last callback came: the start or end of a run, a token, a custom event."""

    run_inline = True

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.at = now()

    def listen(self, context: Context) -> None:
        """Hear what starts in `context` or in a copy of it, also where callbacks are set anew."""
        context.run(_hook.set, self)

    def _beat(self, *_: Any, **__: Any) -> None:
        self.at = self._now()


_CALLBACKS: Final = (
    "on_chain_start", "on_chain_end", "on_chain_error", "on_chat_model_start", "on_llm_start", "on_llm_new_token",
    "on_llm_end", "on_llm_error", "on_tool_start", "on_tool_end", "on_tool_error", "on_retriever_start",
    "on_retriever_end", "on_retriever_error", "on_agent_action", "on_agent_finish", "on_text", "on_retry",
    "on_custom_event",
)  # fmt: skip
for _name in _CALLBACKS:
    setattr(Pulse, _name, Pulse._beat)

_hook: ContextVar[Pulse | None] = ContextVar("lcpp_pulse", default=None)
register_configure_hook(_hook, inheritable=True)
