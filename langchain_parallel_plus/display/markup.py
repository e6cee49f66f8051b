"""HTML that survives: every text escaped, and nothing but what JupyterLab's sanitizer lets through.

It drops `svg`, `style` and `script` from untrusted notebooks, and inline styles that are not on its list (`flex-*`,
`gap`, `var()`, `inherit`, ...): `packages/apputils/src/sanitizer.ts`, as of apputils 4.7.6. GitHub drops all styles:
what is left are tables of text, which are to be read without bars. A test holds all HTML to both.
Colours are mid-tones with white text, and text outside of bars has none, so that it reads in light and dark themes.
"""

from __future__ import annotations

from html import escape
from typing import NewType

__all__ = ("FAINT", "Html", "percent", "tag", "text")

Html = NewType("Html", str)
"""Markup: everything in it is escaped already."""

FAINT = "rgba(128,128,128,0.25)"
"""Lines and empty tracks."""


def text(value: object, limit: int = 120) -> Html:
    """Return any text as markup, on one line and cut to `limit` characters."""
    flat = " ".join("".join(char if char.isprintable() else " " for char in str(value)).split())
    return Html(escape(flat if len(flat) <= limit else f"{flat[: limit - 3]}..."))


def tag(name: str, *children: Html, title: str = "", **style: str) -> Html:
    """Return an element; its style is given as keywords with `_` for `-`."""
    css = ";".join(f"{key.replace('_', '-')}:{value}" for key, value in style.items())
    attributes = f' style="{css}"' if css else ""
    if title:
        attributes += f' title="{text(title, 400)}"'
    return Html(f"<{name}{attributes}>{''.join(children)}</{name}>")


def percent(part: float, whole: float) -> str:
    """Return a share as CSS, never in exponents, which the sanitizer does not know."""
    share = min(max(part / whole, 0.0), 1.0) if whole > 0 else 0.0
    return f"{100 * share:.2f}%"
