"""What a limiter learns from its calls: providers, usage, headers, refusals, overload, unknown quotas."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable

import pytest

from langchain_parallel_plus.errors import DeclarationError, QuotaExhaustedError
from langchain_parallel_plus.limits import Cost, RateLimiter
from langchain_parallel_plus.limits.learning.profile import DEFAULT, PROVIDERS, most_careful, profile_of
from langchain_parallel_plus.limits.planning.bucket import UTILISATION
from langchain_parallel_plus.limits.statistics import RateStatistics
from langchain_parallel_plus.limits.ticket import Ticket
from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.providers.classified import Classified
from langchain_parallel_plus.providers.headers import parse_rate_limit_headers
from langchain_parallel_plus.providers.snapshot import Snapshot

LIMITED = Classified(ErrorKind.RATE_LIMIT, retry_after=5.0)


class Clock:
    def __init__(self) -> None:
        self.time = 1_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def requests(limiter: RateLimiter) -> RateStatistics:
    return limiter.statistics().rates["requests_per_minute"]


def openai(limit: int, remaining: int, *, unit: str = "requests", window: float = 60.0) -> Snapshot:
    """Return OpenAI's headers, whose reset proves the window."""
    reset = (limit - remaining) * window / limit
    return parse_rate_limit_headers(
        {
            f"x-ratelimit-limit-{unit}": str(limit),
            f"x-ratelimit-remaining-{unit}": str(remaining),
            f"x-ratelimit-reset-{unit}": f"{reset}s",
        },
        0.0,
    )


def sent(limiter: RateLimiter, cost: Cost | None = None) -> Ticket:
    ticket = limiter.reserve(cost or Cost())
    assert ticket.granted
    return ticket


def at_once(limiter: RateLimiter) -> int:
    """How many calls go at once."""
    count = 0
    while count < 2_000 and limiter.try_acquire(Cost()):
        count += 1
    return count


@pytest.mark.parametrize(
    ("providers", "started"),
    [
        ([], 100),
        ([""], 100),
        (["openai"], 599),
        (["groq"], 599),
        (["azure"], 10),
        (["anthropic"], 100),
        (["openai", "azure"], 10),
        (["openai", ""], 100),
        (["somebody new"], 100),
    ],
)
def test_an_idle_key_of_600_a_minute_starts_what_its_providers_allow(
    providers: list[str], started: int, clock: Clock
) -> None:
    limiter = RateLimiter(requests_per_minute=600, clock=clock)
    for provider in providers:
        limiter.meet(provider)
        limiter.meet(provider)
    assert at_once(limiter) == started


def test_a_provider_that_was_named_is_kept_and_so_is_a_burst(clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=600, provider="azure", clock=clock)
    limiter.meet("openai")
    assert limiter.statistics().provider == "azure"
    burst = RateLimiter(requests_per_minute=600, burst=2, clock=clock)
    burst.meet("openai")
    assert at_once(burst) == 20


def test_a_provider_met_late_changes_nothing_that_is_taken(clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=600, clock=clock)
    assert at_once(limiter) == 100
    limiter.meet("openai")
    assert at_once(limiter) == pytest.approx(499, abs=2)


def test_of_several_profiles_every_single_rule_is_the_most_careful() -> None:
    both = most_careful((profile_of("openai"), profile_of("bedrock")))
    assert (both.name, both.refill, both.burst) == ("bedrock+openai", "window", 10.0)
    assert both.accounting("total_tokens") == "reserve"
    assert both.request_windows == (10.0, 60.0)
    assert most_careful((profile_of("openai"),)) is profile_of("openai")
    assert most_careful((profile_of("groq"), profile_of("openai"))).request_header is None
    assert all(profile.accounting("requests") == "reserve" for profile in (DEFAULT, *PROVIDERS.values()))


