"""What a notebook's sanitizer lets through: JupyterLab's `packages/apputils/src/sanitizer.ts`, as far as it is used."""

from __future__ import annotations

import re
from html.parser import HTMLParser

TAGS = {"b", "details", "div", "span", "summary", "table", "tbody", "td", "th", "thead", "tr"}
ATTRIBUTES = {"style", "title"}
STYLES = {
    "background", "background-color", "background-image", "background-size", "border-bottom", "border-collapse",
    "color", "cursor", "display", "float", "font-size", "font-style", "height", "left", "line-height", "margin",
    "max-width", "min-width", "opacity", "outline", "overflow", "padding", "padding-left", "position", "table-layout",
    "text-align", "text-overflow", "vertical-align", "white-space", "width",
}  # fmt: skip
UNSAFE = re.compile(r"url\(|var\(|calc\(|expression|javascript|inherit|(?<![#\w])[\d.]+e[+-]?\d", re.I)


class Checker(HTMLParser):
    """Fails on what would be dropped, and on elements that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        self.open.append(tag)
        for name, value in attrs:
            assert name in ATTRIBUTES, (tag, name)
            if name == "style":
                for one in (value or "").split(";"):
                    key, _, rest = one.partition(":")
                    assert key in STYLES, one
                    assert not UNSAFE.search(rest), one

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def survives(html: str) -> str:
    """Return the text of `html`, all of which a sanitizer leaves as it is."""
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert not checker.open
    return " ".join(" ".join(checker.texts).split())
