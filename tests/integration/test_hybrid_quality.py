"""Two real retrievers over the chapters of Python's language reference, and their rankings as one."""

from __future__ import annotations

import re
import zlib
from importlib import import_module
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore
from rank_bm25 import BM25Okapi

from langchain_parallel_plus import BranchPolicy, RunnableParallelPlus
from langchain_parallel_plus.synthesis import RankFusion
from tests.modes import Mode

QUESTIONS = {
    "how is an exception raised again in a handler": "raise",
    "what does a with statement do on exit": "with",
    "which names are reserved as keywords of the language": "identifiers",
    "how to compare two objects for identity": "comparisons",
    "are integers divided by floor division": "binary",
    "when is __init__ called after an instance was created": "customization",
    "what are the methods of strings": "string-methods",
    "how are slices of a sequence written": "slicings",
    "what does the pass statement do": "pass",
    "where does a global statement bind names": "global",
}
"""Questions, and the chapter that answers each."""


class TermCounts(BaseRetriever):
    """BM25 over the words of the chapters."""

    documents: list[Document]
    index: Any

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return self.index.get_top_n(_words(query), self.documents, n=20)  # type: ignore[no-any-return]


class Trigrams(Embeddings):
    """Embeds a text by the trigrams of its letters: what is spelled alike is near."""

    def embed_query(self, text: str) -> list[float]:
        vector = [0.0] * 1024
        for word in _words(text):
            for place in range(len(word) + 1):
                vector[zlib.crc32(f" {word} "[place : place + 3].encode()) % 1024] += 1
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@pytest.fixture(scope="module")
def chapters() -> list[Document]:
    topics: dict[str, str] = import_module("pydoc_data.topics").topics
    return [Document(text, metadata={"topic": topic}) for topic, text in sorted(topics.items())]


@pytest.fixture(scope="module")
def retrievers(chapters: list[Document]) -> RunnableParallelPlus[str]:
    words = TermCounts(documents=chapters, index=BM25Okapi([_words(one.page_content) for one in chapters]))
    store = InMemoryVectorStore.from_documents(chapters, Trigrams())
    return RunnableParallelPlus(words=words, spelling=store.as_retriever(search_kwargs={"k": 20}))


def rank_of(topic: str, documents: list[Document]) -> int:
    """Return at which rank a chapter was found; 1000 if it was not."""
    topics = [document.metadata["topic"] for document in documents]
    return topics.index(topic) + 1 if topic in topics else 1000


async def test_one_ranking_comes_of_two(retrievers: RunnableParallelPlus[str], mode: Mode) -> None:
    query = "how is an exception raised again in a handler"
    found = retrievers.invoke(query)
    ranked = await mode.run(retrievers | RankFusion(limit=5), query, None)
    both = {document.page_content for ranking in found.values() for document in ranking}
    assert len(ranked) == 5
    assert {document.page_content for document in ranked} <= both
    assert len({document.metadata["topic"] for document in ranked}) == 5


def test_together_they_find_what_is_asked_for_better_than_each_alone(retrievers: RunnableParallelPlus[str]) -> None:
    """By mean reciprocal rank over the questions: about 0.6 each, and above 0.8 together."""
    quality = {"words": 0.0, "spelling": 0.0, "fused": 0.0}
    for question, topic in QUESTIONS.items():
        found = retrievers.invoke(question)
        for name, ranking in {**found, "fused": RankFusion().invoke(found)}.items():
            quality[name] += 1 / rank_of(topic, ranking) / len(QUESTIONS)
    assert quality["fused"] > max(quality["words"], quality["spelling"]) + 0.05


async def test_with_one_retriever_down_the_other_is_the_ranking(
    retrievers: RunnableParallelPlus[str], mode: Mode
) -> None:
    def down(_: str) -> list[Document]:
        raise ConnectionError("the vector store is down")

    hybrid = RunnableParallelPlus({**retrievers.steps__, "spelling": down}).with_policy(BranchPolicy(on_failure="keep"))
    query = "what does the pass statement do"
    assert await mode.run(hybrid | RankFusion(), query, None) == retrievers.steps__["words"].invoke(query)
