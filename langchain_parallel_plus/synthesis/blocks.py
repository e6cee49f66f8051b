"""What a model is shown of the branches: one delimited block each, which no branch can leave."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from langchain_parallel_plus.outcome import BranchFailure, ErrorKind

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("missing_branches", "present", "render", "render_blocks", "render_missing")

# A branch's output is untrusted: it may have come from a web page. Anything in it that looks like one of our tags,
# however it is spaced or capitalised, is shown as text.
_TAG = re.compile(r"[<\uff1c](?=\s*/?\s*(?:branch|missing)\b)", re.IGNORECASE)
_NAME = re.compile(r"[^\w .:/-]")


def render(output: Any) -> str:
    """Return a branch's output as text.

    Text stays as it is; messages and Documents give their text; lists are rendered item by item; dicts and pydantic
    models become JSON; everything else is what `str` makes of it.
    """
    match output:
        case str():
            return output
        case BaseMessage():
            return str(output.text)
        case Document():
            return output.page_content
        case BaseModel():
            return output.model_dump_json()
        case dict():
            return json.dumps({str(key): one for key, one in output.items()}, ensure_ascii=False, default=render)
        case list() | tuple():
            return "\n".join(f"- {render(item)}" for item in output)
        case _:
            return str(output)


def render_blocks(outputs: Mapping[str, Any]) -> str:
    """Return the blocks of the branches that succeeded, in the order of the dict."""
    blocks = (
        f'<branch name="{_safe_name(name)}">\n{_TAG.sub("&lt;", render(output)).strip()}\n</branch>'
        for name, output in outputs.items()
    )
    return "\n\n".join(blocks)


def missing_branches(inputs: Mapping[str, Any], expected: Sequence[str]) -> dict[str, str]:
    """Return the branches that did not come back, each with the reason in a few words."""
    missing = {name: "no result" for name in expected if name not in inputs}
    missing |= {name: _words(reason) for name, reason in getattr(inputs, "missing", {}).items()}
    for name, output in inputs.items():
        if isinstance(output, BranchFailure):
            missing[name] = _words(output.kind.value)
        elif isinstance(output, Mapping):  # a fan-out inside a branch has branches of its own that may be missing
            missing |= {f"{name}/{inner}": reason for inner, reason in missing_branches(output, ()).items()}
    return missing


def render_missing(missing: Mapping[str, str]) -> str:
    """Return one line for each missing branch; the provider's own words stay out of the prompt."""
    return "\n".join(f'<missing name="{_safe_name(name)}">{reason}</missing>' for name, reason in missing.items())


def _safe_name(name: str) -> str:
    return _NAME.sub("_", name)


def present(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the branches that succeeded returned, down to those of fan-outs inside branches."""
    shown = {}
    for name, output in inputs.items():
        inner = present(output) if isinstance(output, dict) else None
        if isinstance(output, BranchFailure) or (output and inner == {}):
            continue  # failed, or a fan-out of which nothing came back
        shown[name] = output if inner is None else inner
    return shown


def _words(reason: str) -> str:
    return "failed" if reason == ErrorKind.UNKNOWN.value else reason.replace("_", " ")
