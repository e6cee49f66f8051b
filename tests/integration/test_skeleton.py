"""The whole package against a real provider's protocol: real ChatOpenAI, real HTTP, the provider simulator."""

from __future__ import annotations

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_parallel_plus import (
    BranchFailure,
    BranchPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableSynthesis,
    collect_report,
)
from langchain_parallel_plus.testing import Fault, ProviderSimulator
from tests.modes import Mode


async def test_forty_calls_at_600_requests_a_minute_are_all_answered_and_none_refused(mode: Mode) -> None:
    with ProviderSimulator(requests_per_minute=600, tokens_per_minute=100_000) as provider:
        llm = provider.chat_model()
        ask = ChatPromptTemplate.from_template("{text}") | llm | StrOutputParser()
        limiter = RateLimiter(requests_per_minute=600, tokens_per_minute=100_000)
        fan_out = RunnableParallelPlus({f"call_{i}": ask for i in range(40)}).with_limits(limiter)
        with collect_report() as report:
            answers = await mode.run(fan_out, {"text": "hello"}, None)
        assert len(answers) == 40
        assert all(answers.values())
        assert provider.tally.ok == provider.tally.requests == 40
    assert sum(branch.calls for branch in report.branches) == 40
    assert all(branch.output_tokens > 0 for branch in report.branches)


async def test_a_quota_smaller_than_the_fan_out_is_waited_for_and_not_exceeded(mode: Mode) -> None:
    with ProviderSimulator(requests_per_minute=1200) as provider:
        limiter = RateLimiter(requests_per_minute=1200, burst=0.25)  # five at once, then one every 51 ms
        fan_out = RunnableParallelPlus({str(i): provider.chat_model() for i in range(12)}).with_limits(limiter)
        with collect_report() as report:
            await mode.run(fan_out | (lambda out: sorted(out)), "hello", None)
        assert provider.tally.ok == provider.tally.requests == 12
    assert max(branch.wait for branch in report.branches) > 0.2


async def test_a_429_is_retried_when_the_provider_says(mode: Mode) -> None:
    refusals = iter([Fault(status=429, code="rate_limit_exceeded", retry_after=1)])
    with ProviderSimulator(fail=lambda request: next(refusals, None)) as provider:
        fan_out = RunnableParallelPlus(x=provider.chat_model() | StrOutputParser()).with_policy(
            BranchPolicy(retry=RetryPolicy(initial_interval=0.001))
        )
        with collect_report() as report:
            assert (await mode.run(fan_out, "hello", None))["x"]
        assert provider.tally.requests == 2
    [branch] = report.branches
    assert branch.attempts == 2
    assert branch.backoff == pytest.approx(1.0, abs=0.05)


async def test_a_branch_that_always_fails_costs_the_others_nothing_and_the_synthesis_names_it(mode: Mode) -> None:
    def broken(_: object) -> str:
        raise ConnectionError("down")

    with ProviderSimulator(answer=lambda request: request.messages[-1]["content"]) as provider:
        llm = provider.chat_model()
        ask = ChatPromptTemplate.from_template("{text}") | llm | StrOutputParser()
        fan_out = RunnableParallelPlus(good=ask, also=ask, search=broken).with_policy(BranchPolicy(on_failure="keep"))
        results = await mode.run(fan_out, {"text": "hello"}, None)
        assert results["good"] == results["also"] == "hello"
        assert isinstance(results["search"], BranchFailure)
        seen_by_the_model = await mode.run(
            fan_out | RunnableSynthesis(llm) | StrOutputParser(), {"text": "hello"}, None
        )
    assert '<missing name="search">connection</missing>' in seen_by_the_model
    assert '<branch name="good">\nhello\n</branch>' in seen_by_the_model
