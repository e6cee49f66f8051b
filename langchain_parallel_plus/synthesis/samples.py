"""One chain asked several times at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.fanout import RunnableParallelPlus
from langchain_parallel_plus.synthesis.declared import number

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import Runnable
    from langchain_core.runnables.utils import Input

__all__ = ("samples",)


def samples(chain: Runnable[Input, Any] | Callable[[Input], Any], n: int) -> RunnableParallelPlus[Input]:
    """Return a fan-out that runs `chain` `n` times on the same input, as branches `sample_1` to `sample_n`.

    For self-consistency and best-of-n. The samples differ only if the model varies its answers: give it a
    `temperature` above 0, and no cache.

    Raises:
        DeclarationError: `n` is no whole number of at least 1, or `chain` is nothing that can be run.

    Example:
        ```python
        vote = samples(chain, 5) | MajorityVote()
        best = samples(chain, 5).with_join(JoinPolicy(min_success=3)) | PickBest(judge)
        ```
    """
    number(n, "the n of samples", "for example samples(chain, 5)", least=1, whole=True)
    branches: dict[str, Any] = {f"sample_{place}": chain for place in range(1, n + 1)}
    try:
        return RunnableParallelPlus(branches)
    except TypeError:
        msg = f"samples takes a runnable or a function, got {type(chain).__name__}"
        raise DeclarationError(msg, help="for example samples(prompt | model | StrOutputParser(), 5)") from None
