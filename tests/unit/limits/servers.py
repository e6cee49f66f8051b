"""Five ways in which a server may enforce a limit a minute, as small as can be: the oracles of the tests."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

TIGHT = 1e-6


class Server(Protocol):
    def ask(self, at: float, amount: float) -> float:
        """Charge `amount` and return 0, or charge nothing and return the seconds until it fits."""


class BucketServer:
    """A continuous bucket that holds `seconds` of the limit."""

    def __init__(self, limit: float, seconds: float) -> None:
        self.rate = limit / 60
        self.capacity = max(self.rate * seconds, 1.0)
        self.level = self.at = 0.0

    def ask(self, at: float, amount: float) -> float:
        self.level = max(self.level - (at - self.at) * self.rate, 0.0)
        self.at = at
        over = self.level + min(amount, self.capacity) - self.capacity
        if over > TIGHT:
            return over / self.rate
        self.level += amount
        return 0.0


class FixedWindowServer:
    """A counter that starts again at zero every `seconds`, with that part of the limit."""

    def __init__(self, limit: float, seconds: float) -> None:
        self.share, self.seconds = limit * seconds / 60, seconds
        self.window, self.used = -1, 0.0

    def ask(self, at: float, amount: float) -> float:
        window = math.floor(at / self.seconds)
        if window != self.window:
            self.window, self.used = window, 0.0
        if self.used + amount > self.share + TIGHT:
            return (window + 1) * self.seconds - at
        self.used += amount
        return 0.0


class SlidingWindowServer:
    """No 60 seconds, wherever they begin, hold more than the limit."""

    def __init__(self, limit: float) -> None:
        self.limit, self.used = limit, 0.0
        self.log: deque[tuple[float, float]] = deque()

    def ask(self, at: float, amount: float) -> float:
        while self.log and self.log[0][0] <= at - 60:
            self.used -= self.log.popleft()[1]
        missing = self.used + amount - self.limit
        if missing > TIGHT:
            for charged, units in self.log:
                missing -= units
                if missing <= TIGHT:
                    return charged + 60 - at
        self.log.append((at, amount))
        self.used += amount
        return 0.0


def server(kind: str, limit: float) -> Server:
    return {
        "bucket of a minute": lambda: BucketServer(limit, 60),
        "bucket of a second": lambda: BucketServer(limit, 1),
        "fixed minute": lambda: FixedWindowServer(limit, 60),
        "sliding minute": lambda: SlidingWindowServer(limit),
        "ten-second windows": lambda: FixedWindowServer(limit, 10),
    }[kind]()


WINDOWED = ("fixed minute", "sliding minute", "ten-second windows")
KINDS = ("bucket of a minute", "bucket of a second", *WINDOWED)
