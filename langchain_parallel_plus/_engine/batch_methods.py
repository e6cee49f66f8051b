"""`batch` and its kin for runnables that share one `max_concurrency` over all items and everything below them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, closing
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.runnables.config import RunnableConfig, get_config_list

from langchain_parallel_plus._engine.batches import Item, acompleted, completed

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import Runnable

    Base = Runnable[Any, Any]
else:
    Base = object

__all__ = ("SharedCapBatch",)

Configs = RunnableConfig | Sequence[RunnableConfig] | None


class SharedCapBatch(Base):
    """Replaces `Runnable`'s batch methods, whose cap multiplies with that of the fan-outs below."""

    _leaf_items: ClassVar[bool] = True
    """Whether an item works by itself, and so needs a permit; a fan-out's branches have their own."""

    def batch(
        self, inputs: list[Any], config: Configs = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> list[Any]:
        """Call `invoke` on every input, all at once or as `max_concurrency` allows, and return outputs in order.

        The first error in time ends the batch, unless `return_exceptions` puts errors in their outputs' places.
        """
        if not inputs:
            return []
        configs = get_config_list(config, len(inputs))
        if len(inputs) == 1:  # as upstream: in the caller's thread
            return [_settled(lambda: self.invoke(inputs[0], configs[0], **kwargs), return_exceptions)]
        outputs: list[Any] = [None] * len(inputs)
        with closing(
            completed(_calls(self.invoke, inputs, configs, kwargs), configs[0], leaves=self._leaf_items)
        ) as items:
            for item in items:
                outputs[item[0]] = _kept(item, return_exceptions)
        return outputs

    async def abatch(
        self, inputs: list[Any], config: Configs = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> list[Any]:
        """Call `ainvoke` on every input, all at once or as `max_concurrency` allows, and return outputs in order.

        The first error in time ends the batch, unless `return_exceptions` puts errors in their outputs' places.
        """
        if not inputs:
            return []
        configs = get_config_list(config, len(inputs))
        outputs: list[Any] = [None] * len(inputs)
        async with aclosing(
            acompleted(_calls(self.ainvoke, inputs, configs, kwargs), configs[0], leaves=self._leaf_items)
        ) as items:
            async for item in items:
                outputs[item[0]] = _kept(item, return_exceptions)
        return outputs

    def batch_as_completed(
        self, inputs: Sequence[Any], config: Configs = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> Iterator[tuple[int, Any]]:
        """Call `invoke` on every input and yield each index with its output as soon as it is there."""
        if not inputs:
            return
        configs = get_config_list(config, len(inputs))
        with closing(
            completed(_calls(self.invoke, inputs, configs, kwargs), configs[0], leaves=self._leaf_items)
        ) as items:
            for item in items:
                yield item[0], _kept(item, return_exceptions)

    async def abatch_as_completed(
        self, inputs: Sequence[Any], config: Configs = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> AsyncIterator[tuple[int, Any]]:
        """Call `ainvoke` on every input and yield each index with its output as soon as it is there."""
        if not inputs:
            return
        configs = get_config_list(config, len(inputs))
        async with aclosing(
            acompleted(_calls(self.ainvoke, inputs, configs, kwargs), configs[0], leaves=self._leaf_items)
        ) as items:
            async for item in items:
                yield item[0], _kept(item, return_exceptions)


def _calls(
    method: Callable[..., Any], inputs: Sequence[Any], configs: list[RunnableConfig], kwargs: dict[str, Any]
) -> list[Callable[[], Any]]:
    return [partial(method, one, config, **kwargs) for one, config in zip(inputs, configs, strict=True)]


def _kept(item: Item, return_exceptions: bool) -> Any:
    _, output, error = item
    if error is None:
        return output
    if return_exceptions and isinstance(error, Exception):
        return error
    raise error


def _settled(call: Callable[[], Any], return_exceptions: bool) -> Any:
    try:
        return call()
    except Exception as error:
        if return_exceptions:
            return error
        raise
