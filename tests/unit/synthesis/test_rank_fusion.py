from __future__ import annotations

import math
import time
from collections import defaultdict
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

from langchain_parallel_plus import (
    BranchPolicy,
    CoverageError,
    DeclarationError,
    RunnableParallelPlus,
    SynthesisError,
    UnknownBranchError,
)
from langchain_parallel_plus.synthesis import RankFusion
from tests.modes import Mode
from tests.unit.synthesis.loading import lost


def page(text: str, **metadata: Any) -> Document:
    return Document(text, metadata=metadata)


async def test_rankings_become_one(mode: Mode) -> None:
    words = RunnableLambda(lambda query: [page("a", by="words"), page("b", by="words")])
    meaning = RunnableLambda(lambda query: [page("b", by="meaning"), page("c", by="meaning")])
    fan_out = RunnableParallelPlus(words=words, meaning=meaning)
    ranked = await mode.run(fan_out | RankFusion(), "query", None)
    assert [document.page_content for document in ranked] == ["b", "a", "c"]
    assert [document.metadata["by"] for document in ranked] == ["meaning", "words", "meaning"]


def test_the_scores_are_those_of_the_paper() -> None:
    """Computed by hand: a = 1/61 + 1/63, b = 1/62 + 1/61, c = 1/62, d = 1/63."""
    ranked = RankFusion(with_scores=True).invoke({"first": ["a", "b", "d"], "second": ["b", "c", "a"]})
    assert ranked == [
        ("b", pytest.approx(0.0325224748810154)),
        ("a", pytest.approx(0.0322664584959667)),
        ("c", pytest.approx(0.0161290322580645)),
        ("d", pytest.approx(0.0158730158730159)),
    ]


def test_k_and_weights_are_in_the_score() -> None:
    fusion = RankFusion(k=0, weights={"first": 3, "second": 0.5}, with_scores=True)
    ranked = fusion.invoke({"first": ["a", "b"], "second": ["b", "a", "c"], "third": ["c"]})
    assert ranked == [("a", 3.25), ("b", 2.0), ("c", pytest.approx(0.5 / 3 + 1))]


RANKINGS = st.lists(st.lists(st.integers(0, 8), max_size=8), min_size=1, max_size=5)
WEIGHTS = st.lists(st.integers(0, 3), min_size=5, max_size=5)


@given(RANKINGS, WEIGHTS, st.sampled_from([0, 1, 60]))
def test_fusion_agrees_with_brute_force(rankings: list[list[int]], weights: list[int], k: int) -> None:
    """The oracle adds exact fractions over every place of every ranking without its repetitions."""
    weights = weights[: len(rankings)]
    if not any(weights):
        weights[0] = 1
    scores: dict[int, Fraction] = defaultdict(Fraction)
    best: dict[int, tuple[int, int]] = {}
    for number, (ranking, weight) in enumerate(zip(rankings, weights, strict=True)):
        distinct = [item for place, item in enumerate(ranking) if item not in ranking[:place]]
        for rank, item in enumerate(distinct, start=1):
            if weight:
                scores[item] += Fraction(weight, k + rank)
                best[item] = min(best.get(item, (rank, number)), (rank, number))
    expected = sorted(scores, key=lambda item: (-scores[item], best[item]))
    ranked = RankFusion(k=k, weights=weights, with_scores=True).invoke(rankings)
    assert [score for _, score in ranked] == pytest.approx([float(scores[item]) for item in expected])
    assert [item for item, _ in ranked] == expected


def test_sums_of_other_terms_can_be_equal_too() -> None:
    """1/3 + 1/6 = 1/2, also where floats say something else: what ranks best then comes first."""
    rankings = [["x", "half"], ["y", "z", "sum"], [1, 2, 3, 4, 5, "sum"]]
    ranked = RankFusion(k=0, key=str, with_scores=True).invoke(rankings)
    assert [item for item, score in ranked if score == 0.5] == ["half", "z", 2, "sum"]


def test_long_rankings_take_little_time() -> None:
    rankings = [[(7919 * place * number) % 5000 for place in range(2000)] for number in range(1, 6)]
    began = time.perf_counter()
    RankFusion().invoke(rankings)
    assert time.perf_counter() - began < 3


@given(RANKINGS, st.randoms())
def test_the_order_of_the_branches_changes_no_score(rankings: list[list[int]], random: Any) -> None:
    shuffled = random.sample(rankings, len(rankings))
    one, other = (dict(RankFusion(with_scores=True).invoke(given)) for given in (rankings, shuffled))
    assert one == other  # to the last bit


@given(RANKINGS, st.integers(1, 9))
def test_a_limit_takes_the_beginning(rankings: list[list[int]], limit: int) -> None:
    ranked = RankFusion().invoke(rankings)
    assert RankFusion(limit=limit).invoke(rankings) == ranked[:limit]
    assert len(set(ranked)) == len(ranked) == len({item for ranking in rankings for item in ranking})


