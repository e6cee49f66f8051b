"""Untrusted text in a prompt: nothing in it can be taken for a tag of ours, or for a control token of a model.

A branch's output may have come from a web page. What is done to it is little, so that code, markup and prose stay what
they are: a `<` (or a character that looks like one) becomes `&lt;` where a tag of ours, a speaker's tag or a control
token of a chat format would begin, however it is spelled; control characters go.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("SafeNames", "escaped")

_OPENERS: Final = (
    "<\uff1c\ufe64\u2039\u2329\u3008\u27e8\u276e\u276c\u1438\u02c2\u29fc\u2770\u226e\u226a\u300a\u27ea\U0001f878"
)
"""Less-than signs, and what looks like one."""
_OPENER: Final = re.compile(f"[{_OPENERS}]")
_BARS: Final = "|\uff5c\u2223\u01c0"

_MARKERS: Final = (
    *("branch", "missing", "digest"),  # our own tags
    *("system", "instruction", "user", "human", "assistant", "developer", "tool"),  # speakers, as people fake them
    *("startofturn", "endofturn", "bos>", "eos>", "s>", "sys>", "unk>", "pad>"),  # Gemma, Llama, Mistral
)
_LONGEST: Final = max(map(len, _MARKERS))
_SQUARES: Final = re.compile("[\\[\uff3b\u27e6\u301a\u3010\u2045]")
_SQUARES_END: Final = "]\uff3d\u27e7\u301b\u3011\u2046"
_IN_SQUARES: Final = ("inst", "systemprompt", "availabletools", "toolcalls", "toolresults")  # Mistral, Llama 2

# Letters of other scripts that look like those of the markers (Unicode's confusables.txt, the lower-case ones).
# NFKD has made the mathematical, full-width and circled letters plain before.
_LOOKS_LIKE: Final = str.maketrans(
    "\u0430\u0441\u0501\u0435\u04bb\u0456\u043c\u043e\u0440\u0455\u0442\u0443\u044c\u0432\u0433\u043d\u0578\u057d"
    "\u03b1\u03b9\u03bd\u03bf\u03c1\u03c4\u03c5\u0251\u0261\u0131\u0269\u0299\u0280\u1d00\u0274\u1d04\u029c\u1d0d"
    "\u026a\ua731\u0262\u1d18\u1d1b\u029f\u1d1c\u1d0f\u1d05\u1d07\u13c2"
    "\ua4d0\ua4da\ua4d3\ua4d4\ua4d6\ua4df\ua4e0\ua4e1\ua4e2\ua4e3\ua4e6\ua4e7\ua4ec\ua4ee\ua4f0\ua4f2\ua4f3\ua4f4\ua4d1"
    "\u13aa\u13f4\u13df\u13a0\u13ac\u13c0\u13bb\u13a5\u13de\u13b7\u13e2\u13a1\u13d2\u13da\u13a2\u13d9\u13bd",
    "acdehimopstybbrhnuaivoptuagiibranchmisgptluodehbcdtgmnlsrvhyaeioupabcdeghilmprrstvy",
)

# Line ends of all kinds become "\n". Then go: control characters, marks that reverse the direction of text, and the
# "tag characters" that spell invisible ASCII. Lone surrogates cannot be sent at all.
_LINE_END: Final = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_CONTROL: Final = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

_NOT_IN_NAMES: Final = re.compile(r"[^\w .:/-]")
_NAME_LENGTH: Final = 80


def escaped(text: str) -> str:
    """Return `text` for the inside of a block: it can neither close the block nor open another.

    Example:
        ```python
        assert escaped("a < b, </ Branch>") == "a < b, &lt;/ Branch>"
        ```
    """
    shown = _SURROGATE.sub("\ufffd", _CONTROL.sub("", _LINE_END.sub("\n", text)))
    shown = _OPENER.sub(lambda found: "&lt;" if _begins_marker(shown, found.end()) else found.group(), shown)
    return _SQUARES.sub(lambda found: "&#91;" if _is_in_squares(shown, found.end()) else found.group(), shown)


class SafeNames(dict[str, str]):
    """How each name is written in an attribute: plain, short, and like no other one; the first asked for comes first.

    Args:
        taken: What no name may be written like.

    Example:
        ```python
        names = SafeNames()
        assert (names['a"><b'], names["a___b"]) == ("a___b", "a___b 2")
        ```
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        super().__init__()
        self._taken = {name.casefold() for name in taken}

    def __missing__(self, name: str) -> str:
        plain = _NOT_IN_NAMES.sub("_", unicodedata.normalize("NFKC", name)).strip()[:_NAME_LENGTH] or "unnamed"
        shown, number = plain, 1
        while shown.casefold() in self._taken:
            number += 1
            shown = f"{plain} {number}"
        self._taken.add(shown.casefold())
        self[name] = shown
        return shown


def _begins_marker(text: str, start: int) -> bool:
    """Return whether what follows a `<` reads as a marker once all that is unseen or a slash is left out."""
    read = ""
    for position in range(start, len(text)):
        character = text[position]
        if not read and character in _BARS:
            return True  # <|im_start|> and its kin
        if character in _OPENERS and read:
            return False
        read += _letters(character)
        if any(read.startswith(marker) for marker in _MARKERS):
            return True
        if len(read) >= _LONGEST or not any(marker.startswith(read) for marker in _MARKERS):
            return False
    return False


def _is_in_squares(text: str, start: int) -> bool:
    """Return whether what follows a `[`, up to its end, reads as a control token of a chat format."""
    read = ""
    for position in range(start, len(text)):
        if text[position] in _SQUARES_END:
            return read in _IN_SQUARES
        read += _letters(text[position])
        if not any(token.startswith(read) for token in _IN_SQUARES):
            return False
    return False


def _letters(character: str) -> str:
    """Return what a reader takes `character` for: nothing, if it is unseen, a space, a slash or an accent."""
    plain = unicodedata.normalize("NFKD", character).casefold().translate(_LOOKS_LIKE)
    return "".join(one for one in plain if not _passed_over(one))


def _passed_over(character: str) -> bool:
    return (
        character in "/\\_-!?*~'\"\u2044\u2215\u2571\u29f8\u115f\u1160\u3164\uffa0"
        or unicodedata.category(character)[0] in "MCZ"
    )
