"""Where a synthesis comes from: which branches are in it, which are not and why, and what it took."""

from __future__ import annotations

from typing import Any

from langchain_core.load.serializable import Serializable
from pydantic import ConfigDict, Field, computed_field

from langchain_parallel_plus._engine.chunks import whole

__all__ = ("SynthesisProvenance", "SynthesisResult")


class SynthesisProvenance(Serializable):
    """What a synthesis was made from: a plain value, which travels as JSON, with `dumpd`, and in a pickle.

    Example:
        ```python
        provenance = SynthesisProvenance(contributed=("web", "news"), missing={"papers": "timeout"}, coverage=2 / 3)
        assert str(provenance) == "from 2 of 3 branches: web, news; missing: papers (timeout); 1 model call"
        ```
    """

    model_config = ConfigDict(frozen=True)

    contributed: tuple[str, ...] = ()
    """The branches that came back, in the order in which the model saw them."""
    missing: dict[str, str] = Field(default_factory=dict)
    """The branches that did not, each with the reason in plain words; one of a fan-out inside a branch as
    `branch/inner`."""
    partial: tuple[str, ...] = ()
    """Those of the missing branches whose text the model saw as far as it had come."""
    coverage: float = 1.0
    """Share of the branches that came back, from 0 to 1."""
    model_calls: int = 1
    """Calls of models: the one that wrote the answer, and those that reduced what did not fit its window."""
    levels: int = 0
    """How often results were reduced one after the other."""

    @computed_field  # type: ignore[prop-decorator]  # pydantic's decorator over a property
    @property
    def degraded(self) -> bool:
        """Whether anything is missing."""
        return bool(self.missing)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return `True`: `dumpd` writes it with its fields."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return the module path, which `load` needs for classes outside langchain-core."""
        return cls.__module__.split(".")

    def __str__(self) -> str:
        there, gone = len(self.contributed), len(self.missing)
        lines = [f"from {there} of {there + gone} branches: {', '.join(self.contributed)}"]
        if self.missing:
            lines.append("missing: " + ", ".join(f"{name} ({reason})" for name, reason in self.missing.items()))
        lines.append(f"{self.model_calls} model call{'s' * (self.model_calls != 1)}")
        return "; ".join(lines)


class SynthesisResult(Serializable):
    """A synthesis with its provenance: what `RunnableSynthesis(with_provenance=True)` returns.

    In a stream each chunk of the output comes in one of these, and the provenance in the last; added up, they are the
    result.

    Example:
        ```python
        first, last = SynthesisResult(output="Rain."), SynthesisResult(provenance=SynthesisProvenance())
        assert first + last == SynthesisResult(output="Rain.", provenance=SynthesisProvenance())
        ```
    """

    model_config = ConfigDict(frozen=True)

    output: Any = None
    """What the model wrote; of a chunk, its part of it."""
    provenance: SynthesisProvenance | None = None
    """Where it comes from; `None` in all chunks of a stream but the last."""

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return `True`: `dumpd` writes it with its fields."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return the module path, which `load` needs for classes outside langchain-core."""
        return cls.__module__.split(".")

    def __add__(self, later: Any) -> SynthesisResult:
        """Return both chunks as one."""
        if not isinstance(later, SynthesisResult):
            return NotImplemented
        outputs = [output for output in (self.output, later.output) if output is not None]
        return SynthesisResult(output=whole(outputs), provenance=later.provenance or self.provenance)
