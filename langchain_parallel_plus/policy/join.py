"""When a fan-out is done."""

from __future__ import annotations

import inspect
from collections.abc import Callable  # noqa: TC003  # pydantic reads the annotations of what a runnable holds
from dataclasses import dataclass
from typing import Any, Literal

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.policy.checks import ShortRepr, check_seconds, check_whole

__all__ = ("JoinPolicy",)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JoinPolicy(ShortRepr):
    """When a fan-out is done, and whether what came back is enough.

    Example:
        ```python
        JoinPolicy(min_success=2, deadline=60)            # at least two branches, within a minute
        JoinPolicy(wait_for=1, accept=is_valid)           # the first valid answer; the others are cancelled
        JoinPolicy(deadline=30, reserve=8)                # branches have 22 seconds, what follows has 8
        ```
    """

    wait_for: Literal["all"] | int = "all"
    """`"all"`, or the number of successes after which the branches still running are cancelled: their keys are absent.
    With a number, a stream delivers each branch as a whole, once it is known to belong to the result."""
    accept: Callable[[Any], bool] | None = None
    """Says whether a branch's output counts. One that does not is a failed branch, its output in `.partial`."""
    min_success: int | None = None
    """Successes below which the fan-out raises `FanOutError`, as soon as they are out of reach. 0 takes whatever is
    there. Left out: all of `wait_for=k`; with `"all"`, each failure is judged by its branch's `on_failure` alone."""
    deadline: float | None = None
    """Seconds for the whole fan-out. Branches that are not in by then have failed (kind `timeout`)."""
    reserve: float = 0.0
    """Seconds of the deadline that are kept free for what follows the fan-out, such as the synthesis: branches must be
    in by `deadline - reserve`. It is room and no limit: a chain hands no deadline on, so that what follows may take
    longer, or begin earlier. To bound it too, give it a `TimeoutPolicy(run_timeout=8)` by `RunnableWithPolicy`."""

    def __post_init__(self) -> None:
        if self.wait_for != "all":
            check_whole(self, "wait_for", self.wait_for, 1)
        if self.min_success is not None:
            check_whole(self, "min_success", self.min_success, 0)
        if isinstance(self.wait_for, int) and self.min_success is not None and self.min_success > self.wait_for:
            msg = (
                f"JoinPolicy(wait_for={self.wait_for}, min_success={self.min_success}) asks for more than it waits for"
            )
            raise DeclarationError(msg, help="leave min_success out: wait_for successes are needed anyway")
        _function(self.accept)
        check_seconds(self, "deadline")
        check_seconds(self, "reserve", zero=True, optional=False)
        if self.reserve and self.deadline is None:
            msg = f"JoinPolicy(reserve={self.reserve:g}) reserves a part of no deadline"
            raise DeclarationError(msg, help="write JoinPolicy(deadline=30, reserve=8)")
        if self.deadline is not None and self.reserve >= self.deadline:
            msg = f"JoinPolicy(deadline={self.deadline:g}, reserve={self.reserve:g}) leaves the branches no time"
            raise DeclarationError(msg, help="the reserve is a part of the deadline: make it smaller")

    @property
    def branch_deadline(self) -> float | None:
        """Seconds after which branches that are not in have failed."""
        return None if self.deadline is None else self.deadline - self.reserve

    @property
    def tolerant(self) -> bool:
        """Whether some of the branches may fail."""
        return self.wait_for != "all" or self.min_success is not None

    @property
    def deadline_in_words(self) -> str:
        """When that is, for an error."""
        if self.deadline is None or not self.reserve:
            return f"the fan-out's deadline of {self.deadline or 0:g} s"
        seconds = f"{self.branch_deadline:g} s"
        return f"{seconds}, the fan-out's deadline of {self.deadline:g} s without the reserve of {self.reserve:g} s"

    def checked_for(self, branches: int) -> JoinPolicy:
        """Return this policy if `branches` branches can meet it."""
        for name, value in (("wait_for", self.wait_for), ("min_success", self.min_success)):
            if isinstance(value, int) and value > branches:
                msg = f"JoinPolicy({name}={value}) can never be met: the fan-out has {branches} branches"
                raise DeclarationError(msg, help=f"use {name}={branches} or less, or add branches")
        return self


def _function(accept: object) -> None:
    if accept is not None and (not callable(accept) or inspect.iscoroutinefunction(accept)):
        msg = f"JoinPolicy.accept takes a plain function of a branch's output, got {accept!r}"
        raise DeclarationError(msg, help="for example accept=lambda answer: len(answer) > 20")
