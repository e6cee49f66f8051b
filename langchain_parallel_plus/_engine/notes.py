"""What is added to a branch's own exception: PEP 678 notes, which every traceback and tracer shows."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_parallel_plus.outcome import BranchFailure

__all__ = ("ADVICE", "add_note", "story")

ADVICE = (
    "finished siblings' outputs are in this exception's .fan_out.outputs; "
    'BranchPolicy(on_failure="keep") goes on without this branch'
)
"""What to do if a branch of a user's fan-out has failed."""


def add_note(error: BaseException, start: str, note: str) -> None:
    """Add a note in place of an earlier one with this start: some code raises one exception object many times."""
    with suppress(Exception):  # an exception that refuses notes is raised without
        notes = getattr(error, "__notes__", [])
        notes[:] = [one for one in notes if not one.startswith(start)]
        error.add_note(note)


def story(failure: BranchFailure, waited: float, backoff: float, advice: str = ADVICE) -> str:
    """Return which branch failed, after how many attempts and what waits, and what to do."""
    attempts = f"{failure.attempts} attempt{'s' * (failure.attempts != 1)}"
    waits = "".join(
        f", {seconds:.1f} s {what}"
        for seconds, what in ((waited, "waiting for a rate limit"), (backoff, "backing off"))
        if seconds >= 0.05  # else it would read "0.0 s"
    )
    return f"branch {failure.branch!r} failed after {attempts} in {failure.seconds:.1f} s{waits}\nhelp: {advice}"
