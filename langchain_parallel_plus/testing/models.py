"""Chat models that answer from a script, for tests without any server."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation

from langchain_parallel_plus.errors import DeclarationError, ParallelPlusError
from langchain_parallel_plus.testing.tokens import count_tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models.base import LangSmithParams

__all__ = ("ScriptedCall", "ScriptedChatModel")

ScriptEntry = str | AIMessage | Exception
Script = Sequence[ScriptEntry] | Callable[[list[BaseMessage]], ScriptEntry]
Sleep = Callable[[float], None]

_WORD = re.compile(r"\s*\S+\s*")


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """One call that a `ScriptedChatModel` received."""

    index: int
    """Number of the call, from 0."""
    messages: tuple[BaseMessage, ...]
    stop: tuple[str, ...]
    """The stop sequences; empty if none were given."""


class _Script:
    """The position in a script and the calls so far; one lock, so that threads and loops share a model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[ScriptedCall] = []

    def record(self, messages: list[BaseMessage], stop: list[str] | None) -> ScriptedCall:
        with self._lock:
            call = ScriptedCall(len(self._calls), tuple(messages), tuple(stop or ()))
            self._calls.append(call)
            return call

    def calls(self) -> tuple[ScriptedCall, ...]:
        with self._lock:
            return tuple(self._calls)

    def __getstate__(self) -> list[ScriptedCall]:
        return list(self.calls())

    def __setstate__(self, calls: list[ScriptedCall]) -> None:
        self._lock = threading.Lock()
        self._calls = calls


class ScriptedChatModel(BaseChatModel):
    """A chat model that answers from a script: texts, messages, or errors to raise.

    Entries are taken in the order in which calls arrive, also across threads and event loops; streams come word by
    word. Answers carry `usage_metadata`, counted by this package's own tokenizer.

    Args:
        script: A list with an entry for each call, or a function of the messages that gives one. An `Exception` in its
            place is raised by the call, before the first word.
        **fields: The fields below.

    Example:
        ```python
        from langchain_parallel_plus.testing import ScriptedChatModel

        model = ScriptedChatModel(["first answer", TimeoutError("too slow"), "third answer"])
        assert model.invoke("hello").content == "first answer"
        assert model.calls[0].messages[0].content == "hello"
        ```

    Raises:
        ParallelPlusError: By a call after the end of the script, unless `cycle` is set.
        DeclarationError: If the script is neither a list of such entries nor callable.
        pydantic.ValidationError: If a delay is negative, or another field has the wrong type.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    script: SkipValidation[Script]
    cycle: bool = False
    """Whether the script starts again at its end."""
    latency: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Seconds before the answer, or before the first word of a stream."""
    chunk_delay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Seconds between the words of a stream."""
    sleep: Sleep = time.sleep
    """How synchronous calls wait; asynchronous ones use `asyncio.sleep`, which follows the loop's clock."""
    model: str = "scripted"
    """The model's name in traces and for limiters that match by model."""
    provider: str = "scripted"
    """The provider's name in traces and for limiters that match by model."""

    _state: _Script = PrivateAttr(default_factory=_Script)

    def __init__(self, script: Script, **fields: Any) -> None:
        super().__init__(script=_checked(script), **fields)

    @property
    def calls(self) -> tuple[ScriptedCall, ...]:
        """The calls so far, in order of arrival; copies made by `bind` and the like count here too."""
        return self._state.calls()

    @property
    def _llm_type(self) -> str:
        return "scripted-chat-model"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = self.provider
        return params

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = self._state.record(messages, stop)
        if self.latency:
            self.sleep(self.latency)
        return _result(self._answer(call))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = self._state.record(messages, stop)
        if self.latency:
            await asyncio.sleep(self.latency)
        return _result(self._answer(call))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call = self._state.record(messages, stop)
        if self.latency:
            self.sleep(self.latency)
        for place, chunk in enumerate(_chunks(self._answer(call))):
            if place and self.chunk_delay:
                self.sleep(self.chunk_delay)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call = self._state.record(messages, stop)
        if self.latency:
            await asyncio.sleep(self.latency)
        for place, chunk in enumerate(_chunks(self._answer(call))):
            if place and self.chunk_delay:
                await asyncio.sleep(self.chunk_delay)
            yield chunk

    def _answer(self, call: ScriptedCall) -> AIMessage:
        entry = self.script(list(call.messages)) if callable(self.script) else self._entry(self.script, call.index)
        if isinstance(entry, Exception):
            raise entry
        # A copy: LangChain writes ids and metadata into the message that it is given.
        message = entry.model_copy(deep=True) if isinstance(entry, AIMessage) else AIMessage(content=entry)
        if message.usage_metadata is None:
            message.usage_metadata = _usage(call, message)
        return message

    def _entry(self, script: Sequence[ScriptEntry], index: int) -> ScriptEntry:
        if script and self.cycle:
            return script[index % len(script)]
        if index < len(script):
            return script[index]
        raise ParallelPlusError(
            f"the script has {len(script)} entries, and this is call {index + 1}",
            help="add entries, set cycle=True, or give a function of the messages",
        )


def _checked(script: Script) -> Script:
    if callable(script):
        return script
    if isinstance(script, str) or not isinstance(script, Sequence):
        raise DeclarationError(
            f"a script must be a list of entries or a function of the messages, got {type(script).__name__}",
            help="put a single answer in a list: ScriptedChatModel(['answer'])",
        )
    for place, entry in enumerate(script):
        if not isinstance(entry, str | AIMessage | Exception):
            raise DeclarationError(
                f"entry {place} of the script is of type {type(entry).__name__}",
                help="entries are texts, AIMessages or exceptions to raise (instances of Exception)",
            )
    return tuple(script)


def _usage(call: ScriptedCall, message: AIMessage) -> UsageMetadata:
    read = sum(count_tokens(str(part.text)) for part in call.messages)
    written = count_tokens(str(message.text))
    return UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)


def _result(message: AIMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)])


def _chunks(message: AIMessage) -> Iterator[ChatGenerationChunk]:
    content = message.content
    words: Sequence[Any] = _words(content) if isinstance(content, str) else [content]
    for word in words:
        yield ChatGenerationChunk(message=AIMessageChunk(content=word, id=message.id))
    calls = [
        tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=place)
        for place, call in enumerate(message.tool_calls)
    ]
    end = AIMessageChunk(
        content="" if isinstance(content, str) else [],
        id=message.id,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
        tool_call_chunks=calls,
        usage_metadata=message.usage_metadata,
        chunk_position="last",
    )
    yield ChatGenerationChunk(message=end)


def _words(text: str) -> list[str]:
    return _WORD.findall(text) or ([text] if text else [])
