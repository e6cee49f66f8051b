"""What the demo reads, what it refuses, and how much of it a model gets."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus.demo.document import LIMIT_BYTES, Document, decoded, fitted, read_document, readable
from langchain_parallel_plus.demo.refusal import Refusal

if TYPE_CHECKING:
    from pathlib import Path

NO_INPUT = io.BytesIO()


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("Some text\nof two lines.\n", encoding="utf-8")
    assert read_document(str(file), NO_INPUT) == Document(str(file), "Some text of two lines.")


def test_a_dash_is_standard_input() -> None:
    assert read_document("-", io.BytesIO(b"Piped words.")) == Document("standard input", "Piped words.")


def test_without_a_file_it_is_a_chapter_of_the_language_reference() -> None:
    document = read_document(None, NO_INPUT)
    assert "language reference" in document.name
    assert "exception" in document.text
    assert len(document.text) > 1_000


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        pytest.param("naïve café".encode(), "naïve café", id="utf-8"),
        pytest.param("naïve".encode("utf-8-sig"), "naïve", id="utf-8 with a mark"),
        pytest.param("naïve".encode("utf-16"), "naïve", id="utf-16 with a mark"),
        pytest.param(b"a" * LIMIT_BYTES, "a" * LIMIT_BYTES, id="exactly the limit"),
    ],
)
def test_text_is_decoded(raw: bytes, text: str) -> None:
    assert decoded(raw, "input") == text


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b" \n\t\n", "is empty", id="blank"),
        pytest.param(b"***\n---\n", "is empty", id="no word"),
        pytest.param(b"\x7fELF\x02\x01\x00\x00", "not UTF-8 text", id="binary"),
        pytest.param(b"words\x00words", "not UTF-8 text", id="words and zeros"),
        pytest.param("caf\xe9".encode("latin-1"), "not UTF-8 text", id="latin-1"),
        pytest.param(b"\xff\xfeabc", "not UTF-8 text", id="half a utf-16 character"),
        pytest.param(b"a" * (LIMIT_BYTES + 1), "longer than 2 MB", id="one byte too long"),
    ],
)
def test_what_is_no_readable_text_is_refused_in_one_line(raw: bytes, reason: str) -> None:
    with pytest.raises(Refusal, match=reason) as refused:
        decoded(raw, "input")
    assert "\n" not in refused.value.line


@pytest.mark.parametrize(
    ("name", "reason"), [("missing.txt", "there is no file"), (".", "cannot read"), ("nul\0.txt", "cannot read")]
)
def test_what_is_no_file_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        read_document(os.path.join(tmp_path, name), NO_INPUT)


def test_a_far_too_long_input_is_not_read_to_its_end() -> None:
    endless = io.BytesIO(b"word " * (LIMIT_BYTES // 2))
    with pytest.raises(Refusal, match="longer than 2 MB"):
        read_document("-", endless)
    assert endless.tell() == LIMIT_BYTES + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("one line\nbroken in\r\nthree", "one line broken in three", id="hard breaks"),
        pytest.param("first\n\n\n  second\n  indented", "first\n\nsecond indented", id="paragraphs"),
        pytest.param("Title\n*****\n\nText", "Title\n\nText", id="rulers"),
        pytest.param("Buy:\n- bread\n- milk", "Buy:\n- bread\n- milk", id="lists"),
        pytest.param("def f():\n    return 1", "def f():\n    return 1", id="code"),
        pytest.param("1. one\n2. two", "1. one\n2. two", id="numbered"),
    ],
)
def test_paragraphs_become_lines(text: str, expected: str) -> None:
    assert readable(text) == expected


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_a_single_line_stays_as_it_is(text: str) -> None:
    expected = text if any(character.isalnum() for character in text) else ""
    assert readable(text) == expected


def test_what_fits_is_not_cut() -> None:
    document = Document("notes", "Short.")
    assert fitted(document, 6) == (document, None)


def test_a_long_text_is_cut_behind_a_sentence_and_that_is_said() -> None:
    cut, note = fitted(Document("notes", "First sentence. Second sentence. Third one"), 35)
    assert cut == Document("notes", "First sentence. Second sentence.")
    assert note == "it reads the first 32 of 42 characters"


def test_a_text_without_sentences_is_cut_between_words() -> None:
    cut, _ = fitted(Document("notes", "word " * 100), 22)
    assert cut.text == "word word word word"


@given(st.text(min_size=1), st.integers(min_value=4, max_value=200))
def test_a_cut_text_is_a_beginning_within_the_window(text: str, window: int) -> None:
    cut, note = fitted(Document("notes", text), window)
    assert text.startswith(cut.text)
    assert len(cut.text.encode()) <= window
    assert (note is None) == (len(text.encode()) <= window)
