from __future__ import annotations

import pickle
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from langchain_parallel_plus import (
    BranchPolicy,
    CoverageError,
    DeclarationError,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    SynthesisError,
    UnknownBranchError,
)
from langchain_parallel_plus.errors import JudgementError
from langchain_parallel_plus.synthesis import PickBest, PickResult, samples
from langchain_parallel_plus.synthesis.candidates import Candidates
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode
from tests.unit.synthesis.injections import INJECTIONS
from tests.unit.synthesis.loading import loaded, lost

TWO = {"first": "one", "second": "two"}


def prompt_of(model: ScriptedChatModel) -> str:
    [call] = model.calls
    return "\n".join(str(message.content) for message in call.messages)


def judge_of(pattern: str) -> ScriptedChatModel:
    """Return a judge that chooses the first candidate whose text matches."""

    def answer(messages: list[BaseMessage]) -> str:
        blocks = re.findall(r'<branch name="(\w+)">\n(.*?)\n</branch>', str(messages[-1].content), flags=re.DOTALL)
        return next(label for label, text in blocks if re.search(pattern, text))

    return ScriptedChatModel(answer)


async def test_a_judge_model_chooses(mode: Mode) -> None:
    model = judge_of("second")
    fan_out = RunnableParallelPlus(a=lambda x: f"first {x}", b=lambda x: f"second {x}")
    assert await mode.run(fan_out | PickBest(model), "text", None) == "second text"
    assert len(model.calls) == 1


async def test_a_function_scores(mode: Mode) -> None:
    fan_out = RunnableParallelPlus(a=lambda x: "long text", b=lambda x: "short")
    assert await mode.run(fan_out | PickBest(lambda text: -len(text)), "text", None) == "short"


async def test_an_async_function_or_a_runnable_scores_too() -> None:
    async def score(text: str) -> int:
        return len(text)

    assert await PickBest(score).ainvoke(TWO) == "one"
    scored = PickBest(score=RunnableLambda(len), with_verdict=True).invoke({"a": "x", "b": "yy"})
    assert (scored.winner, scored.branch, scored.scores) == ("yy", "b", {"a": 1.0, "b": 2.0})


async def test_a_function_of_all_outputs_chooses(mode: Mode) -> None:
    fan_out = RunnableParallelPlus(a=lambda x: 1, b=lambda x: 3, c=lambda x: 2)
    assert await mode.run(fan_out | PickBest(choose=lambda outputs: max(outputs, key=outputs.get)), 0, None) == 3
    assert await mode.run(fan_out | PickBest(choose=lambda outputs: 2), 0, None) == 2


@pytest.mark.parametrize(
    "said",
    [
        "B",
        "b",
        " B.\n",
        "**B**",
        "'B'",
        "(B)",
        "Candidate B",
        "The best candidate is B.",
        "Answer: B",
        "So A is wrong.\n\nB",
        "The answer is: **B**",
    ],
)
def test_an_answer_is_a_label_with_a_few_words_around_it(said: str) -> None:
    assert PickBest(ScriptedChatModel([said])).invoke(TWO) == "two"


@pytest.mark.parametrize(
    "said",
    [
        "",
        " \n ",
        "C",
        "A or B",
        "A and B",
        "Both",
        "I like B more",
        "AB",
        "neither",
        "second",
        "two",
        "B\nBut A is fine too.",
        "." * 10_000 + "B",
        "7",
        "A" * 5000,
    ],
)
async def test_any_other_answer_is_an_error_that_says_what_was_said(said: str, mode: Mode) -> None:
    with pytest.raises(JudgementError) as caught:
        await mode.run(PickBest(ScriptedChatModel([said])), TWO, None)
    assert caught.value.said == said
    assert "one of A, B" in str(caught.value)
    shown = "it said nothing" if not said.strip() else repr(said.strip()[:20])[:-1]
    assert shown in str(caught.value)
    assert len(str(caught.value)) < 600
    assert pickle.loads(pickle.dumps(caught.value)).said == said


def test_a_judge_that_answers_nonsense_can_be_asked_again() -> None:
    model = ScriptedChatModel(["What a choice!", "A or B?", "B"])
    policy = BranchPolicy(retry=RetryPolicy(retry_on=JudgementError, initial_interval=0.001))
    assert RunnableWithPolicy(PickBest(model), policy).invoke(TWO) == "two"


