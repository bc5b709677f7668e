"""The TorchRL pipeline is the package's own trainer: the same transitions, losses, evaluations and files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from boats import QUICK, SMALL, write
from boats_torchrl import ALGS

import train
from learner.loading import load_agent
from torchrl_gpu import train_torchrl_gpu
from utils.settings.marinenav_form import AGENT_TYPES

KINDS = {alg: kind for kind, alg in AGENT_TYPES.items()}
FILES = {"config.json", "run.json", "metrics.csv", "evaluations.npz", "eval_configs.json", "trial_config.json"}


def both(path: str, *flags: str) -> tuple[Path, Path]:
    """Train by a file with our own trainer and in TorchRL; return the runs' directories."""
    assert train.main(["-C", path, *QUICK, *flags, "--run_dir=ours"]) == 0
    assert train_torchrl_gpu.main(["-C", path, *QUICK, *flags, "--run_dir=torchrl"]) == 0
    return Path("ours"), Path("torchrl")


def rows_of(run: Path) -> list[dict[str, float]]:
    with open(run / "metrics.csv", newline="") as file:
        return [{name: float(text) for name, text in row.items() if text and "TimeCost" not in name}
                for row in csv.DictReader(file)]


def check_same(ours: Path, theirs: Path) -> None:
    """All numbers of two runs are the same, but for rounding."""
    for one, two in zip(rows_of(ours), rows_of(theirs), strict=True):
        assert one.keys() == two.keys()
        assert two == pytest.approx(one, rel=1e-5, abs=1e-6)
    files = ["evaluations.npz", *(f"trajectories/{path.name}" for path in (ours / "trajectories").iterdir())]
    for name in files:
        with np.load(ours / name, allow_pickle=False) as one, np.load(theirs / name, allow_pickle=False) as two:
            assert set(one.files) == set(two.files)
            for key in one.files:
                np.testing.assert_allclose(two[key], one[key], rtol=1e-5, atol=1e-5, err_msg=f"{name}: {key}")
    one, two = load_agent(ours, "last").state_dict(), load_agent(theirs, "last").state_dict()
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("alg", ALGS)
def test_five_hundred_steps_are_those_of_our_own_trainer(alg):
    ours, theirs = both(write("c.json", total_timesteps=500, eval_freq=100, agent_type=KINDS[alg]))
    check_same(ours, theirs)
    assert load_agent(theirs, "last").updates == 121


@pytest.mark.sampled(3)
@pytest.mark.parametrize("alg", ALGS)
def test_a_run_is_that_of_our_own_trainer(alg):
    """Steps, losses, weights, evaluations, and all files of the record; a stage begins after 30 steps."""
    ours, theirs = both(write("c.json", total_timesteps=40, agent_type=KINDS[alg]))
    check_same(ours, theirs)
    assert {path.name for path in theirs.iterdir()} == {path.name for path in ours.iterdir()}
    assert {path.name for path in theirs.iterdir()} >= FILES
    for name in ("eval_configs.json", "config.json"):
        one, two = (json.loads((run / name).read_text()) for run in (ours, theirs))
        assert two == (one if name == "eval_configs.json" else one | {"run_dir": "torchrl"})
    assert load_agent(theirs, "last").updates == 6


@pytest.mark.parametrize("worlds", [3, 4])
def test_several_worlds_are_those_of_our_own_trainer(worlds):
    """Three worlds do not divide the steps between two updates; of four, one step of all is as many."""
    ours, theirs = both(write("c.json", SMALL | {"env_batch_size": worlds}, total_timesteps=48), "--warmup=24")
    check_same(ours, theirs)
