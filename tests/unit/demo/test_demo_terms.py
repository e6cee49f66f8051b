"""Key terms without a model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus.demo.terms import extract_terms


def test_the_most_frequent_words_come_first_and_plurals_count_with_their_singular() -> None:
    text = "Limiters wait. A limiter waits for tokens. Tokens are there; tokens return. The limiter and the tokens."
    assert extract_terms(text, count=2) == "1. Tokens\n2. Limiter"


def test_small_and_common_words_are_no_terms() -> None:
    assert extract_terms("When they were there, which of them would have been it?") == ""


@given(st.text(max_size=300), st.integers(min_value=1, max_value=10))
def test_there_are_never_more_than_asked_for_and_none_twice(text: str, count: int) -> None:
    terms = [line.partition(". ")[2] for line in extract_terms(text, count=count).splitlines()]
    assert len(terms) <= count
    assert len(terms) == len({term.lower() for term in terms})
