"""The counting behind a `Tally`: entries are opened when requests arrive and closed once."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from langchain_parallel_plus.testing.simulator.tally import Outcome, RequestRecord, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_parallel_plus.testing.quota import Charge, Cost, Dimension

__all__ = ("Entry", "Ledger")

_KEPT = 100_000


@dataclass(slots=True, kw_only=True)
class Entry:
    """A request that has arrived; filled in as the provider learns about it, and closed once."""

    index: int
    arrived: float
    status: int = 0
    outcome: Outcome = "invalid"
    model: str = ""
    digest: str = ""
    stream: bool = False
    charge: Charge | None = None
    """What it took from the quota; None unless admitted."""
    used: Cost | None = None
    """What it has really used; None if that is not known, so that the charge stays."""
    charged_tokens: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refused_by: Dimension | None = None
    fault: str = ""


class Ledger:
    """Counts requests as they arrive, are admitted, and end; safe to read from any thread while others write.

    Args:
        dimensions: The limits that are counted from the start, besides requests and tokens.
    """

    def __init__(self, dimensions: Iterable[Dimension] = ()) -> None:
        self._lock = threading.Lock()
        self._requests = self._admitted = self._peak = 0
        self._charged = self._prompt = self._completion = 0
        self._outcomes: dict[Outcome, int] = dict.fromkeys(("ok", "refused", "fault", "invalid", "abandoned"), 0)
        self._refused: dict[Dimension, int] = dict.fromkeys(("requests", "tokens", *dimensions), 0)
        self._statuses: Counter[int] = Counter()
        self._arrivals: deque[float] = deque(maxlen=_KEPT)
        self._admissions: deque[float] = deque(maxlen=_KEPT)
        self._records: deque[RequestRecord] = deque(maxlen=_KEPT)

    def open(self, arrived: float) -> Entry:
        """Count an arrival and return its entry."""
        with self._lock:
            entry = Entry(index=self._requests, arrived=arrived)
            self._requests += 1
            self._arrivals.append(arrived)
            self._peak = max(self._peak, self._in_flight())
            return entry

    def admitted(self, entry: Entry, charge: Charge) -> None:
        """Count an admission with what it takes."""
        entry.charge, entry.charged_tokens = charge, charge.cost.tokens
        with self._lock:
            self._admitted += 1
            self._admissions.append(entry.arrived)
            self._charged += charge.cost.tokens

    def close(self, entry: Entry, *, now: float, delivered: bool, charged_tokens: int) -> None:
        """Count the end of a request, with the tokens that it has cost in the end; called once for each entry."""
        outcome: Outcome = entry.outcome if delivered else "abandoned"
        record = RequestRecord(
            index=entry.index,
            arrived=entry.arrived,
            finished=now,
            status=entry.status,
            outcome=outcome,
            model=entry.model,
            digest=entry.digest,
            stream=entry.stream,
            admitted=entry.charge is not None,
            charged_tokens=charged_tokens,
            fault=entry.fault,
        )
        with self._lock:
            self._outcomes[outcome] += 1
            self._statuses[entry.status] += 1
            self._charged += charged_tokens - entry.charged_tokens
            if outcome == "ok":
                self._prompt += entry.prompt_tokens
                self._completion += entry.completion_tokens
            if outcome == "refused" and entry.refused_by is not None:
                self._refused[entry.refused_by] += 1
            self._records.append(record)

    def snapshot(self) -> Tally:
        """Return everything counted so far."""
        with self._lock:
            records = list(self._records)
            tally = Tally(
                requests=self._requests,
                admitted=self._admitted,
                ok=self._outcomes["ok"],
                refused=dict(self._refused),
                by_status=dict(self._statuses),
                faults=self._outcomes["fault"],
                invalid=self._outcomes["invalid"],
                abandoned=self._outcomes["abandoned"],
                in_flight=self._in_flight(),
                peak_in_flight=self._peak,
                charged_tokens=self._charged,
                prompt_tokens=self._prompt,
                completion_tokens=self._completion,
                arrivals=tuple(self._arrivals),
                admissions=tuple(self._admissions),
                records=(),
            )
        return replace(tally, records=tuple(sorted(records, key=lambda record: record.index)))

    def _in_flight(self) -> int:
        return self._requests - sum(self._outcomes.values())
