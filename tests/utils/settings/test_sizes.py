"""The sizes of a task come from its spaces, once; a Config is frozen; agents for spaces, by keywords."""

from __future__ import annotations

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

from algorithm import create_agent, create_agent_for_spaces
from algorithm.replay_buffer import create_buffer
from envs import make_env, sizes
from utils.errors import ConfigError
from utils.settings.fields import Config
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

VECTOR, ACTS, IMAGE = Box(-1, 1, (3,)), Box(-2, 2, (1,)), Box(0, 255, (84, 84, 4), np.uint8)


@pytest.mark.parametrize(("env", "alg", "expected"), [
    ("Pendulum-v1", "sac", ((3,), (1,), 1.0)), ("CartPole-v1", "dqn", ((4,), (2,), 1.0)),
])
def test_sizes_are_those_of_the_environment(env, alg, expected):
    config = resolve({"alg": alg, "env": env, "test_timesteps": 10})
    sized = sizes(config, make_env(config))
    assert (sized.obs_dims, sized.acts_dims, sized.obs_scale) == expected
    assert (config.obs_dims, sized.settings()) == (None, config.settings())


def test_pixels_are_divided_and_vectors_are_not():
    config = resolve({"alg": "dqn"})
    assert with_sizes(config, (84, 84, 4), 7).obs_scale == 255
    assert with_sizes(config, 4, 7).obs_scale == 1
    assert with_sizes(config, 4, 7, obs_scale=2).obs_scale == 2


def test_a_config_is_frozen():
    config = resolve({})
    for name in ("gamma", "device", "obs_dims", "new"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, name, 1)


def test_an_agent_uses_a_resolved_config_unchanged():
    config = with_sizes(resolve({"alg": "rrd", "device": "cpu", "gamma": 0.5}), 3, 1)
    agent = create_agent(config)
    assert agent.config is config
    assert agent.basis.config is config


@pytest.mark.parametrize(("config", "missing"), [
    (resolve({"alg": "sac"}), "obs_dims"), (Config(alg="sac", obs_dims=(3,), acts_dims=(1,)), "obs_scale"),
    (Config(alg="sac", obs_dims=(3,), acts_dims=(1,), obs_scale=1.0), "train_batches"),
    (Config(obs_dims=(3,), acts_dims=(1,), obs_scale=1.0), "basis_alg"),
])
@pytest.mark.parametrize("make", [create_agent, create_buffer])
def test_an_unresolved_config_gives_a_one_line_error(make, config, missing):
    with pytest.raises(ConfigError, match=rf"^{missing}: missing in the Config; expected one that .*resolve gives"):
        make(config)


# By keywords --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("observes", "acts", "settings"), [
    (VECTOR, ACTS, dict(alg="rrd", basis_alg="td3", pi_lr=1e-4)), (VECTOR, ACTS, dict(alg="sac", gamma=0.5)),
    (VECTOR, Discrete(5), dict(alg="rrd", basis_alg="dqn")), (IMAGE, Discrete(5), dict(alg="dqn", dueling=True)),
    (VECTOR, ACTS, dict(alg="ddpg", device=torch.device("cpu"))),
], ids=str)
def test_an_agent_for_spaces_has_their_sizes_and_the_settings(observes, acts, settings):
    agent = create_agent_for_spaces(observation_space=observes, action_space=acts, **{"device": "cpu"} | settings)
    config = agent.config
    assert config.obs_dims == observes.shape
    assert config.acts_dims == ((5,) if isinstance(acts, Discrete) else (1,))
    settings.pop("device", None)
    assert {name: getattr(config, name) for name in settings} == settings
    agent.step(observes.sample().astype(np.float32))
    assert create_buffer(dataclasses.replace(config, buffer_size=100, test_timesteps=10)).capacity == 100


@pytest.mark.parametrize(("observes", "acts", "settings", "message"), [
    (VECTOR, ACTS, dict(pi_lrr=1e-4), "pi_lrr: unknown setting; did you mean pi_lr?"),
    (VECTOR, ACTS, dict(pi_lr=-1), "pi_lr: got -1.0, expected a finite number above 0"),
    (VECTOR, ACTS, dict(r_lr=1e-4), "r_lr: not a setting of sac; it belongs to rrd"),
    (VECTOR, ACTS, dict(alg="scc"), "alg: got 'scc'; did you mean sac?"),
    (VECTOR, ACTS, dict(obs_dims=3), "obs_dims: unknown setting"),
    (VECTOR, Discrete(2), {}, "action_space: got Discrete(2), expected --alg=dqn, --alg=iqn, "),
    (VECTOR, ACTS, dict(alg="dqn"), "action_space: got Box(-2.0, 2.0, (1,), float32), expected Discrete actions"),
    (VECTOR, Discrete(2, start=1), dict(alg="dqn"), "action_space: got Discrete(2, start=1), expected Discrete"),
    (VECTOR, MultiDiscrete([2, 2]), dict(alg="dqn"), "action_space: got MultiDiscrete([2 2]), expected Discrete"),
    (VECTOR, Box(-1, 1, (2, 2)), {}, "action_space: got Box(-1.0, 1.0, (2, 2), float32), expected a Box of"),
    (VECTOR, None, {}, "action_space: got None, expected a Box of one dimension"),
    (IMAGE, ACTS, {}, "observation_space: got Box(0, 255, (84, 84, 4), uint8), expected a Box of one dimension"),
    (Dict(a=VECTOR), ACTS, {}, "observation_space: got Dict('a': Box(-1.0, 1.0, (3,), float32)), expected a Box"),
    (Discrete(3), ACTS, {}, "observation_space: got Discrete(3), expected a Box of one dimension"),
    (VECTOR, Discrete(2), dict(alg="dqn", dueling=True), "dueling: got True over vectors (3,), expected images"),
], ids=str)
def test_wrong_spaces_and_settings_give_a_one_line_error(observes, acts, settings, message):
    with pytest.raises(ConfigError) as error:
        create_agent_for_spaces(observation_space=observes, action_space=acts, **{"alg": "sac"} | settings)
    assert str(error.value).startswith(message)
    assert isinstance(error.value, ValueError)


def test_both_forms_of_create_agent_build_the_same_agent():
    env = gym.make("Pendulum-v1")
    ours = create_agent_for_spaces(alg="rrd", observation_space=env.observation_space, action_space=env.action_space,
                                   device="cpu", seed=3)
    theirs = create_agent(with_sizes(resolve({"alg": "rrd", "device": "cpu", "seed": 3}), 3, 1))
    assert ours.config == theirs.config
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())
