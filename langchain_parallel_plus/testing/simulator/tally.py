"""What a simulator has seen: counters, peaks and one record a request."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_parallel_plus.testing.simulator.quota import Dimension

__all__ = ("Entry", "Ledger", "Outcome", "RequestRecord", "Tally")

Outcome = Literal["ok", "refused", "fault", "invalid", "abandoned"]
"""How a request ended: answered, over quota, failed on purpose, not a valid request, or left by the client."""

_KEPT_RECORDS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One chat completion request that has ended."""

    index: int
    """Arrival number, from 0."""
    arrived: float
    """Seconds of the simulator's clock."""
    finished: float
    """When the last byte was handed to the socket, or the client left."""
    status: int
    """The HTTP status that was decided, also if the client left before it was sent."""
    outcome: Outcome
    model: str = ""
    digest: str = ""
    """`prompt_digest` of the last user message; empty if the request was not understood."""
    stream: bool = False
    charged_tokens: int = 0
    """Tokens taken from the quota."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What happened since the start or the last reset.

    Counts chat completion requests only: other paths and broken HTTP are not in it.
    `requests == ok + sum(refused.values()) + faults + invalid + abandoned + in_flight` at any moment.
    """

    requests: int
    """Requests that arrived."""
    ok: int
    """Requests answered in full."""
    refused: Mapping[Dimension, int]
    """429s of the quota, by the dimension that caused them."""
    faults: int
    """Requests failed by `fail`, or by an error in one of the simulator's callables."""
    invalid: int
    """400s and 401s."""
    abandoned: int
    """Requests whose client left before the answer was complete."""
    in_flight: int
    """Requests that are being answered now."""
    peak_in_flight: int
    charged_tokens: int
    """Tokens taken from the tokens quota at admission."""
    prompt_tokens: int
    """Input tokens of the answers that were sent in full, as in their `usage`."""
    completion_tokens: int
    """Output tokens of the same answers."""
    records: tuple[RequestRecord, ...]
    """The ended requests in order of arrival; of more than 100,000 only the last to end."""

    @property
    def refusals(self) -> int:
        """429s of the quota, all dimensions together."""
        return sum(self.refused.values())

    def __str__(self) -> str:
        refused = ", ".join(f"{count} on {dimension}" for dimension, count in self.refused.items())
        return (
            f"{self.requests} requests: {self.ok} ok, {self.refusals} refused ({refused}), {self.faults} faults, "
            f"{self.invalid} invalid, {self.abandoned} abandoned, {self.in_flight} in flight "
            f"(peak {self.peak_in_flight}); tokens: {self.charged_tokens} charged, {self.prompt_tokens} in, "
            f"{self.completion_tokens} out"
        )


@dataclass(slots=True, kw_only=True)
class Entry:
    """A request that has arrived; filled in as the server learns about it, and closed once."""

    index: int
    arrived: float
    status: int = 0
    outcome: Outcome = "invalid"
    model: str = ""
    digest: str = ""
    stream: bool = False
    charged_tokens: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refused_by: Dimension | None = None


class Ledger:
    """Counts requests as they arrive and end; safe to read from any thread while the server writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = self._peak = 0
        self._charged = self._prompt = self._completion = 0
        self._outcomes: dict[Outcome, int] = dict.fromkeys(("ok", "refused", "fault", "invalid", "abandoned"), 0)
        self._refused: dict[Dimension, int] = {"requests": 0, "tokens": 0}
        self._records: deque[RequestRecord] = deque(maxlen=_KEPT_RECORDS)

    def open(self, arrived: float) -> Entry:
        """Count an arrival and return its entry."""
        with self._lock:
            entry = Entry(index=self._requests, arrived=arrived)
            self._requests += 1
            self._peak = max(self._peak, self._in_flight())
            return entry

    def close(self, entry: Entry, *, now: float, delivered: bool) -> None:
        """Count the end of a request; called once for each entry."""
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
            charged_tokens=entry.charged_tokens,
        )
        with self._lock:
            self._outcomes[outcome] += 1
            self._charged += entry.charged_tokens
            if outcome == "ok":
                self._prompt += entry.prompt_tokens
                self._completion += entry.completion_tokens
            if outcome == "refused" and entry.refused_by is not None:
                self._refused[entry.refused_by] += 1
            self._records.append(record)

    def snapshot(self) -> Tally:
        """Return everything counted so far."""
        with self._lock:
            outcomes, refused, records = dict(self._outcomes), dict(self._refused), list(self._records)
            counts = self._requests, self._in_flight(), self._peak, self._charged, self._prompt, self._completion
        requests, in_flight, peak, charged, prompt, completion = counts
        return Tally(
            requests=requests,
            ok=outcomes["ok"],
            refused=refused,
            faults=outcomes["fault"],
            invalid=outcomes["invalid"],
            abandoned=outcomes["abandoned"],
            in_flight=in_flight,
            peak_in_flight=peak,
            charged_tokens=charged,
            prompt_tokens=prompt,
            completion_tokens=completion,
            records=tuple(sorted(records, key=lambda record: record.index)),
        )

    def _in_flight(self) -> int:
        return self._requests - sum(self._outcomes.values())
