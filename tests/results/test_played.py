"""Metrics of whole episodes, summarised, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from results.played import summarise


def test_a_metric_is_summarised_over_the_episodes_that_have_it():
    found = summarise([{"win_step": 10.0, "phase": 2.0}, {"win_step": math.nan, "phase": 2.0},
                       {"win_step": 40.0, "phase": 5.0}])
    assert found["win_step"]["mean"] == 25
    assert found["win_step"]["std"] == 15                               # of the population
    assert (found["win_step"]["count"], found["win_step"]["episodes"]) == (2, [10, None, 40])
    phase = found["phase"]
    assert (phase["median"], phase["min"], phase["max"]) == (2, 2, 5)
    assert phase["mean"] == pytest.approx(3)
    assert phase["distribution"] == {"2": 2, "5": 1}


def test_what_no_episode_has_is_absent_and_fractions_have_no_distribution():
    found = summarise([{"win_step": math.nan, "share": 0.5, "name": "no number"}, {"share": 1.0}])
    assert set(found) == {"win_step", "share"}
    assert found["win_step"] == {"mean": None, "std": None, "median": None, "min": None, "max": None, "count": 0,
                                 "episodes": [None, None]}
    assert "distribution" not in found["share"]
    assert summarise([{}, {}]) == {}
