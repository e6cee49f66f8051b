"""Calling a slow branch a second time."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.policy.checks import ShortRepr, check_seconds, check_whole
from langchain_parallel_plus.policy.shares import check_name, check_ratio

__all__ = ("HedgePolicy",)


@dataclass(frozen=True, slots=True, repr=False, weakref_slot=True)
class HedgePolicy(ShortRepr):
    """Make a call once more when it is slow, and take the answer that comes first; the other call is cancelled.

    It buys a shorter tail: of a fan-out of 20 branches, one call in a hundred that hangs delays every fifth result. The
    price is calls, so there is a budget. A hedge waits for nothing: it is made only if rate limits, `max_concurrency`
    and the circuit breaker let it through at once, and not at all while a rate limit is short or was met within half a
    minute. If both calls fail, the first one's error counts; a hedge's own is no attempt.

    **Both calls may be carried out.** Do not hedge what has side effects: tools that write, send or pay. In a stream,
    the first chunk decides; until then callbacks (and `astream_events`) see what both calls do, the hedge's runs tagged
    `hedge:1`. In synchronous code the loser's thread is left behind, as a timeout leaves one.

    The branch's own runnable is hedged, and none of its fallbacks. Policies of one `name` share one state in a process,
    as breakers and budgets do; without a name, the state belongs to this object. The budget is for all branches under
    it, observed times are each branch's own. Pickled into another process it is a declaration.

    Source of the method: Dean and Barroso, "The Tail at Scale" (CACM 56.2, 2013).

    Raises:
        DeclarationError: A value is out of range.

    Example:
        ```python
        BranchPolicy(hedge=HedgePolicy(delay="p95"))    # when it takes longer than 95 % of the branch's calls
        BranchPolicy(hedge=HedgePolicy(delay=2.0))      # after two seconds
        ```
    """

    delay: float | Literal["p95"]
    """Seconds after which a call is slow (in a stream: to its first chunk), and after which a further hedge is begun;
    or `"p95"`: what 95 % of the branch's own calls have taken, waits for rate limits not counted. Seconds that no
    attempt lasts are refused; those past `first_chunk_timeout` hedge no stream, but calls that deliver all at once."""
    _: KW_ONLY
    max_hedges: int = 1
    """Hedges of one call. 0 is none: for a branch with side effects, where the default policy hedges."""
    budget: float = 0.1
    """Hedges for each call of all who share it, over the `window`; one is there even if calls are few."""
    minimum_calls: int = 20
    """Calls that `"p95"` must have seen within the `window` before anything is hedged."""
    window: float = 300.0
    """Seconds that calls, hedges and observed times are remembered; of the times, at most the last 256."""
    name: str | None = None

    def __post_init__(self) -> None:
        delay: object = self.delay
        if not isinstance(delay, str):
            check_seconds(self, "delay", optional=False)
        elif delay != "p95":
            msg = f"HedgePolicy.delay must be seconds or 'p95', got {delay!r}"
            raise DeclarationError(msg, help="'p95' hedges what is slower than 95 % of the branch's calls")
        check_whole(self, "max_hedges", self.max_hedges, 0)
        check_ratio(self, "budget", self.budget)
        check_whole(self, "minimum_calls", self.minimum_calls, 1)
        check_seconds(self, "window", optional=False)
        check_name(self, self.name)
