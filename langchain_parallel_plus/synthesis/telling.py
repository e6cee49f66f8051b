"""What listeners are told of a synthesis by a model: from its first model call to the end of its answer."""

from __future__ import annotations

from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from langchain_parallel_plus.observe import telling_synthesis

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun

    from langchain_parallel_plus.synthesis.reading import Reading

__all__ = ("Telling",)


class Telling:
    """Tells of one run: behind a stream its first digests are written before all of the input is known."""

    def __init__(
        self,
        manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._manager = manager
        self._now = now
        self._opened = ExitStack()
        self._told: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._opened.__exit__(kind, error, trace)

    def begin(self, inputs: int, *, reduces: bool) -> dict[str, Any]:
        """Tell, once, that it begins with so many branches; return what its end will tell."""
        if self._told is None:
            strategy = "map_reduce" if reduces else "llm"
            run_id, manager = self._manager.run_id, self._manager
            telling = telling_synthesis(strategy, run_id=run_id, inputs=inputs, manager=manager, now=self._now)
            self._told = self._opened.enter_context(telling)
        return self._told

    def read(self, reading: Reading) -> None:
        """Take note of an input that is all there."""
        inputs = len(reading.found.shown)
        told = self.begin(inputs, reduces=reading.reduces)
        told.update(inputs=inputs, dropped=len(reading.found.missing))
