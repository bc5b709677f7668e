"""Rows of cycles on a terminal: which columns there are, and what their cells hold."""

from __future__ import annotations

import pytest

from utils.rows import REPEAT, WIDTH, Rows, columns_of, percent

NAMES = ["Epoch", "Cycle", "Episodes", "Timesteps", "TimeCost(sec)/train", "TimeCost(sec)/test", "Pi_loss", "Q_loss",
         "Steps", "Rewards", "Reward/pearson_within"]
MEANS = dict.fromkeys(NAMES, 1.0) | {"Timesteps": 333.0, "Rewards": -1234.5678, "Pi_loss": None, "Episodes": 7.0}


def headings(width: int, names=NAMES, run: str = "") -> list[str]:
    return [one.heading for one in columns_of(names, 1000, run, width)]


def test_the_important_columns_come_first_and_the_others_where_there_is_room():
    assert headings(200) == ["done", "steps", "return", "length", "episodes", "Pi_loss", "Q_loss",
                             "Reward/pearson_within", "train sec", "test sec"]
    assert headings(60) == ["done", "steps", "return", "length", "episodes", "Pi_loss"]
    assert headings(30) == ["done", "steps", "return"]
    assert headings(1) == ["done", "steps", "return"]
    assert headings(60, run="seed 10") == ["run", "done", "steps", "return", "length", "episodes"]
    assert headings(60, [*NAMES, "train/return"])[2:4] == ["return", "train return"]


@pytest.mark.parametrize("width", [20, 37, 60, 80, 120, 200])
@pytest.mark.parametrize("run", ["", "seed 3"])
def test_no_line_is_wider_than_the_terminal_and_cells_stand_below_their_headings(width, run):
    heading, row = Rows().add(MEANS, 1000, run, width)
    assert len(heading) == len(row) <= max(width, 23)
    end = -2
    for column in columns_of([*MEANS], 1000, run, width):
        end += 2 + column.width
        assert heading.plain[:end].endswith(column.heading)
        assert row.plain[end - 1] != " " != heading.plain[end - 1]
        assert f"{row.plain} "[end] == f"{heading.plain} "[end] == " "


def test_the_cells_are_the_metrics():
    _, row = Rows().add(MEANS, 1000, "seed 3", 200)
    assert row.plain.split() == ["seed", "3", "33%", "333", "-1234.6", "1", "7", "-", "1", "1", "1", "1"]


@pytest.mark.parametrize("value", [0.0, -1e-5, 1.23456789e-300, -1.23456789e-300, 123456789.0, float("nan"),
                                   float("-inf"), -0.000123456])
def test_a_number_never_takes_more_than_its_column(value):
    heading, row = Rows().add(MEANS | {"Rewards": value}, 1000, "", 30)
    assert len(row) == len(heading)
    assert len(row.plain.split()[2]) <= WIDTH


def test_the_heading_stands_again_after_many_rows_and_where_the_width_changes():
    rows = Rows()
    sizes = [len(rows.add(MEANS, 1000, "", 60)) for _ in range(2 * REPEAT + 1)]
    assert [i for i, size in enumerate(sizes) if size == 2] == [0, REPEAT, 2 * REPEAT]
    assert len(rows.add(MEANS, 1000, "", 80)) == 2


@pytest.mark.parametrize(("steps", "total", "told"), [(0, 3, "0%"), (1, 3, "33%"), (999, 1000, "99%"), (3, 3, "100%"),
                                                      (None, 3, "0%")])
def test_a_run_is_at_100_percent_only_at_its_end(steps, total, told):
    assert percent(steps, total) == told