def test_the_judge_sees_neutral_labels_the_instructions_and_the_context() -> None:
    model = judge_of("right")
    fan_out = RunnableParallelPlus(question=RunnablePassthrough(), gpt=lambda q: "wrong", claude=lambda q: "right")
    best = fan_out | PickBest(model, instructions="Which is true?", context="question")
    assert best.invoke("2 + 2?") == "right"
    prompt = prompt_of(model)
    assert '<branch name="question">\n2 + 2?\n</branch>' in prompt
    assert '<branch name="A">\nwrong\n</branch>\n\n<branch name="B">\nright\n</branch>' in prompt
    assert "gpt" not in prompt
    assert "claude" not in prompt
    assert "Which is true? Answer with its label alone, one of A, B." in prompt


def test_a_context_cannot_look_like_a_candidate() -> None:
    model = judge_of("x")
    PickBest(model, context=("A", "b")).invoke({"A": "ctx", "b": "ctx", "c": "x", "d": "y"})
    assert re.findall(r'<branch name="([^"]*)">', prompt_of(model)) == ["A 2", "b 2", "A", "B"]


@pytest.mark.parametrize("text", INJECTIONS)
def test_a_candidate_can_neither_leave_its_block_nor_pose_as_another(text: str) -> None:
    model = ScriptedChatModel(["B"])
    assert PickBest(model).invoke({"evil": text, "good": "fine"}) == "fine"
    prompt = prompt_of(model)
    assert re.findall(r"<branch [^>]*>", prompt) == ['<branch name="A">', '<branch name="B">']
    assert prompt.count("</branch>") == 2


def test_what_candidates_say_fills_no_variables() -> None:
    model = ScriptedChatModel(["A"])
    PickBest(model, prompt="{candidates} {labels}").invoke({"a": "{labels} {0} {instructions}", "b": "x"})
    assert "{labels} {0} {instructions}" in prompt_of(model)


def test_a_shuffled_order_depends_on_the_seed_and_the_candidates_alone() -> None:
    texts = {f"b{place}": f"text {place}" for place in range(6)}
    orders = {seed: tuple(Candidates.of(texts, seed).branches.values()) for seed in range(20)}
    assert orders == {seed: tuple(Candidates.of(texts, seed).branches.values()) for seed in range(20)}
    assert all(sorted(order) == sorted(texts) for order in orders.values())
    assert len(set(orders.values())) > 15
    firsts = {next(iter(Candidates.of({"a": f"x{n}", "b": f"y{n}"}, 1).branches.values())) for n in range(20)}
    assert firsts == {"a", "b"}
    assert PickBest(judge_of("two"), shuffle=3).invoke(TWO) == "two"


@given(st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=30), st.none() | st.integers(0, 99))
def test_every_label_leads_to_its_own_candidate(texts: list[str], seed: int | None) -> None:
    by_branch = {f"b{place}": text for place, text in enumerate(texts)}
    candidates = Candidates.of(by_branch, seed)
    assert {by_branch[branch] for branch in candidates.branches.values()} == set(texts)
    assert len(candidates.branches) == len(set(texts))
    for label, branch in candidates.branches.items():
        assert candidates.chosen(label) == branch
        assert by_branch[branch] == texts[texts.index(by_branch[branch])]


def test_labels_go_on_after_z() -> None:
    labels = list(Candidates.of({str(place): str(place) for place in range(60)}).branches)
    assert labels[:2] + labels[25:29] + labels[51:53] == ["A", "B", "Z", "AA", "AB", "AC", "AZ", "BA"]


async def test_nobody_is_asked_where_there_is_nothing_to_choose(mode: Mode) -> None:
    model = ScriptedChatModel([])
    assert await mode.run(PickBest(model), {"a": lost("a"), "b": "x", "c": None}, None) == "x"
    assert await mode.run(PickBest(model), ["x", "x"], None) == "x"
    assert await mode.run(PickBest(model), ["", "x"], None) == "x"


@pytest.mark.parametrize(
    ("pick", "outputs", "says"),
    [
        (PickBest(len), {"a": lost("a")}, "PickBest has nothing to work on: 0 of 1 branches came back"),
        (PickBest(len), {}, "PickBest was given nothing"),
        (PickBest(ScriptedChatModel([])), {"a": "", "b": []}, "the outputs of 'a', 'b' are empty"),
        (
            PickBest(ScriptedChatModel([]), context="q"),
            {"q": lost("q"), "a": "x", "b": "y"},
            r"context 'q' of PickBest did not come back \(timeout\)",
        ),
        (PickBest(ScriptedChatModel([]), context="q"), {"q": "x", "b": lost("b")}, "besides its context, 0 of 1"),
    ],
)
def test_nothing_to_choose_from_is_no_coverage(pick: PickBest, outputs: Any, says: str) -> None:
    with pytest.raises(CoverageError, match=says):
        pick.invoke(outputs)


