"""What a simulator has seen: counters, peaks, arrival times and one record a request; frozen."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_parallel_plus.testing.quota import Dimension

__all__ = ("Outcome", "RequestRecord", "Tally")

_BULKY = frozenset({"arrivals", "admissions", "records"})

Outcome = Literal["ok", "refused", "fault", "invalid", "abandoned"]
"""How a request ended: answered, over quota, failed on purpose, not a valid request, or left by the client."""


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
    """The HTTP status that was decided, also if the client left before it was sent; 0 if none was to be sent."""
    outcome: Outcome
    model: str = ""
    digest: str = ""
    """`prompt_digest` of the last user message; empty if the request was not understood."""
    stream: bool = False
    admitted: bool = False
    """Whether the quota let it pass."""
    charged_tokens: int = 0
    """Tokens taken from the quota, after any correction."""
    fault: str = ""
    """Name of the fault's class, such as `Hang`; empty if there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What happened since the start or the last reset; also to be read while the simulator runs.

    Counts chat completion requests only: other paths and broken HTTP are not in it.
    `requests == ok + sum(refused.values()) + faults + invalid + abandoned + in_flight` at any moment.
    """

    requests: int
    """Requests that arrived: every physical one, the hidden retries of an SDK included."""
    admitted: int
    """Requests that the quota let pass."""
    ok: int
    """Requests answered in full."""
    refused: Mapping[Dimension, int]
    """Refusals by the quota, by the limit that caused them."""
    by_status: Mapping[int, int]
    """Ended requests by the HTTP status that was decided; 0 stands for none (`Hang`, `ConnectionReset`)."""
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
    """Tokens taken from the quota so far: at admission, and corrected at the end if the token rule does."""
    prompt_tokens: int
    """Input tokens of the answers that were sent in full, as in their `usage`."""
    completion_tokens: int
    """Output tokens of the same answers."""
    arrivals: tuple[float, ...]
    """When each request arrived, in order, in seconds of the simulator's clock; the last 100,000."""
    admissions: tuple[float, ...]
    """The same of the admitted ones."""
    records: tuple[RequestRecord, ...]
    """The ended requests in order of arrival; of more than 100,000 only the last to end."""

    @property
    def refusals(self) -> int:
        """Refusals by the quota, all limits together."""
        return sum(self.refused.values())

    def busiest(self, window: float = 1.0, *, admitted: bool = False) -> int:
        """Return the most requests that arrived within any `window` seconds, wherever they begin; or were admitted."""
        times = self.admissions if admitted else self.arrivals
        return max((bisect_left(times, at + window) - place for place, at in enumerate(times)), default=0)

    def per_window(self, window: float = 1.0, *, admitted: bool = False) -> tuple[int, ...]:
        """Return how many requests arrived (or were admitted) in each `window` seconds from the first one on."""
        times = self.admissions if admitted else self.arrivals
        if not times:
            return ()
        counts = [0] * (int((times[-1] - times[0]) / window) + 1)
        for at in times:
            counts[int((at - times[0]) / window)] += 1
        return tuple(counts)

    def to_dict(self, *, records: bool = False) -> dict[str, Any]:
        """Return what JSON can say of it: the counters, and with `records` also each arrival, admission and record."""
        counted = asdict(replace(self, refused=dict(self.refused), by_status=dict(self.by_status), records=()))
        if not records:
            return {name: value for name, value in counted.items() if name not in _BULKY}
        return counted | {"records": [asdict(record) for record in self.records]}

    def __str__(self) -> str:
        refused = ", ".join(f"{count} on {dimension}" for dimension, count in self.refused.items())
        return (
            f"{self.requests} requests: {self.ok} ok, {self.refusals} refused ({refused}), {self.faults} faults, "
            f"{self.invalid} invalid, {self.abandoned} abandoned, {self.in_flight} in flight "
            f"(peak {self.peak_in_flight}); tokens: {self.charged_tokens} charged, {self.prompt_tokens} in, "
            f"{self.completion_tokens} out"
        )
