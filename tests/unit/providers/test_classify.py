"""How an error is judged: chains, groups, this package's own errors, and errors made to do harm."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import json
import timeit
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.exceptions import OutputParserException

from langchain_parallel_plus.errors import (
    BranchAbandonedError,
    BranchTimeoutError,
    CoverageError,
    DeadlineExceededError,
    DeclarationError,
    FanOutError,
    LimiterTimeoutError,
    ParallelPlusError,
    QuotaExhaustedError,
    RequestTooLargeError,
)
from langchain_parallel_plus.outcome import ErrorKind as Kind
from langchain_parallel_plus.providers import Classified, classify, register_classifier
from langchain_parallel_plus.providers.facts import FACTS
from tests.unit.providers.stand_ins import Refused, named

LIMITED = Refused("Rate limit reached", status_code=429)


def raised_from(cause: BaseException | None, error: Exception) -> Exception:
    error.__cause__ = cause
    return error


def raised_while(context: BaseException, error: Exception) -> Exception:
    error.__context__ = context
    return error


def chain(length: int, last: BaseException) -> Exception:
    error: Any = last
    for _ in range(length):
        error = raised_from(error, ValueError("wrapped"))
    return error  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "kind", "retried"),
    [
        (ValueError("bug"), Kind.UNKNOWN, False),
        (KeyError("document"), Kind.UNKNOWN, False),
        (TimeoutError(), Kind.TIMEOUT, True),
        (concurrent.futures.TimeoutError(), Kind.TIMEOUT, True),
        (ConnectionResetError(errno.ECONNRESET, "reset"), Kind.CONNECTION, True),
        (BrokenPipeError(), Kind.CONNECTION, True),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed"), Kind.CONNECTION, True),
        (OSError(errno.ENETUNREACH, "unreachable"), Kind.CONNECTION, True),
        (OSError(errno.ENOSPC, "disk full"), Kind.UNKNOWN, False),
        (FileNotFoundError(errno.ENOENT, "gone"), Kind.UNKNOWN, False),
        (PermissionError("no"), Kind.UNKNOWN, False),
        (named("UnidentifiedImageError", OSError), Kind.UNKNOWN, False),
        (OutputParserException("not JSON"), Kind.BAD_REQUEST, False),
        (RuntimeError("429 Too Many Requests"), Kind.RATE_LIMIT, True),
        (RuntimeError("this model's maximum context length is 8192 tokens"), Kind.CONTEXT_LENGTH, False),
        (RuntimeError("the model is overloaded"), Kind.OVERLOADED, True),
    ],
)
def test_errors_of_python_and_messages(error: Exception, kind: Kind, retried: bool) -> None:
    assert (classify(error).kind, classify(error).retryable) == (kind, retried)


def test_pydantics_validation_error_is_a_bad_request() -> None:
    from pydantic import TypeAdapter, ValidationError

    with pytest.raises(ValidationError) as raised:
        TypeAdapter(int).validate_python("insufficient_quota, rate limit reached")
    assert classify(raised.value).kind is Kind.BAD_REQUEST


@pytest.mark.parametrize(
    ("error", "kind", "retried", "falls_back"),
    [
        (BranchAbandonedError("over"), Kind.CANCELLED, False, False),
        (BranchTimeoutError("late"), Kind.TIMEOUT, True, True),
        (DeadlineExceededError("late"), Kind.TIMEOUT, False, True),
        (LimiterTimeoutError("late"), Kind.LOCAL, False, True),
        (RequestTooLargeError("large"), Kind.TOO_LARGE_FOR_QUOTA, False, True),
        (QuotaExhaustedError("empty"), Kind.QUOTA_EXHAUSTED, False, True),
        (CoverageError("too few"), Kind.LOCAL, False, True),
        (DeclarationError("wrong"), Kind.LOCAL, False, True),
        (ParallelPlusError("rate limit reached"), Kind.LOCAL, False, True),
        (raised_from(LIMITED, LimiterTimeoutError("late")), Kind.LOCAL, False, True),
        (FanOutError("too few: rate limit reached", outputs={}, failures={}), Kind.LOCAL, False, True),
    ],
)
def test_this_packages_own_errors(error: Exception, kind: Kind, retried: bool, falls_back: bool) -> None:
    found = classify(error)
    assert (found.kind, found.retryable, found.fallback) == (kind, retried, falls_back)


def test_a_failed_fan_out_means_what_its_branches_mean() -> None:
    group = ExceptionGroup("2 branches", [TimeoutError(), LIMITED])
    error = raised_from(group, FanOutError("too few", outputs={}, failures={}))
    assert classify(error).retryable
    group = ExceptionGroup("2 branches", [TimeoutError(), Refused(status_code=401)])
    assert classify(raised_from(group, FanOutError("too few", outputs={}, failures={}))).kind is Kind.AUTH


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        concurrent.futures.CancelledError(),
        KeyboardInterrupt(),
        SystemExit(429),
        GeneratorExit(),
        named("GraphInterrupt", type("GraphBubbleUp", (Exception,), {})),
        raised_from(LIMITED, named("GraphBubbleUp")),
        named("GraphBubbleUp", status_code=429),
        BaseExceptionGroup("g", [KeyboardInterrupt(), LIMITED]),
        ExceptionGroup("g", [named("GraphBubbleUp"), ExceptionGroup("g", [named("GraphBubbleUp")])]),
    ],
)
def test_control_flow_is_never_a_failure(error: BaseException) -> None:
    found = classify(error)
    assert (found.kind, found.retryable, found.fallback) == (Kind.CANCELLED, False, False)


def test_langgraphs_interrupts_are_control_flow() -> None:
    errors = pytest.importorskip("langgraph.errors")
    for error in (errors.GraphInterrupt(), errors.ParentCommand(SimpleNamespace())):
        assert classify(error).kind is Kind.CANCELLED


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (raised_from(LIMITED, ValueError("no answer")), Kind.RATE_LIMIT),
        (raised_while(LIMITED, KeyError("answer")), Kind.RATE_LIMIT),
        (raised_from(KeyError("a"), raised_while(LIMITED, KeyError("b"))), Kind.UNKNOWN),
        (raised_from(LIMITED, Refused(status_code=500)), Kind.SERVER),
        # A message never outweighs what a cause says in so many words.
        (raised_from(Refused(status_code=401), RuntimeError("too many requests")), Kind.AUTH),
        (raised_while(asyncio.CancelledError(), ValueError("bug")), Kind.UNKNOWN),
        (raised_while(named("GraphBubbleUp", status_code=429), ValueError("bug")), Kind.UNKNOWN),
        (ExceptionGroup("g", [ValueError("bug"), LIMITED]), Kind.RATE_LIMIT),
        (ExceptionGroup("g", [LIMITED, Refused(status_code=404)]), Kind.NOT_FOUND),
        (ExceptionGroup("g", [ExceptionGroup("h", [LIMITED])]), Kind.RATE_LIMIT),
        (chain(8, LIMITED), Kind.RATE_LIMIT),
        (chain(9, LIMITED), Kind.UNKNOWN),
    ],
)
def test_causes_contexts_and_members(error: Exception, kind: Kind) -> None:
    assert classify(error).kind is kind


def test_a_suppressed_context_is_not_looked_at() -> None:
    error = raised_from(None, raised_while(LIMITED, ValueError("bug")))
    assert error.__suppress_context__
    assert classify(error).kind is Kind.UNKNOWN


def test_of_a_group_that_may_all_be_retried_the_longest_wait_counts() -> None:
    waits = [Refused(status_code=429, headers={"retry-after": seconds}) for seconds in ("2", "7", "4")]
    assert classify(ExceptionGroup("g", waits)).retry_after == 7.0


def test_errors_that_cause_each_other_are_looked_at_once() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__context__ = other, one
    group = ExceptionGroup("g", [one, other])
    other.__cause__ = group
    assert classify(group).kind is Kind.UNKNOWN


def test_a_tree_of_errors_is_cut() -> None:
    error: Exception = ValueError("leaf")
    for _ in range(7):
        error = ExceptionGroup("g", [error] + [ValueError("leaf") for _ in range(40)])
    assert classify(error).kind is Kind.UNKNOWN


class Hostile(Exception):
    """Raises whatever is read of it; only Python itself may ask for its class."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return Hostile
        raise RuntimeError(name)

    def __str__(self) -> NoReturn:
        raise MemoryError


