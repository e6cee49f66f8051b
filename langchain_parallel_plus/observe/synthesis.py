"""Telling of a synthesis: what joins a fan-out's outputs calls this around its work."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from langchain_parallel_plus.observe.correlation import here
from langchain_parallel_plus.observe.event import Event, emit, listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from langchain_parallel_plus.outcome import BranchOutcome

__all__ = ("telling_synthesis",)


@contextmanager
def telling_synthesis(
    strategy: str, *, run_id: UUID, inputs: int, now: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Tell listeners when a synthesis begins, and how it ends; costs nothing while nobody listens.

    Args:
        strategy: What it does, in a word or two, such as "llm", "vote" or "rank_fusion".
        run_id: Its run.
        inputs: How many branches' outputs it joins.
        now: The clock; the event loop's in async code.

    Example:
        ```python
        with telling_synthesis("vote", run_id=run_manager.run_id, inputs=len(outputs)):
            return winner(outputs)
        ```
    """
    if not listening():
        yield
        return
    place, started = here(), now()
    path = () if place is None else place.path
    detail = {"strategy": strategy, "inputs": inputs}
    emit(Event(kind="synthesis.start", at=started, run_id=run_id, path=path, detail=detail))
    outcome: BranchOutcome = "cancelled"
    try:
        yield
        outcome = "ok"
    except Exception:
        outcome = "failed"
        raise
    finally:
        at = now()
        emit(
            Event(
                kind="synthesis.end",
                at=at,
                run_id=run_id,
                path=path,
                seconds=at - started,
                outcome=outcome,
                detail=detail,
            )
        )