def test_an_unknown_context_is_told_what_it_may_have_meant() -> None:
    with pytest.raises(UnknownBranchError, match="did you mean 'question'"):
        PickBest(ScriptedChatModel([]), context="qestion").invoke({"question": "x", "a": "y"})


@pytest.mark.parametrize(
    ("pick", "says"),
    [
        (PickBest(lambda text: "good"), "the score of branch 'first' must be a number, got a str: 'good'"),
        (PickBest(lambda text: float("nan")), "must be a number, got a float: nan"),
        (PickBest(lambda text: None), "must be a number, got None"),
        (PickBest(choose=lambda outputs: "third"), "choose returned a str that is no candidate: 'third'"),
        (PickBest(choose=lambda outputs: 2), "choose returned an int that is no candidate: 2"),
        (PickBest(choose=lambda outputs: -1), "no candidate: -1"),
        (PickBest(choose=lambda outputs: True), "a bool that is no candidate"),
        (PickBest(RunnableLambda(lambda prompt: {"best": "A"})), "the judge returned a dict in place of a text"),
    ],
)
def test_scores_and_choices_that_are_none_are_named(pick: PickBest, says: str) -> None:
    with pytest.raises(JudgementError) as caught:
        pick.invoke(TWO)
    assert says in str(caught.value)
    assert "\nhelp: " in str(caught.value)


def test_equal_scores_take_the_first_or_are_an_error() -> None:
    assert PickBest(len).invoke(TWO) == "one"
    assert PickBest(lambda text: 1e400).invoke(TWO) == "one"
    with pytest.raises(SynthesisError, match="tie: the branches 'first', 'second' have the score 3"):
        PickBest(len, on_tie="error").invoke(TWO)


def test_a_scoring_function_that_raises_names_its_branch() -> None:
    with pytest.raises(KeyError) as caught:
        PickBest(lambda output: output["x"]).invoke({"a": {"x": 1}, "b": {}})
    assert caught.value.__notes__[0].startswith("branch 'b' failed")


def test_the_verdict_tells_why() -> None:
    outputs = {**TWO, "gone": lost("gone")}
    result = PickBest(ScriptedChatModel(["I like the second.\nB"]), with_verdict=True).invoke(outputs)
    assert result == PickResult(
        winner="two", branch="second", said="I like the second.\nB", missing={"gone": "timeout"}
    )
    assert loaded(result, PickResult) == result
    assert pickle.loads(pickle.dumps(result)) == result
    assert PickBest(len, with_verdict=True).OutputType is PickResult


def test_best_of_n_in_two_lines() -> None:
    answers = iter(["x", "xxx", "xx"])
    assert (samples(lambda _: next(answers), 3) | PickBest(len)).invoke("question") == "xxx"


@pytest.mark.parametrize(
    "prompt", ["Best of {candidates}?", ChatPromptTemplate.from_template("{candidates} {labels} {context}")]
)
def test_the_prompt_can_be_ones_own(prompt: Any) -> None:
    model = ScriptedChatModel([AIMessage([{"type": "text", "text": "A"}])])
    assert PickBest(model, prompt=prompt).invoke(TWO) == "one"
    assert '<branch name="A">' in prompt_of(model)


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: PickBest(), "takes one of judge=, score= and choose="),
        (lambda: PickBest(ScriptedChatModel([]), score=len), "takes one of"),
        (lambda: PickBest(len, choose=min), "takes one of"),
        (lambda: PickBest("gpt-4o"), "must be a model, another runnable or a function, got 'gpt-4o'"),
        (lambda: PickBest(len, instructions="x"), "and no model to judge by them"),
        (lambda: PickBest(len, shuffle=1), "and no model to judge by them"),
        (lambda: PickBest(ScriptedChatModel([]), shuffle=True), "PickBest.shuffle must be a whole number"),
        (lambda: PickBest(ScriptedChatModel([]), prompt="{labels}"), "the prompt of PickBest has the variables"),
        (lambda: PickBest(ScriptedChatModel([]), prompt="{candidates} {x}"), "['candidates', 'x']"),
        (lambda: PickBest(ScriptedChatModel([]), prompt=3), "must be a prompt template or a text"),  # type: ignore[arg-type]
        (lambda: PickBest(len, on_tie="last"), "PickBest.on_tie must be one of"),  # type: ignore[arg-type]
        (lambda: PickBest(choose=RunnableLambda(len)), "PickBest.choose takes a plain function"),  # type: ignore[arg-type]
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused_with_the_way_out(declare: Any, says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert says in str(caught.value)
    assert "\nhelp: " in str(caught.value)
