"""Sampled worlds obey the rules, and are distributed as the published program's (tests/reference/marinenav)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import algorithm.replay
import envs.marinenav.sample
from envs.marinenav.sample import main
from envs.marinenav.sampler import accept, compatible, sample, shortfall
from envs.marinenav.settings import Settings

REFERENCE = Path(__file__).parents[2] / "reference" / "marinenav" / "world_sampling.npz"
CASES = ("default", "shipped_first_stage", "shipped_last_stage", "crowded", "far")
KINDS = {"robots": "start", "cores": "cores", "obstacles": "obstacles"}


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """The arrays of 200 resets of each setting, by the command."""
    found, folder = {}, tmp_path_factory.mktemp("worlds")
    for name in CASES:
        meta = published(name)
        flags = [f"--{flag}={meta[key]}" for flag, key in
                 (("robots", "num_robots"), ("cores", "num_cores"), ("obstacles", "num_obstacles"),
                  ("min-start-goal-dis", "min_start_goal_dis"))]
        assert main([*flags, "--resets=200", "--seed=0", f"--out={folder / name}.npz"]) == 0
        with np.load(folder / f"{name}.npz") as file:
            found[name] = {key: file[key] for key in file.files}
    return found


def published(name):
    with np.load(REFERENCE) as file:
        return json.loads(str(file["meta"]))[name]


def count(places):
    return (~np.isnan(places[..., 0])).sum(1)


@pytest.mark.parametrize("name", CASES)
def test_as_many_are_accepted_and_tried_as_published(sampled, name):
    """Within four standard errors of the difference of two means."""
    arrays, meta = sampled[name], published(name)
    for column, (kind, key) in enumerate(KINDS.items()):
        if kind not in meta["accepted"]:
            continue
        for found, known in ((count(arrays[key]), meta["accepted"][kind]), (arrays["tries"][:, column],
                                                                            meta["tries"][kind])):
            error = math.sqrt((found.var() + known["std"] ** 2) / 200)
            assert abs(found.mean() - known["mean"]) <= 4 * error + 0.02, kind


@pytest.mark.parametrize("name", CASES)
def test_coordinates_are_distributed_as_published(sampled, name):
    """Kolmogorov-Smirnov of each coordinate at the published quantiles, p > 1e-4."""
    arrays, meta = sampled[name], published(name)
    with np.load(REFERENCE) as file:
        known = {key.removeprefix(f"{name}/"): file[key] for key in file.files if key.startswith(f"{name}/")}
    for key, quantiles in known.items():
        kind, _, axis = key.partition("/")
        values = arrays[kind] if not axis else arrays[kind][..., "xy".index(axis)]
        values = values[~np.isnan(values)]
        below = np.searchsorted(np.sort(values), quantiles) / len(values)
        n = meta.get(f"{kind} counted", len(values))
        limit = math.sqrt(-math.log(0.5e-4) / 2) * math.sqrt((len(values) + n) / (len(values) * n))
        assert np.abs(below - np.linspace(0, 1, len(quantiles)))[1:-1].max() <= limit, key


def distances(one, two, same=False):
    found = np.linalg.norm(one[:, :, None] - two[:, None], axis=-1)
    if same:
        found[:, np.arange(one.shape[1]), np.arange(one.shape[1])] = np.nan
    return found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:All-NaN")
def test_distances_are_those_of_the_rules(sampled, name):
    """Also the one that the published program breaks: cores of opposite directions never overlap."""
    arrays, meta = sampled[name], published(name)
    start, goal, cores, stones = (arrays[key] for key in ("start", "goal", "cores", "obstacles"))
    assert np.nanmin(np.linalg.norm(start - goal, axis=-1)) >= meta["min_start_goal_dis"]
    for one in (start, goal):
        assert np.nanmin(distances(one, one, True)) > 10
        for things, least in ((cores, 10.5), (stones, 11)):
            assert things.shape[1] == 0 or np.nanmin(distances(things, one)) >= least
    if stones.shape[1]:
        assert np.nanmin(distances(stones, stones, True)) > 2
        assert not cores.shape[1] or np.nanmin(distances(stones, cores)) > 1.5
    if cores.shape[1]:
        same = arrays["clockwise"][:, :, None] == arrays["clockwise"][:, None]
        between = distances(cores, cores, True)
        assert np.nanmin(np.where(same, between, np.nan)) >= 3
        assert np.nanmin(np.where(same, np.nan, between)) >= 1.625
        assert (np.nanmin(cores), np.nanmax(cores)) == pytest.approx((0.5, 54.5), abs=0.5)


def test_a_shortfall_is_reported(tmp_path, capsys):
    assert main(["--robots=8", "--min-start-goal-dis=60", "--resets=3", f"--out={tmp_path / 'w.npz'}"]) == 0
    assert "no room within 500 proposals for 8 robots in 3 of 3" in capsys.readouterr().err
    with np.load(tmp_path / "w.npz") as file:
        assert (file["tries"][:, 0] == 500).all()
        assert np.isnan(file["start"]).any()
        assert (np.isnan(file["start"]) == np.isnan(file["goal"])).all()
    layout, _ = sample(3, Settings(num_robots=2), torch.float64, torch.Generator().manual_seed(0))
    assert shortfall(layout, Settings(num_robots=2)) == ""


def test_overlapping_cores_of_opposite_direction_are_refused():
    """For d < 2 r_c the published speed is negative, and such a pair passes there."""
    gamma = torch.tensor(3 * math.pi)
    distance = torch.tensor([0.1, 0.9, 1.0, 1.6, 1.63, 2.9, 3.01])
    opposite = compatible(distance, gamma, gamma, torch.tensor(False), Settings())
    assert opposite.tolist() == [False, False, False, False, True, True, True]
    assert compatible(distance, gamma, gamma, torch.tensor(True), Settings()).tolist() == [False] * 6 + [True]


def test_accepting_all_at_once_accepts_what_one_after_another_does():
    """Random conflicts; a plain loop over the proposals of each world."""
    draw = torch.Generator().manual_seed(0)
    fits, conflict = torch.rand(20, 60, generator=draw) < 0.5, torch.rand(20, 60, 60, generator=draw) < 0.1
    conflict = conflict | conflict.mT
    found = accept(fits, lambda chosen: ~conflict[torch.arange(20), chosen[:, 0]], 7)
    for world in range(20):
        taken, tries = [], 60
        for proposal in range(60):
            if fits[world, proposal] and not any(conflict[world, proposal, other] for other in taken):
                taken.append(proposal)
                if len(taken) == 7:
                    tries = proposal + 1
                    break
        assert found.index[world][found.exists[world]].tolist() == taken
        assert int(found.tries[world]) == tries


@pytest.mark.parametrize(("flag", "says"), [
    ("--robots=0", "num_robots"), ("--cores=-1", "num_cores"), ("--resets=0", "resets"), ("--seed=x", "--seed"),
    ("--min-start-goal-dis=far", "min_start_goal_dis")])
def test_a_wrong_argument_is_one_line(flag, says, tmp_path, capsys):
    assert main([flag, f"--out={tmp_path / 'w.npz'}"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("module", "work", "flags"), [
    (envs.marinenav.sample, "sample", []), (algorithm.replay, "read_case", ["case.npz"])], ids=["sample", "replay"])
def test_ctrl_c_is_a_line(module, work, flags, monkeypatch, tmp_path, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt
    monkeypatch.setattr(module, work, interrupted)
    assert module.main([*flags, "--out", str(tmp_path / "out.npz")]) == 130
    assert capsys.readouterr().err.splitlines()[-1].endswith(": interrupted")