@pytest.mark.parametrize(
    ("provider", "actual", "charged"),
    [
        (None, Cost(input_tokens=100, output_tokens=50), 1_000),
        ("openai", Cost(input_tokens=100, output_tokens=50), 1_000),
        ("azure", Cost(input_tokens=900, output_tokens=500), 1_400),
        ("bedrock", Cost(input_tokens=100, output_tokens=50), 150),
        ("bedrock", Cost(input_tokens=100, output_tokens=50, cached_tokens=80), 150),
        ("groq", Cost(input_tokens=100, output_tokens=50, cached_tokens=80), 70),
        ("anthropic", Cost(input_tokens=100, output_tokens=50, cached_tokens=200), 50),
    ],
)
def test_a_call_is_charged_as_its_provider_counts(
    provider: str | None, actual: Cost, charged: float, clock: Clock
) -> None:
    limiter = RateLimiter(tokens_per_minute=60_000, requests_per_minute=600, provider=provider, clock=clock)
    before = limiter.statistics().rates["tokens_per_minute"].available
    ticket = sent(limiter, Cost(input_tokens=400, output_tokens=600))
    ticket.settle(actual)
    ticket.settle(Cost(requests=0))
    rates = limiter.statistics().rates
    assert before - rates["tokens_per_minute"].available == pytest.approx(charged, abs=1)
    assert rates["requests_per_minute"].burst - rates["requests_per_minute"].available == pytest.approx(1, abs=0.01)


def test_input_and_output_tokens_are_counted_each_in_its_way(clock: Clock) -> None:
    limiter = RateLimiter(
        input_tokens_per_minute=60_000, output_tokens_per_minute=60_000, provider="anthropic", clock=clock
    )
    sent(limiter, Cost(input_tokens=400, output_tokens=600)).settle(
        Cost(input_tokens=500, output_tokens=50, cached_tokens=300)
    )
    rates = limiter.statistics().rates
    assert rates["input_tokens_per_minute"].available == pytest.approx(10_000 - 200)
    assert rates["output_tokens_per_minute"].available == pytest.approx(10_000 - 50)


def test_a_lower_limit_that_is_stated_holds_at_once_and_a_higher_one_is_not_believed(clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=600, clock=clock)
    sent(limiter).heard(openai(300, 290))
    assert (requests(limiter).limit, requests(limiter).declared, requests(limiter).stated) == (300, 600, 300)
    clock.time += 10
    sent(limiter).heard(openai(9_000, 8_000))
    assert requests(limiter).limit == 300  # another model's, perhaps
    clock.time += 90
    sent(limiter).heard(openai(9_000, 8_000))
    assert (requests(limiter).limit, requests(limiter).stated) == (600, 9_000)


def test_a_stated_limit_refuses_no_single_request(clock: Clock) -> None:
    """It may be that of another model; the provider itself says so if the request is too large."""
    limiter = RateLimiter(tokens_per_minute=60_000, clock=clock)
    sent(limiter, Cost(tokens=10)).heard(openai(1_000, 900, unit="tokens"))
    limiter.reserve(Cost(tokens=5_000)).cancel()


def test_headers_for_a_day_say_nothing_of_the_minute(clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=600, requests_per_day=20_000, provider="groq", clock=clock)
    sent(limiter).heard(openai(14_400, 14_000, window=86_400.0))
    rates = limiter.statistics().rates
    assert (rates["requests_per_minute"].stated, rates["requests_per_day"].limit) == (None, 14_400)
    assert rates["requests_per_day"].available == pytest.approx(14_000)


def test_headers_that_show_less_room_hold_calls_back_and_say_what_for(clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=600, provider="openai", clock=clock)
    ticket = sent(limiter)
    clock.time += 1
    ticket.heard(openai(600, 0))  # somebody else has taken the other 599
    assert at_once(limiter) == 10
    waiting = limiter.reserve(Cost())
    assert not waiting.granted
    clock.time += 0.11
    assert limiter.reserve(Cost(requests=0)).granted
    assert (waiting.granted, waiting.bound_by) == (True, "requests_per_minute")


def test_calls_sent_together_do_not_look_like_somebody_else(clock: Clock) -> None:
    """They arrive in any order: the first one's response may say that all of them are taken."""
    limiter = RateLimiter(requests_per_minute=60, provider="openai", clock=clock)
    sent(limiter).heard(openai(60, 59))
    tickets = []
    for _ in range(30):
        tickets.append(sent(limiter))
        clock.time += 0.004
    clock.time += 2
    tickets[0].heard(openai(60, 29))  # the first to leave was the last to arrive
    assert requests(limiter).others == 0
    assert at_once(limiter) >= 28


def test_headers_never_let_more_through_than_was_believed(clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=60, clock=clock)
    ticket = sent(limiter)
    assert at_once(limiter) == 9
    ticket.heard(openai(60, 60))
    assert at_once(limiter) == 0


