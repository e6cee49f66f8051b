"""A limiter under load against a server model, on virtual time: the limiter's own planner and learning, no threads."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from langchain_parallel_plus.limits import Cost, RateLimiter
from langchain_parallel_plus.limits.ticket import Ticket
from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.providers.classified import Classified
from langchain_parallel_plus.providers.snapshot import Snapshot
from tests.unit.limits.servers import Server

JITTER = 0.2


@dataclass
class Traffic:
    """Workers that each make one call after the other.

    Args:
        make: The limiter, from a clock.
        server: What answers.
        amount: What the server charges for a call.
        cost: What a call is admitted with.
        workers: How many calls are wanted at any time.
        headers: What a response says of the quota at a time.
        jitter: How late a call may arrive, in seconds.
    """

    make: Callable[[Callable[[], float]], RateLimiter]
    server: Server
    amount: Callable[[Cost], float] = lambda cost: cost.requests
    cost: Callable[[random.Random], Cost] = lambda rng: Cost()
    workers: int = 60
    latency: float = 1.0
    count_from: float = 0.0
    headers: Callable[[float], Snapshot] | None = None
    jitter: float = JITTER
    seed: int = 1
    now: float = 0.0
    served: float = 0.0
    calls: int = 0
    refusals: list[float] = field(default_factory=list)
    """When the server refused, in the seconds that count."""
    last_served: float = 0.0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.limiter = self.make(lambda: self.now)
        self.number = itertools.count()
        self.events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self.waiting: list[Ticket] = []

    def at(self, time: float, function: Callable[..., None], *args: object) -> None:
        heapq.heappush(self.events, (time, next(self.number), function, args))

    def run(self, until: float) -> Traffic:
        for _ in range(self.workers):
            self.submit()
        while self.now < until:
            wake_at = self.let_through()
            due = self.events[0][0] if self.events else math.inf
            if wake_at is not None and wake_at <= due:
                self.now = max(self.now, wake_at) + self.rng.choice([0.0, 0.0005])
            else:
                self.now, _, function, args = heapq.heappop(self.events)
                function(*args)
        return self

    def submit(self) -> None:
        self.waiting.append(self.limiter.reserve(self.cost(self.rng)))

    def let_through(self) -> float | None:
        turnstile = self.limiter.account.turnstile
        with turnstile.lock:
            grants, wake_at = turnstile.planner.advance(self.now)
        for entrant in grants:
            entrant.passed = self.now
        for ticket in [ticket for ticket in self.waiting if ticket.granted]:
            self.at(self.now + self.rng.uniform(0, self.jitter), self.arrive, ticket)
        self.waiting = [ticket for ticket in self.waiting if not ticket.granted]
        return wake_at

    def arrive(self, ticket: Ticket) -> None:
        counts = self.now >= self.count_from
        self.calls += counts
        wait = self.server.ask(self.now, self.amount(ticket.cost))
        snapshot = None if self.headers is None else self.headers(self.now)
        if wait:
            if counts:
                self.refusals.append(self.now)
            self.at(self.now + 0.05, self.refuse, ticket, math.ceil(wait * 1000) / 1000, snapshot)
        else:
            self.served += self.amount(ticket.cost) * counts
            self.last_served = self.now
            self.at(self.now + self.latency * self.rng.uniform(0.5, 1.5), self.finish, ticket, snapshot)

    def finish(self, ticket: Ticket, snapshot: Snapshot | None) -> None:
        if snapshot is not None:
            ticket.heard(snapshot)
        ticket.settle(ticket.cost)
        self.submit()

    def refuse(self, ticket: Ticket, wait: float, snapshot: Snapshot | None) -> None:
        ticket.refused(Classified(ErrorKind.RATE_LIMIT, retry_after=wait), snapshot)
        self.submit()
