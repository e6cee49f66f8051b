from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage
from pydantic import BaseModel

from langchain_parallel_plus import (
    BranchPolicy,
    CoverageError,
    DeclarationError,
    RunnableParallelPlus,
    SynthesisError,
    UnknownBranchError,
)
from langchain_parallel_plus.errors import AgreementError
from langchain_parallel_plus.synthesis import Ballot, MajorityVote, VoteResult, WeightedVote, samples
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode
from tests.unit.synthesis.loading import loaded, lost


async def test_the_answer_of_most_branches_wins(mode: Mode) -> None:
    fan_out = RunnableParallelPlus(a=lambda x: "Yes", b=lambda x: "no", c=lambda x: " yes\n")
    result = await mode.run(fan_out | MajorityVote(), "question", None)
    assert (result.winner, result.vote, result.agreement, result.tied) == ("Yes", "yes", 2 / 3, False)
    assert result.counts == [("yes", 2.0), ("no", 1.0)]
    assert [(ballot.branch, ballot.vote) for ballot in result.ballots] == [("a", "yes"), ("b", "no"), ("c", "yes")]


async def test_several_samples_of_one_chain_are_self_consistency(mode: Mode) -> None:
    model = ScriptedChatModel(lambda messages: "So it is 42.", cycle=True)
    result = await mode.run(
        samples(model, 3) | MajorityVote(key=lambda m: m.text.split()[-1].strip(".")), "6 * 7?", None
    )
    assert (result.vote, result.agreement) == ("42", 1.0)
    assert result.winner.text == "So it is 42."
    assert [ballot.branch for ballot in result.ballots] == ["sample_1", "sample_2", "sample_3"]
    assert len(model.calls) == 3


VOTES = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 12)), min_size=1, max_size=12)


@given(VOTES, st.sampled_from([1, 10, 100]))
def test_a_vote_agrees_with_counting_by_hand(votes: list[tuple[str, int]], scale: int) -> None:
    """The oracle tries every answer, adds decimals, and breaks ties by who said it first."""
    weights = {f"b{place}": weight / scale for place, (_, weight) in enumerate(votes)}
    outputs = {f"b{place}": vote for place, (vote, _) in enumerate(votes)}
    exact = {branch: Decimal(repr(weight)) for branch, weight in weights.items()}
    support = {
        vote: sum(exact[branch] for branch, other in outputs.items() if other == vote) for vote in set(outputs.values())
    }
    total = sum(exact.values())
    if not total:
        with pytest.raises(SynthesisError, match="0 for every branch"):
            WeightedVote(weights).invoke(outputs)
        return
    best = max(support.values())
    leaders = {vote for vote, count in support.items() if count == best}
    first = next(vote for branch, vote in outputs.items() if vote in leaders and weights[branch])
    result = WeightedVote(weights).invoke(outputs)
    assert (result.vote, result.tied) == (first, len(leaders) > 1)
    assert result.agreement == pytest.approx(float(best / total))
    assert dict(result.counts) == pytest.approx({vote: float(count) for vote, count in support.items()})


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=9))
def test_a_majority_is_a_weighted_vote_with_equal_weights(votes: list[str]) -> None:
    assert MajorityVote().invoke(votes) == WeightedVote([1] * len(votes)).invoke(votes) == WeightedVote().invoke(votes)


def test_a_tie_goes_to_the_first_branch_or_is_an_error() -> None:
    outputs = {"a": "x", "b": "y", "c": "y", "d": "x"}
    result = MajorityVote().invoke(outputs)
    assert (result.vote, result.agreement, result.tied) == ("x", 0.5, True)
    with pytest.raises(AgreementError, match=r"tie: 'x': 2, 'y': 2") as caught:
        MajorityVote(on_tie="error").invoke(outputs)
    assert caught.value.result == result
    assert pickle.loads(pickle.dumps(caught.value)).result == result


def test_weights_are_added_as_they_are_written() -> None:
    outputs = {"a": "x", "b": "x", "c": "y"}
    assert WeightedVote({"a": 0.1, "b": 0.2, "c": 0.3}).invoke(outputs).tied
    assert WeightedVote({"a": 0.1, "b": 0.2, "c": 0.31}).invoke(outputs).vote == "y"


def test_a_branch_of_weight_0_has_no_say_at_all() -> None:
    result = WeightedVote({"mute": 0}).invoke({"mute": "Yes!", "loud": "yes!"})
    assert (result.winner, result.agreement) == ("yes!", 1.0)
    assert WeightedVote({"mute": 0}).invoke({"mute": "no", "loud": "yes"}).counts == [("yes", 1.0), ("no", 0.0)]