def test_a_refusal_pauses_everybody_and_makes_the_key_careful_once_in_an_epoch(clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=600, clock=clock)
    tickets = [sent(limiter) for _ in range(20)]
    clock.time += 0.3
    for ticket in tickets:
        ticket.refused(LIMITED)
        clock.time += 0.01
    assert limiter.statistics().paused_for == pytest.approx(5.0, abs=0.05)
    shown = requests(limiter)
    assert (shown.burst, shown.utilisation) == (50, pytest.approx(UTILISATION - 0.01))
    clock.time += 5
    assert at_once(limiter) <= 2


def test_a_refusal_of_a_later_call_begins_another_epoch(clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=600, clock=clock)
    for step in (1, 2, 3):
        ticket = sent(limiter)
        clock.time += 1
        ticket.refused(LIMITED)
        clock.time += 60
        assert (requests(limiter).burst, requests(limiter).utilisation) == (
            100 / 2**step,
            pytest.approx(UTILISATION - step / 100),
        )


def test_quiet_time_restores_burst_and_pace(clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=600, clock=clock)
    ticket = sent(limiter)
    clock.time += 1
    ticket.refused(LIMITED)
    clock.time += 601
    sent(limiter).settle(Cost())
    assert (requests(limiter).burst, requests(limiter).utilisation) == (100, pytest.approx(UTILISATION - 0.008))
    clock.time += 3_000
    sent(limiter).settle(Cost())
    assert requests(limiter).utilisation == pytest.approx(UTILISATION)


def test_a_burst_shrinks_to_one_request_and_not_below(clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=60, clock=clock)
    for _ in range(20):
        ticket = sent(limiter)
        clock.time += 1
        ticket.refused(LIMITED)
        clock.time += 100
    assert (requests(limiter).burst, requests(limiter).utilisation) == (1, pytest.approx(0.90))


def test_refusals_without_a_hint_pause_for_longer_and_longer_until_a_call_is_answered(clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=600, clock=clock)
    pauses = []
    for _ in range(3):
        ticket = sent(limiter)
        clock.time += 0.1
        ticket.refused(Classified(ErrorKind.RATE_LIMIT))
        pauses.append(limiter.statistics().paused_for)
        clock.time += 40
    sent(limiter).settle(Cost())
    ticket = sent(limiter)
    clock.time += 0.1
    ticket.refused(Classified(ErrorKind.RATE_LIMIT))
    assert [*pauses, limiter.statistics().paused_for] == pytest.approx([1, 2, 4, 1])


def test_an_exhausted_account_closes_the_key_at_once(clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=60, name="broke", clock=clock)
    sent(limiter).refused(Classified(ErrorKind.QUOTA_EXHAUSTED, code="insufficient_quota"))
    with pytest.raises(QuotaExhaustedError, match=r"'broke' is closed: the provider answered 'insufficient_quota'"):
        limiter.try_acquire()


@pytest.mark.parametrize(
    "kind", [ErrorKind.SERVER, ErrorKind.TIMEOUT, ErrorKind.CONNECTION, ErrorKind.AUTH, ErrorKind.UNKNOWN]
)
def test_errors_that_say_nothing_of_the_quota_change_nothing(kind: ErrorKind, clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=60, concurrency=3, clock=clock)
    ticket = sent(limiter)
    before = limiter.statistics()
    ticket.refused(Classified(kind, retry_after=9.0))
    assert limiter.statistics() == before


def test_overload_takes_slots_and_never_quota(clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=600, concurrency=10, clock=clock)
    tickets = [sent(limiter, Cost(slots=1)) for _ in range(10)]
    clock.time += 1
    for ticket in tickets:
        ticket.refused(Classified(ErrorKind.OVERLOADED))
        ticket.release()
    assert (requests(limiter).utilisation, limiter.statistics().paused_for) == (UTILISATION, 0)
    assert sum(limiter.reserve(Cost(slots=1)).granted for _ in range(12)) == 9


def test_slots_come_back_with_time_alone(clock: Clock) -> None:
    limiter = RateLimiter(concurrency=2, clock=clock)
    held, overloaded = limiter.reserve(Cost(slots=1)), sent(limiter, Cost(slots=1))
    overloaded.refused(Classified(ErrorKind.OVERLOADED))
    overloaded.release()
    assert not limiter.try_acquire(Cost(slots=1))
    clock.time += 10
    assert limiter.try_acquire(Cost(slots=1))
    held.release()


