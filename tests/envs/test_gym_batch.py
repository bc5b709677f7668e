"""Gymnasium's environments as a tensor environment."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict

from envs import make_env
from envs.build import build_env, in_this_process
from utils.errors import ConfigError
from utils.settings.resolve import resolve


def build(env: str, **given):
    return build_env(resolve({"alg": "sac", "env": env, "test_timesteps": 9, "env_type": "normal", **given}))


def actions(env, steps: int) -> list[torch.Tensor]:
    draws = torch.rand(steps, env.num_envs, *env.action_space.shape, generator=torch.Generator().manual_seed(0))
    return [*(draws * 2 - 1 if env.action_space.shape else (draws * 2).long())]


def play(env, acts) -> list[torch.Tensor]:
    found = []
    for one in acts:
        obs, rews, terminated, truncated, _ = env.step(one)
        found += [obs, rews, terminated, truncated, env.reset(terminated | truncated)]
    return found


@pytest.mark.parametrize(("name", "given"), [("Hopper-v4", {}), ("Pendulum-v1", {"num_envs": 2}),
                                             ("Pendulum-v1", {"num_envs": 3, "alg": "ppo"}),
                                             ("CartPole-v1", {"alg": "dqn"}), ("Assault", {"alg": "dqn"}),
                                             ("PointMassRL", {"num_envs": 3})])
def test_a_state_restores_the_middle_of_the_episodes(name, given):
    if name == "Assault":
        pytest.importorskip("ale_py")
    env = build(name, **given)
    try:
        first = env.reset()
        assert first.dtype == (torch.uint8 if name == "Assault" else torch.float32)
        acts = actions(env, 40)
        play(env, acts[:13])
        saved = env.state()
        whole = play(env, acts[13:])
    finally:
        env.close()
    other = build(name, **given)
    try:
        assert not other.restore(saved).any()
        assert all(torch.equal(a, b) for a, b in zip(play(other, acts[13:]), whole, strict=True))
    finally:
        other.close()


def test_it_is_the_environment_of_make_env():
    config = resolve({"alg": "sac", "env": "Pendulum-v1", "test_timesteps": 9})
    batch, one = build_env(config), make_env(config)
    obs, _ = one.reset(seed=batch.seeds[0])
    assert np.array_equal(batch.reset()[0], obs)
    for step, acts in enumerate(actions(batch, 9), 1):
        theirs = batch.step(acts)
        obs, reward, terminated, truncated, _ = one.step(acts[0].numpy())
        assert np.array_equal(theirs[0][0], obs)
        assert [float(part) for part in theirs[1:4]] == pytest.approx([reward, float(terminated), float(truncated)])
        assert truncated == (step == 9)


@pytest.mark.parametrize("name", ["Hopper-v4", "CartPole-v1"])
def test_processes_and_this_process_give_the_same_numbers(name, monkeypatch):
    found = []
    for apart in (False, True):
        monkeypatch.setattr("envs.build.LARGEST", -1 if apart else 20)
        env = build(name, alg="ppo", num_envs=3)
        try:
            assert type(env.envs).__name__ == ("Workers" if apart else "Here")
            found.append([env.reset(), *play(env, actions(env, 25)), *env.state().values()])
        finally:
            env.close()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


class Mine(gym.Wrapper):
    """A wrapper of a user's."""


@pytest.mark.parametrize(("name", "given", "here"), [
    ("HalfCheetah-v4", {"num_envs": 8}, True), ("Humanoid-v4", {"num_envs": 8}, False),
    ("Humanoid-v4", {"num_envs": 1}, True), ("CartPole-v1", {"num_envs": 2}, True),
    ("HalfCheetah-v4", {"num_envs": 8, "alg": "sac"}, False)], ids=str)
def test_what_steps_in_this_process(name, given, here):
    config = resolve({"alg": "ppo", "env": name} | given)
    env = make_env(config)
    assert in_this_process(config, env) == here
    env.close()


def test_a_users_environment_has_a_process_of_its_own():
    config = resolve({"alg": "ppo", "env": "CartPole-v1", "num_envs": 2})
    env = make_env(config)
    assert not in_this_process(config, Mine(env))
    assert not in_this_process(config, Forgetful())
    assert in_this_process(config, env)


