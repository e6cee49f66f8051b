"""A context for each piece of work, so that what it sets is seen neither by its siblings nor by the caller."""

from __future__ import annotations

from contextlib import suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING

from langchain_core.runnables.config import set_config_context, var_child_runnable_config

from langchain_parallel_plus._engine.scope import Scope, current_scope
from langchain_parallel_plus.limits.covering import hold_cover

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from langchain_core.runnables import RunnableConfig

__all__ = ("Current", "EnteredContext")


class EnteredContext:
    """A context of its own for a piece of work: LangChain's config in it, the scope, and what its followers set.

    The scope is left out where it stays the same. `later` is passed on to followers.
    """

    __slots__ = ("_manager", "_scope", "context")

    def __init__(self, config: RunnableConfig, scope: Scope | None = None, *, later: bool = False) -> None:
        self._manager: AbstractContextManager[Context] | None = None
        if _traced(config):
            self._manager = set_config_context(config)
            self.context: Context = self._manager.__enter__()
        else:  # what set_config_context does where nobody traces, at a third of the cost
            self.context = copy_context()
            self.context.run(var_child_runnable_config.set, config)
        self._scope = scope
        if scope is not None:
            self.context.run(current_scope.set, scope)
            if scope.ears is not None:
                scope.ears.enter(self.context)
            if scope.cover is not None:
                self.context.run(hold_cover, scope.cover)
            for follower in scope.followers:
                self.context.run(follower.entered, scope, later=later)

    def leave(self) -> None:
        """Undo what LangChain has set for tracing; not from inside the context."""
        if self._manager is not None:
            self._manager.__exit__(None, None, None)
        if self._scope is not None:
            for follower in self._scope.followers:
                follower.left(self._scope)


class Current:
    """LangChain's config in the running context, while a stream works on its next chunk.

    Not between two chunks: then the context is its consumer's again.
    """

    __slots__ = ("_config", "_token")

    def __init__(self, config: RunnableConfig) -> None:
        self._config = config

    def __enter__(self) -> None:
        self._token = var_child_runnable_config.set(self._config)

    def __exit__(self, *raised: object) -> None:
        with suppress(ValueError):  # in another context: the stream is closed by the garbage collector
            var_child_runnable_config.reset(self._token)


def _traced(config: RunnableConfig) -> bool:
    """Return whether a tracer follows the run: only tracers keep a map of runs, which the context must point into."""
    callbacks = config.get("callbacks") or []
    handlers = callbacks if isinstance(callbacks, list) else callbacks.handlers
    return any(hasattr(handler, "run_map") for handler in handlers)
