"""What a branch returned, as text: the same for the same output, whatever its shape."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import PromptValue
from pydantic import BaseModel

from langchain_parallel_plus.outcome import BranchFailure, ErrorKind

__all__ = ("reason_words", "rendered")

_MEDIA = ("image", "audio", "video", "file")


def rendered(output: Any) -> str:
    r"""Return a branch's output as text.

    | output | text |
    |---|---|
    | `str` | itself |
    | message | its text; `[image, image/png]` for media, `[tool call search({"query": "x"})]`; no reasoning |
    | `Document` | its text, under `Source: ...` if the metadata name a `source` |
    | list, tuple, set, prompt value | one `- ` item each, further lines of an item indented; a set is sorted |
    | dict, pydantic model, dataclass | JSON on one line |
    | enum | its value |
    | `bytes` | `[2048 bytes]` |
    | `None`, and whatever is empty | nothing: the branch counts as missing, with the reason "empty" |
    | `BranchFailure` inside of these | `[failed: timeout]`, without the provider's words; an exception: `[failed]` |
    | anything else | what `str` makes of it |

    Example:
        ```python
        assert rendered([Document("Rain.", metadata={"source": "weather.txt"}), {"mm": 4}]) == (
            '- Source: weather.txt\n  Rain.\n- {"mm": 4}'
        )
        ```
    """
    match output:
        case None:
            return ""
        case Enum():
            return rendered(output.value)
        case str():
            return str.__str__(output)
        case bytes() | bytearray() | memoryview():
            return f"[{len(output)} bytes]" if len(output) else ""
        case BranchFailure():
            return f"[failed: {reason_words(output.kind.value)}]"
        case BaseException():  # without its words, which may be anybody's
            return "[failed]"
        case BaseMessage():
            return _message(output)
        case Document():
            return _document(output)
    return _of_many(output)


def reason_words(reason: str) -> str:
    """Return why a branch is missing in plain words."""
    if reason in (ErrorKind.UNKNOWN.value, ErrorKind.LOCAL.value):  # kinds that say who raised it, and not why
        return "failed"
    return reason.replace("_", " ")


def _of_many(output: Any) -> str:
    match output:
        case PromptValue():
            return _items([rendered(message) for message in output.to_messages()])
        case AbstractSet():
            return _items(sorted(rendered(item) for item in output))
        case Mapping() | BaseModel():
            return _json(output)
        case Sequence():
            return _items([rendered(item) for item in output])
    return _json(output) if dataclasses.is_dataclass(output) and not isinstance(output, type) else str(output)


def _items(items: Sequence[str]) -> str:
    indented = (item.strip().replace("\n", "\n  ") for item in items)
    return "\n".join(f"- {item}" for item in indented)


def _document(document: Document) -> str:
    source = document.metadata.get("source")
    return document.page_content if source in (None, "") else f"Source: {source}\n{document.page_content}"


def _message(message: BaseMessage) -> str:
    if isinstance(message.content, str) and not getattr(message, "tool_calls", None):
        return message.content
    lines: list[str] = []
    running = ""
    for block in message.content_blocks:
        if block["type"] == "text":
            running += str(block.get("text", ""))
            continue
        if shown := _block(dict(block)):
            lines += [running, shown]
            running = ""
    return "\n".join(line for line in (*lines, running) if line)


def _block(block: Mapping[str, Any]) -> str:
    kind = str(block.get("type"))
    if kind in _MEDIA:
        return f"[{kind}, {block['mime_type']}]" if block.get("mime_type") else f"[{kind}]"
    if kind in {"tool_call", "server_tool_call"}:
        return f"[tool call {block.get('name')}({json.dumps(_jsonable(block.get('args')), ensure_ascii=False)})]"
    if kind == "text-plain":
        return str(block.get("text", ""))
    return ""


def _json(output: Any) -> str:
    plain = _jsonable(output)
    return json.dumps(plain, ensure_ascii=False) if plain else ""


def _jsonable(value: Any) -> Any:
    if value is None or type(value) in {str, int, float, bool}:
        return value
    if isinstance(value, BaseMessage | Document | BranchFailure):
        return rendered(value)
    if isinstance(value, Mapping):
        return {str(key): _jsonable(one) for key, one in value.items()}
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        return {name: _jsonable(one) for name, one in {**fields, **(value.model_extra or {})}.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_jsonable(one) for one in value]
    return rendered(value)
