"""Seconds out of what providers write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus.providers.durations import (
    LONGEST,
    parse_duration,
    parse_instant,
    parse_number,
    parse_prose,
    seconds_until,
)

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0), ("12ms", 0.012), ("1h2m3s", 3723.0), ("2m59.56s", 179.56), ("7.66s", 7.66), ("0s", 0.0),
        ("1d2h", 93_600.0), ("250us", 0.00025), ("250µs", 0.00025), ("250μs", 0.00025), ("5ns", 5e-9), (".5s", 0.5),
        ("45.837906927s", 45.837906927), (" 1s ", 1.0), ("9999d", LONGEST), ("1.s", 1.0),
        ("", None), ("5", None), ("-5s", None), ("+5s", None), ("s", None), ("5 s", None), ("5s!", None),
        ("1e3s", None), ("5sec", None), ("s5", None), ("nan", None), ("\u0663s", None), ("1" * 70 + "s", None),
    ],
)  # fmt: skip
def test_go_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds, rel=1e-12))


def written_as_go(nanoseconds: int) -> str:
    """Write a duration as Go's `Duration.String` does."""
    if nanoseconds < 1_000_000_000:
        unit, size = next(((u, s) for u, s in (("ms", 10**6), ("µs", 10**3)) if nanoseconds >= s), ("ns", 1))
        return f"{nanoseconds / size:.9f}".rstrip("0").rstrip(".") + unit if nanoseconds else "0s"
    seconds, rest = divmod(nanoseconds, 10**9)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    hours, minutes = seconds // 3600, seconds // 60 % 60
    text = f"{seconds % 60}{fraction}s"
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}" if minutes else text


@given(st.integers(0, int(LONGEST) * 10**9))
def test_go_durations_come_back(nanoseconds: int) -> None:
    assert parse_duration(written_as_go(nanoseconds)) == pytest.approx(nanoseconds / 1e9, rel=1e-9, abs=1e-12)
    assert parse_prose(f" {written_as_go(nanoseconds)}. Visit") == parse_duration(written_as_go(nanoseconds))


@given(st.text())
def test_any_text_is_a_time_or_none(text: str) -> None:
    for seconds in (parse_duration(text), parse_prose(text), seconds_until(text, NOW)):
        assert seconds is None or 0 <= seconds <= LONGEST


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0.0), ("4999", 4999.0), ("0.5", 0.5), (".5", 0.5), (" 7 ", 7.0), ("-1", None), ("+1", None), ("1e3", None),
     ("nan", None), ("inf", None), ("", None), ("1,5", None), ("0x1", None), ("1_000", None), ("\u0661", None)],
)  # fmt: skip
def test_numbers(text: str, number: float | None) -> None:
    assert parse_number(text) == number


INSTANTS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)).map(
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)


@given(INSTANTS, st.integers(-14 * 60, 14 * 60))
def test_instants_come_back(at: datetime, minutes: int) -> None:
    there = at.astimezone(timezone(timedelta(minutes=minutes)))
    for text in (format_datetime(at, usegmt=True), at.isoformat(), f"{at:%Y-%m-%dT%H:%M:%SZ}", there.isoformat()):
        assert parse_instant(text) == at.timestamp()


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "2026-13-01T00:00:00Z", "Wed, 99 Foo 2026 00:00:00 GMT", "2026", "9" * 60]
)
def test_no_instant(text: str) -> None:
    assert parse_instant(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1.5s", 1.5),
        ("644ms", 0.644),
        ("6m0s. Visit", 360.0),
        ("1h12m0s.", 4320.0),
        ("47.4s.", 47.4),
        ("86400 seconds.", 86_400.0),
        ("7 seconds", 7.0),
        ("2 minutes", 120.0),
        ("1 hour", 3600.0),
        ("3 days", 259_200.0),
        ("20 milliseconds", 0.02),
        ("5 sec", 5.0),
        ("a moment", None),
        ("", None),
        ("17", None),
        ("- 5s", None),
    ],
)
def test_prose(text: str, seconds: float | None) -> None:
    assert parse_prose(text) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0),
        ("6m0s", 360.0),
        ("0", 0.0),
        (f"{NOW + 60:.0f}", 60.0),
        (f"{(NOW + 60) * 1000:.0f}", 60.0),
        (f"{NOW - 60:.0f}", 0.0),
        (datetime.fromtimestamp(NOW + 5, UTC).isoformat(), 5.0),
        (format_datetime(datetime.fromtimestamp(NOW - 5, UTC), usegmt=True), 0.0),
        ("33011.382867097855", 33011.382867097855),
        ("999999999", LONGEST),
        ("soon", None),
        ("-5", None),
    ],
)
def test_resets_in_any_spelling(text: str, seconds: float | None) -> None:
    assert seconds_until(text, NOW) == (None if seconds is None else pytest.approx(seconds))
