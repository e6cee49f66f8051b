"""What all reducers are: runnables that take a fan-out's dict, or a list, and leave out what did not come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import patch_config
from langchain_core.runnables.utils import Output
from pydantic import ConfigDict

from langchain_parallel_plus._engine.batch_methods import SharedCapBatch
from langchain_parallel_plus._engine.chunks import whole
from langchain_parallel_plus._engine.namespace import namespace
from langchain_parallel_plus._engine.stream_methods import ClosingStreams
from langchain_parallel_plus._engine.traced import atraced, traced
from langchain_parallel_plus.observe import telling_synthesis
from langchain_parallel_plus.observe.otel import inside_synthesis
from langchain_parallel_plus.synthesis.contributions import Contributions

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun

__all__ = ("Reducer", "Reducible")

Reducible = Mapping[str, Any] | Sequence[Any]
"""A fan-out's dict, or a list of outputs."""


class Reducer(SharedCapBatch, ClosingStreams, RunnableSerializable[Reducible, Output]):
    """Makes one result of what the branches of a fan-out returned, whole: in a stream it is one chunk."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    _strategy: ClassVar[str]
    """What it does, in a word or two, for traces."""

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return `True`: it is written with its options."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return the module path, which `load` needs for classes outside langchain-core."""
        return namespace(cls)

    @property
    def InputType(self) -> Any:
        """A fan-out's dict, or a list."""
        return dict[str, Any] | list[Any]

    def invoke(self, input: Reducible, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """Make one result of the branches' outputs.

        Raises:
            SynthesisError: `input` is no dict or list, or an output does not fit.
            CoverageError: No branch came back.
        """

        def work(config: RunnableConfig, manager: CallbackManagerForChainRun) -> Output:
            with self._told(input, manager) as (given, told):
                child = patch_config(config, callbacks=manager.get_child())
                result = self._reduce(given, child, **kwargs)
                told.update(self._facts(result))
                return result

        output: Output = traced(self.get_name(), input, config, work)
        return output

    async def ainvoke(self, input: Reducible, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """Make one result of the branches' outputs; see `invoke`."""

        async def work(config: RunnableConfig, manager: AsyncCallbackManagerForChainRun) -> Output:
            with self._told(input, manager, asyncio.get_running_loop().time) as (given, told):
                child = patch_config(config, callbacks=manager.get_child())
                result = await self._areduce(given, child, **kwargs)
                told.update(self._facts(result))
                return result

        output: Output = await atraced(self.get_name(), input, config, work)
        return output

    def _transform(
        self,
        inputs: Iterator[Any],
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        *,
        single: bool = False,
        **kwargs: Any,
    ) -> Generator[Output, None, None]:
        with self._told(whole(inputs), run_manager) as (given, told):
            result = self._reduce(given, patch_config(config, callbacks=run_manager.get_child()), **kwargs)
            told.update(self._facts(result))
        yield result

    async def _atransform(
        self,
        inputs: AsyncIterator[Any],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        *,
        single: bool = False,
        **kwargs: Any,
    ) -> AsyncGenerator[Output, None]:
        chunks = [chunk async for chunk in inputs]
        with self._told(whole(chunks), run_manager, asyncio.get_running_loop().time) as (given, told):
            result = await self._areduce(given, patch_config(config, callbacks=run_manager.get_child()), **kwargs)
            told.update(self._facts(result))
        yield result

    @contextmanager
    def _told(
        self,
        value: Any,
        manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
        now: Callable[[], float] = monotonic,
    ) -> Iterator[tuple[Contributions, dict[str, Any]]]:
        """Tell listeners of the work on `value`; yield what the branches gave to it, and what its end will tell."""
        given = Contributions.of(value, type(self).__name__)
        inputs = len(given.outputs)
        with telling_synthesis(self._strategy, run_id=manager.run_id, inputs=inputs, manager=manager, now=now) as told:
            told["dropped"] = len(given.missing)
            try:
                with inside_synthesis(manager.handlers):
                    yield given, told
            except Exception as error:
                told.update(self._facts(error))
                raise

    def _facts(self, ended: object) -> dict[str, Any]:
        """Return what listeners are told of a result, or of an error, besides that it came."""
        return {}

    def _reduce(self, given: Contributions, config: RunnableConfig, **kwargs: Any) -> Output:
        return self._joined(given)

    async def _areduce(self, given: Contributions, config: RunnableConfig, **kwargs: Any) -> Output:
        return self._joined(given)

    def _joined(self, given: Contributions) -> Output:
        """Return the result: all there is to a reducer that calls nothing."""
        raise NotImplementedError
