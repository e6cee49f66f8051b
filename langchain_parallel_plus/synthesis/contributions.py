"""What a reducer is given, sorted out: the outputs that are there, by branch, and the branches that are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.notes import add_note
from langchain_parallel_plus.errors import CoverageError, SynthesisError
from langchain_parallel_plus.outcome import BranchFailure, FanOutDict
from langchain_parallel_plus.synthesis.rendering import reason_words

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Contributions", "asked", "kind_of", "named_outputs")


@dataclass(frozen=True, slots=True)
class Contributions:
    """The outputs of the branches that came back, and the others."""

    outputs: Mapping[str, Any]
    """By branch, in the order of the dict or list."""
    missing: Mapping[str, str]
    """The branches without an output, each with the reason in a word or two."""

    @classmethod
    def of(cls, value: object, reducer: str) -> Contributions:
        """Read a fan-out's dict, or a list, whose items are called `item_1`, `item_2` and so on.

        `BranchFailure`s, exceptions (as `batch(return_exceptions=True)` leaves them) and `None` are no outputs.

        Raises:
            SynthesisError: It is neither.
            CoverageError: There is no output in it.
        """
        missing = {name: reason_words(reason) for name, reason in getattr(value, "missing", {}).items()}
        outputs: dict[str, Any] = {}
        for name, output in named_outputs(value, reducer).items():
            if (reason := _absence(output)) is None:
                outputs[name] = output
            else:
                missing[name] = reason
        if not outputs:
            raise _nothing(reducer, missing)
        return cls(outputs, missing)

    @property
    def branches(self) -> tuple[str, ...]:
        """The names of all branches, whether they came back or not."""
        return (*self.outputs, *self.missing)


def named_outputs(value: object, reducer: str) -> dict[str, Any]:
    """Return what stands at each name of a dict, or in each place of a list.

    Raises:
        SynthesisError: It is neither, or two of its keys are the same as text.
    """
    if isinstance(value, Mapping):
        ordered = value.in_order if isinstance(value, FanOutDict) else value
        named = {str(name): output for name, output in ordered.items()}
        if len(named) < len(ordered):
            raise _alike(ordered, reducer)
        return named
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return {f"item_{place}": output for place, output in enumerate(value, start=1)}
    msg = f"{reducer} takes a fan-out's dict of outputs by branch, or a list of outputs, got {kind_of(value)}"
    raise SynthesisError(msg, help="put it behind a RunnableParallelPlus, or give it a dict or a list")


def kind_of(value: object) -> str:
    """Return what an error calls a value: its type, with an article."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}" if value is not None else "None"


@contextmanager
def asked(what: str, branch: str) -> Iterator[None]:
    """Let the error of a user's function tell which one it was, and about which branch it was asked."""
    try:
        yield
    except Exception as error:
        add_note(error, what, f"{what} raised this for the output of branch {branch!r}")
        raise


def _alike(value: Mapping[Any, Any], reducer: str) -> SynthesisError:
    by_name: dict[str, Any] = {}
    first, again = next((by_name[str(key)], key) for key in value if by_name.setdefault(str(key), key) is not key)
    msg = f"{reducer} was given two branches called {str(again)!r}: the keys {first!r} and {again!r}"
    return SynthesisError(msg, help="keys are the names of branches: make them different texts")


def _absence(output: object) -> str | None:
    """Return why an output is none."""
    if isinstance(output, BranchFailure):
        return reason_words(output.kind.value)
    if isinstance(output, BaseException):
        return "failed"
    return "empty" if output is None else None


def _nothing(reducer: str, missing: Mapping[str, str]) -> CoverageError:
    if not missing:
        return CoverageError(f"{reducer} was given nothing: there is no branch in its input")
    gone = ", ".join(f"{name!r} ({reason})" for name, reason in missing.items())
    msg = f"{reducer} has nothing to work on: 0 of {len(missing)} branches came back, missing: {gone}"
    return CoverageError(msg, help="give the branches a retry or a fallback, or ask for some with min_success")
