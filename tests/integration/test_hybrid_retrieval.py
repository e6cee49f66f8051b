"""Two real retrievers over real text, fused: BM25 over the names and over the bodies of the language reference."""

from __future__ import annotations

from collections.abc import Callable
from pydoc_data.topics import topics

import pytest
from langchain_core.documents import Document
from rank_bm25 import BM25Okapi

from langchain_parallel_plus import BranchPolicy, RunnableParallelPlus
from langchain_parallel_plus.synthesis import RankFusion
from tests.modes import Mode

DOCUMENTS = [Document(text, id=name, metadata={"topic": name}) for name, text in topics.items()]

Retriever = Callable[[str], list[Document]]


def bm25(text_of: Callable[[Document], str], most: int = 20) -> Retriever:
    index = BM25Okapi([text_of(document).lower().split() for document in DOCUMENTS])

    def ranked(query: str) -> list[Document]:
        scores = index.get_scores(query.lower().split())
        return [DOCUMENTS[place] for place in scores.argsort()[::-1][:most] if scores[place] > 0]

    return ranked


TITLE, BODY = bm25(lambda document: document.metadata["topic"]), bm25(lambda document: document.page_content)


def reciprocal(lists: list[list[Document]], k: int = 60) -> dict[str, float]:
    scores: dict[str, float] = {}
    for found in lists:
        for rank, document in enumerate(found, start=1):
            scores[str(document.id)] = scores.get(str(document.id), 0.0) + 1 / (k + rank)
    return scores


@pytest.mark.parametrize(
    "query", ["try statement finally", "while loop break", "exceptions raise from", "lambda expressions"]
)
async def test_the_order_is_that_of_the_sums_of_reciprocal_ranks(query: str, mode: Mode) -> None:
    fused = await mode.run(RunnableParallelPlus(title=TITLE, body=BODY) | RankFusion(key="topic"), query, None)
    expected = reciprocal([TITLE(query), BODY(query)])
    assert {document.id for document in fused} == set(expected)
    scores = [expected[document.id] for document in fused]
    assert scores == sorted(scores, reverse=True)


def test_what_both_find_comes_before_what_one_finds() -> None:
    fused = (RunnableParallelPlus(title=TITLE, body=BODY) | RankFusion()).invoke("try statement finally")
    assert fused[0].id == "try"
    assert fused[0].page_content == topics["try"]


async def test_one_index_that_is_down_leaves_the_other_ones_order(mode: Mode) -> None:
    def down(query: str) -> list[Document]:
        raise ConnectionError("the index is down")

    kept = RunnableParallelPlus(title=down, body=BODY).with_policy(title=BranchPolicy(on_failure="keep"))
    fused = await mode.run(kept | RankFusion(key="topic"), "try statement finally", None)
    assert [document.id for document in fused] == [document.id for document in BODY("try statement finally")]
