"""A ticket: one request at one limiter, from its arrival to the settling of what it really used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_parallel_plus.limits.planning.lanes import RequestState
from langchain_parallel_plus.limits.waiting.drivers import wait_in_task, wait_in_thread

if TYPE_CHECKING:
    from langchain_parallel_plus.limits.account import Account
    from langchain_parallel_plus.limits.cost import Cost
    from langchain_parallel_plus.limits.waiting.turnstile import Entrant
    from langchain_parallel_plus.providers.classified import Classified
    from langchain_parallel_plus.providers.snapshot import Snapshot

__all__ = ("Ticket",)


class Ticket:
    """One request at a limiter, as `RateLimiter.reserve` returns it.

    All methods may be called from any thread, and again: the second call changes nothing.
    """

    __slots__ = ("_account", "_entrant", "cost", "delay")

    def __init__(self, account: Account, entrant: Entrant, cost: Cost, delay: float = 0.0) -> None:
        self.cost = cost
        """What it was admitted with."""
        self.delay = delay
        """Seconds from its arrival after which its request may be sent, if it was admitted past the queue."""
        self._account = account
        self._entrant = entrant

    @property
    def granted(self) -> bool:
        """Whether the request was admitted, and was not cancelled since."""
        if self._entrant.state is RequestState.QUEUED:
            self._account.turnstile.look()
        return self._entrant.state is RequestState.GRANTED

    @property
    def waited(self) -> float:
        """Seconds from its arrival to its admission; 0 before that."""
        return max(self._entrant.passed - self._entrant.submitted, 0.0) if self.granted else 0.0

    @property
    def bound_by(self) -> str:
        """What it waited for: a rate's name, "concurrency", "pause", "probe" or "burst"; empty if it did not wait."""
        return self._entrant.bound_by

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until the request is admitted; `False` if `cancel` came first.

        Raises:
            LimiterTimeoutError: Not within `timeout` seconds.
            QuotaExhaustedError: The key was closed meanwhile.
        """
        if self.granted:
            return True
        return wait_in_thread(self._account.turnstile, self._entrant, timeout)

    async def wait_async(self, timeout: float | None = None) -> bool:
        """Wait as `wait` does, without blocking the event loop."""
        if self.granted:
            return True
        return await wait_in_task(self._account.turnstile, self._entrant, timeout)

    def cancel(self) -> None:
        """Take the request back, with whatever it was granted; a thread or task that waits for it wakes up.

        Once settled, only its slot goes back: the call was made.
        """
        self._account.withdraw(self._entrant)

    def settle(self, actual: Cost) -> None:
        """Charge what the call has used in place of what was reserved, as its provider counts; once.

        Azure and OpenAI keep what a call reserved, and so do providers that nobody knows: there, more than was
        reserved is charged, and less gives nothing back. Bedrock and Anthropic give back. Requests and slots are not
        touched.
        """
        self._account.settle(self._entrant, actual)

    def heard(self, snapshot: Snapshot) -> None:
        """Take in the headers of the response, or of the error, that the request met with."""
        self._account.hear(self._entrant, snapshot)

    def refused(self, verdict: Classified, snapshot: Snapshot | None = None) -> None:
        """Heed that the provider refused the request, or failed it.

        A rate limit pauses the key and everybody who shares it; if the provider asks for more than two minutes, the
        key is closed until then. An exhausted account closes it for good, an overload takes slots from its concurrency.
        Errors of other kinds change nothing. What was reserved stays reserved.

        Args:
            verdict: What the error means, from `classify`.
            snapshot: Its headers, which are heard as well.
        """
        self._account.refused(self._entrant, verdict, snapshot)

    def release(self) -> None:
        """Give the slot back; what was charged stays charged."""
        self._account.release(self._entrant)
