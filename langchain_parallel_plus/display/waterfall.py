"""A report in a notebook: a waterfall for each fan-out, of `div`s in a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_parallel_plus.display import words
from langchain_parallel_plus.display.markup import FAINT, Html, percent, tag, text
from langchain_parallel_plus.observe.costs import costs_of
from langchain_parallel_plus.observe.timeline import timeline
from langchain_parallel_plus.observe.tree import Row, roots, subtree, walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_parallel_plus.observe.aggregates import FanOutAggregate
    from langchain_parallel_plus.observe.records import BranchReport, FanOutReport
    from langchain_parallel_plus.observe.report import RunReport
    from langchain_parallel_plus.observe.timeline import Segment

__all__ = ("report_html",)

_ROWS = 50
"""Shown at once; the rest can be opened."""
_MORE = 150
"""Shown when opened."""
_PIECES = 500
"""In one bar."""
_CRITICAL = "#d97706"
_LETTER_FROM = 0.02
"""Share of the width below which a letter does not fit."""


def report_html(report: RunReport) -> Html:
    """Return a report as a piece of HTML."""
    fan_outs = roots(report.fan_outs)
    if not fan_outs and not report.syntheses:
        return tag("div", text("no fan-out ran"))
    shown = fan_outs
    parts: list[Html] = []
    if len(fan_outs) > 1:
        parts.append(_aggregates(report.aggregates, costs=fan_outs[0].price is not None))
        shown = sorted(fan_outs, key=lambda one: one.seconds or 0.0, reverse=True)
        if (whole := report.together) is not None:
            parts.append(_chips(whole, "(all runs together)"))
        parts.append(tag("div", text("the slowest run:"), margin="8px 0 0 0", opacity="0.7"))
    if shown:
        parts.append(_fan_out(shown[0], _ROWS))
    parts += _others(shown[1:])
    parts += [tag("div", text(words.synthesis(one))) for one in report.syntheses[:_ROWS]]
    parts.append(tag("div", text(words.in_all(report))))
    return tag("div", *parts, font_size="13px", line_height="1.4", max_width="1100px")


def _others(fan_outs: Sequence[FanOutReport]) -> list[Html]:
    if not fan_outs:
        return []
    rows = _MORE
    inside: list[Html] = []
    for one in fan_outs:
        if rows <= 0:
            inside.append(tag("div", text(f"... and {len(fan_outs) - len(inside)} more")))
            break
        inside.append(_fan_out(one, rows))
        rows -= sum(1 for _ in walk(one))
    return [tag("details", tag("summary", text(f"{len(fan_outs)} more, the slowest first"), cursor="pointer"), *inside)]


def _fan_out(fan_out: FanOutReport, limit: int) -> Html:
    rows = list(walk(fan_out))
    whole = fan_out.seconds or max((row.branch.ended - fan_out.started for row in rows), default=0.0)
    parts = [_title(fan_out), _lost(fan_out), _table(fan_out, rows[:limit], whole)]
    rest = rows[limit : limit + _MORE]
    if rest:
        left = len(rows) - limit - len(rest)
        parts.append(
            tag(
                "details",
                tag("summary", text(f"{len(rows) - limit} more branches"), cursor="pointer"),
                _table(fan_out, rest, whole),
                tag("div", text(f"... and {left} more")) if left > 0 else Html(""),
            )
        )
    parts.append(_legend())
    return tag("div", *parts, margin="4px 0 14px 0")


def _title(fan_out: FanOutReport) -> Html:
    took = words.took(fan_out)
    where = f" in {'/'.join(fan_out.path)}" if fan_out.path else ""
    state = "" if fan_out.outcome in (None, "ok") else f", {fan_out.outcome}"
    head = tag("b", text(fan_out.name + where, 80), font_size="14px")
    many = len(fan_out.own_branches)
    facts = text(f"{took}{state}, {many} branch{'es' * (many != 1)}")
    return tag(
        "div",
        tag("div", head, Html(" &#160; "), facts),
        _chips(fan_out),
    )


def _chips(fan_out: FanOutReport, after: str = "") -> Html:
    chips = [
        tag("span", tag("b", text(value)), Html(" "), text(name), title=told, margin="0 14px 0 0", white_space="nowrap")
        for name, value, told in words.numbers(fan_out)
    ]
    return tag("div", *(Html(chip + " ") for chip in chips), text(after), margin="2px 0 4px 0")


def _lost(fan_out: FanOutReport) -> Html:
    """Return what the critical branch's time went on, and what to do about it."""
    told = fan_out.measures
    if told.critical is None or not fan_out.seconds:
        return Html("")
    spent = {"useful": told.branches[told.critical].useful, **told.lost}
    whole = sum(spent.values())
    parts, words_of = [], []
    for activity, value in spent.items():
        look = words.LOOKS[activity]
        if value < 0.005 * whole:
            continue
        label = f"{look.name}: {words.seconds(value)}"
        words_of.append(label)
        letter = text(look.letter) if value >= _LETTER_FROM * whole else Html("")
        parts.append(_piece(letter, label, look.colour, activity, width=percent(value, whole), float="left"))
    advice, name = words.advice(fan_out), tag("b", text("/".join(told.critical), 60))
    return tag(
        "div",
        tag("div", Html("critical branch "), name, text(f": {'; '.join(words_of)}", 300)),
        tag("div", *parts, height="14px", overflow="hidden", background=FAINT, margin="3px 0"),
        tag("div", text(f"{advice}.", 200), font_style="italic") if advice else Html(""),
        margin="0 0 6px 0",
    )  # fmt: skip


