"""Environments that reset themselves: a user's own as a tensor environment, and the other way round."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from runs import SMALL, SMALL_ROLLOUTS, run
from saved import digest

import train
from envs import build_env, register_env
from envs.self_resetting import adapted
from utils.autoreset import AutoReset
from utils.errors import ConfigError

SPACES = Box(-np.inf, np.inf, (2,), np.float32), Box(-1, 1, (1,), np.float32)


class Clocks:
    """Row n counts from 100 (episode number), and ends after n + 2 steps; odd rows are truncated then."""

    STATE = ("count", "episode")

    def __init__(self, cfg):
        self.cfg, self.num_envs = cfg, cfg.num_envs
        self.observation_space, self.action_space = SPACES
        self.count, self.episode, self.asked = torch.zeros(cfg.num_envs), torch.zeros(cfg.num_envs), []
        self.rows = torch.arange(cfg.num_envs)

    def look(self):
        return torch.stack([self.count, self.episode], 1)

    def reset(self, seed=None, options=None):
        ids = self.rows if options is None else options["reset_ids"]
        self.asked.append(ids.tolist())
        self.count = self.count.index_fill(0, ids, 0.0)
        self.episode = self.episode.index_copy(0, ids, self.numbers()[ids])
        return self.look(), {}

    def step(self, action):
        self.count = self.count + 1
        over, odd, final, rews = self.count >= self.rows + 2, self.rows % 2 == 1, self.look(), self.count.clone()
        if over.any():
            self.count = self.count.masked_fill(over, 0)
            self.episode = torch.where(over, self.numbers(), self.episode)
        info = {"rewards": {"a": rews}, "metrics": {"count": final[:, 0]}, **self.told(final)}
        return self.look(), rews, over & ~odd, over & odd, info

    def numbers(self):
        return self.episode + 1

    def told(self, final):
        return {"final_obs": final}


class Drawing(Clocks):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.generator = torch.Generator().manual_seed(cfg.seed)

    def numbers(self):
        return torch.rand(self.num_envs, generator=self.generator)


class Losing(Clocks):
    STATE = ()

    def told(self, final):
        return {}


@pytest.fixture(autouse=True)
def registry():
    before = dict(gym.registry)
    register_env("Clocks")(Clocks)
    register_env("Losing")(Losing)
    register_env("Drawing")(Drawing)
    yield
    gym.registry.clear()
    gym.registry.update(before)


def stepped(env, count):
    """Step with the caller's resets; return (obs before, last obs, over) of each step."""
    found, obs = [], env.reset() if env.obs is None else env.obs
    for _ in range(count):
        last, _, terminated, truncated, _ = env.step(torch.zeros(env.num_envs, 1))
        found.append((obs, last, terminated | truncated))
        obs = env.reset(terminated | truncated)
    return found


def test_no_last_observation_is_lost_and_rows_that_reset_themselves_are_not_reset_again():
    env = adapted(Clocks)(3)
    obs = env.reset()
    asked = len(env.own.asked)
    counts = []
    for _ in range(4):
        last, rews, terminated, truncated, _ = env.step(torch.zeros(3, 1))
        assert torch.equal(last[:, 0], rews)                            # what was counted, not the new episode's 0
        assert torch.equal(last[:, 1], obs[:, 1])                       # of the same episode
        counts.append((terminated.tolist(), truncated.tolist()))
        obs = env.reset(terminated | truncated)
        assert torch.equal(obs[:, 0], rews.masked_fill(terminated | truncated, 0))
    assert counts == [([False] * 3, [False] * 3), ([True, False, False], [False] * 3),
                      ([False] * 3, [False, True, False]), ([True, False, True], [False] * 3)]
    assert len(env.own.asked) == asked
    assert (env.rewards, env.metrics) == (("a",), ("count",))


def test_without_it_the_observation_before_the_step_stands_for_the_last_one():
    env = adapted(Losing)(2)
    for before, last, over in stepped(env, 3):
        assert torch.equal(last[over], before[over])
        assert torch.equal(last[~over][:, 0], before[~over][:, 0] + 1)


def test_a_time_limit_is_kept_from_outside():
    register_env("Short", max_episode_steps=3)(Clocks)
    env = gym.make_vec("Short", num_envs=4)
    ends = [over.tolist() for *_, over in stepped(env, 3)]
    assert ends == [[False] * 4, [True, False, False, False], [False, True, True, True]]
    assert env.own.cfg.max_episode_steps == 3
    assert env.own.asked[-1] == [2, 3]                                  # row 1 has reset itself


