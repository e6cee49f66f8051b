"""What the tests of several reducers need: failures, and the way through `dumpd` and `load`."""

from __future__ import annotations

import warnings
from typing import Any

from langchain_core._api import LangChainBetaWarning
from langchain_core.load import dumpd, load

from langchain_parallel_plus import BranchFailure, ErrorKind

__all__ = ("loaded", "lost")


def lost(name: str) -> BranchFailure:
    return BranchFailure.of(name, TimeoutError("the provider's own words"), kind=ErrorKind.TIMEOUT)


def loaded(value: Any, *classes: type) -> Any:
    """Return what becomes of a value on its way through `dumpd` and `load`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        return load(dumpd(value), allowed_objects=[*classes], valid_namespaces=["langchain_parallel_plus"])
