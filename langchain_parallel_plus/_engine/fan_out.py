"""One call of a fan-out, without its threads or tasks: what came back, and whether that is enough."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from langchain_parallel_plus._engine.chunks import Streamed
from langchain_parallel_plus._engine.join import JoinCount, JoinRule, Verdict
from langchain_parallel_plus._engine.notes import ADVICE, add_note, story
from langchain_parallel_plus._engine.telling import FanOutTelling, error_facts
from langchain_parallel_plus.errors import BranchAbandonedError, DeadlineExceededError, FanOutError, ParallelPlusError
from langchain_parallel_plus.outcome import (
    BranchFailure,
    BranchOutcome,
    ErrorKind,
    FanOutDict,
    FanOutResults,
    fan_out_results,
)
from langchain_parallel_plus.providers.classify import classify

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from langchain_core.callbacks import BaseRunManager
    from langchain_core.runnables import Runnable

    from langchain_parallel_plus._engine.scope import Scope
    from langchain_parallel_plus.limits import RateLimiter
    from langchain_parallel_plus.policy import JoinPolicy, OnFailure

__all__ = ("Branch", "FanOut", "FanOutRun")

_log = logging.getLogger("langchain_parallel_plus")


class RejectedOutputError(ParallelPlusError):
    """A branch's output was not accepted by the `JoinPolicy`."""

    code = "NOT_ACCEPTED"


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch as declared."""

    key: str
    step: Runnable[Any, Any]
    on_failure: OnFailure = "raise"
    required: bool = False
    weight: float = 1.0
    for_threads: Runnable[Any, Any] | None = None
    """The step as sync runs call it, where that differs."""
    for_tasks: Runnable[Any, Any] | None = None
    """The step as async runs call it, where that differs."""
    limiter: RateLimiter | None = None
    """What its policy charges its calls to."""
    policed: bool = False
    """Whether its step is a policy around what was declared."""

    @property
    def sync_step(self) -> Runnable[Any, Any]:
        """The step as sync runs call it."""
        return self.for_threads or self.step

    @property
    def async_step(self) -> Runnable[Any, Any]:
        """The step as async runs call it."""
        return self.for_tasks or self.step


@dataclass(frozen=True, slots=True)
class FanOut:
    """A fan-out as declared."""

    name: str
    branches: tuple[Branch, ...]
    join: JoinPolicy | None = None
    limiters: tuple[RateLimiter, ...] = ()
    advice: str = ADVICE
    """What to do if a branch fails that it cannot do without."""
    within: bool = False
    """Whether it is a part of a run that is no fan-out, and may be one of several there."""
    dynamic: bool = False
    """Whether its branches are made when it is called, as many as there are items: their names are nobody's."""

    @property
    def deadline(self) -> float | None:
        """Seconds that the branches may take."""
        return self.join.branch_deadline if self.join else None

    @property
    def judges(self) -> bool:
        """Whether it depends on whole outputs, or on the order of arrival, which branch belongs to the result."""
        return self.join is not None and (self.join.accept is not None or self.join.wait_for != "all")


