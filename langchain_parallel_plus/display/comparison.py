"""A comparison as text and as HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_parallel_plus.display import words
from langchain_parallel_plus.display.markup import FAINT, Html, percent, tag, text

if TYPE_CHECKING:
    from langchain_parallel_plus.observe.compare import Comparison, Way

__all__ = ("comparison_html", "comparison_text")

_BAR = 40


def comparison_text(told: Comparison) -> str:
    """Return a line for each way, and the verdict."""
    longest = max(way.seconds for way in told.ways)
    width = max(len(way.name) for way in told.ways)
    lines = []
    for way in told.ways:
        bar = "#" * max(round(_BAR * way.seconds / longest), 1) if longest else ""
        lines.append(f"{way.name.ljust(width)}  {words.seconds(way.seconds):>9}  {_results(way)}  {bar}")
    return "\n".join([*lines, f"({told.conditions})", told.verdict])


def comparison_html(told: Comparison) -> Html:
    """Return a bar for each way, and the verdict."""
    longest = max(way.seconds for way in told.ways)
    rows = [_row(way, longest) for way in told.ways]
    table = tag(
        "table",
        tag("tbody", *rows),
        width="100%",
        table_layout="fixed",
        border_collapse="collapse",
        margin="0",
        font_size="13px",
    )
    verdict = tag("div", tag("b", text(told.verdict, 600)), margin="6px 0 0 0")
    how = tag("div", text(told.conditions, 300), opacity="0.7")
    return tag("div", table, verdict, how, font_size="13px", line_height="1.4", max_width="900px")


def _row(way: Way, longest: float) -> Html:
    colour = words.LOOKS["wasted" if way.raised else "useful"].colour
    bar = tag("div", width=percent(way.seconds, longest), min_width="1px", height="15px", background_color=colour)
    cells = (
        (text(way.name), "24%"),
        (text(words.seconds(way.seconds)), "10%"),
        (text(_results(way)), "18%"),
        (tag("div", bar, background=FAINT), "48%"),
    )
    return tag(
        "tr", *(tag("td", cell, width=width, text_align="left", padding="2px 6px 2px 0") for cell, width in cells)
    )


def _results(way: Way) -> str:
    if way.raised:
        return f"{way.raised} of {way.inputs} failed"
    return f"{way.inputs} of {way.inputs} ok" + (f", {way.gaps} with gaps" if way.gaps else "")
