"""A text that is too long, in pieces: cut between paragraphs if that is enough, else sentences, words, characters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    CountTokens = Callable[[str], int]

__all__ = ("split_text",)

# Each finds the ends of the parts; a part keeps the white space after it, so that nothing is lost.
_PARAGRAPH: Final = re.compile(r"\n[^\S\n]*+\n\s*+")
_LINE: Final = re.compile(r"\n")
# From the beginning of a row of stops only: a table of contents has thousands of dots in a row.
_SENTENCE: Final = re.compile(r"(?<![.!?])[.!?]++[\"')\]]*+\s++|[\u3002\uff01\uff1f]++")
_WORD: Final = re.compile(r"\s+")
_COARSE_TO_FINE: Final = (_PARAGRAPH, _LINE, _SENTENCE, _WORD)


def split_text(text: str, limit: int, count_tokens: CountTokens) -> list[str]:
    r"""Return `text` in pieces of at most `limit` tokens, as few as the places to cut allow; joined, they are the text.

    A paragraph is cut only if it is longer than `limit` by itself, and so on down to single characters, which are
    never cut, whatever they count.

    Example:
        ```python
        assert split_text("One. Two.\n\nThree.", 11, len) == ["One. Two.\n\n", "Three."]  # a character a token
        ```
    """
    pieces: list[str] = []
    running, size = "", 0
    for part in _parts(text, limit, count_tokens, 0):
        added = size + count_tokens(part)
        if added > limit:  # the sum of counts is more than the count of the sum: look again before it is cut
            added = count_tokens(running + part)
        if added > limit and running:
            pieces.append(running)
            running, added = "", count_tokens(part)
        running, size = running + part, added
    return [*pieces, running] if running else pieces


def _parts(text: str, limit: int, count_tokens: CountTokens, level: int) -> Iterator[str]:
    if count_tokens(text) <= limit:
        yield text
    elif level == len(_COARSE_TO_FINE):
        yield from _characters(text, limit, count_tokens)
    else:
        for part in _cut(text, _COARSE_TO_FINE[level]):
            yield from _parts(part, limit, count_tokens, level + 1)


def _cut(text: str, ends: re.Pattern[str]) -> Iterator[str]:
    start = 0
    for end in ends.finditer(text):
        yield text[start : end.end()]
        start = end.end()
    if start < len(text):
        yield text[start:]


def _characters(text: str, limit: int, count_tokens: CountTokens) -> Iterator[str]:
    """Cut a word without white space: a table of numbers, base64, or a language that is written without."""
    while text:
        length = len(text)
        while length > 1 and (tokens := count_tokens(text[:length])) > limit:
            length = max(1, min(length - 1, length * limit // tokens))
        yield text[:length]
        text = text[length:]
