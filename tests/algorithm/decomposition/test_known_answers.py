"""Four tasks whose right credit is known: what each decomposition finds there, and what it cannot find.

The tasks and their answers are figures of another program, tests/reference/methods/sanity_*.npz.
"""

from __future__ import annotations

import json
from argparse import Namespace

import numpy as np
import pytest

from algorithm import create_decomposition
from algorithm.decomposition.episodes import whole_episodes
from benchmarks.methods.tasks import one_hot, r2, sequences, task_of
from benchmarks.methods.tasks import table as table_episodes


def model_of(alg: str, obs: int, acts: int, **settings):
    return create_decomposition(Namespace(alg=alg, obs_dims=obs, acts_dims=acts, device="cpu", **settings))


# A table of rewards ------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def table() -> dict:
    """The task, its episodes as one batch, and every pair of state and action."""
    task = task_of("tabular")
    episodes = table_episodes(task)
    pairs = one_hot(np.repeat(np.arange(5), 2), 5), one_hot(np.tile(np.arange(2), 5), 2)
    return {"task": task, "batch": whole_episodes(episodes), "episodes": episodes,
            "pairs": (pairs[0], pairs[1], pairs[0])}


def fitted_table(table: dict, alg: str, updates: int, **settings) -> np.ndarray:
    """What each state and action is paid after full-batch updates, (5, 2)."""
    model = model_of(alg, 5, 2, r_lr=3e-2, reward_hidden_sizes=(32,), lr_schedule="cosine", total_timesteps=updates,
                     timesteps=1, warmup=1, train_batches=1, **settings)
    batch = {name: table["batch"][name] for name in model.loss_spec()}
    for _ in range(updates):
        model.update(batch)
    return model.rewards(*table["pairs"]).numpy().reshape(5, 2)


@pytest.mark.parametrize(("alg", "settings"), [("rd", {}), ("rd", {"target": "return"}),
                                               ("lrr", {"sigma_floor": 0.05})], ids=str)
def test_least_squares_and_likelihood_find_the_true_rewards(table, alg, settings):
    assert r2(fitted_table(table, alg, 250, **settings), table["task"]["true/reward_table"]) > 0.99


def test_rrd_has_another_limit_which_is_the_one_of_its_closed_form(table):
    """With the penalty of K = 4 drawn steps."""
    found = fitted_table(table, "rd", 300, variance_penalty=1.0, rrd_sample_size=4)
    task = table["task"]
    assert r2(found, task["minimiser/rrd_mean"]) > 0.99
    assert r2(found, task["true/reward_table"]) == pytest.approx(0.606, abs=0.03)
    assert np.corrcoef(found.ravel(), task["true/reward_table"].ravel())[0, 1] == pytest.approx(0.979, abs=0.01)


@pytest.mark.slow
def test_diaster_finds_the_true_rewards(table):
    model = model_of("diaster", 5, 2, cell_size=64, r_lr=1e-3, cut_noise=False, return_scale=1.0, fit_episodes=32)
    model.fit(table["episodes"], 3000)
    found = model.rewards(*table["pairs"]).numpy().reshape(5, 2)
    assert r2(found, table["task"]["true/reward_table"]) > 0.95


# Predictions of the return ------------------------------------------------------------------------------------------

def watches(count: int) -> dict[str, np.ndarray]:
    """More episodes of the watches, by the constants of the task."""
    rng, meta = np.random.default_rng(0), json.loads(str(task_of("watch_repair")["meta"]))
    brand, repaired = rng.integers(4, size=count), rng.integers(2, size=count)
    events = rng.random((count, meta["steps"], 2)) < meta["event_probability"]
    costs = (events * np.array(meta["event_cost"])).sum((1, 2))
    for name in ("fix", "ship"):
        costs = costs + rng.normal(np.array(meta[name])[brand], np.array(meta[f"{name}_sd"])[brand])
    return {"brand": brand, "repaired": repaired, "events": events,
            "return": repaired * (np.array(meta["price"])[brand] - costs)}


def fitted(name: str, episodes: list[dict], updates: int, **settings) -> tuple[np.ndarray, float]:
    """RUDDER on these episodes: what it pays those of the task, (N, T), and its running R2."""
    model = model_of("rudder", episodes[0]["obs"].shape[1], 1, cell_size=32, r_lr=3e-3, fit_episodes=32,
                     quality_floor=0.0, **{"return_scale": 1.0} | settings)
    model.fit(episodes, updates)
    whole = sequences(name)
    paid = np.stack([model.redistribute(one).numpy() for one in whole])
    np.testing.assert_allclose(paid.sum(1), [one["rews"].sum() for one in whole], atol=1e-3)
    return paid, float(model.quality())


def held_out(name: str, updates: int) -> tuple[float, float]:
    """RUDDER on three quarters of a task: the R2 of its payments on the rest, and that of the predicted return."""
    episodes, true = sequences(name), task_of(name)["true/redistribution"]
    rest = len(episodes) * 3 // 4
    paid, quality = fitted(name, episodes[:rest], updates)
    return r2(paid[rest:], true[rest:]), quality


def test_rudder_finds_the_key_and_the_door():
    """No Markov reward can: what is best of those misses by 1/16."""
    paid, predicted = held_out("key_door", 700)
    assert paid > 0.75
    assert predicted > 0.75
    task = task_of("key_door")
    additive = task["true/best_additive"][task["observations"], task["actions"]].sum(1)
    assert np.square(additive - task["return"]).mean() == pytest.approx(1 / 16, abs=0.02)


@pytest.mark.slow
def test_rudder_repairs_the_right_watches():
    """The first step is paid what repairing the brand is worth: the middle two of four."""
    paid, _ = fitted("watch_repair", sequences("watch_repair", watches(4000)), 1500, return_scale=10.0)
    task, worth = task_of("watch_repair"), []
    for brand in range(4):
        first = [paid[(task["brand"] == brand) & (task["repaired"] == repaired), 0].mean() for repaired in (0, 1)]
        worth.append(first[1] - first[0])
    assert [value > 0 for value in worth] == [bool(best) for best in task["true/best_action"]]
    assert np.corrcoef(worth, task["true/value_of_repair"])[0, 1] > 0.9         # smaller ones as yet: it learns slowly
    assert r2(paid, task["true/redistribution"]) > 0.5


@pytest.mark.slow
def test_rudder_finds_the_coins_of_the_chain():
    paid, predicted = held_out("chain", 3000)
    assert paid > 0.65
    assert predicted > 0.9