def test_a_function_of_the_output_gives_its_weight() -> None:
    vote = WeightedVote(lambda output: output["confidence"], key="answer")
    result = vote.invoke([{"answer": "x", "confidence": 0.4}, {"answer": "y", "confidence": 0.5}])
    assert result.winner == {"answer": "y", "confidence": 0.5}
    assert result.agreement == pytest.approx(5 / 9)


def test_below_the_agreement_asked_for_nothing_has_won() -> None:
    outputs = ["x", "x", "y", "z"]
    assert MajorityVote(min_agreement=0.5).invoke(outputs).vote == "x"
    with pytest.raises(
        AgreementError, match=r"agreement of 0.50, at least 0.6 is asked: 'x': 2, 'y': 1, 'z': 1"
    ) as caught:
        MajorityVote(min_agreement=0.6).invoke(outputs)
    assert caught.value.result.winner == "x"


def test_branches_that_did_not_come_back_have_no_vote_and_are_named() -> None:
    def down(_: str) -> str:
        raise TimeoutError("slow")

    fan_out = RunnableParallelPlus(good=lambda x: x, kept=down, dropped=down, unsure=lambda x: None).with_policy(
        kept=BranchPolicy(on_failure="keep"), dropped=BranchPolicy(on_failure="drop")
    )
    result = (fan_out | MajorityVote()).invoke("x")
    assert (result.agreement, len(result.ballots)) == (1.0, 1)
    assert result.missing == {"kept": "timeout", "dropped": "timeout", "unsure": "empty"}


def test_what_is_normalised_to_nothing_is_no_vote() -> None:
    outputs = {"a": "I think 4", "b": "no idea", "c": "4", "d": float("nan"), "e": " "}
    with pytest.raises(SynthesisError):
        MajorityVote(normalise=lambda text: None).invoke(outputs)
    vote = MajorityVote(normalise=lambda text: next((word for word in str(text).split() if word.isdigit()), None))
    result = vote.invoke(outputs)
    assert (result.vote, result.agreement) == ("4", 1.0)
    assert [ballot.branch for ballot in result.ballots if ballot.vote is None] == ["b", "d", "e"]
    assert MajorityVote().invoke({"a": 1, "b": float("nan")}).agreement == 1.0
    assert MajorityVote().invoke({"a": "x", "b": " \n"}).agreement == 1.0


class Answer(BaseModel):
    value: int
    why: str = ""


@pytest.mark.parametrize(
    ("outputs", "options", "vote"),
    [
        ([AIMessage("Yes"), AIMessage("yes "), AIMessage("no")], {}, "yes"),
        ([Answer(value=1), Answer(value=2, why="x"), Answer(value=2)], {"key": "value"}, 2),
        ([{"v": [1, 2]}, {"v": [2]}, {"v": [1, 2]}], {"key": lambda output: tuple(output["v"])}, (1, 2)),
        ([Document("a", metadata={"label": "x"}), Document("b", metadata={"label": "x"})], {"key": "label"}, "x"),
        ([1, 1.0, 2], {}, 1),
        ([True, False, True], {}, True),
        (["Yes", "yes", "YES"], {"normalise": str}, "Yes"),
        (["A  b", "a B"], {}, "a b"),
        ([("a", 1), ("a", 1)], {}, ("a", 1)),
    ],
)
def test_outputs_of_many_shapes_can_vote(outputs: list[Any], options: dict[str, Any], vote: Any) -> None:
    assert MajorityVote(**options).invoke(outputs).vote == vote


