"""Quotas that nobody declared, on virtual time: how much of them is used, and at how many refusals.

Learning takes minutes, and hours of it would measure nothing else: the limiter's own planner and controllers run
against the simulator's quota, with jitter of up to 0.2 s between admission and arrival.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import TYPE_CHECKING, Literal, get_args

from langchain_parallel_plus import RateLimiter
from langchain_parallel_plus.providers.headers import parse_rate_limit_headers
from langchain_parallel_plus.testing import ProviderRules, VirtualProvider
from langchain_parallel_plus.testing.quota import QuotaModel
from tests.unit.limits.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ("learned_quotas",)

_LIMIT = 500
_MINUTES = 30
_LEARNING = 10
_MOST_WALL = 1.10
_MOST_REFUSED = 0.001
_WORKERS = 40
_CORES = 2


@dataclass
class _Provider:
    """A virtual provider, as `Traffic` asks it."""

    model: QuotaModel
    now: float = 0.0
    said: Mapping[str, str] = field(default_factory=dict)
    """Headers of the last response."""

    def __post_init__(self) -> None:
        rules = ProviderRules.of(requests_per_minute=_LIMIT, quota_model=self.model)
        self._provider = VirtualProvider(rules, clock=lambda: self.now, wall_clock=lambda: self.now)

    def ask(self, at: float, amount: float) -> float:
        self.now = at
        call = self._provider.ask()
        self.said = dict(call.verdict.headers)
        if call.admitted:
            call.end()
        return call.verdict.retry_after or 0.0


def learned_quotas() -> Iterator[str]:
    """`adaptive()` and `from_headers()` at each of the server models."""
    yield (
        f"Learned quotas: {_LIMIT} requests a minute, virtual time, minutes {_LEARNING} to {_MINUTES}; "
        f"<= {_MOST_WALL:g}x of the floor and <= {_MOST_REFUSED:.1%} of the calls refused"
    )
    yield f"  {'':<42} {'x floor':>8} {'429s':>8} {'':<7} {f'first {_LEARNING} minutes':>18} {'first 429':>10}"
    runs = [(kind, model) for kind in ("adaptive", "from_headers") for model in get_args(QuotaModel)]
    with ProcessPoolExecutor(_CORES, mp_context=get_context("spawn")) as pool:
        for (kind, model), (early, late, first) in zip(runs, pool.map(_run, *zip(*runs, strict=True)), strict=True):
            met = "met" if round(late.wall, 2) <= _MOST_WALL and late.refused <= _MOST_REFUSED else "missed"
            start = f"{early.wall:.2f}x, {early.refused:.2%}"
            begins = "none" if first is None else f"{first:.0f} s"
            name = f"{kind}(), {model.replace('_', ' ')}"
            yield f"  {name:<42} {late.wall:>7.3f}x {late.refused:>8.3%} {met:<7} {start:>18} {begins:>10}"


def _run(kind: Literal["adaptive", "from_headers"], model: QuotaModel) -> tuple[_Share, _Share, float | None]:
    """Return what was served in the minutes of learning and after them, and when the first call was refused."""
    provider = _Provider(model)
    heeds_headers = kind == "from_headers"
    traffic = Traffic(
        make=lambda clock: (RateLimiter.from_headers if heeds_headers else RateLimiter.adaptive)(clock=clock),
        server=provider,
        workers=_WORKERS,
        headers=(lambda at: parse_rate_limit_headers(provider.said, at)) if heeds_headers else None,
    )
    traffic.run(_LEARNING * 60)
    early = _Share(traffic.served, traffic.calls, len(traffic.refusals), _LEARNING)
    traffic.run(_MINUTES * 60)
    late = _Share(
        traffic.served - early.served,
        traffic.calls - early.calls,
        len(traffic.refusals) - early.refusals,
        _MINUTES - _LEARNING,
    )
    return early, late, traffic.refusals[0] if traffic.refusals else None


@dataclass(frozen=True, slots=True)
class _Share:
    served: float
    calls: int
    refusals: int
    minutes: float

    @property
    def wall(self) -> float:
        """How long it takes, relative to the time at the server's rate."""
        return self.minutes * _LIMIT / self.served

    @property
    def refused(self) -> float:
        return self.refusals / self.calls