def test_more_slots_than_an_overload_has_left_pass_when_nothing_else_is_in_flight(clock: Clock) -> None:
    limiter = RateLimiter(concurrency=2, clock=clock)
    held, overloaded = limiter.reserve(Cost(slots=1)), sent(limiter, Cost(slots=1))
    overloaded.refused(Classified(ErrorKind.OVERLOADED))
    overloaded.release()
    both = limiter.reserve(Cost(slots=2))
    assert not both.granted
    held.release()
    assert both.granted
    both.release()
    assert limiter.acquire(Cost(slots=2), timeout=0)


def test_from_headers_sends_one_call_and_then_keeps_to_what_it_says(clock: Clock) -> None:
    limiter = RateLimiter.from_headers(clock=clock)
    probe = sent(limiter)
    waiting = [limiter.reserve(Cost(input_tokens=10)) for _ in range(40)]
    assert [ticket.granted for ticket in waiting] == [False] * 40
    clock.time += 0.5
    probe.heard(openai(60, 59))
    assert sum(ticket.granted for ticket in waiting) == 10
    assert waiting[0].bound_by == "probe"
    assert set(limiter.statistics().rates) == {"requests_per_minute"}
    waiting[0].heard(openai(600, 500))
    clock.time += 70
    limiter.reserve(Cost()).heard(openai(600, 500))
    assert requests(limiter).limit == 600


@pytest.mark.parametrize(
    "end",
    [lambda ticket: ticket.cancel(), lambda ticket: ticket.refused(Classified(ErrorKind.CONNECTION))],
    ids=["cancelled", "failed"],
)
def test_a_probe_that_brings_no_answer_is_followed_by_another(end: Callable[[Ticket], None], clock: Clock) -> None:
    limiter = RateLimiter.from_headers(clock=clock)
    probe, second, third = limiter.reserve(), limiter.reserve(), limiter.reserve()
    assert (probe.granted, second.granted) == (True, False)
    end(probe)
    assert (second.granted, third.granted) == (True, False)
    clock.time += 31
    limiter.reserve()
    assert third.granted


def test_without_headers_the_ceiling_is_looked_for(clock: Clock) -> None:
    limiter = RateLimiter.from_headers(clock=clock)
    sent(limiter).settle(Cost())
    assert requests(limiter).limit == 60
    for _ in range(40):
        clock.time += 1.01
        sent(limiter).settle(Cost())
    assert requests(limiter).limit > 60
    sent(limiter).heard(openai(300, 250))
    assert requests(limiter).limit == 300


def test_a_probe_that_ends_without_a_word_on_limits_ends_the_hope_for_headers(clock: Clock) -> None:
    limiter = RateLimiter.from_headers(clock=clock)
    sent(limiter).release()
    assert requests(limiter).limit == 60


def aacquire(limiter: RateLimiter) -> bool:
    """Take asynchronously what does not have to be waited for."""
    try:
        limiter.aacquire(timeout=0).send(None)
    except StopIteration as done:
        return bool(done.value)
    raise AssertionError


@pytest.mark.parametrize(
    "take",
    [
        lambda limiter: limiter.acquire(blocking=False),
        lambda limiter: limiter.acquire(Cost(requests=1), timeout=0),
        lambda limiter: limiter.try_acquire(),
        aacquire,
    ],
    ids=["acquire", "acquire in time", "try_acquire", "aacquire"],
)
def test_what_is_taken_without_a_ticket_brings_no_headers_and_is_not_waited_for(
    take: Callable[[RateLimiter], bool], clock: Clock
) -> None:
    """So it is in LangChain's `rate_limiter=`: it would be one call in 30 s for ever."""
    limiter = RateLimiter.from_headers(clock=clock)
    assert take(limiter)
    assert requests(limiter).limit == 60
    clock.time += 1.01
    assert take(limiter)
    sent_later = limiter.reserve(Cost(requests=0))
    sent_later.heard(openai(300, 250))
    assert requests(limiter).limit == 300