def _table(fan_out: FanOutReport, rows: Sequence[Row], whole: float) -> Html:
    priced = fan_out.price is not None
    heads = ["branch", "", "outcome", "seconds", "attempts", "tokens", *(["cost"] if priced else [])]
    widths = ["19%", "42%" if priced else "49%", "13%", "8%", "6%", "5%", "7%"]
    head = [_cell("th", text(name), width) for name, width in zip(heads, widths, strict=False)]
    head[1] = _cell("th", _axis(whole), widths[1])
    body = [_row(fan_out, row, whole, priced) for row in rows]
    return tag(
        "table",
        tag("thead", tag("tr", *head)),
        tag("tbody", *body),
        width="100%",
        table_layout="fixed",
        border_collapse="collapse",
        margin="0",
        font_size="12px",
    )


def _axis(whole: float) -> Html:
    ends = (("left", "0"), ("right", words.seconds(whole)))
    return tag("div", *(tag("span", text(value), float=side) for side, value in ends), opacity="0.7", height="16px")


def _cell(kind: str, content: Html, width: str = "", title: str = "") -> Html:
    style = {"width": width} if width else {}
    return tag(
        kind, content, title=title, text_align="left", padding="1px 6px 1px 0", overflow="hidden", white_space="nowrap",
        text_overflow="ellipsis", vertical_align="middle", **style,
    )  # fmt: skip


def _row(fan_out: FanOutReport, row: Row, whole: float, priced: bool) -> Html:
    branch, critical = row.branch, row.branch.path in fan_out.measures.critical_path
    name = text(branch.path[-1], 60)
    marked = tag("b", name) if critical else name
    indented = tag("div", marked, padding_left=f"{12 * row.depth}px", overflow="hidden", text_overflow="ellipsis")
    measures = fan_out.measures.branches.get(branch.path)
    slack = "" if measures is None or measures.slack is None else f", slack {words.seconds(measures.slack)}"
    cells = [
        _cell("td", indented, title=branch.name + (" (critical)" if critical else slack)),
        _cell("td", _bar(fan_out, row, whole, critical)),
        _cell("td", text(words.outcome(branch)), title=words.outcome(branch)),
        _cell("td", text(words.seconds(branch.seconds)), title=_spent(row)),
        _cell("td", text(branch.attempts), title=f"{branch.calls} model calls"),
        _cell("td", text(words.tokens(branch)), title=_tokens(branch)),
    ]
    if priced:
        cells.append(_cell("td", text(words.money(costs_of(branch, fan_out.price)[0]))))
    return tag("tr", *cells)


