"""`RankFusion`: several rankings of the same things as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.documents import Document
from pydantic import SkipValidation

from langchain_parallel_plus.errors import SynthesisError
from langchain_parallel_plus.synthesis.contributions import kind_of
from langchain_parallel_plus.synthesis.declared import number
from langchain_parallel_plus.synthesis.keys import Key, checked_key, field_of, key_of
from langchain_parallel_plus.synthesis.reducer import Reducer
from langchain_parallel_plus.synthesis.weights import Weights, checked_weights, weigh

if TYPE_CHECKING:
    from collections.abc import Hashable

    from langchain_parallel_plus.synthesis.contributions import Contributions

__all__ = ("RankFusion", "fused")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a thing stands in one ranking."""

    rank: int
    ranking: int
    item: Any


def fused(
    rankings: Sequence[Sequence[tuple[Hashable, Any]]], weights: Sequence[Fraction], k: float
) -> list[tuple[Any, float]]:
    """Return every item once with its score, best first: the sum over the rankings of `weight / (k + rank)`.

    The first item has rank 1. Within a ranking, what stands there again is passed over; a ranking of weight 0 is left
    out. Of equal scores the best rank comes first, then the earlier ranking. Of the several items of one identity the
    best-ranked one is returned.

    Example:
        ```python
        first, second = [("a", "a"), ("b", "b")], [("b", "b")]
        assert fused([first, second], [Fraction(1), Fraction(1)], k=0) == [("b", 1.5), ("a", 1.0)]
        ```
    """
    places: dict[Hashable, list[_Place]] = {}
    for number_of_ranking, ranking in enumerate(rankings):
        if not weights[number_of_ranking]:
            continue
        distinct: dict[Hashable, Any] = {}
        for identity, item in ranking:
            distinct.setdefault(identity, item)
        for rank, (identity, item) in enumerate(distinct.items(), start=1):
            places.setdefault(identity, []).append(_Place(rank, number_of_ranking, item))
    scored = []
    base = Fraction(k)
    for found in places.values():
        best = min(found, key=lambda place: (place.rank, place.ranking))
        # Exact, so that equal scores are equal, and the order of the rankings makes no difference in the last bit.
        scored.append((sum(weights[place.ranking] / (base + place.rank) for place in found), best))
    scored.sort(key=lambda one: (-one[0], one[1].rank, one[1].ranking))
    return [(best.item, float(score)) for score, best in scored]


class RankFusion(Reducer[list[Any]]):
    """Make one ranking of the branches' rankings: reciprocal rank fusion, for hybrid retrieval.

    Each branch returns a list, best first: of Documents, of ids (texts or numbers), or of dicts. An item's score is
    the sum of `weight / (k + rank)` over the rankings that it stands in (Cormack, Clarke and Buettcher, SIGIR 2009,
    who use k = 60). Scores of the retrievers themselves play no part, so that they need not be comparable. What several
    branches found comes back once, as the branch that ranks it best returned it; the order is the same every time.

    Args:
        k: How little the first places are preferred: 0 counts 1, 1/2, 1/3 ..., a large one counts in how many rankings
            an item stands.
        weights: By branch (a branch left out has 1), or by place for a list. 0 leaves a ranking out.
        key: By what an item is known again: a function, or the name of a field (of a Document: in its metadata, or
            `"id"`). By default a Document's text, as in LangChain's `EnsembleRetriever`; a dict's field `id`; an id
            itself.
        limit: How many items to return. By default all.
        with_scores: Return `(item, score)` tuples.
        name: Name of the run in traces.

    Raises:
        SynthesisError: A branch returned no list, or something whose identity is not known.
        UnknownBranchError: A weight is for no branch of the fan-out.

    Example:
        ```python
        retriever = RunnableParallelPlus(words=bm25, meaning=vectors) | RankFusion(weights={"words": 0.5}, limit=5)
        documents = retriever.invoke("which exceptions are not errors?")
        ```
    """

    _strategy: ClassVar[str] = "rank_fusion"

    k: float = 60
    """How little the first places are preferred."""
    weights: SkipValidation[Weights | None] = None
    """How much each ranking counts."""
    key: SkipValidation[Key | None] = None
    """By what an item is known again."""
    limit: int | None = None
    """How many items to return."""
    with_scores: bool = False
    """Whether to return `(item, score)` tuples."""

    def __init__(
        self,
        *,
        k: float = 60,
        weights: Weights | None = None,
        key: Key | None = None,
        limit: int | None = None,
        with_scores: bool = False,
        name: str | None = None,
    ) -> None:
        if limit is not None:
            number(limit, "RankFusion.limit", "left out, all items are returned", least=1, whole=True)
        super().__init__(
            k=number(k, "RankFusion.k", "60 is usual", least=0),
            weights=checked_weights(weights, "RankFusion.weights"),
            key=checked_key(key, "RankFusion.key"),
            limit=limit,
            with_scores=with_scores,
            name=name,
        )

    @property
    def OutputType(self) -> Any:
        """The items, best first, or tuples of an item and its score."""
        return list[tuple[Any, float]] if self.with_scores else list[Any]

    def _joined(self, given: Contributions) -> list[Any]:
        weights = weigh(given, self.weights, "RankFusion.weights")
        rankings = [
            [(self._identity(item, branch), item) for item in _ranking(output, branch)]
            for branch, output in given.outputs.items()
        ]
        if self.key is None:
            _check_kinds(given)
        ranked = fused(rankings, list(weights.values()), self.k)[: self.limit]
        return ranked if self.with_scores else [item for item, _ in ranked]

    def _identity(self, item: Any, branch: str) -> Hashable:
        identity = _own_identity(item, branch) if self.key is None else key_of(item, self.key, "RankFusion.key", branch)
        try:
            hash(identity)
        except TypeError:
            msg = f"RankFusion cannot tell the items of branch {branch!r} apart by {kind_of(identity)}: no hash"
            raise SynthesisError(msg, help="give key= a function that returns a text or a number") from None
        return identity


def _ranking(output: Any, branch: str) -> Sequence[Any]:
    if isinstance(output, list | tuple):
        return output
    msg = f"RankFusion takes a list from each branch, best first, and branch {branch!r} returned {kind_of(output)}"
    raise SynthesisError(msg, help="put only retrievers, or what else returns a ranking, into the fan-out before it")


def _own_identity(item: Any, branch: str) -> Hashable:
    if isinstance(item, Document):
        return item.page_content
    if isinstance(item, Mapping):
        return field_of(item, "id", "RankFusion.key", branch)  # type: ignore[no-any-return]  # _identity asks it for a hash
    if isinstance(item, str | int):
        return item
    msg = f"RankFusion does not know {kind_of(item)} of branch {branch!r} again in another ranking"
    raise SynthesisError(msg, help="say by what: key=lambda item: ..., or the name of a field")


def _check_kinds(given: Contributions) -> None:
    """Refuse rankings of different things: a Document and an id would never be found to be the same."""
    first: tuple[str, Any] | None = None
    for branch, output in given.outputs.items():
        for item in output:
            first = first or (branch, item)
            if _kind(item) is not _kind(first[1]):
                msg = (
                    f"RankFusion cannot compare {kind_of(first[1])} of branch {first[0]!r} "
                    f"with {kind_of(item)} of branch {branch!r}"
                )
                raise SynthesisError(msg, help="say by what both are known: key=lambda item: ...")


def _kind(item: Any) -> type:
    return next((kind for kind in (Document, Mapping, str, int) if isinstance(item, kind)), object)