@pytest.mark.parametrize(
    ("vote", "outputs", "says"),
    [
        (MajorityVote(), {"a": ["x"]}, r"vote of branch 'a': a list is not hashable"),
        (MajorityVote(), {"a": "1", "b": 1}, r"that of branch 'a' is a str, that of branch 'b' is an int"),
        (MajorityVote(), {"a": True, "b": 1}, r"'a' is a bool, that of branch 'b' is an int"),
        (MajorityVote(), [1, {"x": 1}], r"branch 'item_2': a dict is not hashable"),
        (MajorityVote(key="answr"), {"a": {"answer": 1}}, r"a dict of branch 'a' .*\nhelp: did you mean 'answer'"),
        (MajorityVote(key="valeu"), {"a": Answer(value=1)}, r"an Answer of branch 'a' .*\nhelp: did you mean 'value'"),
        (MajorityVote(key="x"), {"a": "text"}, r"a str of branch 'a' has no such field"),
        (WeightedVote([1, 2]), [1, 2, 3], r"2 weights for 3 branches"),
        (WeightedVote([1, 2]), {"a": 1, "b": 2}, r"is a list, and the outputs came by name: 'a', 'b'"),
        (WeightedVote(lambda output: "much"), {"a": 1}, r"returned a str \('much'\) for branch 'a'"),
        (WeightedVote(lambda output: -1), {"a": 1}, r"returned an int \(-1\) for branch 'a'"),
        (WeightedVote({"a": 0}), {"a": 1, "b": lost("b")}, r"0 for every branch that came back: 'a'"),
    ],
)  # fmt: skip
def test_votes_that_cannot_be_counted_are_named(vote: MajorityVote, outputs: Any, says: str) -> None:
    with pytest.raises(SynthesisError, match=says) as caught:
        vote.invoke(outputs)
    assert "\nhelp: " in str(caught.value)


def test_a_weight_for_no_branch_is_told_what_it_may_have_meant() -> None:
    with pytest.raises(UnknownBranchError, match=r"WeightedVote.weights names 'exprt'.*\nhelp: did you mean 'expert'"):
        WeightedVote({"exprt": 2}).invoke({"expert": "x", "other": "y"})
    dropped = RunnableParallelPlus(expert=lambda x: 1 / 0, other=lambda x: "y").with_policy(
        expert=BranchPolicy(on_failure="drop")
    )
    assert (dropped | WeightedVote({"expert": 2})).invoke("x").vote == "y"


def test_the_error_of_a_users_function_tells_which_branch_it_was_given() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        MajorityVote(key=lambda output: 1 / output).invoke({"a": 1, "b": 0})
    assert caught.value.__notes__ == ["MajorityVote.key raised this for the output of branch 'b'"]


async def later(output: Any) -> Any:
    return output


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: MajorityVote(min_agreement=1.5), "MajorityVote.min_agreement must be a number from 0 to 1, got 1.5"),
        (lambda: MajorityVote(min_agreement=True), "got True"),
        (lambda: MajorityVote(on_tie="last"), "on_tie must be one of 'first', 'error', got 'last'"),  # type: ignore[arg-type]
        (lambda: MajorityVote(key=3), "MajorityVote.key takes a plain function, got 3"),  # type: ignore[arg-type]
        (lambda: MajorityVote(key=""), "MajorityVote.key is an empty name"),
        (lambda: MajorityVote(normalise=later), "normalise takes a plain function, got an async function"),
        (lambda: WeightedVote({"a": -1}), "WeightedVote.weights['a'] must be a number of at least 0, got -1"),
        (lambda: WeightedVote({"a": "2"}), "got '2'"),  # type: ignore[dict-item]
        (lambda: WeightedVote([1, float("inf")]), "weights[1] must be a number of at least 0, got inf"),
        (lambda: WeightedVote([0, 0]), "are all 0"),
        (lambda: WeightedVote(3), "weights takes a plain function, got 3"),  # type: ignore[arg-type]
        (lambda: samples(len, 0), "the n of samples must be a whole number of at least 1, got 0"),
        (lambda: samples(len, 2.0), "got 2.0"),  # type: ignore[arg-type]
        (lambda: samples("chain", 2), "samples takes a runnable or a function, got str"),  # type: ignore[arg-type]
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused_with_the_way_out(declare: Any, says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert says in str(caught.value)
    assert "\nhelp: " in str(caught.value)


def test_a_result_is_a_frozen_value_that_travels() -> None:
    result = MajorityVote().invoke({"a": AIMessage("Yes"), "b": AIMessage("no"), "c": lost("c")})
    assert loaded(result, VoteResult, Ballot, AIMessage) == result
    assert pickle.loads(pickle.dumps(result)) == result
    read = VoteResult.model_validate_json(result.model_dump_json())
    assert (read.vote, read.agreement, read.ballots, read.missing) == ("yes", 0.5, result.ballots, {"c": "timeout"})
    with pytest.raises(Exception, match="frozen"):
        result.vote = "other"


def test_nothing_to_count_is_no_coverage() -> None:
    with pytest.raises(CoverageError, match=r"MajorityVote has nothing to work on: 0 of 1 branches.*'a' \(timeout\)"):
        MajorityVote().invoke({"a": lost("a")})
    assert dumpd(MajorityVote())["type"] == "constructor"
