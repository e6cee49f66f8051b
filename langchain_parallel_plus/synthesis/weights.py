"""How much each branch counts, added up exactly: three votes of 0.1 are as many as one of 0.3."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.errors import DeclarationError, SynthesisError, UnknownBranchError
from langchain_parallel_plus.synthesis.contributions import asked, kind_of
from langchain_parallel_plus.synthesis.declared import plain_function

if TYPE_CHECKING:
    from langchain_parallel_plus.synthesis.contributions import Contributions

__all__ = ("Weights", "checked_weights", "weigh")

Weights = Mapping[str, float] | Sequence[float] | Callable[[Any], float]
"""By branch (1 for those left out), by place in the list, or a function of a branch's output."""

_HELP = "for example weights={'expert': 2}, or weights=lambda output: output['confidence']"


def checked_weights(weights: object, what: str) -> Weights | None:
    """Return `weights` if they can be ones; names are checked when the branches are known.

    Raises:
        DeclarationError: One is no number, negative or infinite, or all are 0.
    """
    if weights is None:
        return None
    if isinstance(weights, Mapping):
        for name, weight in weights.items():
            _check(weight, f"{what}[{name!r}]")
        return dict(weights)
    if isinstance(weights, Sequence) and not isinstance(weights, str | bytes):
        for place, weight in enumerate(weights):
            _check(weight, f"{what}[{place}]")
        if not any(weights):
            raise DeclarationError(
                f"{what} are all 0, got {list(weights)!r}", help="0 leaves a branch out: not all of them"
            )
        return tuple(weights)
    checked: Weights = plain_function(weights, what, _HELP)
    return checked


def weigh(given: Contributions, weights: Weights | None, what: str) -> dict[str, Fraction]:
    """Return the weight of each branch that came back.

    Raises:
        UnknownBranchError: A name is no branch.
        SynthesisError: There is not a weight for each branch, or a function gave none, or all are 0.
    """
    weighed = _weighed(given, weights, what)
    if not any(weighed.values()):
        branches = ", ".join(map(repr, weighed))
        msg = f"{what} are 0 for every branch that came back: {branches}"
        raise SynthesisError(msg, help="0 leaves a branch out: give another one a weight above 0")
    return weighed


def _weighed(given: Contributions, weights: Weights | None, what: str) -> dict[str, Fraction]:
    if weights is None:
        return dict.fromkeys(given.outputs, Fraction(1))
    if isinstance(weights, Mapping):
        for name in weights:
            if name not in given.branches:
                raise UnknownBranchError(name, given.branches, where=what)
        return {name: _exact(weights.get(name, 1)) for name in given.outputs}
    if isinstance(weights, Sequence):
        if len(weights) != len(given.branches):
            msg = f"{what} has {len(weights)} weights for {len(given.branches)} branches"
            raise SynthesisError(msg, help="give one for each, in order, or a dict of weights by branch")
        by_place = {f"item_{place}": weight for place, weight in enumerate(weights, start=1)}
        if not set(given.outputs) <= set(by_place):
            msg = f"{what} is a list, and the outputs came by name: {', '.join(map(repr, given.outputs))}"
            raise SynthesisError(msg, help="give a dict of weights by branch")
        return {name: _exact(by_place[name]) for name in given.outputs}
    return {name: _asked(weights, output, what, name) for name, output in given.outputs.items()}


def _asked(function: Callable[[Any], float], output: Any, what: str, branch: str) -> Fraction:
    with asked(what, branch):
        weight = function(output)
    if not _is_weight(weight):
        msg = f"{what} returned {kind_of(weight)} ({weight!r:.60}) for branch {branch!r}"
        raise SynthesisError(msg, help="a weight is a number of at least 0")
    return _exact(weight)


def _check(weight: object, what: str) -> None:
    if not _is_weight(weight):
        msg = f"{what} must be a number of at least 0, got {weight!r}"
        raise DeclarationError(msg, help="1 is what every branch has; 0 leaves a branch out")


def _is_weight(weight: object) -> bool:
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    return number and math.isfinite(weight) and weight >= 0  # type: ignore[arg-type, operator]  # a number by now


def _exact(weight: float) -> Fraction:
    """Return a weight as the decimal that it is written as: 0.1 is a tenth, which as a float it is not."""
    return Fraction(weight) if isinstance(weight, int) else Fraction(repr(float(weight)))
