"""The table of scenarios, from given seconds."""

from __future__ import annotations

from langchain_parallel_plus.demo.scenarios import SCENARIOS, Measured, table_head, table_row


def test_the_floor_is_the_longest_branch_at_the_simulators_speed() -> None:
    assert [scenario.floor for scenario in SCENARIOS] == [0.3, 0.4, 0.2]


def test_rows_stand_under_their_headings() -> None:
    heading = table_head().splitlines()[-1]
    row = table_row(Measured(SCENARIOS[0], one_by_one=0.756, parallel=0.312, ours=0.308))
    assert row.split() == ["research", "agent", "0.76", "0.31", "0.31", "0.30"]
    assert len(row) == len(heading)
    for title, cell in zip(
        ["one by one", "RunnableParallel ", "RunnableParallelPlus", "floor"],
        ["0.76", "0.31", "0.31", "0.30"],
        strict=True,
    ):
        end = heading.index(title) + len(title.rstrip())
        assert row[:end].endswith(cell)
