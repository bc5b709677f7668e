"""Policies by the names of the published trainer, and one of a user's own that is written as its tutorial says."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from runs import SMALL_ROLLOUTS, run
from torch import nn
from torch.distributions import Normal

import algorithm
from algorithm import (
    MLP,
    ActorCritic,
    Policy,
    VLAPlaceholderPolicy,
    build_mlp_from_cfg,
    build_policy,
    get_policy_class,
    get_registered_policy_names,
    register_policy,
)
from utils.errors import ConfigError
from utils.settings.policies import POLICIES

OBS, ACTS = Box(-1, 1, (5,), np.float32), Box(-1, 1, (2,), np.float32)
NETWORK = {"type": "mlp", "network_cfg": {"hidden_sizes": [16, 8], "activation": "tanh"}}


class Mine(Policy):
    """As the tutorial describes a policy: four arguments, and distributions of PyTorch."""

    def __init__(self, obs_dim, action_dim, device, config):
        super().__init__()
        self.device = device
        self.mean, self.value = nn.Linear(obs_dim, action_dim), nn.Linear(obs_dim, 1)
        self.log_std = nn.Parameter(torch.zeros(action_dim))
        self.config = config
        self.to(device)

    @torch.no_grad()
    def get_action(self, obs, deterministic=False):
        chosen = Normal(self.mean(obs), self.log_std.exp())
        acts = chosen.mean if deterministic else chosen.sample()
        return acts, chosen.log_prob(acts).sum(-1), self.value(obs)[:, 0]

    @torch.no_grad()
    def get_value(self, obs):
        return self.value(obs)[:, 0]

    def evaluate_actions(self, obs, actions):
        chosen = Normal(self.mean(obs), self.log_std.exp())
        return chosen.log_prob(actions).sum(-1), chosen.entropy().sum(-1), self.value(obs)[:, 0]


@pytest.fixture
def mine():
    register_policy("mine")(Mine)
    yield
    del POLICIES["mine"]


@pytest.mark.usefixtures("mine")
def test_a_policy_of_the_tutorials_form_is_trained():
    done = run(*SMALL_ROLLOUTS, "--alg=ppo", "--policy=mine", "--env=Pendulum-v1", "--num_envs=2")
    assert done.config["policy"] == "mine"
    assert len(done.rows) == 2
    assert get_policy_class("mine") is Mine
    assert "mine" in get_registered_policy_names()


@pytest.mark.usefixtures("mine")
def test_its_first_weights_follow_from_the_runs_seed_and_its_sizes_from_the_spaces():
    state = torch.get_rng_state()
    one, two = (build_policy({"name": "mine"}, OBS, ACTS, "cpu") for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.mean.weight, two.mean.weight)
    assert (one.mean.weight.shape, one.device.type, one.config.policy) == ((2, 5), "cpu", "mine")


def test_a_class_is_registered_without_a_decorator_too():
    assert register_policy("another", Mine) is Mine
    assert POLICIES.pop("another") is Mine


def test_a_policy_from_a_block_of_a_file():
    policy = build_policy({"name": "actor_critic", "actor": NETWORK, "critic": NETWORK, "initial_log_std": -1},
                          OBS, ACTS, torch.device("cpu"))
    assert isinstance(policy, ActorCritic)
    assert [tuple(layer.weight.shape) for layer in policy.actor[::2]] == [(16, 5), (8, 16), (2, 8)]
    assert isinstance(policy.critic[1], nn.Tanh)
    assert policy.log_std.tolist() == [-1, -1]
    acts, log_prob, value = policy.get_action(torch.randn(7, 5))
    assert (acts.shape, log_prob.shape, value.shape) == ((7, 2), (7,), (7,))
    assert not acts.requires_grad
    assert set(dict(policy.named_parameters())) >= {"log_std", "actor.0.weight", "actor.4.bias", "critic.2.weight"}


def test_networks_that_are_given_are_used():
    actor, critic = build_mlp_from_cfg(NETWORK, 5, 2), build_mlp_from_cfg(NETWORK, 5, 1)
    policy = build_policy({"name": "actor_critic"}, OBS, ACTS, "cpu", actor=actor, critic=critic)
    obs = torch.randn(3, 5)
    assert torch.equal(policy.get_action(obs, deterministic=True)[0], actor(obs))
    assert torch.equal(policy.get_value(obs), critic(obs)[:, 0])


def test_layers_of_an_mlp():
    kinds = [type(module).__name__ for module in MLP(3, 2, [4, 5], "swish", "tanh", use_layernorm=True, dropout_p=0.1)]
    assert kinds == [*["Linear", "LayerNorm", "SiLU", "Dropout"] * 2, "Linear", "Tanh"]
    assert [type(module).__name__ for module in MLP(3, 2, [])] == ["Linear"]
    plain = build_mlp_from_cfg({"hidden_sizes": [4], "activation": "gelu", "orthogonal_init": [2.0, 0.5]}, 3, 2)
    for layer, gain in ((plain[0], 2.0), (plain[2], 0.5)):
        assert torch.allclose(torch.linalg.svdvals(layer.weight), torch.tensor(gain))
        assert layer.bias.abs().sum() == 0


@pytest.mark.parametrize(("cfg", "message"), [
    ({"type": "cnn"}, "type: got 'cnn', expected mlp"),
    ({"hidden_size": [1]}, "hidden_size: unknown key of a network; did "),
    ({}, "hidden_sizes: missing"),
    ({"hidden_sizes": [1], "activation": "rely"}, "activation: got 'rely', expected one of"),
    ({"hidden_sizes": [1], "orthogonal_init": [1.0]}, "gains: got 1, expected one, or 2")])
def test_a_wrong_network_is_one_line(cfg, message):
    with pytest.raises(ConfigError, match="^" + message):
        build_mlp_from_cfg(cfg, 3, 2)


@pytest.mark.parametrize(("block", "message"), [
    ({"name": "vla"}, "policy: 'vla' is a placeholder"),
    ({"name": "actor_critc"}, "policy: got 'actor_critc'; did you mean"),
    ({"actr": {}}, "policy.actr: unknown key; did you mean actor")])
def test_a_wrong_policy_is_one_line(block, message):
    with pytest.raises(ConfigError, match="^" + message):
        build_policy(block, OBS, ACTS, "cpu")


def test_names_are_lower_case_in_files_and_the_placeholder_is_known():
    assert isinstance(build_policy({"name": "Actor_Critic"}, OBS, ACTS, "cpu"), ActorCritic)
    assert get_policy_class("vla") is VLAPlaceholderPolicy
    assert get_policy_class("nothing") is None


def test_importing_the_names_needs_no_pytorch_until_they_are_used():
    code = "import sys, algorithm; assert 'torch' not in sys.modules; algorithm.MLP; assert 'torch' in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = algorithm.Nothing