def test_both_ways_give_the_environment_that_it_was():
    ours, own = AutoReset(adapted(Clocks)(3)), Clocks(build_env("Clocks", {"num_envs": 3}).env.own.cfg)
    first, _ = ours.reset()
    own.episode = first[:, 1].clone()
    for _ in range(7):
        found, expected = ours.step(torch.zeros(3, 1)), own.step(torch.zeros(3, 1))
        for got, want in zip(found[:4], expected[:4], strict=True):
            assert torch.equal(got, want)
        over = found[2] | found[3]
        assert torch.equal(found[4]["final_obs"][over], expected[4]["final_obs"][over])


def test_a_saved_state_continues_in_the_middle_of_episodes():
    env = adapted(Clocks)(4)
    stepped(env, 3)
    other = adapted(Clocks)(4)
    assert not other.restore(env.state()).any()
    for ours, theirs in zip(stepped(env, 5), stepped(other, 5), strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_without_state_open_episodes_begin_anew():
    env, other = adapted(Losing)(2), adapted(Losing)(2)
    stepped(env, 1)
    assert other.restore(env.state()).tolist() == [True, True]
    assert other.obs[:, 0].tolist() == [0, 0]


@pytest.mark.parametrize("flags", [[*SMALL, "--alg=sac"], [*SMALL_ROLLOUTS, "--alg=ppo"]], ids=["sac", "ppo"])
def test_two_parts_equal_the_whole_run(flags):
    flags = [*flags, "--num_envs=3", "--env=Drawing"]
    parts = run(*flags, "--total_timesteps=60", "--tag=parts")
    assert train.main([f"--resume={parts.directory}", "--total_timesteps=120"]) == 0
    whole = run(*flags, "--total_timesteps=120", "--tag=whole")
    assert digest(parts.directory) == digest(whole.directory)


@pytest.mark.parametrize("flags", [[*SMALL, "--alg=sac"], [*SMALL_ROLLOUTS, "--alg=ppo"]], ids=["sac", "ppo"])
def test_a_run_reports_episodes_that_begin_anew(flags, capsys):
    parts = run(*flags, "--num_envs=3", "--env=Losing", "--total_timesteps=60")
    assert train.main([f"--resume={parts.directory}", "--total_timesteps=120"]) == 0
    assert "3 open episodes could not be restored" in capsys.readouterr().out


def test_settings_are_attributes_of_cfg_and_rows_are_built_by_id():
    env = build_env("Clocks", {"num_envs": 2, "device": "cpu", "seed": 5, "width": 0.5, "extensions": {"deep": 1}})
    cfg = env.env.own.cfg
    assert (cfg.num_envs, cfg.seed, cfg.width, cfg.deep) == (2, 5, 0.5, 1)
    obs, info = build_env("PushCubeRL", {"num_envs": 2, "episode_length": 7}).reset(seed=1)
    assert (obs.shape, info) == ((2, 15), {})
    pendulum = build_env("Pendulum-v1", {"g": 9.0})
    obs, _ = pendulum.reset()
    assert obs.shape == (1, 3)
    assert pendulum.step(torch.zeros(1, 1))[4]["final_obs"].shape == (1, 3)
    pendulum.close()
    with pytest.raises(ConfigError, match=r"^env: got 'PushCubeR'; did you mean PushCubeRL"):
        build_env("PushCubeR")


def test_one_environment_of_gymnasium_is_registered_as_it_is():
    @register_env("One-v0", max_episode_steps=7)
    class One(gym.Env):
        observation_space, action_space = SPACES
    assert gym.spec("One-v0").max_episode_steps == 7
    assert isinstance(gym.make("One-v0", disable_env_checker=True).unwrapped, One)


def test_a_name_that_is_registered_with_a_version_is_taken():
    with pytest.raises(ValueError, match=r"^env: 'PushCubeRL-v0' is registered, expected another id than 'PushCubeRL'"):
        register_env("PushCubeRL", override=True)(Clocks)


class Silent(Clocks):
    def step(self, action):
        return super().step(action)[:4]


class Spaceless(Clocks):
    def __init__(self, cfg):
        super().__init__(cfg)
        del self.action_space


@pytest.mark.parametrize(("build", "message"), [
    (Silent, "env: Silent gives a tuple from step, expected"), (Spaceless, "env: Spaceless has no action_space")])
def test_what_is_wrong_is_one_line(build, message):
    with pytest.raises(ConfigError, match="^" + message):
        adapted(build)(2)
