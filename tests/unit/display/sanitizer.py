"""What is left of HTML where notebooks are shown that the reader has not run.

- **JupyterLab** sanitizes outputs of notebooks that are not trusted: `packages/apputils/src/sanitizer.ts`, as published
  in `@jupyterlab/apputils` 4.7.6 (2026-11-06). It lets through a list of elements, attributes and styles, and of each
  style the values that a pattern fits; below is what reports use of it, with narrower patterns of our own. That
  package's sanitizer itself drops nothing of our reports, comparisons and fan-outs (tried on 2026-11-25).
- **GitHub** drops every `style` attribute, and with it all colours, widths and positions (pandas-dev/pandas#33076,
  2020-03-27; karolzak/ipyplot#3, 2020-05-19). Elements and `title` stay: all of ours are in the list that it publishes,
  `lib/html_pipeline/sanitization_filter.rb` of gjtorikian/html-pipeline (read on 2026-11-25).
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

TAGS = {"b", "details", "div", "span", "summary", "table", "tbody", "td", "th", "thead", "tr"}
ATTRIBUTES = {"style", "title"}
LENGTH = r"(?:0|\d+(?:\.\d+)?px)"
SHARE = r"\d+(?:\.\d+)?%"
COLOUR = r"(?:#[0-9a-f]{6}|rgba\(\d+,\d+,\d+,0\.\d+\))"
STYLES = {
    "background": COLOUR,
    "background-color": COLOUR,
    "background-image": rf"linear-gradient\(45deg(?:,(?:#[0-9a-f]{{8}}|transparent)(?: {SHARE})?)+\)",
    "background-size": rf"{LENGTH} {LENGTH}",
    "border-bottom": rf"{LENGTH} solid {COLOUR}",
    "border-collapse": "collapse",
    "color": COLOUR,
    "cursor": "pointer",
    "display": "inline-block",
    "float": "left|right",
    "font-size": LENGTH,
    "font-style": "italic",
    "height": LENGTH,
    "left": SHARE,
    "line-height": rf"{LENGTH}|\d\.\d",
    "margin": rf"{LENGTH}(?: {LENGTH}){{0,3}}",
    "max-width": LENGTH,
    "min-width": LENGTH,
    "opacity": r"0\.\d+",
    "outline": rf"{LENGTH} solid {COLOUR}",
    "overflow": "hidden",
    "padding": rf"{LENGTH}(?: {LENGTH}){{0,3}}",
    "padding-left": LENGTH,
    "position": "absolute|relative",
    "table-layout": "fixed",
    "text-align": "left|center",
    "text-overflow": "ellipsis",
    "vertical-align": "middle|top",
    "white-space": "nowrap",
    "width": f"{LENGTH}|{SHARE}",
}


class Checker(HTMLParser):
    """Fails on what would be dropped, and on elements that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        for name, value in attrs:
            assert name in ATTRIBUTES, (tag, name)
            if name == "style":
                for one in (value or "").split(";"):
                    key, _, rest = one.partition(":")
                    assert re.fullmatch(STYLES[key], rest), one

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def _checked(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert not checker.open
    return checker


def survives(html: str) -> str:
    """Return the text of `html`, all of which JupyterLab's sanitizer leaves as it is."""
    return " ".join(" ".join(_checked(html).texts).split())


def cells(html: str) -> list[list[str]]:
    """Return the rows of its tables: what is left of it at GitHub, where only text and tables are."""
    return _checked(html).rows
