"""Environments that draw from global generators or from a space: their runs repeat and resume all the same."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from resumes import FLAGS, twice
from runs import SMALL, run

import evaluate
import return_decomposition as rd
import train

pytestmark = pytest.mark.usefixtures("forget")
MODULE = """
import random
import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete
from tiny_envs import Match

def uniform(kind, env):
    if kind == "numpy":
        return np.random.uniform(-1, 1, 1)
    if kind == "random":
        return [random.gauss(0, 1)]
    if kind == "torch":
        return torch.rand(1).numpy()
    return env.action_space.sample() if kind == "action" else env.observation_space.sample()

class Draws(Match):
    action_space = Box(-1, 1, (1,), np.float32)                         # one of the class

    def __init__(self, kind):
        super().__init__(length=7)
        self.kind, self.observation_space = kind, Box(-1, 1, (1,), np.float32)

    def _draw(self):
        return np.float32(uniform(self.kind, self))

class Parts(Draws):
    def __init__(self, kind):
        super().__init__(kind)
        self.observation_space = Dict(a=Discrete(3), b=Box(-1, 1, (2,)))

    def reset(self, **given):
        super().reset(**given)
        return self.observation_space.sample(), {}

    def step(self, action):
        _, _, *rest = super().step(action)
        obs = self.observation_space.sample()
        return obs, float(obs["a"] + obs["b"].sum()), *rest

    def _draw(self):
        return np.zeros(1, np.float32)

for kind in ("numpy", "random", "torch", "action", "observation"):
    gym.register(f"{kind}-v0", Draws, kwargs={"kind": kind})
gym.register("parts-v0", Parts, kwargs={"kind": "parts"})
"""
KINDS = ("numpy", "random", "torch", "action", "observation")
RUN = ["--alg=sac", *SMALL]


@pytest.fixture(autouse=True)
def _module(monkeypatch):
    Path("draws.py").write_text(MODULE)
    monkeypatch.syspath_prepend(".")


def scramble() -> None:
    random.seed()
    np.random.seed()
    torch.seed()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flags", [[], ["--num_envs=2"]], ids=["one", "workers"])
@pytest.mark.sampled(3)
def test_a_seed_repeats_a_run_and_another_changes_it(kind, flags):
    runs = []
    for seed, tag in ((3, "a"), (3, "b"), (4, "c")):
        scramble()
        runs.append(run(*RUN, f"--env=draws:{kind}-v0", f"--seed={seed}", f"--tag={tag}", *flags))
    assert runs[0].untimed() == runs[1].untimed()
    assert runs[0].untimed() != runs[2].untimed()
    tensors = [one.tensors() for one in runs[:2]]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flags", [[], ["--num_envs=2"]], ids=["one", "workers"])
@pytest.mark.sampled(3)
def test_a_resumed_run_is_an_uninterrupted_one(kind, flags, capsys):
    scramble()
    twice([*FLAGS, "--alg=sac", "--import=draws", f"--env={kind}-v0", *flags], 50, 130, "--import=draws")
    assert "could not be restored" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_and_diagnosis_leave_training_alone(kind):
    flags = [*RUN, "--alg=uniform", f"--env=draws:{kind}-v0"]
    few = run(*flags, "--test_rollouts=1", "--tag=few")
    many = run(*flags, "--test_rollouts=3", "--diagnose_every=1", "--tag=many")
    ours, theirs = few.tensors(), many.tensors()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_repeats_its_numbers(kind, capsys):
    directory = run(*RUN, f"--env=draws:{kind}-v0").directory
    shown = []
    for _ in range(2):
        scramble()
        capsys.readouterr()
        assert evaluate.main([str(directory), f"--env=draws:{kind}-v0", "--episodes=3"]) == 0
        shown.append(capsys.readouterr().out.rpartition("written")[0])
    assert shown[0] == shown[1]


def test_the_callers_generators_are_given_back():
    def state():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    scramble()
    before = state()
    rd.train("draws:numpy-v0", **dict(flag.removeprefix("--").split("=") for flag in RUN))
    assert state() == before


@pytest.mark.parametrize(("kind", "noted"), [("numpy", True), ("torch", True), ("observation", False)])
def test_several_seeds_share_the_generators_and_say_so(kind, noted, capsys):
    assert train.main([*RUN, f"--env=draws:{kind}-v0", "--seeds=0,1"]) == 0
    assert ("draws from global generators" in capsys.readouterr().out) == noted
