"""The credit of an episode by method, on the page of report.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from studies import RRD, make_run

import report
from results.credit import PREDICTED, TRUE, Credit, credit_figure, newest_credit


def write_credit(run: Path, name: str = "20260101-000000", **changes: object) -> Path:
    facts = {"unit": "reward", "predicted": [0.5, 0.5, 1.0], "true": [0.0, 1.0, 1.0],
             "by_step": {"pearson_so_far": [None, 0.5, 1.0]}} | changes
    path = run / "evaluations" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"credit": facts}))
    return path


def lines_of(figure) -> list[list[tuple[str, list[float]]]]:
    """The color and the values of each line, by panel."""
    return [[(line.get_color(), list(line.get_ydata())) for line in axes.get_lines()] for axes in figure.axes]


def test_each_method_has_its_payments_beside_the_truth_by_step_and_summed_up():
    credits = {"rd": Credit(np.array([1.0, 2.0]), np.array([0.0, 3.0]), "reward", np.array([np.nan, 1.0])),
               "ircr": Credit(np.array([0.5, 0.5]), np.array([4.0, 1.0]), "share", np.array([0.1, 0.2]))}
    found = lines_of(credit_figure("Hopper-v4", credits))
    assert found[0] == [(TRUE, [0, 3]), (PREDICTED, [1, 2])]
    assert found[1] == [(TRUE, [0, 3]), (PREDICTED, [1, 3])]
    assert found[2][0][1][1] == 1.0
    assert found[3] == [(TRUE, [4, 1])]                             # shares have a scale of their own
    assert [(PREDICTED, [0.5, 0.5])] in found[6:]
    assert to_rgb(TRUE) != to_rgb(PREDICTED)


def test_the_last_diagnosis_counts_and_a_file_that_is_damaged_does_not():
    run = make_run("one", RRD, [1.0, 2.0])
    assert newest_credit(run) is None
    write_credit(run, "20260101-000000")
    write_credit(run, "20260102-000000", predicted=[3.0, 3.0, 3.0])
    (run / "evaluations" / "20260104-000000.json").write_text('{"episodes": 3}')        # without a diagnosis
    (run / "evaluations" / "20260105-000000.json").write_text("{")
    found = newest_credit(run)
    np.testing.assert_array_equal(found.predicted, [3, 3, 3])
    assert np.isnan(found.so_far[0])


@pytest.mark.parametrize("changes", [
    {"predicted": [1.0]}, {"true": "text"}, {"predicted": [1.0, float("nan"), 2.0]}, {"by_step": None},
    {"predicted": [], "true": []}, {"predicted": [[1.0]], "true": [[1.0]]}, {"by_step": {}}])
def test_numbers_that_are_none_are_left_out(changes):
    run = make_run("one", RRD, [1.0, 2.0])
    write_credit(run, **changes)
    assert newest_credit(run) is None


def test_the_page_shows_the_credit_of_each_method():
    for name, settings in (("one", RRD), ("two", RRD | {"alg": "rudder"})):
        write_credit(make_run(name, settings, [1.0, 2.0]))
    assert report.main(["outputs", "--resamples=20"]) == 0
    html = Path("report.html").read_text()
    assert html.count("What the steps of an episode are paid on Hopper-v4, by method") == 2
    assert 'href="#reward"' in html
    assert "rewards along an episode" not in html