def _tokens(branch: BranchReport) -> str:
    below = list(subtree(branch))
    sent, received = sum(one.input_tokens for one in below), sum(one.output_tokens for one in below)
    return f"{sent} in, {received} out{', with all that it called' if len(below) > 1 else ''}"


def _spent(row: Row) -> str:
    line = timeline(row.branch)
    spent = [(look.name, line.seconds(activity)) for activity, look in words.LOOKS.items()]
    return "; ".join(f"{name} {words.seconds(value)}" for name, value in spent if value >= 0.0005)


def _bar(fan_out: FanOutReport, row: Row, whole: float, critical: bool) -> Html:
    segments = timeline(row.branch).segments
    if len(segments) > _PIECES:  # a stream of many chunks: what is no pixel wide is left out
        segments = tuple(one for one in segments if one.ended - one.started >= whole / _PIECES)
    pieces = [_segment(one, fan_out.started, whole) for one in segments]
    outline = {"outline": f"2px solid {_CRITICAL}"} if critical else {}
    return tag(
        "div", *pieces, position="relative", height="15px", background=FAINT, overflow="hidden", margin="2px", **outline
    )


def _segment(segment: Segment, started: float, whole: float) -> Html:
    look = words.look_of(segment)
    length = segment.ended - segment.started
    title = f"{look.name}, {words.seconds(length)}, from {words.seconds(max(segment.started - started, 0.0))}"
    letter = text(look.letter) if whole and length / whole >= _LETTER_FROM else Html("")
    left, width = percent(segment.started - started, whole), percent(length, whole)
    return _piece(letter, title, look.colour, segment.activity, position="absolute", left=left, width=width)


_STRIPES = (
    "linear-gradient(45deg,#ffffff33 25%,transparent 25%,transparent 50%,#ffffff33 50%,#ffffff33 75%,transparent 75%)"
)


def _piece(letter: Html, title: str, colour: str, activity: str, **place: str) -> Html:
    """Return one coloured stretch; what is no work is striped, for eyes that do not tell the colours apart."""
    stripes = {} if activity == "useful" else {"background_image": _STRIPES, "background_size": "8px 8px"}
    return tag(
        "div", letter, title=title, **place, min_width="1px", height="15px", line_height="15px", font_size="10px",
        color="#ffffff", text_align="center", overflow="hidden", background_color=colour, **stripes,
    )  # fmt: skip


def _legend() -> Html:
    keys = []
    for activity, look in words.LOOKS.items():
        if activity != "overhead":
            mark = _piece(text(look.letter), look.name, look.colour, activity, display="inline-block", width="15px")
            keys.append(tag("span", mark, Html(" "), text(look.name), margin="0 12px 0 0", white_space="nowrap"))
    mark = tag("div", display="inline-block", width="13px", height="11px", outline=f"2px solid {_CRITICAL}")
    keys.append(tag("span", mark, Html(" &#160;"), text("critical: ended last"), white_space="nowrap"))
    return tag("div", *(Html(key + " ") for key in keys), font_size="11px", opacity="0.85", margin="4px 0 0 0")


def _aggregates(groups: Sequence[FanOutAggregate], *, costs: bool) -> Html:
    heads = [
        "fan-out",
        "runs",
        "failed",
        "p50",
        "p95",
        "wait p50",
        "wait p95",
        *(["cost", "a success"] if costs else []),
    ]
    rows = []
    for one in groups[:_ROWS]:
        where = f" in {'/'.join(one.path)}" if one.path else ""
        cells = [text(one.name + where, 60), text(one.runs), text(one.failed)]
        times = (one.seconds.p50, one.seconds.p95, one.wait.p50, one.wait.p95)
        cells += [text(words.seconds(value)) for value in times]
        if costs:
            cells += [text(words.money(one.cost)), text(words.money(one.cost_per_success))]
        rows.append(tag("tr", *(_cell("td", cell) for cell in cells)))
    head = tag("tr", *(_cell("th", text(name)) for name in heads))
    return tag(
        "table", tag("thead", head), tag("tbody", *rows), border_collapse="collapse", margin="0", font_size="12px"
    )
