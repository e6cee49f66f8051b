"""What the limiter promises of five server models, with jitter of up to 200 ms: the quota is used and not exceeded."""

from __future__ import annotations

import random

import pytest

from langchain_parallel_plus.limits import Cost, RateLimiter
from langchain_parallel_plus.providers.snapshot import Quota, Snapshot
from tests.unit.limits.servers import KINDS, BucketServer, server
from tests.unit.limits.traffic import Traffic

MINUTE = 60.0


def share(traffic: Traffic, limit: float, seconds: float) -> float:
    return traffic.served / (limit / 60 * seconds)


@pytest.mark.parametrize("limit", [60, 500])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bucket of a second"])
def test_declared_limits_are_used_and_never_exceeded_though_nobody_knows_the_provider(kind: str, limit: int) -> None:
    traffic = Traffic(
        make=lambda clock: RateLimiter(requests_per_minute=limit, clock=clock),
        server=server(kind, limit),
        workers=max(limit // 8, 20),
    ).run(4 * MINUTE)
    assert traffic.refusals == []
    assert share(traffic, limit, 4 * MINUTE) >= 0.975


@pytest.mark.parametrize("kind", KINDS)
def test_azure_s_burst_is_refused_by_no_server_with_shares_of_whole_requests(kind: str) -> None:
    traffic = Traffic(
        make=lambda clock: RateLimiter(requests_per_minute=500, provider="azure", clock=clock), server=server(kind, 500)
    ).run(5 * MINUTE)
    assert traffic.refusals == []
    assert share(traffic, 500, 5 * MINUTE) >= 0.97


@pytest.mark.parametrize(("limit", "least"), [(500, 0.95), (60, 0.8)])
def test_a_burst_that_was_assumed_wrongly_is_unlearned_quickly(limit: int, least: float) -> None:
    """A bucket of one second is the one model that the careful default does not fit: at 60 it holds one request."""
    traffic = Traffic(
        make=lambda clock: RateLimiter(requests_per_minute=limit, clock=clock),
        server=server("bucket of a second", limit),
    ).run(10 * MINUTE)
    assert len([at for at in traffic.refusals if at > 5 * MINUTE]) <= 5
    assert share(traffic, limit, 10 * MINUTE) >= least


@pytest.mark.parametrize("provider", ["openai", "groq"])
@pytest.mark.parametrize("limit", [60, 500])
def test_where_the_bucket_is_known_the_whole_minute_of_it_is_used(provider: str, limit: int) -> None:
    traffic = Traffic(
        make=lambda clock: RateLimiter(requests_per_minute=limit, provider=provider, clock=clock),
        server=server("bucket of a minute", limit),
        workers=limit // 2 + 100,
    ).run(4 * MINUTE)
    assert traffic.refusals == []
    floor = (traffic.served - limit) / (limit / 60)
    assert traffic.last_served <= 1.03 * floor


@pytest.mark.parametrize("kind", ["bucket of a minute", "fixed minute", "sliding minute"])
def test_calls_of_mixed_sizes_exceed_no_minute(kind: str) -> None:
    """A paced schedule alone lets a minute hold one call too many, which is refused when calls are large."""
    traffic = Traffic(
        make=lambda clock: RateLimiter(tokens_per_minute=200_000, clock=clock),
        server=server(kind, 200_000),
        amount=lambda cost: cost.total_tokens,
        cost=lambda rng: Cost(tokens=rng.choice([500, 1_000, 2_000, 8_000])),
    ).run(5 * MINUTE)
    assert traffic.refusals == []
    assert share(traffic, 200_000, 5 * MINUTE) >= 0.94


@pytest.mark.parametrize("late", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("limit", [200_000, 600_000])
def test_calls_that_need_all_of_a_small_bucket_leave_room_for_what_arrives_late(limit: int, late: float) -> None:
    """A call of 4,064 tokens needs a whole second of 200,000 a minute."""
    traffic = Traffic(
        make=lambda clock: RateLimiter(tokens_per_minute=limit, provider="azure", clock=clock),
        server=server("bucket of a second", limit),
        amount=lambda cost: cost.total_tokens,
        cost=lambda rng: Cost(tokens=rng.choice([264, 564, 1_064, 4_064])),
        jitter=late,
    ).run(5 * MINUTE)
    assert traffic.refusals == []
    assert share(traffic, limit, 5 * MINUTE) >= 0.94


@pytest.mark.parametrize("late", [0.0, 0.05])
def test_a_bucket_of_one_request_is_kept_to(late: float) -> None:
    traffic = Traffic(
        make=lambda clock: RateLimiter(requests_per_minute=60, provider="azure", clock=clock),
        server=server("bucket of a second", 60),
        jitter=late,
    ).run(5 * MINUTE)
    assert traffic.refusals == []
    assert share(traffic, 60, 5 * MINUTE) >= 0.93


def test_tokens_counted_in_ten_seconds_are_refused_a_few_times_and_then_learned() -> None:
    traffic = Traffic(
        make=lambda clock: RateLimiter(tokens_per_minute=200_000, clock=clock),
        server=server("ten-second windows", 200_000),
        amount=lambda cost: cost.total_tokens,
        cost=lambda rng: Cost(tokens=rng.randint(100, 2_000)),
    ).run(10 * MINUTE)
    assert 1 <= len(traffic.refusals) <= 3
    assert share(traffic, 200_000, 10 * MINUTE) >= 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_quota_is_found_and_kept_to(kind: str) -> None:
    traffic = Traffic(
        make=lambda clock: RateLimiter.adaptive(clock=clock), server=server(kind, 500), count_from=10 * MINUTE
    ).run(24 * MINUTE)
    assert share(traffic, 500, 14 * MINUTE) >= 0.97
    assert len(traffic.refusals) / traffic.calls <= 0.0015


def test_what_others_use_of_the_key_is_seen_in_the_headers_and_left_to_them() -> None:
    """Somebody else takes half of an OpenAI key; only its headers say so."""
    shared = BucketServer(600, 60)
    rng = random.Random(3)
    theirs: list[float] = []

    class Shared:
        def ask(self, at: float, amount: float) -> float:
            while self.next < at:
                if not shared.ask(self.next, 1.0):
                    theirs.append(self.next)
                self.next += rng.uniform(0.1, 0.3)
            return shared.ask(at, amount)

        next = 0.0

    def headers(at: float) -> Snapshot:
        remaining = int(600 - shared.level)
        reset = round(shared.level / 10, 3)
        return Snapshot(
            (Quota(name="requests", unit="requests", dialect="openai", limit=600, remaining=remaining, reset=reset),)
        )

    traffic = Traffic(
        make=lambda clock: RateLimiter(requests_per_minute=600, provider="openai", clock=clock),
        server=Shared(),
        headers=headers,
        count_from=2 * MINUTE,
    ).run(8 * MINUTE)
    statistics = traffic.limiter.statistics().rates["requests_per_minute"]
    recent = len([at for at in theirs if at > 6 * MINUTE]) / 2
    assert statistics.others == pytest.approx(recent, rel=0.25)
    assert len(traffic.refusals) / traffic.calls <= 0.02
    assert share(traffic, 300, 6 * MINUTE) == pytest.approx(1.0, abs=0.12)
