"""Telling of a synthesis: what joins a fan-out's outputs calls this around its work."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from langchain_parallel_plus.observe.correlation import here
from langchain_parallel_plus.observe.event import Event, emit, error_type, listening
from langchain_parallel_plus.observe.followers import followers_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from uuid import UUID

    from langchain_core.callbacks import BaseRunManager

    from langchain_parallel_plus.observe.correlation import Place
    from langchain_parallel_plus.outcome import BranchOutcome

__all__ = ("heard_by", "telling_synthesis")


class Hearing(Protocol):
    """A callback handler that tells of the model calls which it hears of."""

    def sweep(self) -> None:
        """Close the calls that are open."""


_hear: Callable[[UUID, Callable[[], float]], Hearing | None] = lambda *_: None  # noqa: E731 - replaced by the engine


def heard_by(hear: Callable[[UUID, Callable[[], float]], Hearing | None]) -> None:
    """Let `hear` make what hears of the model calls of a synthesis, by its run and its clock; of those in no branch."""
    global _hear
    _hear = hear


@contextmanager
def telling_synthesis(
    strategy: str,
    *,
    run_id: UUID,
    inputs: int,
    handlers: Iterable[object] = (),
    manager: BaseRunManager | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[dict[str, Any]]:
    """Tell listeners when a synthesis begins, and how it ends; costs next to nothing while nobody listens.

    Its model calls are told of with it, unless a branch tells of them, where it is given its callback manager.

    Yields a dict for what is known only at its end: `dropped` (how many inputs were left out), `agreement` (of a vote),
    and for `inputs` where there were more or fewer than it began with.

    Args:
        strategy: What it does, in a word or two, such as "llm", "vote" or "rank_fusion".
        run_id: Its run.
        inputs: How many branches' outputs it joins.
        handlers: The callback handlers of its run.
        manager: In place of `handlers`, the callback manager of its run: what it calls is then inside it in traces.
        now: The clock; the event loop's in async code.

    Example:
        ```python
        with telling_synthesis("vote", run_id=manager.run_id, inputs=len(outputs), manager=manager) as told:
            result = winner(outputs)
            told["agreement"] = result.agreement
        ```
    """
    told: dict[str, Any] = {}
    if manager is not None:
        handlers = manager.handlers
    place: Place | None = here()
    followers = followers_below(place.followers if place is not None and place.path else None, handlers)
    if not followers and not listening():
        yield told
        return
    started = now()
    path = () if place is None else place.path
    detail = {"strategy": strategy, "inputs": inputs}
    begun = Event(kind="synthesis.start", at=started, run_id=run_id, path=path, detail=detail)
    emit(begun, followers)
    if manager is not None:
        for follower in followers:
            manager.handlers = follower.surround(run_id, manager.handlers)
            manager.inheritable_handlers = follower.surround(run_id, manager.inheritable_handlers)
    hearing = _hear_calls(run_id, manager, now)
    outcome: BranchOutcome = "cancelled"
    try:
        yield told
        outcome = "ok"
    except Exception as error:
        outcome = "failed"
        told["error_type"] = error_type(error)
        raise
    finally:
        if hearing is not None:
            hearing.sweep()
        at = now()
        ended = replace(
            begun, kind="synthesis.end", at=at, seconds=at - started, outcome=outcome, detail={**detail, **told}
        )
        emit(ended, followers)


def _hear_calls(run_id: UUID, manager: BaseRunManager | None, now: Callable[[], float]) -> Hearing | None:
    """Hear of the model calls below; of those of a synthesis inside another the inner one tells."""
    hearing = _hear(run_id, now) if manager is not None and listening() else None
    if manager is not None and hearing is not None:
        kind: type[object] = type(hearing)
        others = [one for one in manager.inheritable_handlers if type(one) is not kind]
        manager.inheritable_handlers = [*others, hearing]  # type: ignore[list-item]  # it is one
    return hearing
