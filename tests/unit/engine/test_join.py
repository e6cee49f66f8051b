from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus import JoinPolicy
from langchain_parallel_plus._engine.join import JoinCount, JoinRule, Verdict


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        (None, JoinRule(enough=None, least=0)),
        (JoinPolicy(), JoinRule(enough=None, least=0)),
        (JoinPolicy(min_success=2), JoinRule(enough=None, least=2)),
        (JoinPolicy(wait_for=2), JoinRule(enough=2, least=2)),
        (JoinPolicy(wait_for=3, min_success=1), JoinRule(enough=3, least=1)),
    ],
)
def test_a_policys_numbers(policy: JoinPolicy | None, rule: JoinRule) -> None:
    assert JoinRule.of(policy) == rule


@given(
    ends=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12),
    enough=st.none() | st.integers(1, 12),
    least=st.integers(0, 12),
)
def test_the_verdict_agrees_with_counting_by_hand(
    ends: list[tuple[bool, bool]], enough: int | None, least: int
) -> None:
    rule = JoinRule(enough, least)
    count = JoinCount(len(ends), sum(required for _, required in ends))
    for done in range(len(ends) + 1):
        successes = sum(success for success, _ in ends[:done])
        pending = len(ends) - done
        required_pending = sum(required for _, required in ends[done:])
        if successes + pending < least:
            expected = Verdict.TOO_FEW
        elif pending == 0 or (enough is not None and successes >= enough and required_pending == 0):
            expected = Verdict.DONE
        else:
            expected = Verdict.WAIT
        assert count.verdict(rule) is expected
        if done < len(ends):
            success, required = ends[done]
            count = count.ended(success=success, required=required)
