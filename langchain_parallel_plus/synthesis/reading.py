"""One input on its way to the answering call: whole at once, or in the chunks of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.chunks import whole
from langchain_parallel_plus.outcome import FanOutDict
from langchain_parallel_plus.synthesis.gathered import gathered
from langchain_parallel_plus.synthesis.provenance import SynthesisProvenance
from langchain_parallel_plus.synthesis.tree import ArrivingPacks, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.prompt_values import PromptValue

    from langchain_parallel_plus.synthesis.blocks import Block, Blocks
    from langchain_parallel_plus.synthesis.gathered import Gathered
    from langchain_parallel_plus.synthesis.packing import ReductionPlan
    from langchain_parallel_plus.synthesis.terms import Terms

__all__ = ("Arriving", "Reading")


class Reading:
    """An input that is all there: gives out the packs that are still to be reduced, and then the prompt."""

    def __init__(
        self, terms: Terms, found: Gathered, blocks: Blocks, row: Sequence[Block], *, calls: int = 0, levels: int = 0
    ) -> None:
        self._terms = terms
        self.found = found
        """What came back of the branches, and what did not."""
        self._missing = blocks.missing(found.missing, found.cut_off)
        self._row = Row(blocks, row, terms.window(self._missing))
        self._calls = calls
        self._levels = levels

    @classmethod
    def of(cls, terms: Terms, inputs: Any) -> Reading:
        """Read an input.

        Raises:
            SynthesisError: It has the wrong shape.
            CoverageError: Too little came back.
        """
        found = terms.gathered(inputs)
        blocks = terms.blocks()
        return cls(terms, found, blocks, [block for one in found.shown for block in blocks.of_branch(one)])

    @property
    def plan(self) -> ReductionPlan:
        """The calls that are left."""
        return self._row.plan

    @property
    def reduces(self) -> bool:
        """Whether it is more than fits a call."""
        return self._levels > 0 or not self._row.fits

    def next_level(self) -> list[Sequence[Block]]:
        """Return the packs to reduce next; none if the answer can be written."""
        packs = self._row.next_level()
        self._calls += len(packs)
        self._levels += bool(packs)
        return packs

    @property
    def label(self) -> str:
        """What the digests of this level are called."""
        return str(self._levels)

    def reduced(self, digests: Sequence[str]) -> None:
        """Take in what has become of the packs."""
        self._row.reduced(digests)

    @property
    def prompt(self) -> PromptValue:
        """The prompt of the answering call."""
        return self._terms.answer(self._row.row, self._missing)

    @property
    def provenance(self) -> SynthesisProvenance:
        """Where the answer comes from."""
        found = self.found
        return SynthesisProvenance(
            contributed=found.contributed,
            missing=dict(found.missing),
            partial=found.cut_off,
            coverage=found.coverage,
            model_calls=self._calls + 1,
            levels=self._levels,
        )


class Arriving:
    """A streamed input: knows which branches are whole, and gives out the packs that they fill.

    It gives none out before what is in satisfies `min_coverage`, whatever becomes of the rest: too little must be
    refused before a call is spent.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._window = terms.window()
        self._chunks: list[Any] = []
        self._by_branch: dict[str, list[FanOutDict]] = {}
        self._blocks: Blocks | None = None
        self._packs: ArrivingPacks | None = None
        self._coverage = 0.0
        self._held: list[list[Block]] = []
        self._written: set[str] = set()
        self._given = 0

    def take(self, chunk: Any, branches: Sequence[str]) -> list[Sequence[Block]]:
        """Take in a chunk; return the packs that are full by it.

        Args:
            chunk: What has arrived.
            branches: All branches in declared order, as far as they are known.
        """
        self._chunks.append(chunk)
        if self._window is None or not isinstance(chunk, FanOutDict):
            return []
        for branch, part in chunk.items():
            self._by_branch.setdefault(branch, []).append(FanOutDict({branch: part}))
        if not chunk.ended:
            return []
        if self._blocks is None or self._packs is None:
            self._blocks, self._packs = self._terms.blocks(branches), ArrivingPacks(self._window)
        for branch in chunk.ended:
            self._write(branch, self._blocks)
        total = len({*branches, *self._terms.expected})
        if self._coverage / total < (self._terms.min_coverage or 0.0):
            return []
        held, self._held = self._held, []
        return [pack for blocks in held for pack in self._packs.add(blocks)]

    def read(self, branches: Sequence[str], digests: Sequence[str]) -> Reading:
        """Return the input as a reading, with digests in the place of the packs that were given out.

        Raises:
            SynthesisError: It has the wrong shape.
            CoverageError: Too little came back.
        """
        found = self._terms.gathered(self._whole(branches))
        blocks = self._blocks or self._terms.blocks(branches)
        rest = [block for one in found.shown if one.branch not in self._written for block in blocks.of_branch(one)]
        if self._packs is None:
            return Reading(self._terms, found, blocks, rest)
        self._packs.leave([*(block for held in self._held for block in held), *rest])
        row = self._packs.row(blocks, digests, [blocks.written(one.branch) for one in found.shown])
        return Reading(self._terms, found, blocks, row, calls=len(digests), levels=bool(digests))

    @property
    def label(self) -> str:
        """What the digest of the next pack is called."""
        self._given += 1
        return f"1.{self._given}"

    def _write(self, branch: str, blocks: Blocks) -> None:
        """Write the blocks of a branch that is whole."""
        if branch not in self._by_branch:  # its stream was empty
            return
        output = FanOutDict.of_chunks(self._by_branch.pop(branch))
        found = gathered(output, render=self._terms.render)
        self._coverage += found.coverage
        self._written.update(one.branch for one in found.shown)
        self._held += [blocks.of_branch(one) for one in found.shown]

    def _whole(self, branches: Sequence[str]) -> Any:
        """Return the input, its branches in declared order and not in that in which they came."""
        if not self._chunks or not all(isinstance(chunk, FanOutDict) for chunk in self._chunks):
            return whole(self._chunks)
        total = FanOutDict.of_chunks(self._chunks).in_order
        declared = [name for name in branches if name not in total.missing]  # without a chunk: an empty stream
        return FanOutDict({name: total.get(name) for name in dict.fromkeys((*declared, *total))}, total.missing)
