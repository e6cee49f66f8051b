"""What is known of each provider's quota beyond the declared numbers, as frozen data.

Where it comes from (read in November 2026 unless noted):

- OpenAI: six of six public samples of "Limit L, Used U, Requested Q. Please try again in X" obey
  `X = (U + Q - L) / (L / 60)`, and so do its headers (community.openai.com, thread 1268905): a continuous bucket that
  holds one minute. Tokens are charged from the prompt and `max_tokens` at admission (guides/rate-limits); that they are
  given back is documented nowhere.
- Azure OpenAI: requests are checked "over a small period of time, typically 1 or 10 seconds", tokens are counted each
  minute on the estimated maximum (learn.microsoft.com, "Manage Azure OpenAI quota"). Its headers may state the limit
  of the short time: 79 of 480 requests a minute are left after the first. Their resets are whole seconds, which prove
  no window.
- Anthropic: a continuous token bucket; `cache_read_input_tokens` do not count for current models; output tokens are
  estimated from `max_tokens` and adjusted at the end (api/rate-limits, 2025). New traffic is to ramp up
  (`ramp_limit_exceeded`), hence the careful burst.
- Groq: OpenAI's formula in its messages; `x-ratelimit-*-requests` are those of a day; cached tokens do not count
  (docs/rate-limits).
- Gemini: no headers; limits a minute and a day (ai.google.dev, rate limits). How it counts is not documented.
- Bedrock: reserves the input and `max_tokens`, settles at the end (docs.aws.amazon.com, "How tokens are counted").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from langchain_parallel_plus.limits.planning.bucket import UTILISATION

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from langchain_parallel_plus.limits.planning.bucket import Refill

__all__ = ("DEFAULT", "PROVIDERS", "Profile", "TokenAccounting", "most_careful", "profile_of")

TokenAccounting: TypeAlias = Literal["reserve", "reserve_refund", "actual"]
"""What a provider counts. `reserve`: the estimate and `max_tokens`, and nothing is given back. `reserve_refund`: the
same, corrected at the end. `actual`: what was used."""

_MINUTE: Final = 60.0
_DAY: Final = 86_400.0
_WHOLE_MINUTE: Final = 59.9
"""Seconds of burst at a bucket of a minute: all of it, but for the rounding of two clocks. What is on its way counts in
full (`planning.arrival`), so nothing has to be left for calls that arrive late."""
_WHOLE_MINUTE_OF_TOKENS: Final = 59.7
"""The same for tokens, which are estimated."""
_NEARLY_ALL: Final = 0.998
"""Utilisation at a bucket of a minute, which takes up any jitter."""
_CAREFUL: Final[tuple[TokenAccounting, ...]] = ("reserve", "reserve_refund", "actual")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one provider counts. The limits themselves are declared by the user, or stated in headers."""

    name: str
    burst: float = 10.0
    """Seconds' worth of requests that an idle key lets through at once."""
    token_burst: float = 10.0
    """The same for tokens."""
    refill: Refill = "window"
    utilisation: float = UTILISATION
    """Share of the limit that sustained load uses."""
    request_windows: tuple[float, ...] = (10.0, 60.0)
    """Lengths, in seconds, of the windows in which requests may be counted."""
    token_windows: tuple[float, ...] = (60.0,)
    """The same for tokens."""
    doubtful_request_windows: tuple[float, ...] = ()
    """Windows that are kept only after a refusal that nothing else explains, because they cost much of the rate: those
    of a second cost a fifth at 500 requests a minute."""
    doubtful_token_windows: tuple[float, ...] = (10.0,)
    """The same for tokens. Ten seconds cost 6 % with calls of 1,000 tokens at 200,000 a minute (simulated), and no
    provider is known to count tokens so."""
    slack: float = 0.0
    """Where the burst is all that the provider's bucket holds: seconds beyond the pace between requests that need
    nearly all of it, for what arrives late."""
    token_accounting: TokenAccounting = "reserve"
    """For limits on all tokens."""
    input_accounting: TokenAccounting = "reserve"
    """For limits on input tokens."""
    output_accounting: TokenAccounting = "reserve"
    """For limits on output tokens."""
    cached_input_free: bool = False
    """Whether input tokens read from the prompt cache do not count."""
    request_header: float | None = None
    """The seconds that headers on requests are for; `None`: take only what the headers prove."""
    token_header: float | None = None
    """The same for headers on tokens."""
    stated_parts: tuple[float, ...] = ()
    """Shorter times, in seconds, whose share of a declared limit headers may state in place of the limit."""

    def accounting(self, unit: str) -> TokenAccounting:
        """Return how amounts of `unit`, an attribute of `Cost`, are counted. Requests are never given back."""
        if unit == "total_tokens":
            return self.token_accounting
        if unit == "input_tokens":
            return self.input_accounting
        return self.output_accounting if unit == "output_tokens" else "reserve"


