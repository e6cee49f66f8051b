"""The hedges of one run under a policy, without their threads or tasks: when they are due, and what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from langchain_core.runnables.config import patch_config

from langchain_parallel_plus._engine.cancel import CancelToken
from langchain_parallel_plus._engine.capacity import Permit
from langchain_parallel_plus._engine.guarded import GuardedCall
from langchain_parallel_plus._engine.hedge_state import CALM, HedgeState
from langchain_parallel_plus._engine.hedging import FIRST, Begin, Fell, Race, RaceAction, RaceEvent, Slow, race_step
from langchain_parallel_plus.errors import CircuitOpenError, LimiterError
from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.providers.classify import classify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_core.runnables import RunnableConfig

    from langchain_parallel_plus._engine.call_time import CallTime
    from langchain_parallel_plus._engine.machine import Call
    from langchain_parallel_plus._engine.policy_run import PolicyRun
    from langchain_parallel_plus.outcome import BranchOutcome
    from langchain_parallel_plus.providers.classified import Classified

__all__ = ("HedgeCall", "HedgedRun", "NoRoomError")


_NONE = Race(0.0, 0)
_SPARE: Final = 0.2
"""Of the budget, for calls that have been slow for longer: those that are just over 95 % would use all of it."""


class NoRoomError(LimiterError):
    """A hedge was not begun because `max_concurrency` has no room for it."""


class HedgedRun:
    """Watches the calls of one run's own runnable, and decides with `hedging` about more of them."""

    __slots__ = ("_held_up", "_race", "_run", "_streamed", "_time", "begun", "now", "state")

    def __init__(self, run: PolicyRun, state: HedgeState, now: Callable[[], float]) -> None:
        self._run = run
        self.state = state
        self.now = now
        self._streamed = False
        self._held_up: Callable[[], bool] | None = None
        self._time: CallTime | None = None
        self._race = _NONE
        self.begun = 0
        """Hedges in all attempts of this run."""

    @property
    def due(self) -> float | None:
        """When the next hedge is."""
        return self._race.due

    def called(self) -> None:
        """Take in that a call of the runnable is made, which its budget grows by."""
        self.state.budget.called(self.now())

    def begins(self, time: CallTime) -> None:
        """Take in that the call's own time begins: it has been admitted."""
        self._time = time

    def delay(self, call: Call, *, streamed: bool) -> float | None:
        """Return the seconds after which this call is slow; `None` if it is not to be hedged."""
        self._streamed = streamed
        if call.target or self._run.scope.at_once:
            return None
        return self.state.delay(self._run.name, streamed, self.now())

    def ended(self) -> None:
        """Take in that the first call has ended, or has been given up: how long it took is known."""
        time, self._time = self._time, None
        if time is not None and self.state.observes:
            self.state.observed(self._run.name, self._streamed, self.now(), max(time.taken, 0.0))

    def failed(self, kind: ErrorKind) -> None:
        """Take in that a call has failed: how long failing takes says nothing, but that of a timeout."""
        if kind is ErrorKind.RATE_LIMIT:
            self.state.throttled(self.now())
        if kind is ErrorKind.TIMEOUT:
            self.ended()
        self._time = None

    def start(self, delay: float, held_up: Callable[[], bool] | None = None) -> RaceAction:
        """Return the first action, now that the first call has turned out to be slow.

        Args:
            delay: Seconds between one call and the next.
            held_up: Whether the call waits for its input or for a limiter, as another one would, too.
        """
        self._held_up = held_up
        self._race = Race(delay, self.state.declared.max_hedges)
        return self.slow(_SPARE)

    def slow(self, spare: float = 0.0) -> RaceAction:
        """Return the action now that a hedge is due.

        Args:
            spare: Share of the budget that is left to others.
        """
        throttled = self._is_throttled()
        affordable = not throttled and self._race.left > 0 and self.state.budget.take(self.now(), spare)
        action = self.step(Slow(throttled, affordable))
        if affordable and not isinstance(action, Begin):
            self.state.budget.give_back()
        return action

    def step(self, event: RaceEvent) -> RaceAction:
        """Return the action that follows from an event."""
        self._race, action = race_step(self._race, event, self.now())
        return action

    def first_failed(self, call: Call, error: Exception) -> RaceAction:
        """Take in that the first call has failed, whose error counts once its hedges have failed as well."""
        classified = self._run.fell(call, error)
        return self.step(Fell(FIRST, error, interrupts=classified.kind is ErrorKind.CANCELLED))

    def beside(self, call: Call, begin: Begin) -> HedgeCall:
        """Return the hedge that is to be begun."""
        self.begun += 1
        return HedgeCall(self._run, call, begin.leg, self)

    def _is_throttled(self) -> bool:
        if self.state.is_throttled(self.now()) or (self._held_up is not None and self._held_up()):
            return True
        scope, charge = self._run.scope, self._run.charge
        return any(one.is_short(CALM) for one in scope.limiters) or (
            charge is not None and charge.limiter.is_short(CALM)
        )