def test_a_call_that_waited_for_a_probe_is_none_itself_without_a_ticket() -> None:
    limiter = RateLimiter.from_headers()
    probe = limiter.reserve()
    assert not limiter.acquire(blocking=False)
    assert limiter.account.turnstile.planner.provider.probing
    threading.Timer(0.05, probe.cancel).start()
    assert limiter.acquire(timeout=60)
    assert requests(limiter).limit == 60


def test_an_adaptive_limiter_starts_carefully_and_grows_with_use(clock: Clock) -> None:
    limiter = RateLimiter.adaptive(requests_per_minute=30, clock=clock)
    assert at_once(limiter) == 1
    for _ in range(12):
        clock.time += 2.01
        sent(limiter).settle(Cost())
    assert requests(limiter).limit == pytest.approx(90, rel=0.1)  # three times what got through
    assert requests(limiter).declared is None


def test_a_stated_limit_caps_what_is_looked_for(clock: Clock) -> None:
    limiter = RateLimiter.adaptive(requests_per_minute=500, clock=clock)
    sent(limiter).heard(openai(120, 100))
    assert requests(limiter).limit == 120


@pytest.mark.parametrize("make", [RateLimiter.adaptive, RateLimiter.from_headers])
def test_learning_limiters_keep_their_kind_when_pickled(make: Callable[..., RateLimiter]) -> None:
    limiter = make(name=f"pickled {make.__name__}", models="gpt*", concurrency=3)
    data = pickle.dumps(limiter)
    quota = limiter.account.quota
    assert repr(limiter).startswith(f"RateLimiter.{make.__name__}(")
    with pytest.raises(DeclarationError, match="declared before with other limits"):
        RateLimiter(requests_per_minute=60, name=limiter.name)
    del limiter
    assert pickle.loads(data).account.quota == quota


def test_rates_can_be_set_over_what_was_stated_or_learned(clock: Clock) -> None:
    limiter = RateLimiter(requests_per_minute=600, clock=clock)
    sent(limiter).heard(openai(300, 290))
    limiter.set_rate(requests_per_minute=900)
    assert (requests(limiter).limit, requests(limiter).declared) == (900, 900)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_one_refusal_costs_its_wait_and_no_half_minute(provider: str, clock: Clock) -> None:
    """What was taken of the old burst is no debt under the smaller one: the provider has said when it goes on."""
    limiter = RateLimiter(requests_per_minute=1_200, provider=provider, clock=clock)
    ticket = sent(limiter)
    at_once(limiter)
    clock.time += 1
    ticket.refused(LIMITED)
    waiting = [limiter.reserve(Cost()) for _ in range(60)]
    assert 0 <= requests(limiter).available + 5 * 20 <= 100
    clock.time += 5.001
    limiter.reserve(Cost(requests=0))
    assert 1 <= sum(ticket.granted for ticket in waiting) <= 20
    clock.time += 1
    limiter.reserve(Cost(requests=0))
    assert sum(ticket.granted for ticket in waiting) >= 19


@pytest.mark.parametrize(("part", "unit"), [(100, "requests"), (10, "requests"), (1_000, "tokens"), (10_000, "tokens")])
def test_azure_s_headers_may_state_the_part_of_a_limit_that_counts_in_seconds(
    part: int, unit: str, clock: Clock
) -> None:
    limiter = RateLimiter(requests_per_minute=600, tokens_per_minute=60_000, provider="azure", clock=clock)
    sent(limiter, Cost(tokens=10)).heard(openai(part, part - 1, unit=unit))
    rates = limiter.statistics().rates
    assert (rates["requests_per_minute"].limit, rates["tokens_per_minute"].limit) == (600, 60_000)


def test_azure_may_lower_a_limit_for_a_while(clock: Clock) -> None:
    limiter = RateLimiter(tokens_per_minute=60_000, provider="azure", clock=clock)
    sent(limiter, Cost(tokens=10)).heard(openai(40_000, 39_000, unit="tokens"))
    assert limiter.statistics().rates["tokens_per_minute"].limit == 40_000


@pytest.mark.parametrize("make", [RateLimiter.adaptive, RateLimiter.from_headers])
def test_a_limit_that_nobody_declared_is_learned_from_azure_s_headers_too(
    make: Callable[..., RateLimiter], clock: Clock
) -> None:
    limiter = make(provider="azure", clock=clock)
    sent(limiter).heard(openai(50, 49))
    assert (requests(limiter).limit, requests(limiter).stated) == (50, 50)
