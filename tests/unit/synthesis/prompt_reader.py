"""Reads a synthesis's prompt as somebody would who is as easily taken in as a language model."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

__all__ = ("Tag", "read_blocks", "suspicious_tags")

_BLOCK = re.compile(
    r'<(?P<tag>branch|digest) (?:name|branches)="(?P<name>[^"<>]*)"(?: partial="(?P<partial>[^"<>]*)")?'
    r'(?: part="(?P<part>\d+/\d+)")?>\n(?P<text>.*?)\n</(?P=tag)>'
    r'|<(?P<gone>missing) name="(?P<gone_name>[^"<>]*)">(?P<reason>[^<>]*)</missing>',
    re.DOTALL,
)

_OPENERS = re.compile(r"[<\uff1c\ufe64\u2039\u2329\u3008\u27e8\u276e\u276c\u1438\u02c2\u2770\u226e\u226a\u300a\u27ea]")
_HOMOGLYPHS = str.maketrans(
    "\u0430\u0441\u04bb\u03b1\u0280\u0455\u2044\u2215\u2571\ua4d0\ua4ee\ua4e0\u13aa\u13f4\u13a1\u13df\u13bb\u301a\u301b",
    "achars///banabrch[]",
)
_TAG = re.compile(r"<[\s/\\_!*~'\"-]*(branch|missing|digest)")
_CONTROL = re.compile(
    r"<[\s/]*[|\uff5c]|\[[\s*]*/?[\s*]*(?:inst|system_prompt|available_tools)[\s*]*\]"
    r"|<[\s/]*(?:system|user|assistant|instruction|developer|human|tool|bos>|eos>|s>|unk>|start_of_turn|end_of_turn)"
)


@dataclass(frozen=True)
class Tag:
    """A block of the prompt."""

    tag: str
    name: str
    text: str
    partial: str | None = None
    part: str | None = None


def read_blocks(prompt: str) -> list[Tag]:
    """Return the blocks of a prompt in order."""
    found = []
    for block in _BLOCK.finditer(prompt):
        if block["gone"]:
            found.append(Tag("missing", block["gone_name"], block["reason"]))
        else:
            found.append(Tag(block["tag"], block["name"], block["text"], block["partial"], block["part"]))
    return found


def suspicious_tags(prompt: str) -> list[str]:
    """Return all that might be taken for one of our tags, or for a control token: opening and closing ones."""
    seen = "".join(
        one
        for one in unicodedata.normalize("NFKD", _OPENERS.sub("<", prompt)).casefold().translate(_HOMOGLYPHS)
        if one == "\n" or (unicodedata.category(one)[0] != "M" and unicodedata.category(one) not in {"Cf", "Cc"})
    )
    seen = re.sub("[\u115f\u1160\u3164\uffa0]", "", seen)
    return [*_TAG.findall(seen), *(found.group() for found in _CONTROL.finditer(seen))]
