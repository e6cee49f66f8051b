"""One word, one number: a table of rows has what the text shows under the same name."""

from __future__ import annotations

import re

import pytest

from langchain_parallel_plus.observe import FanOutReport, RunReport
from tests.unit.observe.records import attempt, branch, call, fan_out, wait

SHOWN = {
    "useful s": "useful",
    "wait s": "wait",
    "back-off s": "backoff",
    "wasted s": "wasted",
    "queued s": "queued",
    "reader s": "reader",
    "seconds": "seconds",
}


class Known(RunReport):
    """A report of one fan-out, made by hand."""

    def __init__(self, told: FanOutReport) -> None:
        super().__init__()
        self.told = told

    @property
    def fan_outs(self) -> list[FanOutReport]:
        return [self.told]


def _told() -> FanOutReport:
    hedged = (attempt(1, 0, 5, "cancelled"), attempt(2, 3, 5, "ok", "hedge"))
    retried = (attempt(1, 1, 3, "failed"), attempt(2, 4, 9, "ok", "retry"))
    return fan_out(
        branch("hedged", 0, 5, attempts=2, attempt_log=hedged),
        branch("retried", 1, 9, attempts=2, attempt_log=retried, backoff_log=((3, 4),), capped=True),
        branch("waits", 0, 8, wait_log=(wait(0, 4), wait(0, 5)), model_calls=(call(5, 8),), reader_log=((6, 7),)),
        seconds=9,
        max_concurrency=2,
    )


def test_rows_show_what_the_text_shows() -> None:
    report = Known(_told())
    lines = str(report).splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("branch "))
    headings = re.split("  +", lines[place])
    assert set(SHOWN) <= set(headings)
    for row, line in zip(report.rows(), lines[place + 1 :], strict=False):
        cells = dict(zip(headings, re.split("  +", line), strict=False))
        assert {name: cells[name] for name in SHOWN} == {name: f"{row[key]:.2f}" for name, key in SHOWN.items()}


def test_a_branchs_seconds_are_the_sum_of_what_they_went_on() -> None:
    for row in (*Known(_told()).rows(), *Known(_told()).to_dict()["fan_outs"][0]["branches"]):
        spent = sum(row[key] for key in SHOWN.values() if key != "seconds") + row["overhead"]
        assert spent == pytest.approx(row["seconds"])


def test_calls_that_wait_at_the_same_time_and_losers_beside_useful_work_have_numbers_of_their_own() -> None:
    hedged, _, waits = Known(_told()).rows()
    assert (hedged["wasted"], hedged["wasted_work"]) == (3, 5)
    assert (waits["wait"], waits["call_wait"]) == (5, 9)
