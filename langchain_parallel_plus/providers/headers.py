"""Rate limit headers of any provider -> `Snapshot`.

Dialects and where they are described:

- OpenAI (guides/rate-limits, 2026-06) and Groq (docs/rate-limits): `x-ratelimit-{limit,remaining,reset}-{requests,
  tokens}`, reset as a Go duration. Groq's `requests` are those of a day. Azure OpenAI: the same names, reset in whole
  seconds, and -1 and 0 where it knows nothing (openai-dotnet issue 838, 2025-11); also spelled `x-rate-limit-reset-*`
  (openai-python issue 937). Cerebras (support/rate-limits): `-requests-day`, `-tokens-minute`, reset in seconds.
  Mistral: `-req-minute`, `-tokens-minute` without a reset (client-ts issue 169, 2026-02).
- Anthropic (api/rate-limits): `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,
  reset}`, reset as an RFC 3339 instant; `anthropic-priority-*` likewise. `tokens` repeats whichever token limit is the
  tightest at the time.
- IETF (draft-ietf-httpapi-ratelimit-headers-08 to -11): `RateLimit: "name";r=50;t=30` and
  `RateLimit-Policy: "name";q=100;w=60`; draft 07: `RateLimit: limit=100, remaining=50, reset=5`.
- Generic: `[x-]ratelimit-{limit,remaining,reset}`, also as lists, one number a window (`"1, 15000"`), with the windows
  in `[x-]ratelimit-policy: 1;w=1, 15000;w=2592000`, and a reset in seconds or as a POSIX time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from langchain_parallel_plus.providers.durations import parse_duration, parse_number, seconds_until
from langchain_parallel_plus.providers.foreign import lowered_headers
from langchain_parallel_plus.providers.snapshot import Quota, Snapshot
from langchain_parallel_plus.providers.structured_fields import parse_items

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from langchain_parallel_plus.providers.snapshot import Dialect, Unit

__all__ = ("parse_rate_limit_headers",)

_OPENAI: Final = re.compile(r"x-rate-?limit-(limit|remaining|reset)-([a-z0-9_-]{1,64})")
_ANTHROPIC: Final = re.compile(r"anthropic-(priority-|ratelimit-)([a-z0-9_-]{1,64})-(limit|remaining|reset)")
_PREFIXES: Final = ("ratelimit-", "x-ratelimit-", "x-rate-limit-")
_WINDOWS: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0, "month": 2_592_000.0}
_INPUT: Final = frozenset({"input", "prompt"})
_OUTPUT: Final = frozenset({"output", "completion", "generated"})
_UNITS: Final[Mapping[str, Unit]] = {"": "requests", "requests": "requests", "tokens": "tokens"}


def parse_rate_limit_headers(headers: object, now: float) -> Snapshot:
    """Return what `headers` say about the quota.

    Args:
        headers: A mapping, pairs, or any client's headers object; names in any case.
        now: POSIX time in seconds, for resets that are given as an instant.

    Example:
        ```python
        headers = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}
        assert parse_rate_limit_headers(headers, now=0.0).wait == 360.0
        ```
    """
    found = lowered_headers(headers)
    groups = (_by_suffix(found, now), _ietf(found, now), _generic(found, now))
    return Snapshot(tuple(quota for group in groups for quota in group))


class _Written(NamedTuple):
    """A quota's three values as they stand in the headers."""

    limit: str | None = None
    remaining: str | None = None
    reset: str | None = None


def _quota(
    name: str, unit: Unit, dialect: Dialect, written: _Written, now: float, window: float | None = None
) -> Quota | None:
    """Read one quota, or return `None` if nothing in it is usable.

    Azure writes -1 for a limit and a remainder that it does not know, with 0 for the reset, and sometimes 0 for all of
    them: so a remainder or reset of 0 means something only beside a limit or remainder that does.
    """
    limit = parse_number(written.limit or "") or None
    remaining = parse_number(written.remaining or "")
    reset = None if written.reset is None else seconds_until(written.reset, now)
    if limit is None and written.limit is not None and remaining == 0:
        remaining = None
    if limit is None and remaining is None:
        reset = reset or None
    if limit is remaining is reset is None:
        return None
    return Quota(name=name, unit=unit, dialect=dialect, limit=limit, remaining=remaining, reset=reset, window=window)


