"""The statistics of few runs: by hand, and beside rliable's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from results import statistics

FIGURES = json.loads((Path(__file__).parent.parent / "reference" / "rliable.json").read_text())
OURS = {"iqm": statistics.interquartile_mean, "median": statistics.median, "mean": statistics.mean,
        "optimality_gap": statistics.optimality_gap}
TASKS = [np.array([0.0, 0.5, 1.0]), np.array([2.0, 2.0, 2.0]), np.array([0.0, 0.0, 3.0])]      # means 0.5, 2, 1


def tasks(name: str) -> list[np.ndarray]:
    """The fixture's scores, in the layout of rliable, (runs, tasks)."""
    return list(np.array(FIGURES["scores"][name]).T)


# By hand ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("scores", "found"), [
    ([5, 1, 0], 2), ([100, 1, 2, 3], 2.5), ([90, 2, 3, 4, 5, 7, -90], 4.2), ([8, 7, 6, 5, 4, 3, 2, 1], 4.5), ([9], 9)])
def test_iqm_drops_a_quarter_rounded_down_at_both_ends(scores, found):
    assert statistics.interquartile_mean([np.array(scores)]) == found


def test_iqm_is_of_all_scores_of_all_tasks():
    assert statistics.interquartile_mean(TASKS) == (0 + 0.5 + 1 + 2 + 2) / 5        # without 0, 0 and 2, 3


def test_mean_median_and_gap_are_of_the_tasks():
    assert statistics.mean(TASKS) == pytest.approx(3.5 / 3)
    assert statistics.median(TASKS) == 1
    assert statistics.optimality_gap(TASKS) == pytest.approx(1 - (0.5 + 1 + 1 / 3) / 3)
    assert statistics.optimality_gap([np.array([1.0, 4.0])], gamma=2) == 0.5


def test_every_task_counts_alike_however_many_runs_it_has():
    scores = [np.array([1.0]), np.array([0.0, 0.0, 0.0])]
    assert statistics.mean(scores) == statistics.optimality_gap(scores) == 0.5
    np.testing.assert_array_equal(statistics.performance_profile(scores, [0.5]), [0.5])


def test_a_profile_is_the_share_above_not_at_tau():
    np.testing.assert_allclose(statistics.performance_profile(TASKS, [-1, 0, 1, 2, 3]), np.array([9, 6, 4, 1, 0]) / 9)


def test_ties_count_half_in_the_probability_of_improvement():
    x, y = [np.array([1, 2])], [np.array([2, 3, 0])]        # wins: 1 > 0, 2 > 0, and half of 2 = 2
    assert statistics.probability_of_improvement(x, y) == 2.5 / 6
    assert statistics.probability_of_improvement(y, x) == 3.5 / 6
    assert statistics.probability_of_improvement(x, x) == 0.5
    with pytest.raises(ValueError, match="longer"):
        statistics.probability_of_improvement(x, [*y, y[0]])


def test_leading_axes_are_kept():
    scores = [np.stack([task, 2 * task]) for task in TASKS]
    for statistic in OURS.values():
        np.testing.assert_allclose(statistic(scores), [statistic(TASKS), statistic([2 * task for task in TASKS])])
    assert statistics.performance_profile(scores, [0, 1, 2]).shape == (2, 3)


# The bootstrap ------------------------------------------------------------------------------------------------------

def test_runs_are_drawn_from_their_own_task():
    low, high = statistics.bootstrap(statistics.mean, [np.zeros(4), np.ones(4)], resamples=200)
    assert low == high == 0.5


def test_a_resample_of_two_runs_has_the_three_means_that_it_can_have():
    seen = []
    low, high = statistics.bootstrap(lambda scores: seen.append(statistics.mean(scores)) or seen[-1],
                                     [np.array([0.0, 1.0])], resamples=4000)
    values, counts = np.unique(np.concatenate(seen), return_counts=True)
    np.testing.assert_array_equal(values, [0, 0.5, 1])
    np.testing.assert_allclose(counts / 4000, [0.25, 0.5, 0.25], atol=0.04)
    assert (low, high) == (0, 1)


def test_the_ends_are_percentiles_and_the_seed_decides():
    scores = [np.arange(50.0)]
    found = [statistics.bootstrap(statistics.mean, scores, seed=seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).all()
    margin = 1.96 * np.std(scores[0]) / np.sqrt(50)                 # the mean of 50 is near enough to normal
    np.testing.assert_allclose(found[0], [24.5 - margin, 24.5 + margin], atol=0.5)
    narrow = statistics.bootstrap(statistics.mean, scores, level=0.5, seed=1)
    assert found[0][0] < narrow[0] < narrow[1] < found[0][1]


def test_a_run_is_drawn_whole():
    curve = np.arange(4.0)
    low, high = statistics.bootstrap(lambda scores: np.ptp(statistics.mean(scores), axis=-1),
                                     [np.stack([curve, curve])], resamples=50)
    assert low == high == 0


def test_samples_are_drawn_independently():
    same = [np.array([0.0, 1.0])]
    assert tuple(statistics.bootstrap(statistics.probability_of_improvement, same, same)) == (0, 1)


@pytest.mark.parametrize(("scores", "settings"), [
    ([[]], {}), ([[1.0]], {"resamples": 0}), ([[1.0]], {"level": 1.0}), ([[1.0]], {"level": 0.0})])
def test_wrong_arguments_are_refused(scores, settings):
    with pytest.raises(ValueError, match=r"expected|without"):
        statistics.bootstrap(statistics.mean, [np.array(task) for task in scores], **settings)


# rliable ------------------------------------------------------------------------------------------------------------

# Of 20 000 to 50 000 resamples the ends differ from draw to draw by less; the scores' steps are 0.01.
MONTE_CARLO = 0.012


@pytest.mark.parametrize("statistic", OURS)
@pytest.mark.parametrize("name", ["x", "y", "z"])
def test_aggregates_equal_rliables(name, statistic):
    theirs = FIGURES[name]
    assert OURS[statistic](tasks(name)) == pytest.approx(theirs["points"][statistic], rel=0, abs=1e-12)
    interval = statistics.bootstrap(OURS[statistic], tasks(name), resamples=20_000)
    np.testing.assert_allclose(interval, theirs["intervals"][statistic], rtol=0, atol=MONTE_CARLO)


@pytest.mark.parametrize("name", ["x", "y", "z"])
def test_profiles_equal_rliables(name):
    found = statistics.performance_profile(tasks(name), FIGURES["taus"])
    np.testing.assert_allclose(found, FIGURES[name]["profile"], rtol=0, atol=1e-12)
    interval = statistics.bootstrap(lambda scores: statistics.performance_profile(scores, FIGURES["taus"]),
                                    tasks(name), resamples=20_000)
    one_run = 1 / sum(map(len, tasks(name)))                        # the least by which a profile can differ
    np.testing.assert_allclose(interval, FIGURES[name]["profile_interval"], rtol=0, atol=one_run + 1e-9)


def test_probability_of_improvement_equals_rliables():
    theirs = FIGURES["x over y"]
    samples = tasks("x"), tasks("y")
    assert statistics.probability_of_improvement(*samples) == pytest.approx(theirs["point"], rel=0, abs=1e-12)
    interval = statistics.bootstrap(statistics.probability_of_improvement, *samples, resamples=20_000)
    np.testing.assert_allclose(interval, theirs["interval"], rtol=0, atol=MONTE_CARLO)