DEFAULT: Final = Profile(name="")
"""For providers that nobody knows: what none of the known ones refuses, but for a bucket of one second."""

_OPENAI: Final = Profile(
    name="openai",
    burst=_WHOLE_MINUTE,
    token_burst=_WHOLE_MINUTE_OF_TOKENS,
    refill="bucket",
    utilisation=_NEARLY_ALL,
    request_header=_MINUTE,
    token_header=_MINUTE,
)
_AZURE: Final = Profile(
    name="azure",
    burst=1.0,
    token_burst=1.0,
    doubtful_request_windows=(1.0,),
    doubtful_token_windows=(),
    slack=0.05,
    request_header=_MINUTE,
    token_header=_MINUTE,
    stated_parts=(1.0, 10.0),
)
_ANTHROPIC: Final = Profile(
    name="anthropic",
    refill="bucket",
    utilisation=0.99,
    token_accounting="reserve_refund",
    input_accounting="actual",
    output_accounting="reserve_refund",
    cached_input_free=True,
    request_header=_MINUTE,
    token_header=_MINUTE,
)
_GROQ: Final = Profile(
    name="groq",
    burst=_WHOLE_MINUTE,
    token_burst=_WHOLE_MINUTE_OF_TOKENS,
    refill="bucket",
    utilisation=_NEARLY_ALL,
    token_accounting="actual",
    input_accounting="actual",
    output_accounting="actual",
    cached_input_free=True,
    request_header=_DAY,
    token_header=_MINUTE,
)
_GEMINI: Final = Profile(name="gemini")
_BEDROCK: Final = Profile(
    name="bedrock",
    token_accounting="reserve_refund",
    input_accounting="reserve_refund",
    output_accounting="reserve_refund",
)

PROVIDERS: Final = {
    "openai": _OPENAI,
    "azure": _AZURE,
    "anthropic": _ANTHROPIC,
    "groq": _GROQ,
    "gemini": _GEMINI,
    "google_genai": _GEMINI,
    "google_vertexai": _GEMINI,
    "bedrock": _BEDROCK,
    "amazon_bedrock": _BEDROCK,
}
"""Profiles by LangSmith's name of the provider."""


def profile_of(provider: str) -> Profile:
    """Return the profile of `provider`, or `DEFAULT` if nobody knows it."""
    return PROVIDERS.get(provider, DEFAULT)


def most_careful(profiles: Collection[Profile]) -> Profile:
    """Return what all of `profiles`, one or more, allow together."""
    first, *others = profiles
    if not others:
        return first

    def least(kinds: list[TokenAccounting]) -> TokenAccounting:
        return min(kinds, key=_CAREFUL.index)

    def agreed(seconds: set[float | None]) -> float | None:
        return next(iter(seconds)) if len(seconds) == 1 else None

    return Profile(
        name="+".join(sorted({one.name or "unknown" for one in profiles})),
        burst=min(one.burst for one in profiles),
        token_burst=min(one.token_burst for one in profiles),
        refill="window" if any(one.refill == "window" for one in profiles) else "bucket",
        utilisation=min(one.utilisation for one in profiles),
        request_windows=_union(one.request_windows for one in profiles if one.refill == "window"),
        token_windows=_union(one.token_windows for one in profiles if one.refill == "window"),
        doubtful_request_windows=_union(one.doubtful_request_windows for one in profiles if one.refill == "window"),
        doubtful_token_windows=_union(one.doubtful_token_windows for one in profiles if one.refill == "window"),
        slack=max(one.slack for one in profiles),
        token_accounting=least([one.token_accounting for one in profiles]),
        input_accounting=least([one.input_accounting for one in profiles]),
        output_accounting=least([one.output_accounting for one in profiles]),
        cached_input_free=all(one.cached_input_free for one in profiles),
        request_header=agreed({one.request_header for one in profiles}),
        token_header=agreed({one.token_header for one in profiles}),
        stated_parts=tuple(set.intersection(*({*one.stated_parts} for one in profiles))),
    )


def _union(windows: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(sorted({seconds for some in windows for seconds in some}))
