"""`PickBest`: the best of the branches' outputs, by a judge or by a score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import coerce_to_runnable
from langchain_core.runnables.utils import get_unique_config_specs
from pydantic import Field, SkipValidation

from langchain_parallel_plus._engine.prepared import for_tasks
from langchain_parallel_plus.errors import CoverageError, DeclarationError, UnknownBranchError
from langchain_parallel_plus.policy import BranchPolicy
from langchain_parallel_plus.synthesis.ballots import OnTie
from langchain_parallel_plus.synthesis.candidates import Candidates, in_block
from langchain_parallel_plus.synthesis.declared import choice, number, plain_function
from langchain_parallel_plus.synthesis.escaping import SafeNames
from langchain_parallel_plus.synthesis.items import fan_out_over
from langchain_parallel_plus.synthesis.judging import (
    INSTRUCTIONS,
    answer_text,
    branch_named,
    checked_score,
    judge_prompt,
    question,
    winner_by_score,
)
from langchain_parallel_plus.synthesis.record import Record
from langchain_parallel_plus.synthesis.reducer import Reducer
from langchain_parallel_plus.synthesis.rendering import rendered

if TYPE_CHECKING:
    from langchain_core.prompt_values import PromptValue
    from langchain_core.runnables import RunnableConfig
    from langchain_core.runnables.utils import ConfigurableFieldSpec

    from langchain_parallel_plus.fanout import RunnableParallelPlus
    from langchain_parallel_plus.synthesis.contributions import Contributions

__all__ = ("PickBest", "PickResult")


class PickResult(Record):
    """The best output and why it is that, for `PickBest(..., with_verdict=True)`."""

    winner: Any
    """The best output, as its branch returned it."""
    branch: str
    """The branch that returned it."""
    scores: dict[str, float] = Field(default_factory=dict)
    """The score of each candidate, where they were scored."""
    said: str | None = None
    """What the judge said, where a model was asked."""
    missing: dict[str, str] = Field(default_factory=dict)
    """The branches that did not come back, each with the reason in a word or two."""


class PickBest(Reducer[Any]):
    r"""Return the best of the branches' outputs.

    A judge model sees every candidate in a block under a label (A, B, ...), without the branches' names, and answers
    with a label; the text of a candidate can neither close its block nor pose as another candidate. Equal candidates
    are shown once, and where one is left, nobody is asked: it is returned. With several samples of one chain this is
    best-of-n.

    Args:
        judge: A model, or any runnable that takes a prompt and answers with text; its answer's last line must be the
            label. A plain function is a `score`.
        score: A function, or runnable, of one output that says how good it is; the highest score wins. It is run on
            all candidates at once, as a fan-out.
        choose: A function of the dict of outputs that returns the name of the best branch, or its place from 0.
        instructions: What the judge goes by, such as `"Which summary leaves out least?"`.
        prompt: In place of the built-in one: a prompt template, or text for one, with the variable `candidates`, and if
            you like `labels`, `instructions` and `context`.
        context: Branches that are no candidates, but that the judge is to see, such as the question.
        shuffle: Show the candidates in an order drawn with this seed from what they say, because models prefer what
            they are shown first. By default in the order of the branches.
        on_tie: What equal scores mean: `"first"` takes the first branch, `"error"` raises.
        with_verdict: Return a `PickResult` with the branch, the scores or the judge's words in place of the output.
        name: Name of the run in traces.

    Raises:
        JudgementError: The judge chose none of the candidates, or a score is no number. `RunnableWithPolicy` with
            `RetryPolicy(retry_on=JudgementError)` asks again.
        CoverageError: No candidate, or not all of the context came back; the judge was not asked.

    Example:
        ```python
        best = samples(chain, 4) | PickBest(llm, instructions="Which answer is right?")
        fan_out = RunnableParallelPlus(question=RunnablePassthrough(), a=first_chain, b=second_chain)
        best = fan_out | PickBest(llm, context="question", shuffle=1)
        shortest = samples(chain, 4) | PickBest(lambda answer: -len(answer))
        ```
    """

    _strategy: ClassVar[str] = "pick_best"

    judge: Runnable[Any, Any] | None = None
    """What chooses a label."""
    score: Runnable[Any, Any] | None = None
    """What says how good an output is."""
    choose: SkipValidation[Callable[[dict[str, Any]], str | int] | None] = None
    """What chooses from the outputs."""
    instructions: str = INSTRUCTIONS
    """What the judge goes by."""
    prompt: SkipValidation[BasePromptTemplate[Any] | None] = None
    """What the judge is shown, in place of the built-in prompt."""
    context: tuple[str, ...] = ()
    """Branches that the judge is to see, but not to choose."""
    shuffle: int | None = None
    """The seed of the order in which the candidates are shown."""
    on_tie: OnTie = "first"
    """What equal scores mean."""
    with_verdict: bool = False
    """Whether to return a `PickResult`."""

    def __init__(
        self,
        judge: Any = None,
        *,
        score: Any = None,
        choose: Callable[[dict[str, Any]], str | int] | None = None,
        instructions: str | None = None,
        prompt: BasePromptTemplate[Any] | str | None = None,
        context: str | Sequence[str] = (),
        shuffle: int | None = None,
        on_tie: OnTie = "first",
        with_verdict: bool = False,
        name: str | None = None,
    ) -> None:
        if judge is not None and not isinstance(judge, Runnable) and score is None:
            judge, score = None, _function(judge)
        if sum(one is not None for one in (judge, score, choose)) != 1:
            msg = "PickBest takes one of judge=, score= and choose="
            raise DeclarationError(msg, help="for example PickBest(llm), or PickBest(lambda output: -len(output))")
        if judge is None and (prompt, instructions or INSTRUCTIONS, shuffle) != (None, INSTRUCTIONS, None):
            msg = "PickBest was given instructions, a prompt or a seed, and no model to judge by them"
            raise DeclarationError(msg, help="write PickBest(llm, instructions=...)")
        if shuffle is not None:
            number(shuffle, "PickBest.shuffle", "any whole number is a seed", least=0, whole=True)
        super().__init__(
            judge=judge,
            score=None if score is None else coerce_to_runnable(score),
            choose=plain_function(
                choose, "PickBest.choose", "for example choose=lambda outputs: max(outputs, key=...)"
            ),
            instructions=instructions or INSTRUCTIONS,
            prompt=None if prompt is None else judge_prompt(prompt),
            context=(context,) if isinstance(context, str) else tuple(context),
            shuffle=shuffle,
            on_tie=choice(on_tie, "PickBest.on_tie", ("first", "error"), "left out, the first branch wins a tie"),
            with_verdict=with_verdict,
            name=name,
        )

    @property
    def OutputType(self) -> Any:
        """One of the outputs, or a `PickResult`."""
        return PickResult if self.with_verdict else Any

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The configurable fields of the judge."""
        asked = (one for one in (self.judge, self.score) if one is not None)
        return get_unique_config_specs(spec for one in asked for spec in one.config_specs)

    def _reduce(self, given: Contributions, config: RunnableConfig, **kwargs: Any) -> Any:
        outputs = self._candidates(given)
        if self.score is not None:
            return self._best_score(given, self._scorers(outputs).invoke(outputs, config))
        if self.judge is None:
            return self._chosen(given, outputs)
        candidates = self._shown(outputs)
        if len(candidates.branches) == 1:
            return self._result(given, next(iter(candidates.branches.values())))
        answer = answer_text(self.judge.invoke(self._question(given, candidates), config, **kwargs))
        return self._result(given, candidates.chosen(answer), said=answer)

    async def _areduce(self, given: Contributions, config: RunnableConfig, **kwargs: Any) -> Any:
        outputs = self._candidates(given)
        if self.score is not None:
            return self._best_score(given, await self._scorers(outputs).ainvoke(outputs, config))
        if self.judge is None:
            return self._chosen(given, outputs)
        candidates = self._shown(outputs)
        if len(candidates.branches) == 1:
            return self._result(given, next(iter(candidates.branches.values())))
        judge = for_tasks(self.judge)
        answer = answer_text(await judge.ainvoke(self._question(given, candidates), config, **kwargs))
        return self._result(given, candidates.chosen(answer), said=answer)

    def _candidates(self, given: Contributions) -> dict[str, Any]:
        """Return the outputs to choose from.

        Raises:
            UnknownBranchError: The context is no branch.
            CoverageError: The context did not come back, or nothing else did.
        """
        for name in self.context:
            if name not in given.branches:
                raise UnknownBranchError(name, given.branches, where="PickBest.context")
            if name in given.missing:
                reason = given.missing[name]
                msg = f"the context {name!r} of PickBest did not come back ({reason}); the judge was not asked"
                raise CoverageError(msg, help="make it required=True, or leave it out of the context")
        outputs = {branch: output for branch, output in given.outputs.items() if branch not in self.context}
        if outputs:
            return outputs
        raise CoverageError(
            f"PickBest has no candidates: besides its context, 0 of {len(given.missing)} branches came back"
        )

    def _scorers(self, outputs: Mapping[str, Any]) -> RunnableParallelPlus[Mapping[str, Any]]:
        scorer: Any = self.score
        return fan_out_over(outputs, scorer, policy=BranchPolicy(), join=None, limits=(), name="score")

    def _best_score(self, given: Contributions, scored: Mapping[str, Any]) -> Any:
        scores = {branch: checked_score(score, branch) for branch, score in scored.items()}
        return self._result(given, winner_by_score(scores, self.on_tie), scores=scores)

    def _chosen(self, given: Contributions, outputs: dict[str, Any]) -> Any:
        choose: Any = self.choose
        return self._result(given, branch_named(choose(dict(outputs)), outputs))

    def _shown(self, outputs: Mapping[str, Any]) -> Candidates:
        texts = {branch: text for branch, output in outputs.items() if (text := rendered(output).strip())}
        if not texts:
            empty = ", ".join(map(repr, outputs))
            msg = f"PickBest has no candidates: the outputs of {empty} are empty; the judge was not asked"
            raise CoverageError(msg, help="JoinPolicy(accept=bool) counts an empty output as a failure")
        return Candidates.of(texts, self.shuffle)

    def _question(self, given: Contributions, candidates: Candidates) -> PromptValue:
        names = SafeNames(taken=candidates.branches)
        context = [in_block(names[name], rendered(given.outputs[name])) for name in self.context]
        return question(judge_prompt(self.prompt), candidates, self.instructions, context)

    def _result(self, given: Contributions, branch: str, **facts: Any) -> Any:
        winner = given.outputs[branch]
        if not self.with_verdict:
            return winner
        return PickResult(winner=winner, branch=branch, missing=dict(given.missing), **facts)


def _function(judge: object) -> Any:
    if callable(judge):
        return judge
    msg = f"the judge of PickBest must be a model, another runnable or a function, got {judge!r}"
    raise DeclarationError(msg, help="write PickBest(ChatOpenAI(model=...)), not the model's name")
