"""The public signatures as a user's type checker sees them: checked by mypy, never run."""

from __future__ import annotations

from typing import Any, assert_type

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableSerializable

from langchain_parallel_plus import (
    BranchFailure,
    BranchPolicy,
    ErrorKind,
    Fallback,
    FanOutResults,
    HedgePolicy,
    JoinPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableSynthesis,
    RunnableWithPolicy,
    TimeoutPolicy,
    collect_report,
    fan_out_results,
)
from langchain_parallel_plus.synthesis import (
    JoinText,
    MajorityVote,
    MapReduce,
    MergeDicts,
    PickBest,
    RankFusion,
    VoteResult,
    WeightedVote,
    samples,
)
from langchain_parallel_plus.testing import ProviderSimulator


def shout(text: str) -> str:
    return text.upper()


def size(text: str) -> int:
    return len(text)


fan_out = RunnableParallelPlus(shout=shout, size=RunnableLambda(size))
assert_type(fan_out.invoke("text"), dict[str, Any])

tended = (
    RunnableParallelPlus({"shout": shout}, name="named")
    .with_policy(BranchPolicy(retry=RetryPolicy(max_attempts=4, retry_on=(TimeoutError,))), shout=BranchPolicy())
    .with_policy(BranchPolicy(timeout=TimeoutPolicy(run_timeout=30.0), fallbacks=[shout], on_failure="keep"))
    .with_policy(
        shout=BranchPolicy(retry=False, fallbacks=[], timeout=False, hedge=False, breaker=False, limiter=False)
    )
    .with_policy(BranchPolicy(hedge=HedgePolicy("p95", max_hedges=2)), shout=BranchPolicy(hedge=HedgePolicy(2.5)))
    .with_policy(BranchPolicy(fallbacks=[Fallback(shout, on=(ErrorKind.AUTH, "context_length", OSError)), shout]))
    .with_limits(RateLimiter(requests_per_minute=500, tokens_per_minute=200_000, name="openai"))
    .with_join(JoinPolicy(wait_for=1, accept=bool, deadline=60.0))
)
assert_type(tended, RunnableParallelPlus[str])

with ProviderSimulator(requests_per_minute=60) as provider:
    llm = provider.chat_model()
    ask = ChatPromptTemplate.from_template("{document}") | llm | StrOutputParser()
    chain: RunnableSerializable[Any, str] = (
        RunnableParallelPlus(summary=ask, questions=ask) | RunnableSynthesis(llm) | StrOutputParser()
    )
    with collect_report() as report:
        answer = chain.invoke({"document": "text"})
    rows = [(branch.name, branch.seconds, branch.attempts) for branch in report.branches]

guarded: RunnableWithPolicy[str, str] = RunnableWithPolicy(shout, BranchPolicy(retry=RetryPolicy()))
result = fan_out.invoke("text")["shout"]
if isinstance(result, BranchFailure):
    kind, error = result.kind, result.error
try:
    fan_out.invoke("text")
except ValueError as raised:
    assert_type(fan_out_results(raised), FanOutResults | None)

found = fan_out.invoke("text")
assert_type(MajorityVote(key="answer", min_agreement=0.6).invoke(found), VoteResult)
assert_type(WeightedVote({"shout": 2}).invoke(found).agreement, float)
assert_type(RankFusion(weights=[1, 2], key=str).invoke([["a"], ["b"]]), list[Any])
assert_type(MergeDicts(on_conflict=lambda key, values: key).invoke(found), dict[str, Any])
assert_type(JoinText("{branch}: {output}").invoke(found), str)
consistent = samples(shout, 5) | MajorityVote() | (lambda result: result.winner)
best = (fan_out | PickBest(lambda output: len(output))).invoke("text")
mapped: RunnableSerializable[Any, str] = MapReduce(shout, JoinText(), split=2_000, join=JoinPolicy(min_success=1))
