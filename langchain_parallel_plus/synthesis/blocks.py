"""What a model is shown of the branches: one delimited block each, which no branch can leave.

```
<branch name="web">             a branch's output
<branch name="web" part="2/3">  a part of one that is longer than the window
<branch name="slow" partial="timeout">  what a branch had streamed when it failed
<digest branches="web, news">   what a reduce call has made of the blocks of those branches
<missing name="slow">timeout</missing>  a branch that did not come back
```

Names and texts are escaped (see `escaping`), so that there are no other tags of these kinds in a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from langchain_parallel_plus.errors import SynthesisError
from langchain_parallel_plus.synthesis.escaping import SafeNames, escaped
from langchain_parallel_plus.synthesis.splitting import split_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from langchain_parallel_plus.synthesis.gathered import Shown
    from langchain_parallel_plus.synthesis.splitting import CountTokens

__all__ = ("BETWEEN", "Block", "Blocks", "joined", "merged_branches")

BETWEEN: Final = "\n\n"
"""What stands between two blocks."""
_LEAST_ROOM: Final = 8
"""Tokens of text that a part of an output must have room for."""
_NAMED: Final = 6
"""Branches that a digest names; of more it names the first ones and their number."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of the prompt, as it is written there."""

    text: str
    branches: tuple[str, ...]
    """The branches whose outputs it holds, as they are written in attributes."""
    tokens: int
    """With the space to the next block."""


class Blocks:
    """Writes the blocks of one synthesis. No two branches are written alike, whatever their names.

    Args:
        count_tokens: Counts the tokens of a text.
        limit: Tokens of a block, the space to the next one included; a longer output is written in parts. `None` for
            no limit.
        names: Branches that are known before their outputs; in a fixed order, so that names do not depend on time.
    """

    def __init__(self, count_tokens: CountTokens, limit: int | None = None, names: Iterable[str] = ()) -> None:
        self._count = count_tokens
        self._limit = limit
        self._names = SafeNames()
        for name in names:
            self._names[name]

    def written(self, branch: str) -> str:
        """Return how a branch is written in attributes."""
        return self._names[branch]

    def of_branch(self, shown: Shown) -> list[Block]:
        """Return the block of a branch, or those of its parts."""
        name = self._names[shown.branch]
        attributes = f'name="{name}"' + (f' partial="{shown.cut_off}"' if shown.cut_off else "")
        return self._parts("branch", attributes, (name,), shown.text)

    def of_digest(self, branches: Sequence[str], text: str) -> list[Block]:
        """Return the block of what a model has made of others, or those of its parts."""
        return self._parts("digest", f'branches="{_listed(branches)}"', tuple(branches), text)

    def missing(self, missing: Mapping[str, str], cut_off: Iterable[str]) -> str:
        """Return one line for each missing branch; the provider's own words stay out of the prompt."""
        shown = set(cut_off)
        return "\n".join(
            f'<missing name="{self._names[name]}">{reason}{"; shown as far as it came" if name in shown else ""}'
            "</missing>"
            for name, reason in missing.items()
        )

    def _parts(self, tag: str, attributes: str, branches: tuple[str, ...], text: str) -> list[Block]:
        inside = escaped(text).strip()
        whole = self._block(tag, attributes, branches, inside)
        if self._limit is None or whole.tokens <= self._limit:
            return [whole]
        around = self._block(tag, f'{attributes} part="999/999"', branches, "").tokens
        if self._limit - around < _LEAST_ROOM:
            msg = f"a block may have {self._limit} tokens, and the tags around {branches[0]!r} alone have {around}"
            raise SynthesisError(
                msg, help="raise max_input_tokens, or shorten the prompt and the names of the branches"
            )
        pieces = split_text(inside, self._limit - around, self._count)
        return [
            self._block(tag, f'{attributes} part="{number}/{len(pieces)}"', branches, piece.strip())
            for number, piece in enumerate(pieces, start=1)
        ]

    def _block(self, tag: str, attributes: str, branches: tuple[str, ...], inside: str) -> Block:
        text = f"<{tag} {attributes}>\n{inside}\n</{tag}>"
        return Block(text, branches, self._count(text + BETWEEN))


def joined(blocks: Iterable[Block]) -> str:
    """Return the text that a prompt has for `blocks`."""
    return BETWEEN.join(block.text for block in blocks)


def merged_branches(blocks: Iterable[Block]) -> tuple[str, ...]:
    """Return the branches that the blocks hold, each once."""
    return tuple(dict.fromkeys(name for block in blocks for name in block.branches))


def _listed(branches: Sequence[str]) -> str:
    named = ", ".join(branches[:_NAMED])
    return named if len(branches) <= _NAMED else f"{named} and {len(branches) - _NAMED} more"
