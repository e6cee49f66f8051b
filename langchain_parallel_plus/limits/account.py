"""What all limiters of one name share in a process: the state of one key's quota."""

from __future__ import annotations

import itertools
import os
import threading
import time
from typing import TYPE_CHECKING
from weakref import WeakSet, WeakValueDictionary

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.limits.declaration import DIMENSIONS, Quota
from langchain_parallel_plus.limits.estimate import TypicalCall
from langchain_parallel_plus.limits.planner import Planner
from langchain_parallel_plus.limits.statistics import LimiterStatistics, RateStatistics
from langchain_parallel_plus.limits.turnstile import Entrant, Turnstile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_parallel_plus.limits.cost import Cost

__all__ = ("Account", "join_account")


class Account:
    """The state of one key's quota. Limiters come and go; the account lives as long as one of them does."""

    def __init__(self, quota: Quota, name: str | None, clock: Callable[[], float] | None) -> None:
        self.quota = quota
        self.name = name
        self.number = next(_NUMBERS)
        rates = quota.rates()
        planner: Planner[Entrant] = Planner(rates, slots=quota.concurrency)
        self.turnstile = Turnstile(name or "unnamed", planner, clock or time.monotonic)
        self.typical = TypicalCall()
        self._units = tuple(DIMENSIONS[rate].unit for rate in rates)
        self.typical_amounts = self.amounts(self.typical.cost())
        """What a call of average size costs, in the planner's order."""
        _ACCOUNTS.add(self)

    @property
    def has_slots(self) -> bool:
        """Whether calls in flight are limited."""
        return self.quota.concurrency is not None

    @property
    def rank(self) -> tuple[bool, int]:
        """Where the account stands in the one order in which calls pass several of them."""
        return self.has_slots, self.number

    def amounts(self, cost: Cost) -> tuple[float, ...]:
        """Return `cost` in the planner's order."""
        return tuple([getattr(cost, unit) for unit in self._units])

    def observe(self, input_tokens: float, output_tokens: float) -> None:
        """Learn from a finished call."""
        self.typical.observe(input_tokens, output_tokens)
        self.typical_amounts = self.amounts(self.typical.cost())

    def set_rate(self, concurrency: int | None, limits: Mapping[str, float]) -> None:
        """Change declared limits while running.

        Raises:
            DeclarationError: A dimension that was not declared, or no positive number.
        """
        declared = self.quota.declared()
        changes = dict(limits) if concurrency is None else {**limits, "concurrency": concurrency}
        for name in changes:
            if name not in declared or name not in (*DIMENSIONS, "concurrency"):
                msg = f"set_rate() names {name!r}, which limiter {self.turnstile.label!r} has not: {self.quota}"
                raise DeclarationError(msg, help="declare every dimension when the limiter is made")
        rates = {name: self.quota.rate(name, limit) for name, limit in limits.items()}
        slots = None if concurrency is None else Quota(concurrency=concurrency).concurrency

        def change(planner: Planner[Entrant], now: float) -> None:
            for name, rate in rates.items():
                planner.set_rate(name, rate, now)
            if slots is not None:
                planner.slots = slots

        self.turnstile.change(change)

    def statistics(self) -> LimiterStatistics:
        """Return what the limiters of this quota are doing."""
        turnstile, planner = self.turnstile, self.turnstile.planner
        with turnstile.lock:
            now = turnstile.clock()
            rates = {
                name: RateStatistics(
                    limit=bucket.rate.limit,
                    window=bucket.rate.window,
                    burst=bucket.rate.burst,
                    available=bucket.level(now),
                )
                for name, bucket in zip(planner.names, planner.buckets, strict=True)
            }
            return LimiterStatistics(
                name=turnstile.label,
                submitted=planner.counts.submitted,
                granted=planner.counts.granted,
                cancelled=planner.counts.cancelled,
                queued=planner.queued,
                in_flight=planner.slots_used,
                waited_seconds=turnstile.waited_seconds,
                paused_for=max(planner.paused_until - now, 0.0),
                closed=turnstile.closed,
                rates=rates,
            )


_NUMBERS = itertools.count()
_ACCOUNTS: WeakSet[Account] = WeakSet()
_BY_KEY: WeakValueDictionary[str, Account] = WeakValueDictionary()
_registry_lock = threading.Lock()


def join_account(key: str, quota: Quota, name: str | None, clock: Callable[[], float] | None) -> Account:
    """Return the account of `key`, opened if there is none in this process.

    Raises:
        DeclarationError: It is open under other limits.
    """
    with _registry_lock:
        account = _BY_KEY.get(key)
        if account is None:
            account = _BY_KEY[key] = Account(quota, name, clock)
            return account
    if account.quota != quota:
        msg = f"limiter {name!r} was declared before with other limits: {account.quota.difference(quota)}"
        raise DeclarationError(
            msg, help="limiters of one name share one quota: declare it once, use set_rate(), or take another name"
        )
    return account


def _after_fork() -> None:
    global _registry_lock
    _registry_lock = threading.Lock()
    for account in list(_ACCOUNTS):
        account.turnstile.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
