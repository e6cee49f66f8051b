"""In place of a run that nobody would hear of: a branch's policy needs one only where somebody follows the runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackManager

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.runnables import RunnableConfig

__all__ = ("AsyncUnheard", "Unheard", "unheard")


class _Unheard:
    """What the policy drivers use of a run manager; its children are children of the run above."""

    __slots__ = ("_callbacks", "run_id")

    handlers: Sequence[BaseCallbackHandler] = ()

    def __init__(self, callbacks: BaseCallbackManager, run_id: UUID) -> None:
        self._callbacks = callbacks
        self.run_id = run_id

    def get_child(self, tag: str | None = None) -> BaseCallbackManager:
        """Return the callbacks of a child run."""
        if tag is None:
            return self._callbacks
        child = self._callbacks.copy()
        child.add_tags([tag], inherit=False)
        return child


class Unheard(_Unheard):
    """For threads."""

    def on_retry(self, retry_state: Any) -> None:
        """Tell nobody."""


class AsyncUnheard(_Unheard):
    """For tasks."""

    async def on_retry(self, retry_state: Any) -> None:
        """Tell nobody."""


def unheard(config: RunnableConfig | None) -> tuple[BaseCallbackManager, UUID] | None:
    """Return the callbacks and the run above if nobody listens to chains there; `None` if anybody might."""
    callbacks = None if config is None else config.get("callbacks")
    if not isinstance(callbacks, BaseCallbackManager) or callbacks.parent_run_id is None:
        return None
    if any(not (handler.ignore_chain and handler.ignore_retry) for handler in callbacks.handlers):
        return None
    return callbacks, callbacks.parent_run_id
