from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus.synthesis.counting import estimated_tokens
from langchain_parallel_plus.synthesis.splitting import split_text

PARTS = ["word", "A sentence. ", "Why? ", "\n", "\n\n", " ", "longerword" * 5, "\u65e5\u672c\u8a9e\u3002", "x" * 60]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=40).map("".join)


@given(TEXTS, st.integers(min_value=1, max_value=80))
def test_pieces_fit_and_are_the_text_again(text: str, limit: int) -> None:
    pieces = split_text(text, limit, len)
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= limit for piece in pieces)


@given(TEXTS, st.integers(min_value=1, max_value=30))
def test_pieces_fit_by_the_estimate_too(text: str, limit: int) -> None:
    pieces = split_text(text, limit, estimated_tokens)
    assert "".join(pieces) == text
    assert all(estimated_tokens(piece) <= limit for piece in pieces)


@pytest.mark.parametrize(
    ("text", "limit", "pieces"),
    [
        ("", 5, []),
        ("short", 5, ["short"]),
        ("One.\n\nTwo.\n\nThree.", 12, ["One.\n\nTwo.\n\n", "Three."]),
        ("One. Two. Three.", 10, ["One. Two. ", "Three."]),
        ("one two three", 8, ["one two ", "three"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("a\nb\nc", 2, ["a\n", "b\n", "c"]),
        ("\u4e00\u3002\u4e8c\u3002\u4e09", 4, ["\u4e00\u3002\u4e8c\u3002", "\u4e09"]),
    ],
)
def test_it_is_cut_where_it_hurts_least(text: str, limit: int, pieces: list[str]) -> None:
    assert split_text(text, limit, len) == pieces


def test_a_character_is_never_cut() -> None:
    assert split_text("ab", 1, lambda text: 3 * len(text)) == ["a", "b"]


def test_a_long_text_is_counted_a_few_times_only() -> None:
    counted = 0

    def count(text: str) -> int:
        nonlocal counted
        counted += len(text)
        return len(text)

    text = "A sentence of some words. " * 20_000
    assert len(split_text(text, 4_000, count)) == 131
    assert counted < 20 * len(text)
