"""The quota-bound runs: which, in which order, and what is told of them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.benchmarks.quota.cell import PATIENCE, Cell, run_apart
from tests.benchmarks.quota.contenders import CONTENDERS, OURS, RIVALS
from tests.benchmarks.quota.load import Load, mixed, small

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_parallel_plus.testing.quota import QuotaModel
    from tests.benchmarks.quota.cell import Ended
    from tests.benchmarks.quota.contenders import Contender

__all__ = ("quota_bound", "quota_bound_in_short")

_TARGET = 1.03
_WIDTH = 48
_MANY = 500
_AT_ONCE = 4
"""Runs at the same time that take a tenth of a core each after their first second."""
_APART = 3.0
"""Seconds between their starts."""


@dataclass(frozen=True, slots=True)
class Contest:
    """A load, and who is run under it."""

    load: Load
    contenders: Sequence[Contender]

    @property
    def cells(self) -> list[Cell]:
        return [Cell(self.load, contender.name) for contender in self.contenders]


def _fast(model: QuotaModel, sizes: tuple[int, ...], provider: str | None = None) -> Load:
    return Load(model=model, requests_per_minute=1_200, tokens_per_minute=600_000, sizes=sizes, provider=provider)


def _slow(model: QuotaModel, sizes: tuple[int, ...], provider: str | None = None) -> Load:
    return Load(model=model, requests_per_minute=500, tokens_per_minute=200_000, sizes=sizes, provider=provider)


_FEW = (OURS[0], *RIVALS)
_CONTESTS = (
    Contest(_fast("bucket_minute", small(1_800), "openai"), (*OURS[:2], *RIVALS)),
    Contest(_slow("bucket_minute", small(700), "openai"), OURS),
    Contest(_fast("sub_windows", small(400)), _FEW),
    Contest(_slow("sub_windows", small(250)), OURS),
    Contest(_fast("bucket_second", small(400), "azure"), _FEW),
    Contest(_fast("fixed_window", small(1_400)), OURS[:1]),
    Contest(_fast("sliding_window", small(1_400)), OURS[:1]),
    Contest(_slow("bucket_minute", mixed(300_000), "openai"), _FEW),
    Contest(_fast("bucket_minute", mixed(900_000), "openai"), OURS[:1]),
    Contest(_fast("sub_windows", mixed(300_000)), OURS[:1]),
    Contest(_slow("bucket_second", mixed(100_000), "azure"), OURS[:1]),
    Contest(_slow("fixed_window", mixed(235_000)), OURS[:1]),
    Contest(_slow("sliding_window", mixed(235_000)), OURS[:1]),
)


def quota_bound() -> Iterator[str]:
    """All quotas, server models and rivals: some five minutes."""
    yield from _run(_CONTESTS)


def quota_bound_in_short() -> Iterator[str]:
    """Ours alone, where most of a minute's quota goes at once and where nobody knows the provider."""
    yield from _run([Contest(_CONTESTS[place].load, OURS[:1]) for place in (1, 2)])


def _run(contests: Sequence[Contest]) -> Iterator[str]:
    yield (
        "Quota-bound: wall time against the floor, (units - what a bucket known to the profile holds) / rate. Each run "
        f"in a process\nof its own, broken off after {PATIENCE:g} floors; CPU of the client; begins: when the first "
        "request has reached the server."
    )
    cells = [cell for contest in contests for cell in contest.cells]
    ended = {cell: run_apart(cell) for cell in cells if _is_heavy(cell)}
    with ThreadPoolExecutor(_AT_ONCE) as together:
        light = [cell for cell in cells if cell not in ended]
        delays = [_APART * number if number < _AT_ONCE else 0.0 for number in range(len(light))]
        ended |= zip(light, together.map(_run_later, light, delays), strict=True)
    for contest in contests:
        yield from _lines(contest, [ended[cell] for cell in contest.cells])


def _run_later(cell: Cell, delay: float) -> Ended:
    time.sleep(delay)
    return run_apart(cell)


def _is_heavy(cell: Cell) -> bool:
    """Tell whether a run keeps a core busy for seconds: anything beside it would measure the machine."""
    paced = CONTENDERS[cell.contender].ours and cell.load.provider != "openai"
    return len(cell.load.sizes) > _MANY and not paced and "InMemory" not in cell.contender


def _lines(contest: Contest, ended: Sequence[Ended]) -> Iterator[str]:
    load = contest.load
    yield f"\n{load.name}; floor {load.floor:.1f} s (knowing the server's windows: {load.server_floor:.1f} s)"
    yield (
        f"  {'':<{_WIDTH}} {'wall':>8} {'x floor':>8} {'429s a call':>11} {'answered':>11} {'CPU a call':>10} "
        f"{'begins':>7}  target"
    )
    for contender, one in zip(contest.contenders, ended, strict=True):
        yield from _line(contender, one, load)


def _line(contender: Contender, one: Ended, load: Load) -> Iterator[str]:
    calls = len(load.sizes)
    ratio, refused = one.seconds / load.floor, len(one.refusals) / calls
    text = (
        f"  {contender.name:<{_WIDTH}} {one.seconds:>6.1f} s {ratio:>7.2f}x {refused:>11.3f} "
        f"{f'{one.answered}/{calls}':>11} {one.cpu / calls * 1e3:>7.2f} ms {one.first_arrival:>5.2f} s"
    )
    if one.broken_off:
        text += "  broken off"
    if CONTENDERS[contender.name].ours:
        met = round(ratio, 2) <= _TARGET and not one.refusals and one.answered == calls
        text += f"  <= {_TARGET:g}x, no 429, all answered: {'met' if met else 'missed'}"
    yield text
    if contender.ours and one.refusals:
        first = ", ".join(f"number {number} after {at:.2f} s" for number, at in one.refusals[:3])
        yield f"  {'':<4}first 429s: {first} (from the first request on)"