class Forgetful(gym.Env):
    """Draws from a generator that no seed reaches."""

    observation_space, action_space = Box(-9, 9, (1,), np.float32), Box(-1, 1, (1,), np.float32)
    draws = np.random.default_rng(0)

    def reset(self, *, seed=None, options=None):
        return self.draws.uniform(size=1).astype(np.float32), {}

    def step(self, action):
        return self.draws.uniform(size=1).astype(np.float32), 0.0, False, False, {}


@pytest.mark.usefixtures("forget")
def test_an_episode_that_cannot_be_repeated_is_named_and_begins_anew():
    gym.register("Unseeded-v0", Forgetful)
    env = build("Unseeded-v0")
    env.reset()
    play(env, actions(env, 3))
    other = build("Unseeded-v0")
    assert other.restore(env.state()).tolist() == [True]
    assert len(other.episodes[0].taken) == 0
    assert torch.equal(other.obs, torch.from_numpy(other.shown))
    other.step(actions(other, 1)[0])


class Restarting:
    """Two environments, of which the second loses its process at the third step."""

    num_envs, origins, count = 2, {0: (0, None), 1: (1, None)}, 0

    def reset(self, *, seed=None, options=None):
        self.mask = None if options is None else options["reset_mask"].tolist()
        return np.full((2, 1), -1, np.float32), {}

    def step(self, actions):
        self.count += 1
        lost = np.array([False, self.count == 3])
        obs = np.full((2, 1), self.count, np.float32)
        obs[lost] = -2                                                      # the first one of the new episode
        over, info = np.zeros(2, bool), {"restarted": lost, "true_reward": np.ones(2)}
        return obs, np.ones(2) * ~lost, over, over.copy(), info


def test_a_lost_process_truncates_the_episode_at_its_last_observation():
    from envs.batch import GymBatch
    env = GymBatch(Restarting(), Forgetful(), [0, 1])
    env.reset()
    for _ in range(2):
        env.step(torch.zeros(2, 1))
    obs, rews, terminated, truncated, info = env.step(torch.zeros(2, 1))
    assert (obs[:, 0].tolist(), rews.tolist()) == ([3, 2], [1, 0])
    assert (terminated.tolist(), truncated.tolist()) == ([False, False], [False, True])
    assert info["lost"].tolist() == [False, True]
    assert env.reset(truncated)[:, 0].tolist() == [3, -2]                   # it has begun already
    assert env.envs.mask is None
    env.step(torch.zeros(2, 1))
    env.reset(torch.tensor([False, True]))
    assert env.envs.mask == [False, True]


class Parts(gym.Env):
    """Observes a dict."""

    observation_space = Dict({"b": Box(0, 9, (1, 2), np.float32), "a": Box(-1, 1, (1,), np.float64)})
    action_space = Box(-1, 1, (1,), np.float32)
    shape = (1, 2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"b": np.ones(self.shape, np.float32), "a": np.zeros(1)}, {}

    def step(self, action):
        return {"b": np.full(self.shape, 2.0), "a": action}, 0.0, False, False, {}


@pytest.mark.usefixtures("forget")
def test_parts_of_a_dict_are_concatenated_in_alphabetical_order(monkeypatch):
    gym.register("Parts-v0", Parts)
    env = build("Parts-v0")
    assert env.reset().tolist() == [[0, 1, 1]]
    assert env.step(torch.tensor([[0.5]]))[0].tolist() == [[0.5, 2, 2]]
    assert env.observation_space.low.tolist() == [-1, 0, 0]
    monkeypatch.setattr(Parts, "shape", (3,))
    with pytest.raises(ConfigError, match=r"^env: 'Parts-v0' observes .*, expected what its observation_space says"):
        build("Parts-v0").reset()


@pytest.mark.parametrize("name", ["PointMassRL", "PointMassRL-v0"])
def test_a_task_is_built_as_it_is(name):
    env = build(name, num_envs=5, test_timesteps=1000)
    assert type(env.task).__name__ == "PointMassRL"
    assert (env.num_envs, env.paid_at_end) == (5, False)
    other = build(name, num_envs=5, seed=1)
    assert not torch.equal(env.reset(), other.reset())
