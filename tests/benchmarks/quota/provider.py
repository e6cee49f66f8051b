"""The simulator in a process of its own, so that it and its clients do not fight for one interpreter."""

from __future__ import annotations

import multiprocessing
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.testing import ProviderSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.connection import Connection

__all__ = ("Provider", "running")


@dataclass(frozen=True, slots=True)
class Provider:
    """A simulator that runs elsewhere."""

    url: str
    _line: Connection

    def reset(self) -> None:
        """Give the full quota back, and count from zero."""
        self._ask("reset")

    def tally(self) -> dict[str, Any]:
        """Return the counters, arrivals and records."""
        counted = self._ask("tally")
        assert isinstance(counted, dict)
        return counted

    def _ask(self, word: str) -> object:
        self._line.send(word)
        return self._line.recv()


@contextmanager
def running(settings: Mapping[str, Any]) -> Iterator[Provider]:
    """Run a `ProviderSimulator` of these arguments."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, dict(settings)), daemon=True)
    process.start()
    try:
        url = ours.recv()
        yield Provider(str(url), ours)
        ours.send("stop")
        process.join(10)
    finally:
        process.kill()


def _serve(line: Connection, settings: dict[str, Any]) -> None:
    with ProviderSimulator(**settings) as simulator:
        line.send(simulator.base_url)
        while (word := line.recv()) != "stop":
            if word == "reset":
                simulator.reset()
            line.send(simulator.tally.to_dict(records=True) if word == "tally" else None)
