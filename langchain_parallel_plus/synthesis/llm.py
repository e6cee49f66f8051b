"""`RunnableSynthesis`: a model that joins what the branches returned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.base import coerce_to_runnable
from langchain_core.runnables.utils import get_unique_config_specs
from pydantic import ConfigDict, SkipValidation

from langchain_parallel_plus._engine.batch_methods import SharedCapBatch
from langchain_parallel_plus._engine.call_group import AsyncCallGroup, CallGroup
from langchain_parallel_plus._engine.end_marks import EndMarks
from langchain_parallel_plus._engine.namespace import namespace
from langchain_parallel_plus._engine.owned import owning
from langchain_parallel_plus._engine.stream_methods import ClosingStreams
from langchain_parallel_plus._engine.traced import atraced, traced
from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.fanout import checked_limits
from langchain_parallel_plus.limits import RateLimiter
from langchain_parallel_plus.synthesis.calls import Answer, Digests
from langchain_parallel_plus.synthesis.counting import token_counter
from langchain_parallel_plus.synthesis.declaration import (
    check_writes_text,
    checked_counter,
    checked_function,
    checked_instructions,
    checked_names,
    checked_share,
    checked_tokens,
)
from langchain_parallel_plus.synthesis.prompts import INSTRUCTIONS, reduce_prompt, synthesis_prompt
from langchain_parallel_plus.synthesis.provenance import SynthesisResult
from langchain_parallel_plus.synthesis.reading import Arriving, Reading
from langchain_parallel_plus.synthesis.telling import Telling
from langchain_parallel_plus.synthesis.terms import Terms

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
    from langchain_core.load.serializable import SerializedConstructor, SerializedNotImplemented
    from langchain_core.runnables.utils import ConfigurableFieldSpec

    from langchain_parallel_plus.synthesis.packing import ReductionPlan

__all__ = ("RunnableSynthesis",)

Outputs = Mapping[str, Any] | Sequence[Any]
"""A fan-out's dict, or a list of outputs."""


