"""Counting votes: who voted for what, and which vote won."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from langchain_parallel_plus.errors import SynthesisError
from langchain_parallel_plus.synthesis.contributions import kind_of
from langchain_parallel_plus.synthesis.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Ballot", "OnTie", "VoteResult", "counted")

OnTie = Literal["first", "error"]


class Ballot(Record):
    """What one branch voted for."""

    branch: str
    """The branch's name."""
    vote: Any
    """What it voted for, normalised; `None` if it cast no vote."""
    weight: float = 1.0
    """How much its vote counts."""


class VoteResult(Record):
    """What a vote ended in: a plain, frozen value that survives pickle, JSON (`model_dump_json`) and `dumpd`.

    Example:
        ```python
        result = MajorityVote().invoke({"a": "Yes", "b": "no", "c": "yes"})
        assert (result.winner, result.vote, result.agreement) == ("Yes", "yes", 2 / 3)
        ```
    """

    winner: Any
    """The first output, in the order of the branches, that voted for what won: whole, as the branch returned it."""
    vote: Any
    """What won, normalised."""
    agreement: float
    """Share of the votes cast, by weight, that went to what won: above 0, at most 1."""
    tied: bool = False
    """Whether something else had as many votes: then what was voted for first, in the order of the branches, won."""
    ballots: tuple[Ballot, ...] = ()
    """One for each branch that came back, in order."""
    missing: dict[str, str] = Field(default_factory=dict)
    """The branches that did not come back, each with the reason in a word or two."""

    @property
    def counts(self) -> list[tuple[Any, float]]:
        """What was voted for and how often, by weight; most votes first."""
        counts: list[tuple[Any, float]] = []
        for ballot in (one for one in self.ballots if one.vote is not None):
            place = next((place for place, (vote, _) in enumerate(counts) if vote == ballot.vote), None)
            if place is None:
                counts.append((ballot.vote, ballot.weight))
            else:
                counts[place] = (ballot.vote, counts[place][1] + ballot.weight)
        return sorted(counts, key=lambda count: -count[1])


def counted(
    outputs: Mapping[str, Any],
    votes: Mapping[str, Any],
    weights: Mapping[str, Fraction],
    missing: Mapping[str, str],
    voter: str,
) -> VoteResult:
    """Count `votes`, where `None` is none.

    Raises:
        SynthesisError: Nobody voted, a vote cannot be counted, or the votes are of several types.
    """
    _check(votes, voter)
    totals: dict[Any, Fraction] = {}
    counting = {branch: vote for branch, vote in votes.items() if vote is not None and weights[branch]}
    for branch, vote in counting.items():
        totals[vote] = totals.get(vote, Fraction(0)) + weights[branch]
    cast = sum(totals.values())
    if not cast:
        branches = ", ".join(map(repr, votes))
        msg = f"{voter}: none of the {len(votes)} branches that came back cast a vote that counts: {branches}"
        raise SynthesisError(msg, help="look at what key= and normalise= make of the outputs: None is no vote")
    most = max(totals.values())
    won = next(vote for vote, total in totals.items() if total == most)  # in the order of the first votes
    return VoteResult(
        winner=next(outputs[branch] for branch, vote in counting.items() if vote == won),
        vote=won,
        agreement=float(most / cast),
        tied=sum(total == most for total in totals.values()) > 1,
        ballots=tuple(Ballot(branch=one, vote=vote, weight=float(weights[one])) for one, vote in votes.items()),
        missing=dict(missing),
    )


def _check(votes: Mapping[str, Any], voter: str) -> None:
    """Refuse votes that could not agree: those without a hash, and those of several types."""
    first: tuple[str, Any] | None = None
    for branch, vote in votes.items():
        if vote is None:
            continue
        try:
            hash(vote)
        except TypeError:
            msg = f"{voter} cannot count the vote of branch {branch!r}: {kind_of(vote)} is not hashable"
            raise SynthesisError(
                msg, help="say what is voted on, for example key=lambda output: output['answer']"
            ) from None
        if first is None:
            first = branch, vote
        elif _kind(vote) is not _kind(first[1]):
            msg = (
                f"{voter} cannot compare the votes: that of branch {first[0]!r} is {kind_of(first[1])}, "
                f"that of branch {branch!r} is {kind_of(vote)}"
            )
            raise SynthesisError(msg, help="make them of one type, for example normalise=str")


def _kind(vote: object) -> type:
    """Return the type under which votes can agree: numbers are one, whatever their type; truth values are none."""
    if isinstance(vote, bool):
        return bool
    if isinstance(vote, int | float):
        return float
    return str if isinstance(vote, str) else type(vote)
