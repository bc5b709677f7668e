"""Runs on dicts of observations: the parts that a policy gets, one encoder each, and pictures among them."""

from __future__ import annotations

from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from runs import run

import evaluate
from algorithm.policy import create_policy
from envs import make_env, sizes
from envs.build import build_env
from envs.registration import register_env
from envs.tensor import TensorEnv
from learner.loading import load_agent
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

SMALL = ["--device=cpu", "--alg=ppo", "--policy=keyed", "--hidden_sizes=8", "--encoder_size=4", "--rollout_steps=8",
         "--batch_size=8", "--n_epochs=1", "--iterations=1", "--total_timesteps=32", "--test_rollouts=1",
         "--test_timesteps=5"]
SIGHT = (8, 8, 1)


class Seeing(TensorEnv):
    """Observes a picture of bytes and where its arm is; names of parts are no names of attributes."""

    STATE = ("place",)
    PARTS: ClassVar = {"keys": Box(0, 255, SIGHT, np.uint8), "arm.place": Box(-9, 9, (2,), np.float32)}

    def setup(self):
        self.observation_space = Dict(self.PARTS)
        self.action_space = Box(-1, 1, (2,), np.float32)
        self.place = self.zeros(2)

    def _reset(self, rows):
        self.place = self.place.masked_fill(rows[:, None], 0.5)
        return self.observe()

    def observe(self):
        picture = (self.place[:, :1, None, None] * 100).expand(-1, *SIGHT).to(torch.uint8)
        return {name: picture if name == "keys" else self.place for name in self.PARTS}

    def _step(self, acts):
        self.place = (self.place + acts).clamp(0, 2)
        never = torch.zeros_like(self.active)
        return self.observe(), -self.place.sum(1), never, never, {}


class Blind(Seeing):
    """Observes the picture alone, in a dict."""

    PARTS: ClassVar = {"keys": Seeing.PARTS["keys"]}


class Sorted(gym.Env):
    """Gymnasium's: a dict in a dict, a category, a matrix."""

    observation_space = Dict(c=Discrete(3), a=Dict(y=Box(0, 1, (1,)), x=Box(0, 1, (2,))), b=Box(0, 1, (2, 2)))
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), float(action), False, False, {}


@pytest.fixture(autouse=True)
def _registered(forget):
    register_env("Seeing-v0")(Seeing)
    register_env("Blind-v0")(Blind)
    gym.register("Sorted-v0", Sorted)


def config_of(env: str, **settings):
    config = resolve({"alg": "ppo", "env": env, "device": "cpu", "num_envs": 2, "test_timesteps": 5} | settings)
    return sizes(config, make_env(config))


@pytest.mark.parametrize(("env", "parts"), [
    ("Seeing-v0", (("arm.place", (2,)), ("keys", SIGHT))),
    ("Sorted-v0", (("a", (3,)), ("b", (4,)), ("c", (3,)))),
    ("CartPole-v1", None),
], ids=["tensor", "gymnasium", "no-dict"])
def test_the_parts_are_those_of_the_environment(env, parts):
    assert config_of(env).obs_parts == parts


def test_the_parts_are_slices_of_what_is_observed():
    """In alphabetical order, by their sizes, for training and evaluation alike."""
    config = config_of("Seeing-v0")
    trained = build_env(config).reset()[0]
    evaluated, _ = make_env(config).reset(seed=0)
    assert torch.equal(trained, torch.from_numpy(evaluated))
    assert trained.tolist() == [0.5, 0.5, *[50.0] * 64]


def test_pictures_alone_in_a_dict_are_what_evaluation_sees():
    config = config_of("Blind-v0")
    trained = build_env(config).reset()[0]
    assert trained.dtype == torch.float32
    assert trained.tolist() == make_env(config).reset(seed=0)[0].tolist() == [50.0] * 64


def test_a_picture_is_divided_by_255():
    config = with_sizes(config_of("Seeing-v0", policy="keyed"), 66, 2)
    policy = create_policy(config)
    obs = torch.rand(3, 66)
    obs[:, 2:] = torch.randint(0, 256, (3, 64)).float()
    expected = policy.encoders[1].trunk(obs[:, 2:].view(3, *SIGHT) / 255)
    assert torch.equal(policy.features(obs)[0][:, -expected.shape[1]:], expected)


@pytest.mark.parametrize(("env", "rows", "encoders"), [("Seeing-v0", 2, 2), ("Sorted-v0", 1, 3)],
                         ids=["tensor", "gymnasium"])
def test_a_run_has_an_encoder_for_each_part_and_is_evaluated(env, rows, encoders, capsys):
    finished = run(*SMALL, f"--env={env}", f"--num_envs={rows}")
    agent = load_agent(finished.directory, "last")
    assert len(agent.policy.encoders) == encoders
    assert agent.config.obs_parts == config_of(env).obs_parts
    assert all(torch.equal(value, agent.state_dict()[name]) for name, value in finished.tensors().items())
    assert evaluate.main([str(finished.directory), "--episodes=1", "--checkpoint=last"]) == 0
    assert "return" in capsys.readouterr().out
