"""Rate limit headers of all dialects, by samples that were seen and by what comes back of what is written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import Message
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus.providers import Quota, Snapshot, parse_rate_limit_headers
from langchain_parallel_plus.providers.structured_fields import parse_items

NOW = 1_790_000_000.0
DAY, MONTH = 86_400.0, 2_592_000.0


def values(headers: object, now: float = NOW) -> list[tuple[Any, ...]]:
    """Return the quotas as plain rows."""
    return [
        (q.name, q.unit, q.limit, q.remaining, q.reset, q.window) for q in parse_rate_limit_headers(headers, now).quotas
    ]


def x(rows: Mapping[str, tuple[Any, Any, Any]], prefix: str = "x-ratelimit-") -> dict[str, str]:
    parts = ("limit", "remaining", "reset")
    return {
        f"{prefix}{part}-{name}": value
        for name, row in rows.items()
        for part, value in zip(parts, row, strict=True)
        if value
    }


SAMPLES: dict[str, tuple[Mapping[str, str], list[tuple[Any, ...]]]] = {
    # community.openai.com 1268905
    "openai": (
        x({"requests": ("5000", "4999", "12ms"), "tokens": ("160000", "159976", "9ms")}),
        [("requests", "requests", 5000, 4999, 0.012, None), ("tokens", "tokens", 160_000, 159_976, 0.009, None)],
    ),
    "openai variants": (
        x(
            {
                "tokens_usage_based": ("60", "0", "6m0s"),
                "project-tokens": ("9", "8", "1s"),
                "input-tokens": ("7", "6", "1s"),
            }
        ),
        [
            ("tokens_usage_based", "tokens", 60, 0, 360, None),
            ("project-tokens", "tokens", 9, 8, 1, None),
            ("input-tokens", "input_tokens", 7, 6, 1, None),
        ],
    ),
    # console.groq.com/docs/rate-limits
    "groq": (
        x({"requests": ("14400", "14370", "2m59.56s"), "tokens": ("18000", "17997", "7.66s")}),
        [("requests", "requests", 14_400, 14_370, 179.56, None), ("tokens", "tokens", 18_000, 17_997, 7.66, None)],
    ),
    "azure": (
        {
            "x-ratelimit-remaining-requests": "79",
            "x-ratelimit-remaining-tokens": "61353",
            "x-ratelimit-reset-tokens": "7",
        },
        [("requests", "requests", None, 79, None, None), ("tokens", "tokens", None, 61_353, 7, None)],
    ),
    # openai-dotnet issue 838
    "azure knows nothing": (x({"tokens": ("-1", "-1", "0"), "requests": ("0", "0", "0")}), []),
    # openai-python issue 937
    "azure's other spelling": ({"x-rate-limit-reset-tokens": "55"}, [("tokens", "tokens", None, None, 55, None)]),
    # inference-docs.cerebras.ai/support/rate-limits
    "cerebras": (
        x({"requests-day": ("1000", "997", "33011.38"), "tokens-minute": ("60000", "59998", "11.5")}),
        [
            ("requests-day", "requests", 1000, 997, 33_011.38, DAY),
            ("tokens-minute", "tokens", 60_000, 59_998, 11.5, 60),
        ],
    ),
    # mistralai/client-ts issue 169
    "mistral": (
        {
            **x({"tokens-minute": ("5000000", "4999911", None), "req-minute": ("720", "717", None)}),
            "x-ratelimit-tokens-query-cost": "52",
        },
        [("tokens-minute", "tokens", 5e6, 4_999_911, None, 60), ("req-minute", "requests", 720, 717, None, 60)],
    ),
    "a window as a duration": (x({"tokens-1h": ("9", "5", "60")}), [("tokens-1h", "tokens", 9, 5, 60, 3600)]),
    "kong": (x({"minute": ("9", "5", None)}), [("minute", "requests", 9, 5, None, 60)]),
    "ietf draft 8 to 11": (
        {
            "RateLimit-Policy": '"burst";q=100;w=60,"daily, all";q=1000;w=86400;qu="tokens"',
            "RateLimit": '"burst";r=50;t=30',
        },
        [("burst", "requests", 100, 50, 30, 60), ("daily, all", "tokens", 1000, None, None, DAY)],
    ),
    "ietf without policy": (
        {"ratelimit": '"a";r=0;t=5, b;r=7'},
        [("a", "requests", None, 0, 5, None), ("b", "requests", None, 7, None, None)],
    ),
    "ietf bytes": ({"ratelimit-policy": '"b";q=9;w=1;qu="content-bytes"'}, [("b", "other", 9, None, None, 1)]),
    "ietf draft 7": (
        {"RateLimit": "limit=100, remaining=50, reset=5", "RateLimit-Policy": "100;w=10"},
        [("default", "requests", 100, 50, 5, 10)],
    ),
    "ietf draft 3": (
        {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "99", "ratelimit-reset": "50"},
        [("requests", "requests", 100, 99, 50, 60)],
    ),
    # api.search.brave.com: one number a window
    "lists": (
        {
            "x-ratelimit-limit": "1, 15000",
            "x-ratelimit-policy": "1;w=1, 15000;w=2592000",
            "x-ratelimit-remaining": "0, 14523",
            "x-ratelimit-reset": "1, 1419704",
        },
        [("requests", "requests", 1, 0, 1, 1), ("requests", "requests", 15_000, 14_523, 1_419_704, MONTH)],
    ),
    "github": (
        {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{NOW + 90:.0f}"},
        [("requests", "requests", 5000, 0, 90, None)],
    ),
    "a reset that is a date": (
        {"x-rate-limit-remaining": "0", "x-rate-limit-reset": "Mon, 21 Sep 2026 13:46:50 GMT"},
        [("requests", "requests", None, 0, 1_789_998_410 - 1_789_998_400, None)],
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name: str) -> None:
    headers, expected = SAMPLES[name]
    now = 1_789_998_400.0 if name == "a reset that is a date" else NOW
    assert values(headers, now) == [
        tuple(pytest.approx(one) if isinstance(one, float) else one for one in row) for row in expected
    ]


def test_anthropic() -> None:
    # anthropic-sdk-typescript issue 357
    headers = {
        "anthropic-ratelimit-requests-limit": "5",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2024-03-26T20:00:00Z",
        "anthropic-ratelimit-input-tokens-limit": "25000",
        "anthropic-ratelimit-input-tokens-remaining": "16000",
        "anthropic-ratelimit-input-tokens-reset": "2024-03-26T20:00:21Z",
        "anthropic-priority-output-tokens-remaining": "3",
    }
    now = datetime(2024, 3, 26, 19, 59, 59, tzinfo=UTC).timestamp()
    assert values(headers, now) == [
        ("requests", "requests", 5, 0, 1, None),
        ("input-tokens", "input_tokens", 25_000, 16_000, 22, None),
        ("priority-output-tokens", "output_tokens", None, 3, None, None),
    ]
    assert {quota.dialect for quota in parse_rate_limit_headers(headers, now).quotas} == {"anthropic"}
    assert parse_rate_limit_headers(headers, now).wait == 1


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "rate", "window"),
    [
        ("5000", "4999", "12ms", 5000 / 60, 60),  # OpenAI
        ("160000", "159976", "9ms", 160_000 / 60, 60),
        ("14400", "14370", "2m59.56s", 30 / 179.56, DAY),  # Groq's requests are those of a day
        ("150000", "149984", "6m0s", 16 / 360, None),  # OpenAI's documentation contradicts itself
        ("60", "60", "1s", None, None),
        ("60", "59", "0s", None, None),
        ("60", None, "1s", None, None),
    ],
)
def test_rate_and_window_follow_from_the_headers(
    limit: str, remaining: str | None, reset: str, rate: float | None, window: float | None
) -> None:
    [quota] = parse_rate_limit_headers(x({"tokens": (limit, remaining, reset)}), NOW).quotas
    assert quota.rate == (None if rate is None else pytest.approx(rate))
    assert quota.inferred_window == window


def test_a_snapshot_finds_quotas_by_unit_and_window() -> None:
    snapshot = parse_rate_limit_headers(x({"requests-day": ("9", "0", "50"), "requests-minute": ("3", "0", "7")}), NOW)
    assert snapshot.get("requests") is snapshot.quotas[0]
    assert snapshot.get("requests", 60.0) is snapshot.quotas[1]
    assert snapshot.get("tokens") is None
    assert snapshot.wait == 50
    assert snapshot


@pytest.mark.parametrize(
    "headers",
    [
        None, 7, "x-ratelimit-limit: 5", [], [1, 2], {"x-ratelimit-limit-tokens": object()}, {5: "5", b"x": "y"},
        {"x-ratelimit-remaining-tokens": "many"}, {"x-ratelimit-reset-tokens": ""}, {"ratelimit": ',;="";;=,'},
        {"x-ratelimit-limit-" + "a" * 500: "5"}, {"ratelimit": '"' * 5000}, {"x-ratelimit-limit-tokens": True},
    ],
    ids=repr,
)  # fmt: skip
def test_headers_that_say_nothing(headers: object) -> None:
    snapshot = parse_rate_limit_headers(headers, NOW)
    assert (snapshot, bool(snapshot), snapshot.wait) == (Snapshot(), False, None)


def test_any_kind_of_headers_object() -> None:
    httpx = pytest.importorskip("httpx")
    message = Message()
    message["X-RateLimit-Remaining-Tokens"] = "5"
    pairs = [("X-RateLimit-Remaining-Tokens", "5")]
    many = (dict(pairs), pairs, iter(pairs), message, httpx.Headers(pairs), {b"x-ratelimit-remaining-tokens": b"5"},
            {"x-ratelimit-remaining-tokens": 5}, {"x-ratelimit-remaining-tokens": ["5"]})  # fmt: skip
    assert [values(headers) for headers in many] == [[("tokens", "tokens", None, 5, None, None)]] * len(many)


def test_a_list_in_two_headers_is_one_list() -> None:
    pairs = [("ratelimit", '"a";r=1'), ("RateLimit", '"b";r=2')]
    assert [row[0] for row in values(pairs)] == ["a", "b"]


LIMITS, SECONDS = st.integers(1, 10**9), st.integers(0, 10**6)
NAMES = st.sampled_from(["requests", "tokens", "input-tokens", "output-tokens"])
QUOTAS = st.dictionaries(NAMES, st.tuples(LIMITS, LIMITS, SECONDS), max_size=4)


def rows(quotas: Mapping[str, tuple[int, int, int]]) -> list[tuple[Any, ...]]:
    return [(name, name.replace("-", "_"), *row, None) for name, row in quotas.items()]


@given(QUOTAS)
def test_openais_headers_come_back(quotas: dict[str, tuple[int, int, int]]) -> None:
    written = {
        name: (str(limit), str(left), f"{reset // 60}m{reset % 60}s") for name, (limit, left, reset) in quotas.items()
    }
    assert values(x(written)) == rows(quotas)


@given(QUOTAS)
def test_anthropics_headers_come_back(quotas: dict[str, tuple[int, int, int]]) -> None:
    headers: dict[str, str] = {}
    for name, (limit, left, reset) in quotas.items():
        instant = datetime.fromtimestamp(NOW + reset, UTC).isoformat().replace("+00:00", "Z")
        for part, value in (("limit", limit), ("remaining", left), ("reset", instant)):
            headers[f"Anthropic-RateLimit-{name}-{part}"] = str(value)
    assert values(headers) == rows(quotas)


POLICY_NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@given(st.dictionaries(POLICY_NAMES, st.tuples(LIMITS, LIMITS, SECONDS, st.integers(1, 10**6)), max_size=5))
def test_ietf_headers_come_back(quotas: dict[str, tuple[int, int, int, int]]) -> None:
    quoted = {name: '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in quotas}
    policies = ", ".join(f"{quoted[name]};q={limit};w={window}" for name, (limit, _, _, window) in quotas.items())
    state = ", ".join(f"{quoted[name]};r={left};t={reset}" for name, (_, left, reset, _) in quotas.items())
    expected = [(name, "requests", limit, left, reset, window) for name, (limit, left, reset, window) in quotas.items()]
    assert values({"RateLimit": state, "RateLimit-Policy": policies}) == expected


HEADER_NAMES = st.sampled_from(
    ["ratelimit", "ratelimit-policy", "ratelimit-limit", "x-ratelimit-limit", "x-ratelimit-reset", "x-ratelimit-policy",
     "x-ratelimit-reset-tokens", "x-ratelimit-remaining-requests", "anthropic-ratelimit-tokens-reset"]
)  # fmt: skip


@given(st.dictionaries(HEADER_NAMES, st.text(max_size=60) | st.integers() | st.text('"\\;=,rtqw0', max_size=30)))
def test_any_headers_give_a_sound_snapshot(headers: dict[str, Any]) -> None:
    for quota in parse_rate_limit_headers(headers, NOW).quotas:
        assert quota.limit is None or quota.limit > 0
        assert quota.remaining is None or quota.remaining >= 0
        assert quota.reset is None or quota.reset >= 0
        assert quota.inferred_window is None or quota.inferred_window >= 0


def test_structured_lists() -> None:
    items = parse_items('"a \\"b\\", c";Q=1;flag ; w = 2, tok, k=5, "";x')
    assert [(item.value, dict(item.parameters)) for item in items] == [
        ('a "b", c', {"q": "1", "flag": "", "w": "2"}),
        ("tok", {}),
        ("k", {"=": "5"}),
        ("", {"x": ""}),
    ]
    assert len(parse_items("a," * 1000)) == 16
    assert parse_items("") == []


def test_a_quota_is_plain_data() -> None:
    quota = Quota(name="tokens", unit="tokens", dialect="openai", limit=60.0, remaining=0.0, reset=60.0)
    assert (quota.exhausted, quota.rate, quota.inferred_window) == (True, 1.0, 60.0)
