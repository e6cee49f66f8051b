"""How many model calls it takes to read more than a window holds, decided from sizes alone.

What has to be read stands in a row. It is cut into *packs*, each as long as fits one call: filling a pack before the
next one is begun gives the fewest packs that keep the order. Packs are *reduced*, a call each, to a digest that takes
their place: as few of them, the longest first, as make the row fit one call, or all that get shorter by it if even that
is not enough. That is a *level*; levels follow until the row fits one call, which writes the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from langchain_parallel_plus.errors import SynthesisError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = (
    "Packer",
    "ReductionPlan",
    "Window",
    "check_shrinkage",
    "packs",
    "packs_to_reduce",
    "plan_reduction",
    "replaced",
)

_Item = TypeVar("_Item")

_LEAST_SHRINKAGE: Final = 0.1
"""Share of what a level reads by which it must get shorter: below, levels would follow each other without end."""


class Packer:
    """Fills packs one size at a time."""

    __slots__ = ("_filled", "capacity")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._filled: int | None = None

    def begins(self, size: int) -> bool:
        """Add `size`; return whether it begins a new pack, so that the one before is full."""
        if self._filled is None or self._filled + size <= self.capacity:
            self._filled = (self._filled or 0) + size
            return False
        self._filled = size
        return True


def packs(sizes: Sequence[int], capacity: int) -> list[range]:
    """Return which places of `sizes` belong together: runs of at most `capacity`, the fewest that keep the order.

    Example:
        ```python
        assert packs([40, 40, 40, 90], 100) == [range(0, 2), range(2, 3), range(3, 4)]
        ```
    """
    packer = Packer(capacity)
    starts = [place for place, size in enumerate(sizes) if packer.begins(size) or place == 0]
    return [range(start, end) for start, end in zip(starts, [*starts[1:], len(sizes)], strict=True)]


@dataclass(frozen=True, slots=True)
class ReductionPlan:
    """The model calls that reading something takes."""

    levels: tuple[tuple[range, ...], ...]
    """The packs that are reduced on each level, as places in the row of that level."""

    @property
    def calls(self) -> int:
        """Model calls in all, the one that writes the answer included."""
        return sum(len(level) for level in self.levels) + 1


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens of blocks that fit the calls of a synthesis, beside the prompts' own."""

    answer: int
    """In the call that writes the answer."""
    digest: int
    """In a call that reduces a pack."""
    digest_tokens: int
    """What a digest is asked to keep to: at most half of the others, or else reducing would not get anywhere."""


def packs_to_reduce(sizes: Sequence[int], window: Window) -> tuple[range, ...]:
    """Return the packs of a row that a level reduces; none if the row fits.

    Example:
        ```python
        window = Window(answer=1000, digest=1000, digest_tokens=50)
        assert packs_to_reduce([100, 950, 100], window) == (range(1, 2),)
        ```
    """
    over = sum(sizes) - window.answer
    if over <= 0:
        return ()
    chosen = []
    for pack in sorted(packs(sizes, window.digest), key=lambda pack: -_tokens(sizes, pack)):
        gain = _tokens(sizes, pack) - window.digest_tokens
        if over <= 0 or gain <= 0:
            break
        over -= gain
        chosen.append(pack)
    return tuple(sorted(chosen, key=lambda pack: pack.start))


def plan_reduction(sizes: Sequence[int], window: Window) -> ReductionPlan:
    """Return the calls for blocks of `sizes` tokens, none of them longer than a call can read.

    What a model makes of a pack is known only when it has: the calls are those of the plan if digests are as long as
    they are asked to be.

    Example:
        ```python
        assert plan_reduction([400] * 10, Window(answer=1000, digest=1000, digest_tokens=100)).calls == 6
        ```
    """
    row = list(sizes)
    levels = []
    while level := packs_to_reduce(row, window):
        levels.append(level)
        row = replaced(row, level, [window.digest_tokens] * len(level))
    return ReductionPlan(tuple(levels))


def replaced(row: Sequence[_Item], packs: Sequence[range], digests: Sequence[_Item]) -> list[_Item]:
    """Return a row with a digest in the place of each pack.

    Example:
        ```python
        assert replaced("abcde", [range(1, 3)], "X") == ["a", "X", "d", "e"]
        ```
    """
    following: list[_Item] = []
    end = 0
    for pack, digest in zip(packs, digests, strict=True):
        following += [*row[end : pack.start], digest]
        end = pack.stop
    return [*following, *row[end:]]


def _tokens(sizes: Sequence[int], pack: range) -> int:
    return sum(sizes[place] for place in pack)


def check_shrinkage(read: int, written: int, calls: int) -> None:
    """Refuse to go on where a level's digests are about as long as what they were made of.

    Raises:
        SynthesisError: With the numbers.
    """
    if written > (1 - _LEAST_SHRINKAGE) * read:
        msg = f"{calls} digests of {written} tokens in all were made of {read}: more calls would not make them fit"
        raise SynthesisError(
            msg, help="raise max_input_tokens, or bound the digests with digest_model=llm.bind(max_tokens=...)"
        )