def _by_suffix(headers: Mapping[str, str], now: float) -> Iterator[Quota]:
    """Yield the quotas whose header names end or begin with what they count: OpenAI's and Anthropic's."""
    groups: dict[tuple[Dialect, str], _Written] = {}
    for header, value in headers.items():
        key: tuple[Dialect, str]
        if match := _OPENAI.fullmatch(header):
            part, key = match[1], ("openai", match[2])
        elif match := _ANTHROPIC.fullmatch(header):
            part, key = match[3], ("anthropic", match[2] if match[1] == "ratelimit-" else f"priority-{match[2]}")
        else:
            continue
        groups[key] = groups.get(key, _Written())._replace(**{part: value})
    for (dialect, name), written in groups.items():
        unit, window = _meaning(name)
        if quota := _quota(name, unit, dialect, written, now, window):
            yield quota


def _meaning(name: str) -> tuple[Unit, float | None]:
    """Return what a name such as `project-tokens`, `requests-day` or `minute` counts, and over how many seconds."""
    words = re.split("[-_]", name)
    windows = [_WINDOWS.get(word) or parse_duration(word) for word in words]
    window = next((one for one in windows if one), None)
    if "tokens" in words:
        if _INPUT.intersection(words):
            return "input_tokens", window
        return ("output_tokens" if _OUTPUT.intersection(words) else "tokens"), window
    counts_requests = {"requests", "req"}.intersection(words) or all(windows)
    return ("requests" if counts_requests else "other"), window


def _ietf(headers: Mapping[str, str], now: float) -> Iterator[Quota]:
    """Yield the quotas of `RateLimit` and `RateLimit-Policy`, joined by the policy's name."""
    state = {item.value: item.parameters for item in parse_items(headers.get("ratelimit", ""))}
    policies = {
        item.value: item.parameters
        for item in parse_items(headers.get("ratelimit-policy", ""))
        if "q" in item.parameters
    }
    if {"limit", "remaining", "reset"} & state.keys() and all("=" in parameters for parameters in state.values()):
        draft07 = {name: parameters["="] for name, parameters in state.items()}
        written = _Written(draft07.get("limit"), draft07.get("remaining"), draft07.get("reset"))
        window = _window_of(written.limit, _policies(headers.get("ratelimit-policy", "")))
        state, policies = {}, {}
        if quota := _quota("default", "requests", "ietf", written, now, window):
            yield quota
    for name in dict.fromkeys((*policies, *state)):
        policy, live = policies.get(name, {}), state.get(name, {})
        unit = _UNITS.get(policy.get("qu", "").lower(), "other")
        written = _Written(policy.get("q"), live.get("r"), live.get("t"))
        if quota := _quota(name[:64], unit, "ietf", written, now, parse_number(policy.get("w", ""))):
            yield quota


def _generic(headers: Mapping[str, str], now: float) -> Iterator[Quota]:
    """Yield the quotas of headers that say nothing but limit, remaining and reset; they count requests."""
    for prefix in _PREFIXES:
        limits = parse_items(headers.get(f"{prefix}limit", ""))
        remaining = parse_items(headers.get(f"{prefix}remaining", ""))
        # An instant may hold a comma, so a reset is a list only beside lists.
        several = max(len(remaining), sum(not item.parameters for item in limits)) > 1
        reset = headers.get(f"{prefix}reset")
        if not (limits or remaining or reset):
            continue
        resets = [item.value for item in parse_items(reset or "")] if several else [reset] if reset else []
        policies = [(item.value, item.parameters["w"]) for item in limits if "w" in item.parameters]
        policies += _policies(headers.get(f"{prefix}policy", ""))
        bare = [item.value for item in limits if "w" not in item.parameters] or [value for value, _ in policies]
        for index in range(max(len(bare), len(remaining), len(resets))):
            written = _Written(
                bare[index] if index < len(bare) else None,
                remaining[index].value if index < len(remaining) else None,
                resets[index] if index < len(resets) else None,
            )
            if quota := _quota("requests", "requests", "generic", written, now, _window_of(written.limit, policies)):
                yield quota


def _policies(text: str) -> list[tuple[str, str]]:
    """Return limit and window of each policy of the drafts that write `100;w=60`; later ones name it and have a `q`."""
    items = [item for item in parse_items(text) if "q" not in item.parameters]
    return [(item.value, item.parameters["w"]) for item in items if "w" in item.parameters]


def _window_of(limit: str | None, policies: list[tuple[str, str]]) -> float | None:
    return next((parse_number(window) for value, window in policies if value == limit), None)
