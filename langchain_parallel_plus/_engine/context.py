"""A context for each piece of work, so that what it sets is seen neither by its siblings nor by the caller."""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import TYPE_CHECKING

from langchain_core.runnables.config import set_config_context, var_child_runnable_config

from langchain_parallel_plus._engine.scope import Scope, current_scope

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from langchain_core.runnables import RunnableConfig

__all__ = ("EnteredContext",)


class EnteredContext:
    """A context of its own for a piece of work: LangChain's config in it, the scope, and what its followers set.

    `later` is passed on to followers.
    """

    __slots__ = ("_manager", "_scope", "context")

    def __init__(self, config: RunnableConfig, scope: Scope, *, later: bool = False) -> None:
        self._manager: AbstractContextManager[Context] | None = None
        if _traced(config):
            self._manager = set_config_context(config)
            self.context: Context = self._manager.__enter__()
        else:  # what set_config_context does where nobody traces, at a third of the cost
            self.context = copy_context()
            self.context.run(var_child_runnable_config.set, config)
        self.context.run(current_scope.set, scope)
        self._scope = scope
        for follower in scope.followers:
            self.context.run(follower.entered, scope, later=later)

    def leave(self) -> None:
        """Undo what LangChain has set for tracing; not from inside the context."""
        if self._manager is not None:
            self._manager.__exit__(None, None, None)
        for follower in self._scope.followers:
            follower.left(self._scope)


def _traced(config: RunnableConfig) -> bool:
    """Return whether a tracer follows the run: only tracers keep a map of runs, which the context must point into."""
    callbacks = config.get("callbacks") or []
    handlers = callbacks if isinstance(callbacks, list) else callbacks.handlers
    return any(hasattr(handler, "run_map") for handler in handlers)
