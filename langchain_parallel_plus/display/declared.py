"""A fan-out as it is declared: a row for each branch, before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from langchain_parallel_plus.display.markup import FAINT, Html, tag, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ("DeclaredBranch", "declared_html", "declared_text")

_ROWS = 50
_MORE = 150
_HEADINGS = ("branch", "runnable", "policy", "limits")


class DeclaredBranch(NamedTuple):
    """One branch, in words."""

    key: str
    runnable: str
    policy: str
    limits: str


def declared_text(title: str, facts: Sequence[str], branches: Sequence[DeclaredBranch]) -> str:
    """Return a table of the branches below `title`."""
    rows = [_HEADINGS, *([_cut(cell) for cell in branch] for branch in branches[:_ROWS])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if len(branches) > _ROWS:
        lines.append(f"... and {len(branches) - _ROWS} more branches")
    return "\n".join([", ".join([_cut(title, 80), *facts]), *lines])


def declared_html(title: str, facts: Sequence[str], branches: Sequence[DeclaredBranch]) -> Html:
    """Return a table of the branches below `title`."""
    head = tag("div", tag("b", text(title, 80)), text("".join(f", {fact}" for fact in facts), 300))
    parts = [head, _table(branches[:_ROWS])]
    rest = branches[_ROWS : _ROWS + _MORE]
    if rest:
        parts.append(tag("details", *_rest(len(branches), rest)))
    return tag("div", *parts, font_size="13px", line_height="1.4", max_width="900px")


def _rest(whole: int, rest: Sequence[DeclaredBranch]) -> Iterator[Html]:
    yield tag("summary", text(f"{whole - _ROWS} more branches"), cursor="pointer")
    yield _table(rest)
    if left := whole - _ROWS - len(rest):
        yield tag("div", text(f"... and {left} more"))


def _table(branches: Sequence[DeclaredBranch]) -> Html:
    head = tag("tr", *(_cell("th", text(name)) for name in _HEADINGS))
    body = [tag("tr", *(_cell("td", text(cell), title=cell) for cell in branch)) for branch in branches]
    return tag(
        "table", tag("thead", head), tag("tbody", *body), border_collapse="collapse", margin="4px 0", font_size="12px"
    )


def _cell(kind: str, content: Html, title: str = "") -> Html:
    return tag(
        kind, content, title=title, text_align="left", vertical_align="top", padding="2px 14px 2px 0",
        border_bottom=f"1px solid {FAINT}",
    )  # fmt: skip


def _cut(value: str, length: int = 48) -> str:
    flat = " ".join("".join(char if char.isprintable() else " " for char in value).split())
    return flat if len(flat) <= length else f"{flat[: length - 3]}..."
