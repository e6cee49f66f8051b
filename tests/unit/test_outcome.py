from __future__ import annotations

import json
import pickle
import threading
from typing import Any

import pytest
from langchain_core.load import dumpd, load
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.runnables.utils import AddableDict

from langchain_parallel_plus import BranchFailure, ErrorKind, FanOutError
from langchain_parallel_plus.errors import UnknownBranchError
from langchain_parallel_plus.outcome import FanOutResults, fan_out_results, redact

FAILURE = BranchFailure.of("search", TimeoutError("too late"), kind=ErrorKind.TIMEOUT, attempts=2, seconds=1.25)


def test_a_failure_reads_well_and_is_falsy() -> None:
    assert str(FAILURE) == "[branch 'search' failed: timeout, 2 attempts, 1.2 s: too late]"
    assert not FAILURE
    assert FAILURE.error_type == "TimeoutError"


def test_a_failure_goes_through_a_chain_and_a_prompt() -> None:
    prompt = ChatPromptTemplate.from_template("{search} {question}")
    chain = RunnablePassthrough.assign(question=lambda _: "why?") | prompt
    assert "branch 'search' failed" in chain.invoke({"search": FAILURE}).to_string()


@pytest.mark.parametrize("streamed", ["half a te", ["half"], 1, {"a": 1}])
def test_a_failure_takes_in_what_was_streamed_before_it(streamed: Any) -> None:
    total = AddableDict(search=streamed) + AddableDict(other=1) + AddableDict(search=FAILURE) + AddableDict(other=1)
    assert total["search"].partial == streamed
    assert total["search"].error is FAILURE.error
    assert total["other"] == 2


def test_nothing_makes_a_failed_output_whole_again() -> None:
    assert FAILURE + "more text" is FAILURE


def test_a_failure_survives_json_and_pickle_without_its_exception() -> None:
    for other in (BranchFailure(**json.loads(FAILURE.model_dump_json())), pickle.loads(pickle.dumps(FAILURE))):
        assert other.model_dump() == FAILURE.model_dump()
        assert other.error is None


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_a_failure_survives_dumpd_and_load() -> None:
    dumped = json.loads(json.dumps(dumpd({"search": FAILURE})))
    loaded = load(dumped, allowed_objects=[BranchFailure], valid_namespaces=["langchain_parallel_plus"])
    assert loaded["search"].model_dump() == FAILURE.model_dump()


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-abc123DEF456",
        "Incorrect API key provided: sk-abcd************wxyz",
        "header Authorization: Bearer abcdef.ghijkl-123",
        "key AIzaSyA1234567890abcdef is invalid",
    ],
)
def test_keys_do_not_get_into_messages(text: str) -> None:
    shown = redact(text)
    assert "[redacted]" in shown
    assert not any(part in shown for part in ("abc123", "wxyz", "ghijkl", "A1234"))


def test_long_messages_are_cut() -> None:
    assert len(redact("x" * 10_000)) == 500


def test_errors_survive_pickling() -> None:
    error = FanOutError("too few", outputs={"a": 1}, failures={"search": FAILURE}, help="wait")
    other = pickle.loads(pickle.dumps(error))
    assert str(other) == str(error) == "too few\nhelp: wait"
    assert other.outputs == {"a": 1}
    assert pickle.loads(pickle.dumps(UnknownBranchError("a", ["b"], where="x"))).name == "a"


def test_an_error_travels_without_the_outputs_that_cannot() -> None:
    error = ValueError("boom")
    failure = BranchFailure.of("b", error, kind=ErrorKind.UNKNOWN, partial=(one for one in "ab"))
    error.fan_out = FanOutResults(  # type: ignore[attr-defined]
        outputs={"a": 1, "lock": threading.Lock()},
        failures={"b": failure},
        inner={"b": FanOutResults(outputs={"c": 2})},
    )
    results = fan_out_results(pickle.loads(pickle.dumps(error)))
    assert results is not None
    assert results.outputs == {"a": 1, "lock": "<lock, which cannot be pickled>"}
    assert results.failures["b"].partial == "<generator, which cannot be pickled>"
    assert results.inner["b"].outputs == {"c": 2}