class HedgeCall(GuardedCall):
    """A hedge: a second call of the same runnable with the same input, which waits for nobody.

    Used as a context: what it holds is given back at its end, however that comes.
    """

    __slots__ = ("_hedged", "_permit", "_run", "_told", "call", "leg", "number", "of", "token")

    def __init__(self, run: PolicyRun, call: Call, leg: int, hedged: HedgedRun) -> None:
        self._run = run
        self._hedged = hedged
        self.leg = leg
        self.of = call
        self.call = run.for_hedge(call)
        """With the time that a call made now has."""
        self.number = run.ordinal(call) + leg
        """Among the calls of the branch."""
        self.token = CancelToken(run.scope.token)
        capacity = run.scope.capacity
        self._permit = Permit(capacity) if run.scope.permit is not None and capacity is not None else None
        self._told = True
        super().__init__(run.all_targets, run.scope.for_hedge(self.token, self._permit), run.now)

    def open(self) -> None:
        """Ask for a slot and the breaker's leave; the limiter comes after.

        Raises:
            CircuitOpenError: The breaker is open.
            NoRoomError: `max_concurrency` has no slot left.
        """
        if self._permit is not None:
            self._permit.request(lambda: None)
            if not self._permit.held:
                raise NoRoomError("max_concurrency has no room for a hedge", help="raise it, or do without hedges")
        self.enter(self.call)
        self._told = False
        self._run.telling.started(self, self.call)

    def refused(self, error: Exception) -> RaceAction:
        """Take in that it was not let through, and has called nobody."""
        self._hedged.state.budget.give_back()
        self._tell_end("skipped")
        return self._hedged.step(Fell(self.leg, error, refused=True))

    def failed(self, error: Exception) -> RaceAction:
        """Take in that it has failed, which is the failure of no attempt."""
        classified = classify(error)
        self.heed(error, classified)
        if classified.kind is ErrorKind.RATE_LIMIT:
            self._hedged.state.throttled(self.now())
        quiet = isinstance(error, LimiterError | CircuitOpenError)
        facts = self._run.telling.facts(error, classified, self._breaker)
        self._tell_end("skipped" if quiet else "failed", None if quiet else classified.kind, facts)
        return self._hedged.step(Fell(self.leg, error))

    def won(self) -> None:
        """Take in that its output is the attempt's; the call that it has overtaken is given up."""
        self._hedged.ended()
        self._run.overtaken(self.of, self)

    def succeeded(self) -> None:
        """Take in that all of its output is there."""
        super().succeeded()
        self._tell_end("ok")

    def broke(self, error: BaseException, classified: Classified) -> None:
        """Take in that its stream failed after the first chunk."""
        self.heed(error, classified)
        self._tell_end("failed", classified.kind, self._run.telling.facts(error, classified, self._breaker))

    def close(self) -> None:
        """Give back what it holds."""
        self.let_go()
        self.token.close()
        self.token.cancel()
        if self._permit is not None:
            self._permit.close()
        self._tell_end("cancelled")

    def config(self, config: RunnableConfig) -> RunnableConfig:
        """Return the config of its run, tagged `hedge:1`."""
        return patch_config(config, callbacks=self._run.child(f"hedge:{self.leg}", self.number))

    def ordinal(self, call: Call) -> int:
        """Return its number among the calls of the branch."""
        return self.number

    def role(self, call: Call) -> dict[str, Any]:
        """Return what it is to the branch."""
        return {"role": "hedge", "target": 0, "hedge": self.leg}

    def _tell_end(
        self, outcome: BranchOutcome, error: ErrorKind | None = None, facts: Mapping[str, Any] | None = None
    ) -> None:
        if not self._told:
            self._told = True
            self._run.telling.ended(self, self.call, outcome, error, facts)
