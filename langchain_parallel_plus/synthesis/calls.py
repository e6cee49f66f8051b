"""The model calls of a synthesis: digests, several at once, as the branches of a fan-out; then the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import patch_config

from langchain_parallel_plus._engine import tasks, threads
from langchain_parallel_plus._engine.fan_out import Branch, FanOut
from langchain_parallel_plus._engine.owned import Owned, owning
from langchain_parallel_plus._engine.prepared import for_tasks, for_threads
from langchain_parallel_plus.errors import SynthesisError
from langchain_parallel_plus.observe.otel import amade_inside, inside_synthesis, made_inside
from langchain_parallel_plus.synthesis.blocks import joined
from langchain_parallel_plus.synthesis.prompts import filled
from langchain_parallel_plus.synthesis.rendering import rendered

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
    from langchain_core.prompt_values import PromptValue
    from langchain_core.prompts import BasePromptTemplate

    from langchain_parallel_plus.limits import RateLimiter
    from langchain_parallel_plus.synthesis.blocks import Block

__all__ = ("Answer", "Digests")

Pack = Sequence["Block"]

_ANSWER = "answer"
_ADVICE = (
    "put the synthesis's model into RunnableWithPolicy(llm, BranchPolicy(retry=RetryPolicy())) to try such calls again"
)
_DIGEST_TAG = "synthesize:digest"


@dataclass(frozen=True, slots=True)
class Digests:
    """The calls that reduce packs."""

    model: Runnable[Any, Any]
    prompt: BasePromptTemplate[Any]
    instructions: str
    digest_tokens: int
    limiters: tuple[RateLimiter, ...] = ()

    def run(
        self, packs: Sequence[Pack], label: str, config: RunnableConfig, manager: CallbackManagerForChainRun
    ) -> list[str]:
        """Return the digest of each pack, all written at once or as `max_concurrency` and the limiters allow."""
        outputs = threads.invoke(self._fan_out(len(packs), label), self._prompts(packs), config, manager)
        return list(outputs.values())

    async def arun(
        self, packs: Sequence[Pack], label: str, config: RunnableConfig, manager: AsyncCallbackManagerForChainRun
    ) -> list[str]:
        """Return the digest of each pack; see `run`."""
        outputs = await tasks.ainvoke(self._fan_out(len(packs), label), self._prompts(packs), config, manager)
        return list(outputs.values())

    def prompt_for(self, pack: Pack) -> PromptValue:
        """Return what the model is shown of a pack."""
        words = max(20, self.digest_tokens // 2)  # English has about 1.3 tokens a word: some room is left
        return filled(self.prompt, {"branches": joined(pack), "instructions": self.instructions, "words": words})

    def _prompts(self, packs: Sequence[Pack]) -> list[PromptValue]:
        return [self.prompt_for(pack) for pack in packs]

    def _fan_out(self, packs: int, label: str) -> FanOut:
        names = [f"digest {label}" if packs == 1 else f"digest {label}.{place + 1}" for place in range(packs)]
        steps = [_DigestCall(self.model, place, name) for place, name in enumerate(names)]
        branches = tuple(Branch(key=name, step=step) for name, step in zip(names, steps, strict=True))
        return FanOut(
            name="digests", branches=branches, limiters=self.limiters, advice=_ADVICE, within=True, dynamic=True
        )


class _DigestCall(Runnable[Any, str]):
    """One of the prompts, answered."""

    def __init__(self, model: Runnable[Any, Any], place: int, name: str) -> None:
        self._model = model
        self._place = place
        self.name = name

    def invoke(self, input: Sequence[PromptValue], config: RunnableConfig | None = None, **kwargs: Any) -> str:
        return self._text(self._model.invoke(input[self._place], self._config(config)))

    async def ainvoke(self, input: Sequence[PromptValue], config: RunnableConfig | None = None, **kwargs: Any) -> str:
        model = for_tasks(self._model)
        return self._text(await model.ainvoke(input[self._place], self._config(config)))

    def _config(self, config: RunnableConfig | None) -> RunnableConfig:
        given = config or {}
        tagged: RunnableConfig = {**given, "tags": [*given.get("tags", ()), _DIGEST_TAG]}
        return patch_config(tagged, run_name=self.name)

    def _text(self, output: Any) -> str:
        if not isinstance(output, str | BaseMessage):
            msg = f"{self.name} of a tree reduce came back as {type(output).__name__}: it must be text"
            raise SynthesisError(msg, help="give digest_model= a model that writes text; model= writes the answer only")
        text = rendered(output).strip()
        if not text:
            raise SynthesisError(f"{self.name} of a tree reduce came back empty", help="look at the run of this name")
        return text


@dataclass(frozen=True, slots=True)
class Answer:
    """The call that writes the answer."""

    model: Runnable[Any, Any]
    limiters: tuple[RateLimiter, ...] = ()

    def invoke(self, prompt: PromptValue, config: RunnableConfig, manager: CallbackManagerForChainRun) -> Any:
        """Return the answer."""
        if self.limiters:
            return threads.invoke(self._fan_out(), prompt, config, manager)[_ANSWER]
        with inside_synthesis(manager.handlers):
            return self.model.invoke(prompt, patch_config(config, callbacks=manager.get_child()))

    async def ainvoke(
        self, prompt: PromptValue, config: RunnableConfig, manager: AsyncCallbackManagerForChainRun
    ) -> Any:
        """Return the answer."""
        if self.limiters:
            return (await tasks.ainvoke(self._fan_out(), prompt, config, manager))[_ANSWER]
        model = for_tasks(self.model)
        with inside_synthesis(manager.handlers):
            return await model.ainvoke(prompt, patch_config(config, callbacks=manager.get_child()))

    def stream(
        self, prompt: PromptValue, config: RunnableConfig, manager: CallbackManagerForChainRun
    ) -> Generator[Any, None, None]:
        """Yield the answer while it is written."""
        if not self.limiters:
            written = for_threads(self.model).stream(prompt, patch_config(config, callbacks=manager.get_child()))
            yield from made_inside(manager.handlers, written)
            return
        for chunk in threads.transform(self._fan_out(), iter([prompt]), config, manager, single=True):
            yield from chunk.values()

    async def astream(
        self, prompt: PromptValue, config: RunnableConfig, manager: AsyncCallbackManagerForChainRun
    ) -> AsyncGenerator[Any, None]:
        """Yield the answer while it is written."""
        if not self.limiters:
            model = for_tasks(self.model)
            child = patch_config(config, callbacks=manager.get_child())
            written = model.astream(prompt, child)
            async with owning(amade_inside(manager.handlers, Owned(written))) as stream:
                async for chunk in stream:
                    yield chunk
            return

        async def prompts() -> AsyncIterator[PromptValue]:
            yield prompt

        async with owning(tasks.atransform(self._fan_out(), prompts(), config, manager, single=True)) as stream:
            async for parts in stream:
                for chunk in parts.values():
                    yield chunk

    def _fan_out(self) -> FanOut:
        step = self.model
        branch = Branch(key=_ANSWER, step=step, for_threads=for_threads(step), for_tasks=for_tasks(step))
        return FanOut(name=_ANSWER, branches=(branch,), limiters=self.limiters, advice=_ADVICE, within=True)
