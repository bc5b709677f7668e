"""The TorchRL pipeline is the package's own trainer: the same transitions, losses, evaluations and files."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from boats import QUICK, SMALL, write
from boats_torchrl import ALGS, agent_of
from resumes import run, same, twice

import train
from learner.loading import load_agent
from torchrl_gpu import train_torchrl_gpu
from torchrl_gpu.marinenav_torchrl_env import MarineNavTorchRLEnv
from torchrl_gpu.torchrl_trainer import TorchRLTrainer
from utils.errors import ConfigError
from utils.settings.marinenav_form import AGENT_TYPES

ROOT = Path(__file__).parents[2]
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
    """All numbers of two runs are the same, but for rounding: products read rows that lie in memory in another way."""
    for one, two in zip(rows_of(ours), rows_of(theirs), strict=True):
        assert one.keys() == two.keys()
        assert two == pytest.approx(one, rel=1e-5, abs=1e-6)
    files = ["evaluations.npz", *(f"trajectories/{path.name}" for path in (ours / "trajectories").iterdir())]
    for name in files:
        with np.load(ours / name, allow_pickle=False) as one, np.load(theirs / name, allow_pickle=False) as two:
            assert set(one.files) == set(two.files)
            for key in one.files:
                np.testing.assert_allclose(two[key], one[key], rtol=1e-4, atol=1e-3, err_msg=f"{name}: {key}")
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


@pytest.mark.sampled(2)
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


# Resuming, and what the program takes ---------------------------------------------------------------------------------

def own(**changes) -> list[str]:
    """The flags of a small run whose directory is in `outputs/`."""
    content = {name: value for name, value in SMALL.items() if name != "save_dir"}
    return ["-C", write("c.json", content, **changes), *QUICK, "--eps_decay=30"]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("changes", "short"), [
    ({}, 42), ({"env_batch_size": 2, "agent_type": "Rainbow"}, 44), ({"env_batch_size": 3}, 44),
    ({"agent_type": "IQN"}, 44)])
def test_a_run_that_is_stopped_in_the_middle_of_an_episode_is_as_a_whole_one(changes, short):
    beta = ["--priority_beta=1"] if changes.get("agent_type") == "Rainbow" else []      # else it is of the run's length
    twice([*own(**changes), *beta], short, 80, main=train_torchrl_gpu.main)
    parts, whole = (next(Path("outputs").glob(f"{tag}-*")) for tag in ("parts", "whole"))
    assert (parts / "evaluations.npz").read_bytes() == (whole / "evaluations.npz").read_bytes()
    for path in (whole / "trajectories").iterdir():
        assert (parts / "trajectories" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_a_run_that_is_killed_loses_one_interval_at_most():
    argv = [*own(total_timesteps=400), "--tag=parts"]
    command = [sys.executable, "-m", "torchrl_gpu.train_torchrl_gpu", *argv]
    killed = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    wait_for(lambda: [path for path in Path("outputs").glob("*/metrics.csv") if len(path.read_text().split()) > 3])
    killed.kill()
    killed.wait()
    (parts,) = Path("outputs").glob("*")
    done = int(rows_of(parts)[-1]["Timesteps"])
    assert 80 <= done < 400
    with redirect_stdout(io.StringIO()) as said:
        assert train_torchrl_gpu.main([f"--resume={parts}"]) == 0
    resumed = int(re.search(r"resumed after (\d+) steps of 400", said.getvalue())[1])
    assert resumed >= done - 40
    same(parts, run(*own(total_timesteps=400), "--tag=whole", main=train_torchrl_gpu.main))


def wait_for(found) -> None:
    end = time.monotonic() + 120
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_weights_of_a_model_are_what_training_begins_with():
    model = Path(__file__).parents[1] / "reference" / "marinenav_checkpoints" / "ddpg"
    flags = ["-C", write("c.json", agent_type="DDPG", load_model=str(model), total_timesteps=8, eval_freq=8),
             "--device=cpu", "--test_timesteps=3", "--run_dir=here", "--object_sizes=8,4", "--hidden_sizes=16,16"]
    assert train_torchrl_gpu.main(flags) == 0
    ours, given = load_agent("here", "last").state_dict(), load_agent(model).state_dict()
    for name in (name for name in given if name.startswith("nets.")):
        assert torch.equal(ours[name], given[name])


@pytest.mark.parametrize(("flags", "message"), [
    (["-D", "cuda"], "device: got 'cuda', "), (["--env=Pendulum-v1"], "env: got 'Pendulum-v1', expected MarineNav-v0"),
    (["--alg=sac"], "alg: got 'sac', expected one of ac_iqn, iqn, "), (["--seeds=0,1"], "seeds: not read here")])
def test_what_the_pipeline_does_not_take_is_one_line(flags, message, capsys):
    if "cuda" in flags and torch.cuda.is_available():
        pytest.skip("there is CUDA")
    given = {"--env": "MarineNav-v0", "--alg": "ac_iqn"} | dict(flag.split("=") for flag in flags if "=" in flag)
    rest = [flag for flag in flags if "=" not in flag]
    assert train_torchrl_gpu.main([*(f"{name}={value}" for name, value in given.items()), *rest]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"python -m torchrl_gpu.train_torchrl_gpu: {message}")
    assert not Path("outputs").exists()


def test_without_torchrl_one_line_says_what_installs_it(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, known=importlib.util.find_spec:
                        None if name == "torchrl" else known(name))
    assert train_torchrl_gpu.main([]) == 2
    assert capsys.readouterr().err == ("python -m torchrl_gpu.train_torchrl_gpu: torchrl is not installed; "
                                       "`pip install -e '.[torchrl]'` installs it\n")


def test_help_and_completion_are_of_this_program(capsys):
    for flag in ("--help", "--completion=bash"):
        with pytest.raises(SystemExit):
            train_torchrl_gpu.main([flag])
    said = capsys.readouterr().out
    assert said.startswith("usage: python -m torchrl_gpu.train_torchrl_gpu [-h]")
    assert "examples:\n  python -m torchrl_gpu.train_torchrl_gpu -C configs/" in said
    assert "python train.py" not in said
    assert "train_torchrl_gpu.py" in said


# The trainer's published names ----------------------------------------------------------------------------------------

def test_the_trainer_by_its_published_names():
    agent = agent_of("ac_iqn")
    env = MarineNavTorchRLEnv(schedule=SMALL["training_schedule"], env_batch_size=2)
    env.env.limit = 9
    eval_env = MarineNavTorchRLEnv(schedule=SMALL["eval_schedule"], is_eval_env=True)
    eval_env.env.limit = 9
    trainer = TorchRLTrainer(env, eval_env, SMALL["eval_schedule"], agent, learning_starts=20, buffer_size=500,
                             batch_size=8)
    before = trainer.evaluation()
    run = trainer.learn(40, 20, "logs", verbose=False)
    assert run.directory == Path("logs")
    assert (agent.updates, run.agent is agent, env.steps) == (6, True, 20)
    with np.load("logs/evaluations.npz", allow_pickle=False) as file:
        assert file["timesteps"].tolist() == [20, 40]
        last = file["rewards"][1]
    after = trainer.evaluation()
    assert not np.array_equal(before.rewards, after.rewards)
    np.testing.assert_allclose(after.rewards, last, rtol=1e-5)
    Path("logs/own.d").mkdir()
    trainer.save_evaluation("logs/own.d")
    trainer.save_eval_config("logs/own.d")
    with np.load("logs/own.d/evaluations.npz", allow_pickle=False) as file:
        assert file["timesteps"].tolist() == [0, 20]
    assert len(json.loads(Path("logs/own.d/eval_configs.json").read_text())) == 3
    assert [trainer.linear_eps(40, steps) for steps in (0, 5, 10, 30)] == pytest.approx([0.6, 0.325, 0.05, 0.05])
    with pytest.raises(ConfigError, match="imitation: got True, expected False"):
        TorchRLTrainer(env, eval_env, None, agent, imitation=True)
