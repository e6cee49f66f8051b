"""What a model writes cannot steer the terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus.demo.terminal import printable, say, write


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[2Jgone", "[2Jgone"),
        ("over\rwritten", "overwritten"),
        ("\x9b31mred", "31mred"),
        ("left \u202eright", "left right"),
        ("naïve 日本", "naïve 日本"),
    ],
)
def test_control_characters_are_left_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_what_is_shown_is_shown_the_same_again(text: str) -> None:
    assert printable(printable(text)) == printable(text)


def test_progress_and_results_go_to_different_streams(capsys: pytest.CaptureFixture[str]) -> None:
    say("working\x07")
    write("the ", end="")
    write("brief\x07")
    captured = capsys.readouterr()
    assert (captured.err, captured.out) == ("working\n", "the brief\n")