class Endless(dict[str, Any]):
    def get(self, key: object, default: object = None) -> Any:
        return self


@pytest.mark.parametrize(
    "error",
    [
        Hostile(),
        Refused(response=Hostile()),
        Refused(body=Endless()),
        Refused(details=[Endless()] * 1000),
        Refused(body={"error": {"code": ["rate_limit_exceeded"], "message": 3}}),
        Refused(headers=7, response=object()),
        Refused(headers={"retry-after": object(), 5: "5", "x-ratelimit-limit": [[[]]]}),
        Refused(response=SimpleNamespace(_content=b"[" * 60_000)),
        Refused(response=SimpleNamespace(_content=b"\xff\xfe{", headers=[1, 2, 3])),
        Refused(code=True, status=False, status_code=float("nan")),
        Refused(args=None),
        ValueError(*range(1000)),
        Exception(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_hostile_error_is_unknown(error: Exception) -> None:
    assert classify(error) == Classified(Kind.UNKNOWN)


def test_a_class_that_cannot_be_hashed() -> None:
    meta = type("Meta", (type,), {"__hash__": None, "__eq__": lambda *_: True})
    error = meta("RateLimitError", (Exception,), {})("no")
    assert classify(error).kind is Kind.RATE_LIMIT


@pytest.mark.parametrize("text", ["limit: 1 " * 300_000, "try again in " * 200_000, "retry in 1" + "1" * 2_000_000])
def test_long_messages_cost_little(text: str) -> None:
    error = Refused(text, status_code=429, body={"message": text}, headers={"retry-after": text})
    assert classify(error).kind is Kind.RATE_LIMIT
    assert timeit.timeit(lambda: classify(error), number=3) / 3 < 0.05


KEYS = st.sampled_from(["error", "code", "type", "details", "violations", "retryDelay", "message", "metadata"])
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
BODIES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


@given(BODIES)
def test_any_body_is_classified(body: Any) -> None:
    content = json.dumps(body).encode()
    for error in (
        Refused(body=body, code=body, status=body, headers=body),
        Refused(details=body, response=body),
        Refused(response=SimpleNamespace(_content=content, headers=body, status_code=body)),
    ):
        found = classify(error)
        assert found.retry_after is None or found.retry_after >= 0


def test_what_is_told_of_an_error_quotes_no_key() -> None:
    key = "sk-abcdefghijklmnop1234"
    error = Refused(f"Incorrect API key provided: {key}", status_code=401, code=key, body={"code": key})
    assert key not in repr(classify(error))


def test_a_message_alone_never_closes_a_key() -> None:
    quoted = "the model answered: insufficient_quota, billing_hard_limit, invalid api key"
    assert classify(ValueError(quoted)).kind is Kind.UNKNOWN
    assert classify(OutputParserException(quoted)).kind is Kind.BAD_REQUEST


class SearchBusy(Exception):
    pass


def test_a_registered_classifier_is_asked_first_and_about_causes() -> None:
    mine = Classified(Kind.RATE_LIMIT, retry_after=2.0)
    unregister = register_classifier(lambda error: mine if isinstance(error, SearchBusy | TimeoutError) else None)
    try:
        assert classify(SearchBusy()) is mine
        assert classify(TimeoutError()) is mine
        assert classify(raised_from(SearchBusy(), ValueError("no"))) is mine
        assert classify(ValueError("bug")).kind is Kind.UNKNOWN
        assert classify(named("GraphBubbleUp", SearchBusy)).kind is Kind.CANCELLED
    finally:
        unregister()
        unregister()
    assert classify(SearchBusy()).kind is Kind.UNKNOWN


def test_the_last_registered_is_asked_first_and_each_goes_by_itself() -> None:
    def classifier(error: Exception) -> Classified:
        return Classified(Kind.SERVER)

    first, second = register_classifier(classifier), register_classifier(classifier)
    third = register_classifier(lambda error: Classified(Kind.OVERLOADED))
    assert classify(SearchBusy()).kind is Kind.OVERLOADED
    third()
    first()
    assert classify(SearchBusy()).kind is Kind.SERVER
    second()
    assert classify(SearchBusy()).kind is Kind.UNKNOWN


def test_a_broken_classifier_is_skipped_and_its_error_is_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    def broken(error: Exception) -> NoReturn:
        raise RuntimeError("Bearer secret-token") from error

    handles = [register_classifier(broken), register_classifier(lambda error: "rate_limit")]  # type: ignore[arg-type, return-value]
    try:
        assert classify(LIMITED).kind is Kind.RATE_LIMIT
    finally:
        for unregister in handles:
            unregister()
    assert "broken raised RuntimeError" in caplog.text
    assert "returned str" in caplog.text
    assert "secret" not in caplog.text


def test_bad_input_is_refused() -> None:
    with pytest.raises(DeclarationError, match="got 5"):
        register_classifier(5)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="got 'rate_limit'"):
        Classified("rate_limit")  # type: ignore[arg-type]
    for wait in (-1.0, float("inf"), "3"):
        with pytest.raises(DeclarationError, match="retry_after"):
            Classified(Kind.SERVER, retry_after=wait)  # type: ignore[arg-type]


RETRIED = {Kind.RATE_LIMIT, Kind.OVERLOADED, Kind.SERVER, Kind.TIMEOUT, Kind.CONNECTION}


def test_the_table_says_what_each_kind_means() -> None:
    assert set(FACTS) == set(Kind)
    assert {kind for kind, facts in FACTS.items() if facts.retry} == RETRIED
    assert {kind for kind, facts in FACTS.items() if facts.fallback == "never"} == {Kind.CANCELLED}
    opt_in = {Kind.CONTENT_FILTER, Kind.NOT_FOUND, Kind.BAD_REQUEST}
    assert {kind for kind, facts in FACTS.items() if facts.fallback == "opt_in"} == opt_in
    assert {kind for kind, facts in FACTS.items() if facts.breaker == "counts"} == RETRIED - {Kind.RATE_LIMIT}
    assert {kind for kind, facts in FACTS.items() if facts.breaker == "opens"} == {Kind.QUOTA_EXHAUSTED, Kind.AUTH}
    assert FACTS[Kind.RATE_LIMIT].limiter == "pause"
    assert FACTS[Kind.QUOTA_EXHAUSTED].limiter == "close"
    with pytest.raises(TypeError):
        FACTS[Kind.AUTH] = FACTS[Kind.LOCAL]  # type: ignore[index]


def test_a_plain_error_is_classified_in_microseconds() -> None:
    error = ValueError("could not convert string to float: 'abc'")
    classify(error)
    # The target is 15 microseconds; a shared machine may be several times slower at any one moment.
    assert min(timeit.repeat(lambda: classify(error), number=200, repeat=20)) / 200 < 60e-6
