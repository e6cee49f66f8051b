"""Random trees of fan-outs, the runnables they make, and what they must come to, worked out without an engine."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from langchain_parallel_plus import BranchFailure, BranchPolicy, JoinPolicy, RunnableParallelPlus

__all__ = ("Fan", "Leaf", "World", "deadlines", "ending", "kept", "leaves", "shown", "trees")


def _pass(inputs: Iterator[Any]) -> Iterator[Any]:
    yield from inputs


async def _apass(inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for chunk in inputs:
        yield chunk


PASSING: Runnable[Any, Any] = RunnableGenerator(_pass, _apass)


class LeafError(Exception):
    """What a failing leaf raises."""


@dataclass(frozen=True)
class Leaf:
    """A piece of work that takes `delay` units of time."""

    name: str
    delay: float
    fails: bool
    streams: bool = False
    """Whether it is a generator, and not a function."""


@dataclass(frozen=True)
class Fan:
    """A fan-out over trees."""

    name: str
    branches: tuple[Leaf | Fan, ...]
    on_failure: tuple[str, ...]
    join: JoinPolicy | None
    piped: bool = False
    """Whether a step stands behind it that passes its chunks on."""


@dataclass
class World:
    """Counts the work of one run."""

    unit: float = 1.0
    """Seconds."""
    sleep: Callable[[float], None] = time.sleep
    """How threads wait."""
    started: int = 0
    ended: int = 0
    running: int = 0
    peak: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        with self.lock:
            self.started += 1
            self.running += 1
            self.peak = max(self.peak, self.running)

    def finish(self) -> None:
        with self.lock:
            self.ended += 1
            self.running -= 1

    def runnable(self, tree: Leaf | Fan) -> Runnable[Any, Any]:
        if isinstance(tree, Leaf):
            return self._leaf(tree)
        fan_out = RunnableParallelPlus({branch.name: self.runnable(branch) for branch in tree.branches}, name=tree.name)
        policies = {
            branch.name: BranchPolicy(on_failure=how)  # type: ignore[arg-type]  # drawn from the literals
            for branch, how in zip(tree.branches, tree.on_failure, strict=True)
        }
        fan_out = fan_out.with_policy(**policies)
        join = tree.join
        if join is not None and join.deadline is not None:
            join = replace(join, deadline=join.deadline * self.unit)
        fan_out = fan_out.with_join(join) if join else fan_out
        return fan_out | PASSING if tree.piped else fan_out

    def _leaf(self, leaf: Leaf) -> Runnable[Any, Any]:
        def end() -> str:
            if leaf.fails:
                raise LeafError(leaf.name)
            return leaf.name

        def in_thread(_: Any) -> str:
            self.begin()
            try:
                self.sleep(leaf.delay * self.unit)
                return end()
            finally:
                self.finish()

        async def in_task(_: Any) -> str:
            self.begin()
            try:
                await asyncio.sleep(leaf.delay * self.unit)
                return end()
            finally:
                self.finish()

        def chunks(inputs: Iterator[Any]) -> Iterator[str]:
            for value in inputs:
                yield in_thread(value)

        async def achunks(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
            async for value in inputs:
                yield await in_task(value)

        return RunnableGenerator(chunks, achunks) if leaf.streams else RunnableLambda(in_thread, in_task)


@st.composite
def trees(draw: st.DrawFn, max_depth: int = 3) -> Fan:
    """Draw a fan-out whose leaves all end at times of their own."""
    count = 0

    def tree(depth: int) -> Leaf | Fan:
        nonlocal count
        count += 1
        number = count
        if depth == max_depth or (depth and draw(st.booleans())):
            delay = draw(st.integers(0, 12)) + number / 1024
            return Leaf(f"n{number}", delay, draw(st.sampled_from([False, False, True])), draw(st.booleans()))
        branches = tuple(tree(depth + 1) for _ in range(draw(st.integers(1, 3))))
        size = len(branches)
        on_failure = tuple(draw(st.sampled_from(["raise", "keep", "drop"])) for _ in branches)
        joins = [
            st.none(),
            st.builds(JoinPolicy, wait_for=st.integers(1, size)),
            st.builds(JoinPolicy, min_success=st.integers(0, size)),
            st.builds(JoinPolicy, deadline=st.integers(1, 12).map(lambda n: n + 0.5 + number / 2048)),
        ]
        return Fan(f"n{number}", branches, on_failure, draw(st.one_of(joins)), bool(depth) and draw(st.booleans()))

    drawn = tree(0)
    assert isinstance(drawn, Fan)
    return drawn


def leaves(tree: Leaf | Fan) -> list[Leaf]:
    return [tree] if isinstance(tree, Leaf) else [leaf for branch in tree.branches for leaf in leaves(branch)]


def kept(tree: Leaf | Fan) -> Any:
    """Return the tree with "keep" for "drop": a stream cannot take back what a dropped branch has delivered."""
    if isinstance(tree, Leaf):
        return tree
    how = tuple("keep" if one == "drop" else one for one in tree.on_failure)
    return replace(tree, branches=tuple(kept(branch) for branch in tree.branches), on_failure=how)


def deadlines(tree: Leaf | Fan) -> list[float]:
    if isinstance(tree, Leaf):
        return []
    own = [tree.join.deadline] if tree.join and tree.join.deadline is not None else []
    return own + [deadline for branch in tree.branches for deadline in deadlines(branch)]


def ending(tree: Leaf | Fan) -> tuple[float, str, Any]:
    """Return when a tree ends, and "ok" with its output or "failed" with the name of its error."""
    if isinstance(tree, Leaf):
        return (tree.delay, "failed", "LeafError") if tree.fails else (tree.delay, "ok", tree.name)
    ends = sorted((*ending(branch), index) for index, branch in enumerate(tree.branches))
    deadline = tree.join.deadline if tree.join else None
    if deadline is not None:
        in_time = [end for end in ends if end[0] < deadline]
        late = sorted(end[3] for end in ends if end[0] >= deadline)
        ends = in_time + [(deadline, "failed", "DeadlineExceededError", index) for index in late]
    return _joined(tree, ends)


def _joined(tree: Fan, ends: list[tuple[float, str, Any, int]]) -> tuple[float, str, Any]:
    enough = tree.join.wait_for if tree.join and tree.join.wait_for != "all" else None
    least = (tree.join.min_success if tree.join else None) or enough or 0
    done: dict[int, Any] = {}
    successes = 0
    for number, (at, how, what, index) in enumerate(ends, start=1):
        if how == "ok":
            done[index] = what
            successes += 1
        elif tree.on_failure[index] == "raise":
            return at, "failed", what
        elif tree.on_failure[index] == "keep":
            done[index] = f"failed: {what}"
        pending = len(ends) - number
        if successes + pending < least:
            return at, "failed", "FanOutError"
        if pending == 0 or (enough is not None and successes >= enough):
            return at, "ok", {tree.branches[i].name: done[i] for i in sorted(done)}
    raise AssertionError("a fan-out has branches")


def shown(output: Any) -> Any:
    """Return an output in the oracle's terms."""
    if isinstance(output, BranchFailure):
        return f"failed: {output.error_type}"
    if isinstance(output, dict):
        return {key: shown(one) for key, one in output.items()}
    return output
