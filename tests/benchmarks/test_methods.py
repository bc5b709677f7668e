"""The comparison of decompositions: its suites, its scores on tasks with known answers, its costs, its offline runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from runs import ROOT

from benchmarks.methods import cost, known, tasks
from benchmarks.offline import sac
from sweeps.suite import read_suite
from utils.settings.algorithms import decompositions

SUITES = ROOT / "benchmarks" / "methods"


@pytest.mark.parametrize(("name", "runs"), [("pendulum", 15), ("point_mass", 15), ("reacher", 7)])
def test_every_suite_is_understood_and_has_the_methods_that_it_should(name, runs):
    trials = read_suite(SUITES / f"{name}.json", "0-1", [])
    assert len(trials) == 2 * runs
    if runs == 15:
        basis = "ppo" if name == "point_mass" else "sac"
        assert {trial.settings["alg"] for trial in trials} == {*decompositions(), basis}


def test_scores_are_kept_and_not_computed_again(monkeypatch, capsys):
    words = ["--seeds=0", "--tasks=tabular,key_door", "--methods=uniform,rd", "--updates=2", "--out=known.csv"]
    known.main(words)
    rows = known.read(Path("known.csv"))
    assert [(row["task"], row["method"]) for row in rows] == [
        (task, method) for task in ("tabular", "key_door") for method in ("uniform", "rd")]
    assert float(rows[0]["r2_return"]) == pytest.approx(1)          # R/T adds up to R
    assert float(rows[0]["r2_reward"]) < 0.2
    assert rows[0]["r2_credit"] == ""
    monkeypatch.setattr(known, "scored", None)
    known.main(words)
    assert "| key_door | rd | 1 | - | " in capsys.readouterr().out


def test_the_true_rewards_and_the_true_credit_add_up_to_the_returns():
    for name in tasks.TASKS[:3]:
        task = tasks.task_of(name)
        for true in tasks.truth_of(name, task).values():
            np.testing.assert_allclose([one.sum() for one in true], task["return"], atol=1e-9)
    assert tasks.r2(np.array([1.0, 2, 4]), np.array([1.0, 2, 3])) == pytest.approx(0.5)


@pytest.mark.slow
def test_costs_are_ratios_to_rrd(capsys):
    cost.main(["--only=rd,rudder", "--steps=20", "--rounds=1", "--updates=1", "--out=cost.csv"])
    rows = known.read(Path("cost.csv"))
    assert [row["method"] for row in rows] == ["rrd", "rd", "rudder"]
    assert float(rows[0]["ratio_to_rrd"]) == 1
    assert [bool(row["burst_update_ms"]) for row in rows] == [False, False, True]
    assert capsys.readouterr().out == Path("cost.csv").read_text()


@pytest.mark.slow
def test_sac_learns_from_a_data_set_that_is_paid_anew(monkeypatch):
    monkeypatch.setattr(sac, "EVALUATED", 1)
    sac.main(["--seeds=0", "--methods=late,rd", "--episodes=4", "--fits=2", "--updates=2", "--out=scores.csv"])
    rows = known.read(Path("scores.csv"))
    assert [row["method"] for row in rows] == ["late", "rd"]
    assert all(-2000 < float(row["return"]) < 0 for row in rows)
    assert rows[1]["held_out_steps"] != ""


def test_the_controller_swings_the_pendulum_up():
    import gymnasium as gym
    env, rng = gym.make("Pendulum-v1"), np.random.default_rng(0)
    returns = [sac.played(env, rng, 0.0, seed)[2].sum() for seed in range(5)]
    assert np.mean(returns) > -250