def test_equal_scores_are_in_the_order_of_rank_and_then_of_branch() -> None:
    assert RankFusion().invoke({"x": ["a"], "y": ["b"]}) == ["a", "b"]
    assert RankFusion().invoke({"y": ["b"], "x": ["a"]}) == ["b", "a"]
    assert RankFusion(k=0, weights=[1, 2]).invoke([["a"], ["z", "b"]]) == ["z", "a", "b"]


def test_what_stands_twice_in_a_ranking_counts_once_and_takes_no_place() -> None:
    ranked = RankFusion(k=0, with_scores=True).invoke([["a", "a", "b"]])
    assert ranked == [("a", 1.0), ("b", 0.5)]


def test_documents_are_known_again_by_their_text_or_what_the_key_says() -> None:
    one = Document("text", id="1", metadata={"source": "x", "score": 0.1})
    same = Document("text", id="2", metadata={"source": "y", "score": 0.9})
    other = Document("other", id="1", metadata={"source": "x"})
    given = {"first": [one], "second": [same, other]}
    assert RankFusion().invoke(given) == [one, other]
    assert RankFusion(key="source").invoke(given) == [one, same]
    assert RankFusion(key="id").invoke(given) == [one, same]
    assert RankFusion(key=lambda document: document.page_content[:1]).invoke(given) == [one, other]


def test_dicts_ids_and_mixtures_with_a_key() -> None:
    hits = {"first": [{"id": 1, "t": "a"}], "second": [{"id": 2}, {"id": 1, "t": "b"}]}
    assert RankFusion().invoke(hits) == [{"id": 1, "t": "a"}, {"id": 2}]
    assert RankFusion(key="t").invoke({"first": [{"t": "x"}], "second": [{"t": "x"}]}) == [{"t": "x"}]
    mixed = {"ids": ["a"], "documents": [Document("t", id="a")]}
    assert RankFusion(key=lambda item: getattr(item, "id", item)).invoke(mixed) == ["a"]


def test_a_retriever_that_failed_or_found_nothing_is_left_out() -> None:
    def down(_: str) -> list[str]:
        raise TimeoutError("slow")

    fan_out = RunnableParallelPlus(down=down, empty=lambda q: [], found=lambda q: ["a"]).with_policy(
        down=BranchPolicy(on_failure="drop")
    )
    assert (fan_out | RankFusion(weights={"down": 2})).invoke("query") == ["a"]
    assert RankFusion().invoke({"a": [], "b": lost("b")}) == []
    with pytest.raises(CoverageError):
        RankFusion().invoke({"b": lost("b")})


@pytest.mark.parametrize(
    ("fusion", "given", "says"),
    [
        (RankFusion(), {"a": "text"}, "takes a list from each branch, best first, and branch 'a' returned a str"),
        (RankFusion(), ["a", "b"], "branch 'item_1' returned a str"),
        (RankFusion(), {"a": {"documents": []}}, "branch 'a' returned a dict"),
        (RankFusion(), {"a": [object()]}, "does not know an object of branch 'a' again"),
        (RankFusion(), {"a": [{"url": "x"}]}, "a dict of branch 'a' has no such field; it has 'url'"),
        (
            RankFusion(),
            {"a": [], "b": ["x"], "c": [page("x")]},
            "cannot compare a str of branch 'b' with a Document of",
        ),
        (RankFusion(), {"a": ["1"], "b": [1]}, "cannot compare a str of branch 'a' with an int of branch 'b'"),
        (RankFusion(key=list), {"a": ["x"]}, "cannot tell the items of branch 'a' apart by a list"),
        (RankFusion(key="sorce"), {"a": [page("x", source="y")]}, "did you mean 'source'"),
    ],
)
def test_what_is_no_ranking_is_named(fusion: RankFusion, given: Any, says: str) -> None:
    with pytest.raises(SynthesisError) as caught:
        fusion.invoke(given)
    assert says in str(caught.value)
    assert "\nhelp: " in str(caught.value)


def test_a_weight_for_no_branch_is_told_what_it_may_have_meant() -> None:
    with pytest.raises(UnknownBranchError, match="did you mean 'words'"):
        RankFusion(weights={"word": 2}).invoke({"words": ["a"]})


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: RankFusion(k=-1), "RankFusion.k must be a number of at least 0, got -1"),
        (lambda: RankFusion(k=math.inf), "got inf"),
        (lambda: RankFusion(limit=0), "RankFusion.limit must be a whole number of at least 1, got 0"),
        (lambda: RankFusion(weights={"a": None}), "weights['a'] must be a number"),  # type: ignore[dict-item]
        (lambda: RankFusion(key=1), "RankFusion.key takes a plain function"),  # type: ignore[arg-type]
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused_with_the_way_out(declare: Any, says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert says in str(caught.value)
    assert "\nhelp: " in str(caught.value)
