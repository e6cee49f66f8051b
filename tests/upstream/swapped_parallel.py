"""A pytest plugin that puts `RunnableParallelPlus` in `RunnableParallel`'s place in langchain-core.

It serialises under `RunnableParallel`'s name here: that its own name is another one is decided (a class of another
package cannot be loaded under upstream's), and must not hide other differences between the snapshots.
"""

from __future__ import annotations

import langchain_core.runnables as runnables
from langchain_core.language_models import chat_models
from langchain_core.runnables import base, passthrough
from langchain_core.runnables.utils import Input

from langchain_parallel_plus import RunnableParallelPlus

__all__ = ("Swapped",)

_UPSTREAM_ID = base.RunnableParallel.lc_id()


class Swapped(RunnableParallelPlus[Input]):
    """`RunnableParallelPlus` under `RunnableParallel`'s name."""

    @classmethod
    def lc_id(cls) -> list[str]:
        return _UPSTREAM_ID


for module in (runnables, base, passthrough, chat_models):
    for name in ("RunnableParallel", "RunnableMap"):
        if module in (runnables, base) or name in vars(module):
            setattr(module, name, Swapped)
