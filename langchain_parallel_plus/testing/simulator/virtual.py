"""A provider without a socket: the same decisions and the same tally, on any clock."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.errors import ParallelPlusError
from langchain_parallel_plus.testing.quota import Cost, admission_cost
from langchain_parallel_plus.testing.simulator.account import Account, Call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_parallel_plus.testing.simulator.rules import ProviderRules, Verdict
    from langchain_parallel_plus.testing.simulator.tally import Tally

__all__ = ("SimulatedRefusal", "VirtualCall", "VirtualProvider", "VirtualResponse")


@dataclass(frozen=True, slots=True)
class VirtualResponse:
    """The response that a `SimulatedRefusal` carries, with the attributes that HTTP clients' responses have."""

    status_code: int
    headers: Mapping[str, str]


class SimulatedRefusal(Exception):
    """A refusal as an SDK would raise it: with `status_code`, `body` and `response.headers`, and no SDK needed."""

    def __init__(self, verdict: Verdict) -> None:
        self.status_code = verdict.status
        self.body: dict[str, Any] = json.loads(verdict.body)
        self.response = VirtualResponse(verdict.status, dict(verdict.headers))
        super().__init__(f"Error code: {verdict.status} - {self.body}")


@dataclass(frozen=True, slots=True)
class VirtualCall:
    """One request to a `VirtualProvider`."""

    verdict: Verdict
    index: int
    """Arrival number, from 0."""
    _input_tokens: int = field(repr=False)
    _call: Call = field(repr=False)
    _account: Account = field(repr=False)

    @property
    def admitted(self) -> bool:
        """Whether the request may run; it is in flight until `end` is called."""
        return self.verdict.admitted

    def end(self, *, output_tokens: int = 0, input_tokens: int | None = None, delivered: bool = True) -> None:
        """End an admitted request; to be called once.

        Args:
            output_tokens: What the answer has used.
            input_tokens: What the prompt has really used; by default what was estimated.
            delivered: False if the client has left.

        Raises:
            ParallelPlusError: If the request was refused, and so has ended already.
        """
        if not self.admitted:
            raise ParallelPlusError(
                f"call {self.index} was refused and has ended", help="call end() if `admitted` is true"
            )
        entry = self._call.entry
        used = self._input_tokens if input_tokens is None else input_tokens
        entry.used = Cost(input_tokens=used, output_tokens=output_tokens)
        entry.outcome, entry.prompt_tokens, entry.completion_tokens = "ok", used, output_tokens
        self._account.end(self._call, delivered=delivered)

    def refusal(self) -> SimulatedRefusal:
        """Return the refusal as an exception, to be raised by a scripted model.

        Raises:
            ParallelPlusError: If the request was admitted.
        """
        if self.admitted:
            raise ParallelPlusError(f"call {self.index} was admitted", help="call end() when it has its answer")
        return SimulatedRefusal(self.verdict)


class VirtualProvider:
    """A provider's quota with its state, to drive with a clock of your own; no socket, no thread, no waiting.

    Args:
        rules: What the provider decides, such as `ProviderRules.of(requests_per_minute=60)`.
        clock: Seconds, for everything; inside asyncio on virtual time `loop.time`.
        wall_clock: POSIX time in seconds, for headers that tell an instant.

    Example:
        ```python
        from langchain_parallel_plus.testing import ProviderRules, VirtualProvider

        now = 0.0
        rules = ProviderRules.of(requests_per_minute=60, failed_requests_count=False)
        provider = VirtualProvider(rules, clock=lambda: now)
        while now < 3600.0:  # an hour of two requests a second
            call = provider.ask(input_tokens=100)
            if call.admitted:
                call.end(output_tokens=20)
            now += 0.5
        assert provider.tally.refused["requests"] == 7200 - provider.tally.admitted
        assert provider.tally.admitted == 60 + 3599
        ```

    That OpenAI counts refused requests, too, keeps such a client out for good after two minutes: see
    `failed_requests_count`.
    """

    def __init__(
        self,
        rules: ProviderRules,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._account = Account(rules, clock)
        self._wall = wall_clock

    @property
    def rules(self) -> ProviderRules:
        """What the provider decides."""
        return self._account.rules

    @property
    def tally(self) -> Tally:
        """What has happened since the start or the last reset, as a frozen snapshot."""
        return self._account.tally()

    def reset(self) -> None:
        """Give the full quota back and count from zero; requests in flight end uncounted."""
        self._account.reset()

    def ask(self, *, input_tokens: int = 0, max_tokens: int | None = None, model: str = "gpt-4o-mini") -> VirtualCall:
        """Send a request now.

        Args:
            input_tokens: The provider's estimate of the prompt.
            max_tokens: What the request allows for its answer; None reserves 16.
            model: The model's name, for messages and records.
        """
        call = self._account.arrive()
        cost = admission_cost(self.rules.token_rule, input_tokens=input_tokens, max_tokens=max_tokens)
        verdict = self.rules.worded(self._account.admit(call, cost), wall=self._wall(), model=model)
        call.entry.model, call.entry.status = model, verdict.status
        if not verdict.admitted:
            self._account.end(call, delivered=True)
        return VirtualCall(verdict, call.entry.index, input_tokens, call, self._account)
