"""Frozen values that a reducer returns."""

from __future__ import annotations

from langchain_core.load.serializable import Serializable
from pydantic import ConfigDict

__all__ = ("Record",)


class Record(Serializable):
    """A frozen value that survives pickle, JSON (`model_dump_json`) and `dumpd`, as `BranchFailure` does."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return `True`: `dumpd` writes it with its fields."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return the module path, which `load` needs for classes outside langchain-core."""
        return cls.__module__.split(".")
