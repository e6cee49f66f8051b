"""What came back of the branches, as text, and what did not: read once, whatever shape it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_parallel_plus.errors import CoverageError, SynthesisError
from langchain_parallel_plus.outcome import BranchFailure, FanOutDict, described
from langchain_parallel_plus.synthesis.rendering import reason_words, rendered

__all__ = ("Gathered", "Render", "Shown", "gathered", "named_outputs")

Render = Callable[[Any], str]
"""Makes text of one branch's output."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One branch's text."""

    branch: str
    text: str
    cut_off: str | None = None
    """Why the branch failed, if this is only what it had streamed until then."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """All branches of one input."""

    shown: tuple[Shown, ...]
    """What the model may read, in the order of the input."""
    missing: Mapping[str, str]
    """The branches that did not come back, each with the reason; of a fan-out inside a branch as `branch/inner`."""
    coverage: float
    """Share of the branches that came back. A fan-out inside a branch counts as the share of its own that did."""
    branches: int
    """Branches in all, those inside branches not counted."""

    @property
    def contributed(self) -> tuple[str, ...]:
        """The branches that came back."""
        return tuple(one.branch for one in self.shown if one.cut_off is None)

    @property
    def cut_off(self) -> tuple[str, ...]:
        """The branches that failed, but are shown as far as they came."""
        return tuple(one.branch for one in self.shown if one.cut_off is not None)

    def require(self, min_coverage: float | None) -> None:
        """Refuse to go on with too little.

        Raises:
            CoverageError: No branch came back, or a smaller share than `min_coverage`.
        """
        if self.contributed and self.coverage >= (min_coverage or 0.0):
            return
        gone = ", ".join(f"{name!r} ({reason})" for name, reason in self.missing.items())
        least = "" if min_coverage is None else f", min_coverage is {min_coverage:g}"
        msg = (
            f"{len(self.contributed)} of {len(self.contributed) + len(self.missing)} branches came back "
            f"(coverage {self.coverage:.2f}{least}), missing: {gone}; the model was not called"
        )
        raise CoverageError(msg, help="lower min_coverage, or give the missing branches a retry or a fallback")


@dataclass(slots=True)
class _Found:
    """Fills up while the outputs are gone through."""

    render: Render
    shown: list[Shown] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def take(self, branch: str, output: Any) -> float:
        """Take in one branch's output; return the share of it that is there."""
        if isinstance(output, BranchFailure):
            self._fail(branch, output)
            return 0.0
        if isinstance(output, BaseException):  # as `batch(return_exceptions=True)` leaves them
            self.missing[branch] = "failed"
            return 0.0
        if isinstance(output, Mapping) and _is_gap(output):
            return self._nested(branch, output)
        return self._show(branch, output)

    def _show(self, branch: str, output: Any, cut_off: str | None = None) -> float:
        text = _text(branch, output, self.render)
        if text:
            self.shown.append(Shown(branch, text, cut_off))
        elif cut_off is None:
            self.missing[branch] = "empty"
        return float(bool(text))

    def _fail(self, branch: str, failure: BranchFailure) -> None:
        self.missing[branch] = reason = reason_words(failure.kind.value)
        if failure.partial is not None:
            self._show(branch, failure.partial, reason)

    def _nested(self, branch: str, outputs: Mapping[Any, Any]) -> float:
        """Show what a fan-out inside a branch has as that branch's text, and name what it lacks."""
        gone = getattr(outputs, "missing", {})
        gaps = {name: output for name, output in outputs.items() if _is_gap(output)}
        whole = {name: output for name, output in outputs.items() if name not in gaps}
        shares = [self._show(branch, whole) * len(whole)] if whole else []
        shares += [self.take(f"{branch}/{name}", output) for name, output in gaps.items()]
        self.missing |= {f"{branch}/{name}": reason_words(reason) for name, reason in gone.items()}
        return sum(shares) / (len(outputs) + len(gone))


def named_outputs(inputs: Any) -> Mapping[str, Any]:
    """Return the outputs by branch; those of a list are called `item_1`, `item_2` and so on.

    Raises:
        SynthesisError: The input is no dict and no list, or a dict's key is no name.
    """
    if isinstance(inputs, list | tuple):
        return {f"item_{number}": output for number, output in enumerate(inputs, start=1)}
    if not isinstance(inputs, Mapping):
        msg = f"RunnableSynthesis takes a fan-out's dict of outputs by branch, or a list, got {type(inputs).__name__}"
        raise SynthesisError(msg, help="put it behind a RunnableParallelPlus, or give it a dict")
    for name in inputs:
        if not isinstance(name, str):
            msg = f"RunnableSynthesis takes a dict of outputs by branch, got the key {name!r} ({type(name).__name__})"
            raise SynthesisError(msg, help="keys are the names of branches")
    return inputs.in_order if isinstance(inputs, FanOutDict) else inputs


def gathered(inputs: Any, *, expected: Sequence[str] = (), render: Render | None = None) -> Gathered:
    """Return what came back, and what did not.

    Args:
        inputs: A fan-out's dict, or a list.
        expected: Names that should be there.
        render: Makes text of an output, in place of the built-in rules (see `rendered`).

    Raises:
        SynthesisError: The input has the wrong shape, or `render` has not made text of an output.
        CoverageError: The input has no branches at all.
    """
    outputs = named_outputs(inputs)
    gone = {str(name): reason_words(reason) for name, reason in getattr(inputs, "missing", {}).items()}
    gone |= {name: "no result" for name in expected if name not in outputs and name not in gone}
    branches = len(outputs) + len(gone)
    if not branches:
        msg = (
            f"the input of RunnableSynthesis is empty: 0 of 0 branches came back ({inputs!r}); the model was not called"
        )
        raise CoverageError(msg, help="give it the outputs by branch, such as {'summary': 'text'}")
    found = _Found(rendered if render is None else render)
    share = sum(found.take(name, output) for name, output in outputs.items()) / branches
    return Gathered(tuple(found.shown), {**found.missing, **gone}, share, branches)


def _is_gap(output: Any) -> bool:
    """Return whether an output is a failure, or that of a fan-out that has some."""
    if isinstance(output, Mapping):
        return bool(getattr(output, "missing", {})) or any(_is_gap(one) for one in output.values())
    return isinstance(output, BranchFailure)


def _text(branch: str, output: Any, render: Render) -> str:
    try:
        text: object = render(output)
    except Exception as error:  # a user's function, or the output's own __str__
        msg = f"the output of branch {branch!r} ({type(output).__name__}) was not rendered: {described(error)}"
        raise SynthesisError(msg, help="give render= a function that makes text of every branch's output") from error
    if not isinstance(text, str):
        msg = f"render returned {type(text).__name__} for the output of branch {branch!r} ({type(output).__name__})"
        raise SynthesisError(msg, help="return a str; an empty one says that there is nothing to show")
    return text.strip()
