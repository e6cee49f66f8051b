"""Errors of a model become one line that says what to do; bugs keep their traceback."""

from __future__ import annotations

import pytest

from langchain_parallel_plus.demo.refusal import Refusal, explained
from langchain_parallel_plus.errors import FanOutError
from langchain_parallel_plus.outcome import BranchFailure, ErrorKind


def too_few(kind: ErrorKind, message: str) -> FanOutError:
    failure = BranchFailure.of("summary", ValueError(message), kind=kind)
    return FanOutError("2 of 3 branches failed", outputs={}, failures={"summary": failure})


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (ErrorKind.AUTH, "check OPENAI_API_KEY"),
        (ErrorKind.NOT_FOUND, "check OPENAI_MODEL"),
        (ErrorKind.QUOTA_EXHAUSTED, "add credit"),
        (ErrorKind.RATE_LIMIT, "wait a minute"),
        (ErrorKind.CONNECTION, "check the network"),
        (ErrorKind.CONTEXT_LENGTH, "give a shorter document"),
    ],
)
def test_a_refusing_model_is_explained_in_one_line_without_the_key(kind: ErrorKind, advice: str) -> None:
    refusal = explained(too_few(kind, "No.\nIncorrect API key provided: sk-abcdefgh12345678"))
    assert refusal is not None
    assert advice in refusal.line
    assert "Incorrect API key" in refusal.line
    assert "\n" not in refusal.line
    assert "sk-abc" not in refusal.line


def test_a_branchs_own_error_is_explained_too() -> None:
    refusal = explained(ConnectionRefusedError("nobody listens"))
    assert refusal is not None
    assert "nobody listens" in refusal.line


def test_a_refusal_explains_itself() -> None:
    refusal = Refusal("no file", help="give one")
    assert explained(refusal) is refusal
    assert refusal.line == "no file; give one"


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), too_few(ErrorKind.UNKNOWN, "bug")])
def test_a_bug_is_not_explained_away(error: Exception) -> None:
    assert explained(error) is None
