"""What a judge is shown of the candidates, and what its answer means: labels in place of names, each in a block.

A judge prefers names that it knows, and what it is shown first: so candidates have neutral labels, and can be shuffled.
What a candidate says cannot close its block or pose as another candidate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from langchain_parallel_plus.errors import JudgementError
from langchain_parallel_plus.outcome import redact
from langchain_parallel_plus.synthesis.escaping import escaped

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Candidates", "in_block")

_LONGEST_LINE: Final = 80
_SAID: Final = re.compile(
    r"\W*(?:(?:the|best|final|winner|answer|candidate|choice|branch|label|option|is)\b\W*){0,6}([A-Z]{1,3})\W*",
    re.IGNORECASE,
)
"""What models like to put around a label: a few words, quotes, brackets, stars, a full stop."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates under their labels."""

    branches: Mapping[str, str]
    """The branch behind each label, in the order in which they are shown."""
    text: str
    """What the judge is shown."""

    @classmethod
    def of(cls, texts: Mapping[str, str], seed: int | None = None) -> Candidates:
        """Write the candidates down in the order of the branches, or shuffled; of equal ones the first.

        A shuffled order depends on the seed and on what the candidates say: it is the same for the same candidates, and
        another one for others, so that no branch is always the first.
        """
        first_with = {text: branch for branch, text in reversed(list(texts.items()))}
        order = [branch for branch, text in texts.items() if first_with[text] == branch]
        if seed is not None:
            Random(repr((seed, [texts[branch] for branch in order]))).shuffle(order)
        branches = {_label(place): branch for place, branch in enumerate(order)}
        return cls(branches, "\n\n".join(in_block(label, texts[branch]) for label, branch in branches.items()))

    @property
    def labels(self) -> str:
        """The labels in words."""
        return ", ".join(self.branches)

    def chosen(self, answer: str) -> str:
        """Return the branch whose label is all that the last line of `answer` says, but for a few words around it.

        Raises:
            JudgementError: It says anything else: no label, several, or one that no candidate has.
        """
        last = next((line for line in reversed(answer.splitlines()) if line.strip()), "")
        said = _SAID.fullmatch(last) if len(last) <= _LONGEST_LINE else None
        branch = self.branches.get(said[1].upper()) if said else None
        if branch is not None:
            return branch
        words = f"it said {redact(answer.strip(), limit=200)!r}" if last else "it said nothing"
        asked = f"its last line must be one of {self.labels}"
        msg = f"the judge chose none of the {len(self.branches)} candidates: {words}; {asked}"
        hint = "RunnableWithPolicy with RetryPolicy(retry_on=JudgementError) around PickBest asks again"
        raise JudgementError(msg, said=answer, help=hint)


def in_block(name: str, text: str) -> str:
    """Return `text` in a block that it cannot leave."""
    return f'<branch name="{name}">\n{escaped(text).strip()}\n</branch>'


def _label(place: int) -> str:
    """Return A to Z, then AA, AB and so on."""
    before, letter = divmod(place, 26)
    return (_label(before - 1) if before else "") + chr(ord("A") + letter)
