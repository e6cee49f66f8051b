from __future__ import annotations

from typing import Any

import pytest

from langchain_parallel_plus import DeclarationError, JoinPolicy
from langchain_parallel_plus.synthesis import MajorityVote, PickBest, samples
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode


async def test_one_chain_is_asked_several_times(mode: Mode) -> None:
    model = ScriptedChatModel(["4", "5", "4"])
    result = await mode.run(samples(model, 3) | MajorityVote(), "2 + 2?", None)
    assert (result.winner.content, round(result.agreement, 2)) == ("4", 0.67)
    assert [ballot.branch for ballot in result.ballots] == ["sample_1", "sample_2", "sample_3"]


async def test_a_quorum_of_samples_is_enough_for_a_pick(mode: Mode) -> None:
    asked = samples(lambda text: text * 2, 4).with_join(JoinPolicy(wait_for=2))
    assert await mode.run(asked | PickBest(len), "ab", None) == "abab"


@pytest.mark.parametrize(("chain", "n"), [(len, 0), (len, 1.5), (len, "3"), (len, True), (3, 2), (None, 2)])
def test_what_is_no_chain_or_no_number_is_refused(chain: Any, n: Any) -> None:
    with pytest.raises(DeclarationError):
        samples(chain, n)