class FanOutRun:
    """Collects what the branches of one call end as. Used by one thread or task: the drivers' coordinator."""

    __slots__ = (
        "_accept",
        "_count",
        "_ended",
        "_failures",
        "_outputs",
        "_rule",
        "_started",
        "_stopped_by",
        "_told_end",
        "fan_out",
        "now",
        "run_id",
        "scopes",
        "telling",
        "verdict",
    )

    def __init__(self, fan_out: FanOut, run_id: UUID, now: Callable[[], float]) -> None:
        self.fan_out = fan_out
        self.run_id = run_id
        self.now = now
        self.scopes: list[Scope] = []
        branches = fan_out.branches
        self._rule = JoinRule.of(fan_out.join)
        self._accept = fan_out.join.accept if fan_out.join else None
        self._count = JoinCount(len(branches), sum(branch.required for branch in branches))
        self._outputs: dict[int, Any] = {}
        self._failures: dict[int, BranchFailure] = {}
        self._ended: set[int] = set()
        self._stopped_by: BaseException | None = None
        self._started = now()
        self._told_end = False
        self.telling = FanOutTelling(fan_out, run_id, now, self._started)
        self.verdict = self._count.verdict(self._rule)

    @classmethod
    def of(cls, fan_out: FanOut, manager: BaseRunManager, now: Callable[[], float]) -> Self:
        """Return a call of `fan_out` in the run of `manager`; one of several there has a number of its own."""
        return cls(fan_out, uuid4() if fan_out.within else manager.run_id, now)

    @property
    def waiting(self) -> bool:
        """Whether the fan-out still needs what runs."""
        return self.verdict is Verdict.WAIT

    @property
    def ends_at(self) -> float | None:
        """When the fan-out's own deadline passes."""
        return None if self.fan_out.deadline is None else self._started + self.fan_out.deadline

    @property
    def failed_branches(self) -> set[int]:
        """Which branches have failed."""
        return set(self._failures)

    def has_output(self, index: int) -> bool:
        """Return whether a branch's output is part of the result."""
        return index in self._outputs

    def succeeded(self, index: int, output: Any) -> None:
        """Take in what a branch returned, unless nobody waits for it any more."""
        if index in self._ended or not self.waiting:
            return
        try:
            accepted = self._accept is None or bool(self._accept(_plain(output)))
        except Exception as error:  # the user's function: its error is the fan-out's
            self.stop(error)
            return
        if not accepted:
            self._reject(index, output)
            return
        self._outputs[index] = output
        self._end(index, success=True)
        tally = self.scopes[index].tally
        self._tell(index, "recovered" if tally.attempts > 1 else "ok")

    def failed(self, index: int, error: BaseException, partial: Any = None) -> None:
        """Take in the error of a branch, and what it had streamed, unless nobody waits for it any more."""
        if index in self._ended or not self.waiting:
            return
        if isinstance(error, StopIteration | StopAsyncIteration):
            # Neither can cross a coroutine or a generator: every mode reports the same error instead.
            error = _chained(RuntimeError(f"branch {self._key(index)!r} raised {type(error).__name__}"), error)
        if isinstance(error, Exception):
            self._fail(index, error, partial)
        else:
            self._tell(index, "cancelled")
            self._ended.add(index)
            self.stop(error)

    def stop(self, error: BaseException) -> None:
        """End the fan-out with `error`: a branch's, or one that came from outside."""
        if self.waiting:
            self._stopped_by = error
            self.verdict = Verdict.DONE

    def interrupt(self, error: BaseException) -> None:
        """End the fan-out with an error from outside, such as a cancellation, even if it has just been decided."""
        self._stopped_by = error
        self.verdict = Verdict.DONE

    def expire(self) -> None:
        """Fail whatever is not in by the deadline."""
        deadline = self.fan_out.join.deadline_in_words if self.fan_out.join else "the deadline"
        for index in range(len(self.fan_out.branches)):
            if self.waiting and index not in self._ended:
                error = DeadlineExceededError(
                    f"branch {self._key(index)!r} was not in by {deadline}",
                    help="raise JoinPolicy(deadline=...), or set min_success to go on with what is in by then",
                )
                self._fail(index, error)

    def abandoned(self) -> BranchAbandonedError:
        """Return the error of a fan-out that nobody waits for any more."""
        return BranchAbandonedError(f"fan-out {self.fan_out.name!r} was given up: the fan-out around it had ended")

    def conclude(self) -> dict[str, Any]:
        """Return the outputs in declared order, or raise what the fan-out ended with.

        Raises:
            FanOutError: Too few branches succeeded.
            BaseException: A branch's own error, with a note and the finished outputs in `.fan_out`.
        """
        try:
            return self._result()
        finally:
            self.tell_end()

    def failure_chunk(self, index: int) -> dict[str, Any]:
        """Return what a stream says of a branch that has failed after its first chunks, or at once."""
        return {self._key(index): self._failures[index]}

    def kept(self, index: int, *, delivered: bool) -> bool:
        """Return whether a failed branch leaves a `BranchFailure`.

        A dropped branch whose first chunks are with the caller already does: its text must not pass for a whole one.
        """
        keep = self.fan_out.branches[index].on_failure == "keep"
        return index in self._failures and (keep or delivered)

    def _result(self) -> dict[str, Any]:
        if self._stopped_by is not None:
            raise self._with_results(self._stopped_by)
        if self.verdict is Verdict.TOO_FEW:
            errors = [f.error for f in self._failures.values() if isinstance(f.error, Exception)]
            cause = ExceptionGroup("the branches' own errors", errors) if errors else None
            raise self._with_results(self._too_few()) from cause
        output: dict[str, Any] = {}
        for index, branch in enumerate(self.fan_out.branches):
            if index in self._outputs:
                output[branch.key] = self._outputs[index]
            elif index in self._failures and branch.on_failure == "keep":
                output[branch.key] = self._failures[index]
        missing = self.missing
        return FanOutDict(output, missing) if missing else output

    @property
    def missing(self) -> dict[str, str]:
        """The branches that the result has no key for, and why."""
        return {
            branch.key: self._failures[index].kind.value if index in self._failures else "not waited for"
            for index, branch in enumerate(self.fan_out.branches)
            if index not in self._outputs and not (index in self._failures and branch.on_failure == "keep")
        }

    def _key(self, index: int) -> str:
        return self.fan_out.branches[index].key

    def _end(self, index: int, *, success: bool) -> None:
        self._ended.add(index)
        self._count = self._count.ended(success=success, required=self.fan_out.branches[index].required)
        self.verdict = self._count.verdict(self._rule)

    def _fail(self, index: int, error: Exception, partial: Any = None) -> None:
        branch = self.fan_out.branches[index]
        classified = classify(error)
        if classified.kind is ErrorKind.CANCELLED:  # a LangGraph interrupt: not a failure, whatever the policy says
            self._tell(index, "cancelled")
            self._ended.add(index)
            self.stop(error)
            return
        tally = self.scopes[index].tally
        seconds = self.now() - self._started
        failure = BranchFailure.of(
            branch.key, error, kind=classified.kind, attempts=tally.attempts, seconds=seconds, partial=partial
        )
        self._failures[index] = failure
        outcome: BranchOutcome = "timed_out" if classified.kind is ErrorKind.TIMEOUT else "failed"
        if self.telling.active:
            self.telling.branch_ended(self.scopes[index], outcome, classified.kind, error_facts(error, classified))
        if branch.on_failure == "raise" or branch.required:
            add_note(
                error, f"branch {branch.key!r} failed", story(failure, tally.waited, tally.backoff, self.fan_out.advice)
            )
            self._ended.add(index)
            self.stop(error)
            return
        _log.warning(
            "fan-out %r goes on without %s (%s)", self.fan_out.name, failure, branch.on_failure,
            extra=self.telling.correlation(self.scopes[index].path),
        )  # fmt: skip
        self._end(index, success=False)

    def _reject(self, index: int, output: Any) -> None:
        error = RejectedOutputError(
            f"the output of branch {self._key(index)!r} was not accepted by JoinPolicy.accept",
            help="the output is in the failure's .partial",
        )
        self._fail(index, error, _plain(output))

    def _too_few(self) -> FanOutError:
        branches = self.fan_out.branches
        rows = [f"  {failure}" for failure in self._failures.values()]
        results = self._results()
        return FanOutError(
            "\n".join(
                [
                    f"{len(self._failures)} of {len(branches)} branches failed, {len(self._outputs)} succeeded, "
                    f"at least {self._rule.least} must",
                    *rows,
                ]
            ),
            outputs=results.outputs,
            failures=results.failures,
            help="finished outputs are in .outputs; give the failing branches a retry or a fallback, "
            "or lower JoinPolicy(min_success=...)",
        )

    def _results(self) -> FanOutResults:
        keys = [branch.key for branch in self.fan_out.branches]
        outputs = {key: _plain(self._outputs[i]) for i, key in enumerate(keys) if i in self._outputs}
        failures = {key: self._failures[i] for i, key in enumerate(keys) if i in self._failures}
        inner = {key: results for key, failure in failures.items() if (results := fan_out_results(failure.error))}
        return FanOutResults(outputs=outputs, failures=failures, inner=inner)

    def _with_results(self, error: BaseException) -> BaseException:
        try:
            error.fan_out = self._results()  # type: ignore[attr-defined]  # exceptions take attributes, bar those with slots
        except Exception:  # slots, or a class that refuses attributes: the names at least are told
            add_note(error, "finished branches", f"finished branches: {', '.join(self._results().outputs) or 'none'}")
        return error

    def _tell(self, index: int, outcome: BranchOutcome) -> None:
        self.telling.branch_ended(self.scopes[index], outcome)

    def tell_end(self) -> None:
        """Tell listeners, once, how the fan-out and the branches still open have ended."""
        if self._told_end:
            return
        self._told_end = True
        if self.telling.active:
            for index in range(len(self.scopes)):
                if index not in self._ended:
                    self._tell(index, "skipped" if self._stopped_by is None else "cancelled")
        error = self._stopped_by or (FanOutError if self.verdict is Verdict.TOO_FEW else None)
        outcome = "ok" if error is None else self._failed_as
        facts = error_facts(error) if error is not None and outcome == "failed" else {}
        self.telling.ended(outcome, self.scopes, facts)

    @property
    def _failed_as(self) -> BranchOutcome:
        """A run that is given up, or interrupted as LangGraph does it, has not failed."""
        stopped = self._stopped_by
        if stopped is None:
            return "failed"
        given_up = isinstance(stopped, BranchAbandonedError) or classify(stopped).kind is ErrorKind.CANCELLED
        return "cancelled" if given_up or not isinstance(stopped, Exception) else "failed"


def _plain(output: Any) -> Any:
    return output.whole if isinstance(output, Streamed) else output


def _chained(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error
