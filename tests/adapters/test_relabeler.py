"""A decomposition in a loop of one's own: what it is given, and what it pays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from counting import Counting
from gymnasium.spaces import Box, Discrete

import return_decomposition as rd
from utils.errors import ConfigError

SMALL = dict(rrd_batch_size=8, rrd_sample_size=4)


def play(replay, env: Counting, steps: int, tensors: bool = False):
    """Add steps of one environment; return (T, ...) observations, actions, observations after."""
    (obs, _), seen = env.reset(), []
    env.action_space.seed(0)
    for _ in range(steps):
        action = env.action_space.sample()
        obs_next, rew, terminated, truncated, _ = env.step(action)
        step = [np.asarray(value)[None] for value in (obs, action, rew, terminated, truncated, obs_next)]
        replay.add(*(torch.as_tensor(value) for value in step) if tensors else step)
        seen.append((obs, action, obs_next))
        obs = env.reset()[0] if terminated or truncated else obs_next
    return [np.stack(column) for column in zip(*seen, strict=True)]


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("tensors", [False, True])
def test_steps_are_paid_in_any_shape_and_form(discrete, tensors):
    env = Counting(discrete)
    replay = rd.Relabeler("rrd", env.observation_space, env.action_space, **SMALL)
    obs, acts, obs_next = play(replay, env, 24, tensors)
    assert replay.learner.replay.episodes == 6
    model = replay.decomposition
    expected = model.rewards(obs, acts if discrete else acts / 2, obs_next)[:, 0]
    given = [torch.as_tensor(value) if tensors else value for value in (obs, acts, obs_next)]
    assert torch.equal(replay.relabel(*given, updates=0), expected)
    rollout = [value.reshape(6, 4, *value.shape[1:]) for value in given]
    assert torch.equal(replay.relabel(*rollout, updates=0), expected.reshape(6, 4))


def test_it_learns_then_pays():
    env = Counting()
    replay = rd.Relabeler("rrd", env.observation_space, env.action_space, r_lr=1e-2, **SMALL)
    (obs, _), action = env.reset(), np.zeros((1, 1), np.float32)
    assert replay.relabel(obs[None], action, obs[None]).tolist() == [0.0]       # no episode has ended
    assert replay.learner.updates == 0
    steps = play(replay, env, 24)
    paid = replay.relabel(*steps, updates=3)
    assert replay.learner.updates == 3
    assert torch.equal(replay.relabel(*steps, updates=0), paid)
    assert {"R_loss"} <= set(replay.metrics())


def test_dicts_of_observations_and_bounds_that_are_not_symmetric():
    env = Counting(parts=True)
    replay = rd.Relabeler("rrd", env.observation_space, Box(0, 4, (1,)), **SMALL)
    where, mod = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32), np.arange(5) % 3
    obs, acts = {"where": where, "mod": mod}, np.linspace(0, 4, 5, dtype=np.float32)[:, None]
    flat = np.concatenate([np.eye(3)[mod], where], 1).astype(np.float32)
    replay.learner.replay.episodes = 1                  # as if one had ended
    expected = replay.decomposition.rewards(flat, acts / 2 - 1, flat)[:, 0]
    assert torch.equal(replay.relabel(obs, acts, obs, updates=0), expected)
    tensors = {name: torch.as_tensor(value) for name, value in obs.items()}
    assert torch.equal(replay.relabel(tensors, torch.as_tensor(acts), tensors, updates=0), expected)


def test_a_model_of_whole_episodes_is_refused():
    with pytest.raises(ConfigError, match="decomposition: got 'rudder', which pays a step by its whole episode"):
        rd.Relabeler("rudder", Box(-1, 1, (2,)), Discrete(2))