class RunnableSynthesis(SharedCapBatch, ClosingStreams, RunnableSerializable[Outputs, Any]):
    """Join the branches' outputs with a model, streamed token by token.

    It takes a fan-out's dict, or a list, whose items are called `item_1`, `item_2` and so on. The model sees each
    output in a delimited block under the branch's name, and is told which branches are missing and why: failed,
    dropped, not waited for, empty, or `expected` and absent. What stands in an output cannot close its block, pose as
    another one or fill template variables. What a failed branch had streamed (`BranchFailure.partial`) is shown, and
    marked as partial.

    Outputs of any shape are rendered as text (see `synthesis.rendered`, which `render` replaces).

    With `max_input_tokens`, outputs that are too long for a call are reduced: full packs of them are read by a call
    each, at once or as `max_concurrency` and the limiters allow, and their digests take their places, until the rest
    fits. Behind a streamed fan-out a pack is reduced as soon as the branches that fill it are in. `plan` says how many
    calls that takes, and the provenance how many it took.

    Args:
        model: A chat model, an LLM, or any runnable that takes a prompt; one with structured output gives typed
            results.
        prompt: In place of the built-in one: a prompt template, or text for one, with the variable `branches`, and if
            you like `missing` and `instructions`.
        max_input_tokens: The longest prompt that the model is given; a longer input is reduced first.
        min_coverage: Share of the branches (0 to 1) that must have come back. By default one branch is enough. A
            fan-out inside a branch counts as the share of its own branches.
        instructions: What to write; the built-in prompt starts with it.
        expected: Names of further branches that should be there. Behind a fan-out it is not needed: what that has
            dropped is known.
        render: Makes text of one branch's output, in place of the built-in rules.
        with_provenance: Return a `SynthesisResult`: the output with where it comes from. In a stream the output comes
            first, chunk by chunk, and the provenance in the last chunk.
        count_tokens: Counts the tokens of a text. By default the model's own tokenizer if it was given one
            (`custom_get_token_ids`), or an estimate of four characters a token; `count_tokens=llm.get_num_tokens` is
            exact for models whose tokenizer is at hand.
        digest_model: Reduces what does not fit; by default `model`. A model with structured output needs one.
        digest_prompt: Its prompt, with the variable `branches`, and if you like `instructions` and `words`.
        digest_tokens: Tokens that a digest is asked to keep to; by default a quarter of what fits, at most 1,000.
        limits: Rate limiters that the calls wait for, in addition to those of the fan-outs around.
        name: Name of the run in traces; by default "synthesize".

    Raises:
        DeclarationError: An argument is wrong, or the prompt leaves no room for the branches. Nothing was called.
        CoverageError: Too few branches came back, or none; no model was called.
        SynthesisError: The input is no dict and no list, an output was not rendered, or digests do not get shorter.

    Example:
        ```python
        chain = fan_out | RunnableSynthesis(llm, instructions="Write a brief of 150 words.") | StrOutputParser()
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: Runnable[Any, Any]
    """What writes the answer."""
    prompt: SkipValidation[BasePromptTemplate[Any]]
    """What it is shown."""
    max_input_tokens: int | None = None
    """The longest prompt that the model is given."""
    min_coverage: float | None = None
    """Share of the branches that must have come back."""
    instructions: str = INSTRUCTIONS
    """What to write."""
    expected: tuple[str, ...] = ()
    """Names of the branches that should be there."""
    render: SkipValidation[Callable[[Any], str] | None] = None
    """Makes text of one branch's output."""
    with_provenance: bool = False
    """Whether the result says where it comes from."""
    count_tokens: SkipValidation[Callable[[str], int] | None] = None
    """Counts the tokens of a text."""
    digest_model: Runnable[Any, Any] | None = None
    """Reduces what does not fit."""
    digest_prompt: SkipValidation[BasePromptTemplate[Any]]
    """What it is shown."""
    digest_tokens: int | None = None
    """Tokens that a digest is asked to keep to."""
    limits: SkipValidation[tuple[RateLimiter, ...]] = ()
    """Rate limiters that the calls wait for."""

    def __init__(
        self,
        model: Any,
        prompt: BasePromptTemplate[Any] | str | None = None,
        *,
        max_input_tokens: int | None = None,
        min_coverage: float | None = None,
        instructions: str | None = None,
        expected: Sequence[str] = (),
        render: Callable[[Any], str] | None = None,
        with_provenance: bool = False,
        count_tokens: Callable[[str], int] | None = None,
        digest_model: Any = None,
        digest_prompt: BasePromptTemplate[Any] | str | None = None,
        digest_tokens: int | None = None,
        limits: RateLimiter | Sequence[RateLimiter] = (),
        name: str | None = None,
    ) -> None:
        super().__init__(
            model=coerce_to_runnable(model),
            prompt=synthesis_prompt(prompt),
            max_input_tokens=checked_tokens(max_input_tokens, "max_input_tokens"),
            min_coverage=checked_share(min_coverage),
            instructions=checked_instructions(instructions),
            expected=checked_names(expected),
            render=checked_function(render, "render"),
            with_provenance=bool(with_provenance),
            count_tokens=checked_counter(count_tokens),
            digest_model=None if digest_model is None else coerce_to_runnable(digest_model),
            digest_prompt=reduce_prompt(digest_prompt),
            digest_tokens=checked_tokens(digest_tokens, "digest_tokens"),
            limits=checked_limits(limits),
            name=name,
        )
        if self.max_input_tokens is not None and self.digest_model is None:
            check_writes_text(self.model)
        self._terms().window(refusal=DeclarationError)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return `True`: model and prompt travel with it."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return the module path, which `load` needs for classes outside langchain-core."""
        return namespace(cls)

    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """Return what `dumpd` writes: limiters as plain data, and none of the arguments that are left out."""
        written = super().to_json()
        if written["type"] == "constructor":
            given = {key: value for key, value in written["kwargs"].items() if value not in (None, (), False)}
            limits = [limiter.declaration for limiter in self.limits]
            written["kwargs"] = {**given, "limits": limits} if limits else given
        return written

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the name of the run: by default "synthesize"."""
        return super().get_name(suffix, name=name or self.name or "synthesize")

    @property
    def InputType(self) -> Any:
        """A fan-out's dict, or a list."""
        return dict[str, Any] | list[Any]

    @property
    def OutputType(self) -> Any:
        """What the model returns, or that with its provenance."""
        return SynthesisResult if self.with_provenance else self.model.OutputType

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The configurable fields of the models."""
        models = (self.model,) if self.digest_model is None else (self.model, self.digest_model)
        return get_unique_config_specs(spec for model in models for spec in model.config_specs)

    def with_limits(self, *limiters: RateLimiter) -> Self:
        """Return a copy whose model calls also wait for `limiters`: give it that of the fan-out whose key it uses."""
        return self.model_copy(update={"limits": tuple(dict.fromkeys((*self.limits, *checked_limits(limiters))))})

    def plan(self, outputs: Outputs) -> ReductionPlan:
        """Return the model calls that joining `outputs` takes, without making any.

        With `max_input_tokens` their number depends on how long the digests become: it is exact if those have
        `digest_tokens` each. A stream may take more, because it reduces a pack before all of the input is known.

        Raises:
            CoverageError: As the call would.
            SynthesisError: As the call would.

        Example:
            ```python
            synthesis = RunnableSynthesis(llm, max_input_tokens=8_000)
            print(synthesis.plan(outputs).calls)
            ```
        """
        return Reading.of(self._terms(), outputs).plan

    def invoke(self, input: Outputs, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Join the outputs of `input`; further arguments go to the call of `model` that writes the answer."""

        def work(config: RunnableConfig, manager: CallbackManagerForChainRun) -> Any:
            reading = Reading.of(self._terms(), input)
            with Telling(manager) as telling:
                telling.read(reading)
                self._reduce(reading, config, manager)
                return self._result(self._answer(kwargs).invoke(reading.prompt, config, manager), reading)

        return traced(self.get_name(), input, config, work)

    async def ainvoke(self, input: Outputs, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Join the outputs of `input`; further arguments go to the call of `model` that writes the answer."""

        async def work(config: RunnableConfig, manager: AsyncCallbackManagerForChainRun) -> Any:
            reading = Reading.of(self._terms(), input)
            with Telling(manager, asyncio.get_running_loop().time) as telling:
                telling.read(reading)
                await self._areduce(reading, config, manager)
                return self._result(await self._answer(kwargs).ainvoke(reading.prompt, config, manager), reading)

        return await atraced(self.get_name(), input, config, work)

    def _transform(
        self,
        inputs: Iterator[Any],
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        *,
        single: bool = False,
        **kwargs: Any,
    ) -> Generator[Any, None, None]:
        with Telling(run_manager) as telling:
            reading = self._read(inputs, config, run_manager, telling)
            self._reduce(reading, config, run_manager)
            for chunk in self._answer(kwargs).stream(reading.prompt, config, run_manager):
                yield SynthesisResult(output=chunk) if self.with_provenance else chunk
        if self.with_provenance:
            yield SynthesisResult(provenance=reading.provenance)

    async def _atransform(
        self,
        inputs: AsyncIterator[Any],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        *,
        single: bool = False,
        **kwargs: Any,
    ) -> AsyncGenerator[Any, None]:
        with Telling(run_manager, asyncio.get_running_loop().time) as telling:
            reading = await self._aread(inputs, config, run_manager, telling)
            await self._areduce(reading, config, run_manager)
            async with owning(self._answer(kwargs).astream(reading.prompt, config, run_manager)) as stream:
                async for chunk in stream:
                    yield SynthesisResult(output=chunk) if self.with_provenance else chunk
        if self.with_provenance:
            yield SynthesisResult(provenance=reading.provenance)

    def _read(
        self, inputs: Iterator[Any], config: RunnableConfig, manager: CallbackManagerForChainRun, telling: Telling
    ) -> Reading:
        """Read a stream to its end, and reduce meanwhile what fills a call."""
        arriving, marks, digests = Arriving(self._terms()), EndMarks(in_band=self._reduces), self._digests()
        with ExitStack() as stack:
            group: CallGroup | None = None
            for chunk in stack.enter_context(closing(marks.read(inputs))):
                for pack in arriving.take(chunk, marks.branches):
                    telling.begin(len(marks.branches), reduces=True)
                    if group is None:
                        group = stack.enter_context(closing(CallGroup(config, marks.capacity)))
                    group.add(partial(digests.run, [pack], arriving.label, config, manager))
                if group is not None:
                    group.check()
            texts = [text for texts in group.outputs() for text in texts] if group is not None else []
        reading = arriving.read(marks.branches, texts)
        telling.read(reading)
        return reading

    async def _aread(
        self,
        inputs: AsyncIterator[Any],
        config: RunnableConfig,
        manager: AsyncCallbackManagerForChainRun,
        telling: Telling,
    ) -> Reading:
        """Read a stream to its end, and reduce meanwhile what fills a call."""
        arriving, marks, digests = Arriving(self._terms()), EndMarks(in_band=self._reduces), self._digests()
        async with AsyncExitStack() as stack:
            group: AsyncCallGroup | None = None
            async for chunk in await stack.enter_async_context(owning(marks.aread(inputs))):
                for pack in arriving.take(chunk, marks.branches):
                    telling.begin(len(marks.branches), reduces=True)
                    if group is None:
                        group = await stack.enter_async_context(aclosing(AsyncCallGroup(config, marks.capacity)))
                    group.add(partial(digests.arun, [pack], arriving.label, config, manager))
                if group is not None:
                    group.check()
            texts = [text for texts in await group.outputs() for text in texts] if group is not None else []
        reading = arriving.read(marks.branches, texts)
        telling.read(reading)
        return reading

    def _reduce(self, reading: Reading, config: RunnableConfig, manager: CallbackManagerForChainRun) -> None:
        while packs := reading.next_level():
            reading.reduced(self._digests().run(packs, reading.label, config, manager))

    async def _areduce(
        self, reading: Reading, config: RunnableConfig, manager: AsyncCallbackManagerForChainRun
    ) -> None:
        while packs := reading.next_level():
            reading.reduced(await self._digests().arun(packs, reading.label, config, manager))

    @property
    def _reduces(self) -> bool:
        return self.max_input_tokens is not None

    def _terms(self) -> Terms:
        return Terms(
            prompt=self.prompt,
            digest_prompt=self.digest_prompt,
            instructions=self.instructions,
            expected=self.expected,
            min_coverage=self.min_coverage,
            render=self.render,
            count_tokens=self.count_tokens or token_counter(self.model),
            max_input_tokens=self.max_input_tokens,
            digest_tokens=self.digest_tokens,
        )

    def _digests(self) -> Digests:
        window = self._terms().window()
        return Digests(
            model=self.digest_model or self.model,
            prompt=self.digest_prompt,
            instructions=self.instructions,
            digest_tokens=0 if window is None else window.digest_tokens,
            limiters=self.limits,
        )

    def _answer(self, kwargs: Mapping[str, Any]) -> Answer:
        return Answer(self.model.bind(**kwargs) if kwargs else self.model, self.limits)

    def _result(self, output: Any, reading: Reading) -> Any:
        return SynthesisResult(output=output, provenance=reading.provenance) if self.with_provenance else output
