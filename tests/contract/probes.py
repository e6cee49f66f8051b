"""What the contract's tests measure with: gauges, and recordings of every callback run."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import patch

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda, RunnableParallel

from langchain_parallel_plus import RunnableParallelPlus
from langchain_parallel_plus._engine.capacity import Capacity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from langchain_core.runnables import Runnable

__all__ = ("Gauge", "Parallel", "Run", "Runs", "caps_made", "in_use", "leaf", "others", "plus")

Parallel = type[RunnableParallel[Any]]


def plus(steps__: Any = None, /, **options: Any) -> RunnableParallelPlus[Any]:
    """Return a fan-out; of any input, which a type checker cannot know from its branches."""
    return RunnableParallelPlus(steps__, **options)


class Gauge:
    """Counts how many threads and tasks are inside at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = 0
        self.peak = 0
        self.entered = 0

    def __enter__(self) -> Self:
        with self._lock:
            self.entered += 1
            self.inside += 1
            self.peak = max(self.peak, self.inside)
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self.inside -= 1


def leaf(gauge: Gauge, seconds: float) -> Runnable[Any, Any]:
    """Return leaf work: in threads a thousandth of the seconds, in tasks on virtual time."""

    def work(value: Any) -> Any:
        with gauge:
            time.sleep(seconds / 1000)
        return value

    async def awork(value: Any) -> Any:
        with gauge:
            await asyncio.sleep(seconds)
        return value

    return RunnableLambda(work, afunc=awork)


def others() -> set[asyncio.Task[Any]]:
    """Return the loop's tasks that have not ended, apart from the one that asks."""
    return asyncio.all_tasks() - {asyncio.current_task()}


@contextmanager
def caps_made() -> Iterator[list[Capacity]]:
    """Collect every cap that the calls inside make."""
    made: list[Capacity] = []
    init = Capacity.__init__

    def recorded(self: Capacity, limit: int, above: Capacity | None = None) -> None:
        init(self, limit, above)
        made.append(self)

    with patch.object(Capacity, "__init__", recorded):
        yield made


def in_use(cap: Capacity) -> bool:
    """Return whether a slot of the cap is taken or waited for."""
    return cap.free != cap.limit or any(request.waiting for request in cap.queue)


@dataclass
class Run:
    """One callback run."""

    id: UUID
    parent: UUID | None
    name: str
    tags: tuple[str, ...]
    metadata: dict[str, Any]
    inputs: Any
    outputs: Any = None
    error: str | None = None
    """Type name only: an exception would keep every frame of its traceback, and their generators, alive."""
    ends: int = 0
    """How often its end or its error was reported."""


@dataclass(eq=False)
class Runs(BaseCallbackHandler):
    """Records every run; in line, so that the order is that of the events."""

    started: list[Run] = field(default_factory=list)
    run_inline = True
    raise_error = True

    def __post_init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def named(self, name: str) -> list[Run]:
        return [run for run in self.started if run.name == name]

    @property
    def open(self) -> list[str]:
        """Names of the runs that were not reported as ended exactly once."""
        return [f"{run.name} ({run.ends})" for run in self.started if run.ends != 1]

    def tree(self, parent: UUID | None = None) -> list[Any]:
        """Return what can be compared between two calls: no ids, siblings sorted by tag and name."""
        children = [run for run in self.started if run.parent == parent]
        rows = [
            (
                run.name,
                run.tags,
                sorted(run.metadata.items(), key=repr),
                run.inputs,
                run.outputs,
                run.error,
                self.tree(run.id),
            )
            for run in children
        ]
        return sorted(rows, key=lambda row: (row[1], row[0]))

    def _start(self, name: str | None, inputs: Any, facts: dict[str, Any]) -> None:
        tags: Sequence[str] = facts.get("tags") or ()
        run = Run(
            id=facts["run_id"],
            parent=facts.get("parent_run_id"),
            name=name or "",
            tags=tuple(tags),
            metadata=dict(facts.get("metadata") or {}),
            inputs=inputs,
        )
        with self._lock:
            self.started.append(run)

    def _end(self, run_id: UUID, outputs: Any = None, error: BaseException | None = None) -> None:
        with self._lock:
            run = next(run for run in self.started if run.id == run_id)
            run.ends += 1
            run.outputs = outputs
            run.error = type(error).__name__ if error is not None else None

    def on_chain_start(self, serialized: Any, inputs: Any, **facts: Any) -> None:
        self._start(facts.get("name"), inputs, facts)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **facts: Any) -> None:
        if "inputs" in facts:  # streams know their input only at their end
            next(run for run in self.started if run.id == run_id).inputs = facts["inputs"]
        self._end(run_id, outputs)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **facts: Any) -> None:
        if "inputs" in facts:
            next(run for run in self.started if run.id == run_id).inputs = facts["inputs"]
        self._end(run_id, error=error)

    def on_chat_model_start(self, serialized: Any, messages: Any, **facts: Any) -> None:
        self._start("model", [[message.content for message in batch] for batch in messages], facts)

    def on_llm_end(self, response: Any, *, run_id: UUID, **facts: Any) -> None:
        self._end(run_id, response.generations[0][0].text)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **facts: Any) -> None:
        self._end(run_id, error=error)
