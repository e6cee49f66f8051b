"""Locks in a forked process: those that a thread of the parent held would never be released."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ("survive_forks",)


class Survivor(Protocol):
    """Something with a lock."""

    def after_fork(self) -> None:
        """Start with a fresh lock, without what only the parent's threads can finish."""


_SURVIVORS: weakref.WeakSet[Survivor] = weakref.WeakSet()


def survive_forks(survivor: Survivor) -> None:
    """Have `survivor.after_fork()` called in every child process, for as long as it lives."""
    _SURVIVORS.add(survivor)


def _after_fork() -> None:
    for survivor in list(_SURVIVORS):
        survivor.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
