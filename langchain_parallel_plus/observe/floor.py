"""What a fan-out's limits allow: the least time that it can take, and how much of each limit it used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from langchain_parallel_plus.observe.tree import subtree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from langchain_parallel_plus.observe.limiter_state import LimiterState
    from langchain_parallel_plus.observe.records import BranchReport, FanOutReport, ModelCall, Wait

__all__ = ("LimiterUse", "floor", "limiter_uses")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterUse:
    """What a fan-out used of one rate limit."""

    limiter: str
    dimension: str
    """Such as "requests_per_minute"."""
    used: float
    """Requests or tokens, as the provider counted them, or as they were estimated where it does not say."""
    allowed: float
    """What was there at the start, and what came in since."""

    @property
    def share(self) -> float | None:
        """`used / allowed`."""
        return self.used / self.allowed if self.allowed > 0 else None


class _Admission(NamedTuple):
    wait: Wait
    branch: BranchReport
    """The fan-out's own branch in which it happened."""


def floor(fan_out: FanOutReport, useful: Mapping[tuple[str, ...], float], slots: int) -> float:
    """Return the seconds below which no scheduler gets under the limits; at most what it took.

    Args:
        fan_out: A fan-out that has ended.
        useful: Seconds of useful work, by branch.
        slots: How many branches may work at once.
    """
    took = fan_out.seconds or 0.0
    least = max(max(useful.values(), default=0.0), sum(useful.values()) / slots if slots else 0.0)
    admissions, usage = list(_admissions(fan_out)), _usage(fan_out)
    for state in fan_out.limiters:
        own = [one for one in admissions if one.wait.limiter == state.name]
        if own:
            least = max(least, _under(state, own, usage, useful))
    # Who takes less than the floor had more quota than the limiter knew of: a floor that was beaten is none.
    return min(least, took)


def limiter_uses(fan_out: FanOutReport) -> tuple[LimiterUse, ...]:
    """Return what was used of each rate limit."""
    took, usage = fan_out.seconds or 0.0, _usage(fan_out)
    waits = [one.wait for one in _admissions(fan_out)]
    return tuple(
        LimiterUse(
            limiter=state.name,
            dimension=name,
            used=sum(_amount(wait, name, usage) for wait in waits if wait.limiter == state.name),
            allowed=max(rate.available, 0.0) + rate.per_second * took,
        )
        for state in fan_out.limiters
        for name, rate in state.rates.items()
    )


def _under(
    state: LimiterState,
    admissions: list[_Admission],
    usage: Mapping[UUID, ModelCall],
    useful: Mapping[tuple[str, ...], float],
) -> float:
    last = max(admissions, key=lambda one: one.wait.ended)
    rest = min(useful.get(last.branch.path, 0.0), max(last.branch.ended - last.wait.ended, 0.0))
    until = [state.paused_for]
    for name, rate in state.rates.items():
        missing = sum(_amount(one.wait, name, usage) for one in admissions) - rate.available
        until.append(max(missing, 0.0) / rate.per_second)
    least = max(until) + rest if max(until) > 0 else 0.0
    if state.concurrency is not None:
        calls = [usage[one.wait.call] for one in admissions if one.wait.call in usage]
        least = max(least, sum(call.ended - call.started for call in calls) / state.concurrency)
    return least


def _amount(wait: Wait, dimension: str, usage: Mapping[UUID, ModelCall]) -> float:
    if dimension.startswith("requests"):
        return wait.requests
    call = usage.get(wait.call)
    known = call is not None and call.input_tokens is not None and call.output_tokens is not None
    sent = (call.input_tokens or 0) if call is not None and known else wait.input_tokens
    received = (call.output_tokens or 0) if call is not None and known else wait.output_tokens
    if dimension.startswith("input"):
        return sent
    if dimension.startswith("output"):
        return received
    return sent + received if known else wait.tokens


def _admissions(fan_out: FanOutReport) -> Iterator[_Admission]:
    for branch in fan_out.own_branches:
        for one in subtree(branch):
            yield from (_Admission(wait, branch) for wait in one.wait_log if wait.admitted)


def _usage(fan_out: FanOutReport) -> dict[UUID, ModelCall]:
    found = (call for branch in fan_out.own_branches for one in subtree(branch) for call in one.model_calls)
    return {call.call: call for call in found}
