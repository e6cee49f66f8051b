"""`MapReduce`: each item of a list by itself, then all results together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from langchain_core.runnables import (
    Runnable,
    RunnableConfig,
    RunnableGenerator,
    RunnableParallel,
    RunnableSequence,
    RunnableSerializable,
)
from langchain_core.runnables.base import coerce_to_runnable
from langchain_core.runnables.config import patch_config
from langchain_core.runnables.utils import Output, get_unique_config_specs
from pydantic import ConfigDict, PrivateAttr, SkipValidation

from langchain_parallel_plus._engine.batch_methods import SharedCapBatch
from langchain_parallel_plus._engine.chunks import whole
from langchain_parallel_plus._engine.namespace import namespace
from langchain_parallel_plus._engine.owned import Owned, owning
from langchain_parallel_plus._engine.prepared import for_tasks, for_threads
from langchain_parallel_plus._engine.stream_methods import ClosingStreams
from langchain_parallel_plus._engine.traced import atraced, traced
from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.fanout import checked_limits
from langchain_parallel_plus.limits import RateLimiter
from langchain_parallel_plus.observe import telling_synthesis
from langchain_parallel_plus.observe.otel import amade_inside, inside_synthesis, made_inside
from langchain_parallel_plus.outcome import BranchFailure, FanOutDict
from langchain_parallel_plus.policy import BranchPolicy, JoinPolicy, checked_policy
from langchain_parallel_plus.policy.plain import join_of, plain, policy_of
from langchain_parallel_plus.synthesis.itemising import Split, checked_split, itemised
from langchain_parallel_plus.synthesis.items import fan_out_over
from langchain_parallel_plus.synthesis.llm import RunnableSynthesis
from langchain_parallel_plus.synthesis.reducer import Reducer

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
    from langchain_core.load.serializable import SerializedConstructor, SerializedNotImplemented
    from langchain_core.runnables.utils import ConfigurableFieldSpec

__all__ = ("MapReduce",)


class MapReduce(SharedCapBatch, ClosingStreams, RunnableSerializable[Any, Output]):
    """Run `mapper` on each item of a list at once, then `reducer` on all that came back.

    It is a `RunnableParallelPlus` with as many branches as the input has items, called `item_1`, `item_2` and so on,
    and `reducer` behind it, which takes that fan-out's dict: `RunnableSynthesis`, a reducer, or a function of the dict.
    Rate limits, policies and `max_concurrency` hold for the items as for branches. In a stream `mapper` is streamed
    into `reducer`, and `reducer` to the caller.

    Args:
        mapper: What is run on each item: a runnable or a function.
        reducer: What is run on the dict of results by item.
        split: Makes the list of items of the input: a function, such as one from a document to its pages; or a number,
            by which a text or a Document is split between paragraphs, else sentences, into parts of at most so many
            tokens (four characters are taken for one). Left out, the input is the list, or a dict of items by name.
        policy: How each item is retried, timed out and replaced, and what its failure means: by default the whole run
            fails with it; `on_failure="keep"` and `"drop"` leave it out. Fallbacks and `cost` are given the item.
        join: When enough items are in. One that asks for more items than there are asks for all of them.
        limits: One rate limiter or several for the model calls of `mapper`.
        name: Name of the run in traces.

    Raises:
        SynthesisError: The input, or what `split` made of it, is no list.
        CoverageError: The list is empty.
        FanOutError: Fewer items succeeded than `join` asks for.
        Exception: An item's own, where `policy` does not say to go on without it.

    Example:
        ```python
        total = MapReduce(len, lambda lengths: sum(lengths.values()))
        assert total.invoke(["a", "bcd"]) == 4
        brief = MapReduce(summarise, RunnableSynthesis(llm), split=2_000)
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    mapper: Runnable[Any, Any]
    """What is run on each item."""
    reducer: Runnable[Any, Output]
    """What is run on the results."""
    split: SkipValidation[Split | None] = None
    """Makes the list of items of the input."""
    policy: SkipValidation[BranchPolicy] = BranchPolicy()
    """How each item is treated."""
    join: SkipValidation[JoinPolicy | None] = None
    """When enough items are in."""
    limits: SkipValidation[tuple[RateLimiter, ...]] = ()
    """Under which rate limits the items' model calls go out."""

    _upstream: bool = PrivateAttr(default=False)

    def __init__(
        self,
        mapper: Any,
        reducer: Any,
        *,
        split: Split | None = None,
        policy: BranchPolicy | Mapping[str, Any] | None = None,
        join: JoinPolicy | Mapping[str, Any] | None = None,
        limits: RateLimiter | Sequence[RateLimiter] = (),
        name: str | None = None,
    ) -> None:
        given = policy_of(policy) if isinstance(policy, Mapping) else policy
        checked = checked_policy(BranchPolicy() if given is None else given, "the policy of MapReduce")
        super().__init__(
            mapper=coerce_to_runnable(mapper),
            reducer=coerce_to_runnable(reducer),
            split=checked_split(split),
            policy=checked.checked_charge("the policy of MapReduce"),
            join=_checked_join(join),
            limits=checked_limits(limits),
            name=name,
        )

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return `True`: what it runs travels with it."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return the module path, which `load` needs for classes outside langchain-core."""
        return namespace(cls)

    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """Return what `dumpd` writes: the options as plain data, and none that are left out."""
        written = super().to_json()
        if written["type"] == "constructor":
            options: dict[str, Any] = {"policy": plain(self.policy), "join": self.join and plain(self.join)}
            options["limits"] = [limiter.declaration for limiter in self.limits]
            rest = {key: value for key, value in written["kwargs"].items() if key not in options}
            written["kwargs"] = {**rest, **{key: value for key, value in options.items() if value}}
        return written

    @property
    def InputType(self) -> Any:
        """A list of items, or what `split` makes one of."""
        return Any if self.split is not None else list[Any] | dict[str, Any]

    @property
    def OutputType(self) -> type[Output]:
        """What `reducer` returns."""
        return self.reducer.OutputType

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The configurable fields of both steps."""
        return get_unique_config_specs([*self.mapper.config_specs, *self.reducer.config_specs])

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """Run `mapper` on each item and `reducer` on what came back; further arguments go to `reducer`."""

        def work(config: RunnableConfig, manager: CallbackManagerForChainRun) -> Output:
            items = itemised(input, self.split)
            with _told(items, manager) as told:
                results = self._fan_out(items).invoke(items, _child(config, manager, "map"))
                told["dropped"] = _dropped(items, results)
                with inside_synthesis(manager.handlers):
                    return self.reducer.invoke(results, _child(config, manager, "reduce"), **kwargs)

        output: Output = traced(self.get_name(), input, config, work)
        return output

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """Run `mapper` on each item and `reducer` on what came back; further arguments go to `reducer`."""

        async def work(config: RunnableConfig, manager: AsyncCallbackManagerForChainRun) -> Output:
            items = itemised(input, self.split)
            with _told(items, manager, asyncio.get_running_loop().time) as told:
                results = await self._fan_out(items).ainvoke(items, _child(config, manager, "map"))
                told["dropped"] = _dropped(items, results)
                reducer = for_tasks(self.reducer)
                with inside_synthesis(manager.handlers):
                    reduced: Output = await reducer.ainvoke(results, _child(config, manager, "reduce"), **kwargs)
                return reduced

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
        items = itemised(whole(inputs), self.split)
        with ExitStack() as opened:
            told = opened.enter_context(_told(items, run_manager))
            results = self._fan_out(items).stream(items, _child(config, run_manager, "map"))
            opened.enter_context(closing(results))  # type: ignore[type-var]  # a generator, typed as an iterator
            reads = results
            if self._reads_whole:
                found = _ordered(results)
                told["dropped"] = _dropped(items, found)
                reads = iter([found])
            chunks = for_threads(self.reducer).transform(reads, _child(config, run_manager, "reduce"), **kwargs)
            yield from made_inside(run_manager.handlers, chunks)

    async def _atransform(
        self,
        inputs: AsyncIterator[Any],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        *,
        single: bool = False,
        **kwargs: Any,
    ) -> AsyncGenerator[Output, None]:
        items = itemised(whole([chunk async for chunk in inputs]), self.split)
        async with AsyncExitStack() as opened:
            told = opened.enter_context(_told(items, run_manager, asyncio.get_running_loop().time))
            mapped = self._fan_out(items).astream(items, _child(config, run_manager, "map"))
            results = await opened.enter_async_context(owning(mapped))
            reads: AsyncIterator[Any] = results
            if self._reads_whole:
                found = _ordered([chunk async for chunk in results])
                told["dropped"] = _dropped(items, found)
                reads = _once(found)
            stream = for_tasks(self.reducer).atransform(reads, _child(config, run_manager, "reduce"), **kwargs)
            made = amade_inside(run_manager.handlers, Owned(stream))
            async for chunk in await opened.enter_async_context(owning(made)):
                yield chunk

    @property
    def _reads_whole(self) -> bool:
        """Whether the reducer is to find the items in order: what orders by itself, or wants chunks, reads a stream."""
        first = self.reducer.first if isinstance(self.reducer, RunnableSequence) else self.reducer
        return not isinstance(first, RunnableSynthesis | Reducer | RunnableGenerator)

    def _fan_out(self, items: Mapping[str, Any]) -> RunnableParallel[Mapping[str, Any]]:
        made = fan_out_over(items, self.mapper, policy=self.policy, join=self.join, limits=self.limits)
        return RunnableParallel(made.steps__) if self._upstream else made

    def _as_upstream(self, mapper: Runnable[Any, Any], reducer: Runnable[Any, Output]) -> Self:
        """Return a copy whose fan-out is LangChain's, without policy, join and limits, to be measured against."""
        made = self.model_copy(update={"mapper": mapper, "reducer": reducer})
        made._upstream = True
        return made


@contextmanager
def _told(
    items: Mapping[str, Any],
    manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
    now: Callable[[], float] = monotonic,
) -> Iterator[dict[str, Any]]:
    """Tell listeners of all the work; what `reducer` does by itself is told inside it."""
    inputs = len(items)
    with telling_synthesis("map_reduce", run_id=manager.run_id, inputs=inputs, manager=manager, now=now) as told:
        yield told


def _dropped(items: Mapping[str, Any], results: Mapping[str, Any]) -> int:
    """Return how many items `reducer` does without."""
    return len(items) - sum(not isinstance(result, BranchFailure) for result in results.values())


def _ordered(chunks: Iterable[Any]) -> FanOutDict:
    return FanOutDict.of_chunks(chunks).in_order


async def _once(value: Any) -> AsyncIterator[Any]:
    yield value


def _child(config: RunnableConfig, manager: Any, tag: str) -> RunnableConfig:
    return patch_config(config, callbacks=manager.get_child(tag))


def _checked_join(join: object) -> JoinPolicy | None:
    if join is None or isinstance(join, JoinPolicy):
        return join
    if isinstance(join, Mapping):
        return join_of(join)
    msg = f"MapReduce.join takes a JoinPolicy, got {join!r}"
    raise DeclarationError(msg, help="for example JoinPolicy(min_success=2, deadline=60)")
