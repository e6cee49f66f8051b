"""`MajorityVote` and `WeightedVote`: the answer that most branches gave."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.messages import BaseMessage
from pydantic import SkipValidation

from langchain_parallel_plus.errors import AgreementError
from langchain_parallel_plus.synthesis.ballots import OnTie, VoteResult, counted
from langchain_parallel_plus.synthesis.contributions import asked
from langchain_parallel_plus.synthesis.declared import choice, number, plain_function
from langchain_parallel_plus.synthesis.keys import Key, checked_key, key_of
from langchain_parallel_plus.synthesis.reducer import Reducer
from langchain_parallel_plus.synthesis.weights import Weights, checked_weights, weigh

if TYPE_CHECKING:
    from fractions import Fraction

    from langchain_parallel_plus.synthesis.contributions import Contributions

__all__ = ("MajorityVote", "WeightedVote")


class MajorityVote(Reducer[VoteResult]):
    """Take the answer that most branches gave, and say how much they agreed.

    It takes a fan-out's dict, or a list. Branches that failed, were dropped or returned `None` have no vote. What wins
    needs no absolute majority, only more votes than anything else; `min_agreement` asks for more.

    With several samples of one chain this is self-consistency (Wang et al. 2022, arXiv:2203.11171): see `samples`.

    Args:
        key: What of an output is voted on: a function, or the name of a field. By default the output itself, and of a
            message its text.
        normalise: Makes equal what means the same; what it makes `None` is no vote. By default texts are compared
            without regard to case and white space, and everything else as it is. `str`, or `lambda vote: vote`, turns
            that off.
        min_agreement: Share (0 to 1) of the votes cast below which nothing has won.
        on_tie: `"first"` lets the vote win that comes first in the order of the branches; the result says `tied`.
            `"error"` raises.
        name: Name of the run in traces.

    Raises:
        AgreementError: Less than `min_agreement`, or a tie under `on_tie="error"`; the count is in its `.result`.
        SynthesisError: A vote is not hashable, or votes are of different types, such as a text and a number.

    Example:
        ```python
        vote = samples(chain, 5) | MajorityVote(key=last_line, min_agreement=0.6)
        result = vote.invoke(question)
        print(result.winner, result.agreement)
        ```
    """

    _strategy: ClassVar[str] = "vote"

    key: SkipValidation[Key | None] = None
    """What of an output is voted on."""
    normalise: SkipValidation[Callable[[Any], Any] | None] = None
    """Makes equal what means the same."""
    min_agreement: float | None = None
    """Share of the votes cast below which nothing has won."""
    on_tie: OnTie = "first"
    """What as many votes for something else mean."""

    def __init__(
        self,
        *,
        key: Key | None = None,
        normalise: Callable[[Any], Any] | None = None,
        min_agreement: float | None = None,
        on_tie: OnTie = "first",
        name: str | None = None,
        **fields: Any,
    ) -> None:
        me = type(self).__name__
        if min_agreement is not None:
            number(min_agreement, f"{me}.min_agreement", "0.6 asks for three votes of five", least=0, most=1)
        super().__init__(
            key=checked_key(key, f"{me}.key"),
            normalise=plain_function(normalise, f"{me}.normalise", "for example normalise=str.casefold"),
            min_agreement=min_agreement,
            on_tie=choice(on_tie, f"{me}.on_tie", ("first", "error"), "left out, the first vote wins a tie"),
            name=name,
            **fields,
        )

    @property
    def OutputType(self) -> type[VoteResult]:
        """The result with winner, agreement and ballots."""
        return VoteResult

    def _joined(self, given: Contributions) -> VoteResult:
        me = type(self).__name__
        votes = {branch: self._vote(output, me, branch) for branch, output in given.outputs.items()}
        result = counted(given.outputs, votes, self._weights(given), given.missing, me)
        return self._accepted(result, me)

    def _facts(self, ended: object) -> dict[str, Any]:
        result = ended.result if isinstance(ended, AgreementError) else ended
        return {"agreement": result.agreement} if isinstance(result, VoteResult) else {}

    def _weights(self, given: Contributions) -> dict[str, Fraction]:
        return weigh(given, None, "weights")

    def _vote(self, output: Any, me: str, branch: str) -> Any:
        voted = output if self.key is None else key_of(output, self.key, f"{me}.key", branch)
        if isinstance(voted, BaseMessage):
            voted = str(voted.text)
        if voted is not None and self.normalise is not None:
            with asked(f"{me}.normalise", branch):
                voted = self.normalise(voted)
        elif isinstance(voted, str):
            voted = " ".join(voted.split()).casefold()
        if isinstance(voted, float) and math.isnan(voted):
            return None  # it does not even agree with itself
        return None if isinstance(voted, str) and not voted.strip() else voted

    def _accepted(self, result: VoteResult, me: str) -> VoteResult:
        counts = ", ".join(f"{vote!r:.60}: {count:g}" for vote, count in result.counts[:5])
        if result.tied and self.on_tie == "error":
            msg = f"{me} ended in a tie: {counts}"
            raise AgreementError(
                msg, result=result, help="on_tie='first' lets the first vote win; or ask an odd number"
            )
        if self.min_agreement is not None and result.agreement < self.min_agreement:
            msg = (
                f"{me} found an agreement of {result.agreement:.2f}, at least {self.min_agreement:g} is asked: {counts}"
            )
            raise AgreementError(msg, result=result, help="the count is in this error's .result; ask more branches")
        return result


class WeightedVote(MajorityVote):
    """Take the answer with the most weight behind it.

    `MajorityVote` with a weight for each branch. Weights are added as the decimals that they are written as, so that
    0.1 and 0.2 tie with 0.3.

    Args:
        weights: By branch (a branch left out has 1), by place for a list, or a function of a branch's output, such as
            the confidence that it states. 0 leaves a branch without a say.
        **options: Those of `MajorityVote`.

    Raises:
        UnknownBranchError: A weight is for no branch of the fan-out.

    Example:
        ```python
        vote = RunnableParallelPlus(expert=strong, first=cheap, second=cheap) | WeightedVote({"expert": 1.5})
        ```
    """

    weights: SkipValidation[Weights | None] = None
    """How much each branch counts."""

    def __init__(self, weights: Weights | None = None, **options: Any) -> None:
        super().__init__(weights=checked_weights(weights, f"{type(self).__name__}.weights"), **options)

    def _weights(self, given: Contributions) -> dict[str, Fraction]:
        return weigh(given, self.weights, f"{type(self).__name__}.weights")
