"""A tokenizer for models that have none: the same pieces everywhere, no download, no table.

Real tokenizers split English into about 1.3 tokens a word; so does this one, by cutting words after six letters.
"""

from __future__ import annotations

import re

__all__ = ("count_tokens", "split_tokens")

_TOKEN = re.compile(r"\s?\w{1,6}|\s?[^\w\s]|\s")


def split_tokens(text: str) -> list[str]:
    """Split `text` into tokens; joined, they are the text again.

    Example:
        ```python
        from langchain_parallel_plus.testing.tokens import split_tokens

        assert split_tokens("Parallel, please.") == ["Parall", "el", ",", " please", "."]
        ```
    """
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """Return how many tokens `split_tokens` would give."""
    return sum(1 for _ in _TOKEN.finditer(text))
