"""`MergeDicts`: the branches' dicts as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, SkipValidation

from langchain_parallel_plus.errors import SynthesisError
from langchain_parallel_plus.outcome import BranchFailure, redact
from langchain_parallel_plus.synthesis.contributions import kind_of
from langchain_parallel_plus.synthesis.declared import choice, plain_function
from langchain_parallel_plus.synthesis.reducer import Reducer

if TYPE_CHECKING:
    from langchain_parallel_plus.synthesis.contributions import Contributions

__all__ = ("MergeDicts", "OnConflict")

OnConflict = Literal["error", "first", "last", "list"] | Callable[[str, dict[str, Any]], Any]
"""What becomes of a key for which branches have different values."""

_HELP = "or a function of the key and of the values by branch"


class MergeDicts(Reducer[dict[str, Any]]):
    """Make one dict of the branches' dicts, for extraction that is split over branches.

    Each branch returns a dict or a pydantic model. Keys come in the order in which the branches name them first. Dicts
    that several branches have at a key are merged in turn, at any depth; lists are values like others. Equal values are
    no conflict; `None` says that a branch does not know, and gives way to a value.

    Args:
        on_conflict: What becomes of a key for which branches have different values. `"error"` raises, `"first"` and
            `"last"` take the value of that branch in order, `"list"` takes a list of the different values in order of
            the branches, and a function is called as `function(key, {branch: value})` and returns the value. The key
            of a dict inside a dict is written `outer.inner`.
        deep: Whether dicts inside the dicts are merged. If not, they are values like others.
        name: Name of the run in traces.

    Raises:
        SynthesisError: A branch returned no dict, or there is a conflict under `"error"`.

    Example:
        ```python
        parties = RunnableParallelPlus(seller=ask_seller, buyer=ask_buyer) | MergeDicts(on_conflict="list")
        ```
    """

    _strategy: ClassVar[str] = "merge_dicts"

    on_conflict: SkipValidation[OnConflict] = "error"
    """What becomes of a key for which branches have different values."""
    deep: bool = True
    """Whether dicts inside the dicts are merged."""

    def __init__(self, *, on_conflict: OnConflict = "error", deep: bool = True, name: str | None = None) -> None:
        what = "MergeDicts.on_conflict"
        if callable(on_conflict):
            plain_function(on_conflict, what, _HELP)
        else:
            choice(on_conflict, what, ("error", "first", "last", "list"), _HELP)
        super().__init__(on_conflict=on_conflict, deep=deep, name=name)

    @property
    def OutputType(self) -> Any:
        """One dict."""
        return dict[str, Any]

    def _joined(self, given: Contributions) -> dict[str, Any]:
        return self._merged({branch: _checked(output, branch) for branch, output in given.outputs.items()}, ())

    def _merged(self, dicts: Mapping[str, Mapping[str, Any]], path: tuple[str, ...]) -> dict[str, Any]:
        keys = dict.fromkeys(key for one in dicts.values() for key in one)
        return {
            key: self._value({name: one[key] for name, one in dicts.items() if key in one}, (*path, str(key)))
            for key in keys
        }

    def _value(self, values: dict[str, Any], path: tuple[str, ...]) -> Any:
        known = {branch: value for branch, value in values.items() if not _unknown(value)}
        different = _different(known)
        if len(different) <= 1:
            return next(iter(different.values()), None)
        if self.deep and all(isinstance(value, Mapping | BaseModel) for value in different.values()):
            return self._merged({branch: _mapping(value) for branch, value in known.items()}, path)
        return self._decided(".".join(path), known, different)

    def _decided(self, key: str, known: dict[str, Any], different: dict[str, Any]) -> Any:
        if callable(self.on_conflict):
            return self.on_conflict(key, known)
        match self.on_conflict:
            case "first":
                return next(iter(known.values()))
            case "last":
                return list(known.values())[-1]
            case "list":
                return list(different.values())
        said = ", ".join(f"{branch!r} says {_shown(value)}" for branch, value in list(different.items())[:5])
        msg = f"MergeDicts: the branches disagree about {key!r}: {said}"
        raise SynthesisError(msg, help="on_conflict='first', 'last', 'list' or a function decides")


def _checked(output: Any, branch: str) -> Mapping[str, Any]:
    if isinstance(output, Mapping | BaseModel):
        return _mapping(output)
    msg = (
        f"MergeDicts takes a dict or a pydantic model of each branch, and branch {branch!r} returned {kind_of(output)}"
    )
    raise SynthesisError(
        msg, help="parse it first (JsonOutputParser, with_structured_output), or use JoinText for texts"
    )


def _mapping(value: Mapping[str, Any] | BaseModel) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    return {name: getattr(value, name) for name in type(value).model_fields} | dict(value.model_extra or {})


def _unknown(value: Any) -> bool:
    return value is None or isinstance(value, BranchFailure)


def _different(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without those that an earlier branch has too."""
    kept: dict[str, Any] = {}
    for branch, value in values.items():
        if not any(_same(value, one) for one in kept.values()):
            kept[branch] = value
    return kept


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, bool) is not isinstance(other, bool):
        return False  # True == 1, and they say different things
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001  # arrays and the like, which compare item by item
        return False


def _shown(value: Any) -> str:
    return f"{redact(repr(value), limit=60)} ({kind_of(value)})"
