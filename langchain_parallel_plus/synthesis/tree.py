"""The row of blocks of one synthesis, and what has to become of it until it fits a call. Decides, and calls nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_parallel_plus.synthesis.blocks import merged_branches
from langchain_parallel_plus.synthesis.packing import (
    Packer,
    ReductionPlan,
    check_shrinkage,
    packs_to_reduce,
    plan_reduction,
    replaced,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_parallel_plus.synthesis.blocks import Block, Blocks
    from langchain_parallel_plus.synthesis.packing import Window

__all__ = ("ArrivingPacks", "Row")


class Row:
    """Blocks in the order in which the model will read them.

    Args:
        blocks: Writes the blocks of digests.
        row: What there is to read.
        window: What fits a call; `None` if everything does.
    """

    def __init__(self, blocks: Blocks, row: Sequence[Block], window: Window | None) -> None:
        self._blocks = blocks
        self._window = window
        self._level: tuple[range, ...] = ()
        self.row = list(row)

    @property
    def plan(self) -> ReductionPlan:
        """The calls that are left, if digests are as long as they are asked to be."""
        sizes = [block.tokens for block in self.row]
        return ReductionPlan(()) if self._window is None else plan_reduction(sizes, self._window)

    @property
    def fits(self) -> bool:
        """Whether the answering call can read all of it."""
        return self._window is None or sum(block.tokens for block in self.row) <= self._window.answer

    def next_level(self) -> list[Sequence[Block]]:
        """Return the packs that are to be reduced next; none if the row fits the answering call."""
        if self._window is None:
            return []
        self._level = packs_to_reduce([block.tokens for block in self.row], self._window)
        return [self.row[pack.start : pack.stop] for pack in self._level]

    def reduced(self, digests: Sequence[str]) -> None:
        """Take in what has become of the packs.

        Raises:
            SynthesisError: They are about as long as before, and do not fit by that.
        """
        packs = [self.row[pack.start : pack.stop] for pack in self._level]
        written = [digest_blocks(self._blocks, pack, text) for pack, text in zip(packs, digests, strict=True)]
        read = sum(block.tokens for pack in packs for block in pack)
        following = replaced([[block] for block in self.row], self._level, written)
        self.row = [block for blocks in following for block in blocks]
        if self._window is not None and sum(block.tokens for block in self.row) > self._window.answer:
            check_shrinkage(read, sum(block.tokens for blocks in written for block in blocks), len(packs))


class ArrivingPacks:
    """Blocks in the order in which their branches end: gives a pack out as soon as it is full.

    That the row does not fit a call is certain by then. A pack that is less than half full (a long output came next)
    stays as it is: it may not have to be reduced at all.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._packer = Packer(window.digest)
        self._entries: list[Sequence[Block]] = []
        self._given: list[int] = []
        self._pack: list[Block] = []

    def add(self, blocks: Sequence[Block]) -> list[Sequence[Block]]:
        """Add the blocks of a branch; return the packs that are full by it."""
        full = []
        for block in blocks:
            if self._packer.begins(block.tokens):
                full += self._close()
            self._pack.append(block)
        return full

    def leave(self, blocks: Sequence[Block]) -> None:
        """Add what has come last: it is not given out by itself, because it may fit."""
        self._entries += [self._pack, blocks]
        self._pack = []

    def row(self, blocks: Blocks, digests: Sequence[str], order: Sequence[str]) -> list[Block]:
        """Return what there is to read now.

        Args:
            blocks: Writes the blocks of digests.
            digests: What has become of the packs that were given out, in that order.
            order: The branches as they are written, in the order in which they are to be read.
        """
        entries = list(self._entries)
        for place, text in zip(self._given, digests, strict=True):
            entries[place] = digest_blocks(blocks, entries[place], text)
        rank = {name: place for place, name in enumerate(order)}
        row = [block for entry in entries for block in entry]
        return sorted(row, key=lambda block: min(rank[name] for name in block.branches))

    def _close(self) -> list[Sequence[Block]]:
        pack, self._pack = self._pack, []
        tokens = sum(block.tokens for block in pack)
        self._entries.append(pack)
        if tokens <= self._window.digest_tokens or 2 * tokens < self._window.digest:
            return []
        self._given.append(len(self._entries) - 1)
        return [pack]


def digest_blocks(blocks: Blocks, pack: Sequence[Block], text: str) -> list[Block]:
    """Return the block of a pack's digest, or its parts if the model has written more than a call can read."""
    return blocks.of_digest(merged_branches(pack), text)
