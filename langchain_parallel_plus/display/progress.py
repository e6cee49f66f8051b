"""How far runs are, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_parallel_plus.display import words
from langchain_parallel_plus.display.markup import FAINT, percent, tag, text

if TYPE_CHECKING:
    from langchain_parallel_plus.observe.tally import Tallied

__all__ = ("ProgressLine", "progress_text")


def progress_text(told: Tallied) -> str:
    """Return the counts that are not 0, in words."""
    failed = f" ({told.failed} failed)" if told.failed else ""
    parts = [f"{told.done}/{told.total} branches done{failed}"]
    parts += [f"{count} {name}" for name, count in (("running", told.running), ("retrying", told.retrying)) if count]
    for limiter, count in told.waiting.items():
        name = "".join(char if char.isprintable() else " " for char in limiter)[:40]
        left = told.left.get(limiter)
        parts.append(f"{count} waiting for {name}" + (f" (about {words.seconds(left)})" if left else ""))
    return ", ".join(parts)


class ProgressLine:
    """The line as a notebook shows it."""

    def __init__(self, told: Tallied) -> None:
        self._told = told

    def __repr__(self) -> str:
        return progress_text(self._told)

    def _repr_html_(self) -> str:
        told = self._told
        done = tag(
            "div", width=percent(told.done, told.total), height="10px", background_color=words.LOOKS["useful"].colour
        )
        bar = tag("div", done, background=FAINT, height="10px", max_width="480px", margin="2px 0")
        return tag("div", bar, text(progress_text(told), 300), font_size="13px")
