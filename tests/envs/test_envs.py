"""Environments: names and aliases, scaled actions, rewards by step or by episode, and where an episode ends."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Sequence

import train
from envs import env_kwargs, make_env
from envs.names import resolve_env, with_version
from utils.errors import ConfigError
from utils.settings.fields import Config


class Recorder(gym.Env):
    """Pays 0.5, 1, 1.5, ...; terminates after `length` steps; keeps the actions that it was given."""

    def __init__(self, length=10**9, observes=None, acts=None):
        self.observation_space, self.action_space = observes or Box(-9, 9, (2,)), acts or Box(-3, 3, (2,))
        self.length, self.actions = length, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {"reset": True}

    def step(self, action):
        self.t += 1
        self.actions.append(action)
        return self._observe(), np.float64(0.5 * self.t), self.t >= self.length, False, {"t": self.t}

    def _observe(self):
        shape, kind = self.observation_space.shape, self.observation_space.dtype
        return np.arange(np.prod(shape)).reshape(shape).astype(kind)


@pytest.fixture
def register():
    """Register a Recorder, for one test, and give its id."""
    ids = []

    def add(**kwargs) -> str:
        ids.append(f"ForTestEnvs{len(ids)}-v0")
        gym.register(ids[-1], entry_point=Recorder, kwargs=kwargs)
        return ids[-1]
    yield add
    for name in ids:
        del gym.registry[name]


def make(name: str, **settings) -> gym.Env:
    return make_env(Config(env=name, **settings))


def episode(env: gym.Env, limit: int = 10**6, seed: int = 0) -> list[tuple]:
    """Every step of one episode with a fixed action: (observation, reward, terminated, truncated, info)."""
    env.reset(seed=seed)
    steps = []
    while not steps or not (steps[-1][2] or steps[-1][3]):
        assert len(steps) < limit
        steps.append(env.step(np.full(env.action_space.shape, 0.5, np.float32)))
    return steps


# Names ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "id", "width", "acts"), [
    ("Ant-v2", "Ant-v4", 111, 8), ("Ant-v4", "Ant-v4", 27, 8), ("Reacher-v2", "Reacher-v4", 11, 2),
    ("Ant-v5", "Ant-v5", 105, 8), ("HalfCheetah-v2", "HalfCheetah-v4", 17, 6), ("Hopper-v3", "Hopper-v4", 11, 3),
    ("HalfCheetah-v5", "HalfCheetah-v5", 17, 6), ("Humanoid-v2", "Humanoid-v4", 376, 17), ("Ant-v3", "Ant-v4", 111, 8),
    ("HumanoidStandup-v2", "HumanoidStandup-v4", 376, 17), ("InvertedPendulum-v2", "InvertedPendulum-v4", 4, 1),
    ("InvertedDoublePendulum-v2", "InvertedDoublePendulum-v4", 11, 1), ("Hopper-v4", "Hopper-v4", 11, 3),
    ("Humanoid-v5", "Humanoid-v5", 348, 17), ("Swimmer-v3", "Swimmer-v4", 8, 2), ("Walker2d-v2", "Walker2d-v4", 17, 6),
    ("Pusher-v5", "Pusher-v5", 23, 7), ("Pendulum-v1", "Pendulum-v1", 3, 1),
])
def test_every_name_makes_the_documented_environment(name, id, width, acts):
    env = make(name)
    assert resolve_env(name).id == env.spec.id == id
    assert env.observation_space.shape == env.reset(seed=0)[0].shape == (width,)
    assert (env.action_space, env.spec.max_episode_steps) == (Box(-1, 1, (acts,), np.float32), 1000)


@pytest.mark.parametrize("name", ["Mine-v2", "AntMaze-v3", "Ant-v20", "Ant-v2x", "my/Ant-v2", "AntMaze", "ant"])
def test_other_names_are_unchanged(name):
    assert str(resolve_env(name)) == name


def test_the_resolved_name_has_its_arguments():
    assert str(resolve_env("Ant-v2")) == "Ant-v4, use_contact_forces=True"
    assert env_kwargs(Config(env="Ant-v2")) == {"use_contact_forces": True}
    assert env_kwargs(Config(env="Hopper-v2")) == {}


@pytest.mark.parametrize(("name", "says"), [
    ("HalfCheeta-v4", "did you mean HalfCheetah-v4?"), ("Pendulum-v7", "did you mean Pendulum-v1?"),
    ("ant-v2", "did you mean Ant-v"), ("AntX-v2", "did you mean Ant-v"),
    ("zzz-v0", "expected a registered Gymnasium id; --import=MODULE imports the module that registers one of your own"),
    ("AntX-v2", "; --import=MODULE imports the module that"),
    ("tiny_envs:Macth-v0", "did you mean Match-v0?; the module tiny_envs does not register it"),
    ("Assault", "expected --alg=dqn"), ("Asault", "did you mean Assault?"),
    ("Pusher-v4", "cannot be made here"), ("Pusher-v2", "cannot be made here"),
    ("", "cannot be made here"), ("a\nb-v0", "cannot be made here"), ("a:b:c", "'a:b:c'"),
    ("nosuchmodule:Foo-v0", "No module named 'nosuchmodule'"),
])
def test_a_wrong_name_gives_a_one_line_error_with_a_hint(name, says):
    with pytest.raises(ConfigError) as error:
        make(name)
    message = str(error.value)
    assert message.startswith(("env: got ", "env: '"))
    assert says in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(("name", "id"), [
    ("HalfCheetah", "HalfCheetah-v5"), ("Pendulum", "Pendulum-v1"), ("Many", "Many-v10"), ("tiny_envs:Match",
                                                                                           "tiny_envs:Match-v0")])
def test_without_a_version_a_name_is_the_newest_one_without_a_warning(name, id, monkeypatch):
    for version in (2, 10, 9):
        spec = gym.envs.registration.EnvSpec(f"Many-v{version}", Recorder)
        monkeypatch.setitem(gym.registry, spec.id, spec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make(name).spec.id == id.rpartition(":")[2]
    assert with_version(name) == str(resolve_env(name)) == id


def test_an_id_that_is_registered_without_a_version_is_itself(monkeypatch):
    for id in ("Own", "Own-v3"):
        monkeypatch.setitem(gym.registry, id, gym.envs.registration.EnvSpec(id, Recorder))
    assert with_version("Own") == "Own"


def test_an_old_version_that_was_asked_for_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make("HalfCheetah-v4")


# Spaces ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("spaces", [
    {"acts": Discrete(3)}, {"acts": Box(-1, 1, (2, 2))}, {"acts": Box(0, np.inf, (2,))},
    {"acts": Box(-np.inf, np.inf, (2,))}, {"acts": Box(-3, 3, (2,), np.int32)}, {"acts": Box(1, 255, (2,), np.uint8)},
    {"acts": MultiBinary(2)}, {"observes": Sequence(Discrete(3))}, {"observes": Dict(a=Sequence(Box(-1, 1, (2,))))},
], ids=str)
def test_spaces_that_no_agent_can_use_are_refused(spaces, register):
    name = register(**spaces)
    with pytest.raises(ConfigError, match=rf"^env: '{name}' (acts in|observes) .*expected"):
        make(name)


@pytest.mark.parametrize("high", [0.4, 1.0, 3.0, [0.4, 3.0]])
def test_an_action_of_one_is_the_highest_that_the_environment_takes(high, register):
    high = np.broadcast_to(np.float32(high), (2,))
    env = make(register(acts=Box(-high, high)))
    env.reset(seed=0)
    for action in ([1, -1], [0.5, 0]):
        env.step(np.float32(action))
        np.testing.assert_array_equal(env.unwrapped.actions[-1], np.float32(action) * high)


def test_humanoid_gets_four_tenths():
    env = make("Humanoid-v4")
    env.reset(seed=0)
    env.step(np.ones(17, np.float32))
    np.testing.assert_allclose(env.unwrapped.data.ctrl, 0.4, rtol=1e-6)


@pytest.mark.parametrize(("observes", "width"), [(Box(-1, 99, (2, 3, 4)), 24), (Box(0, 255, (4, 4), np.uint8), 16),
                                                 (Box(-1, 1, ()), 1)], ids=str)
def test_observations_of_several_dimensions_are_flattened_in_order(observes, width, register):
    env = make(register(observes=observes))
    assert env.observation_space.shape == (width,)
    obs, _ = env.reset(seed=0)
    np.testing.assert_array_equal(obs, np.arange(width))
    np.testing.assert_array_equal(env.step(np.zeros(2, np.float32))[0], np.arange(width))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.uint8])
def test_observations_are_float32(kind, register):
    env = make(register(observes=Box(0, 9, (2,), kind)))
    assert env.observation_space.dtype == env.reset(seed=0)[0].dtype == np.float32
    assert env.step(np.zeros(2, np.float32))[0].dtype == np.float32


# Rewards --------------------------------------------------------------------------------------------------------

ENDS = pytest.mark.parametrize(("length", "limit"), [(4, 9), (9, 4), (4, 4)], ids=["terminated", "truncated", "both"])


@ENDS
def test_the_episodes_return_is_paid_at_its_end_and_nothing_before(length, limit, register):
    env = make(register(length=length), test_timesteps=limit)
    for _ in range(2):
        assert [reward for _, reward, *_ in episode(env)] == [0, 0, 0, 0.5 + 1 + 1.5 + 2]


@ENDS
def test_normal_rewards_are_paid_by_step(length, limit, register):
    env = make(register(length=length), test_timesteps=limit, env_type="normal")
    assert [reward for _, reward, *_ in episode(env)] == [0.5, 1, 1.5, 2]


def test_an_abandoned_episode_is_not_paid_in_the_next(register):
    env = make(register(length=2))
    env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    assert [reward for _, reward, *_ in episode(env)] == [0, 1.5]


@pytest.mark.parametrize("env_type", ["ep_rews", "normal"])
def test_info_contains_each_steps_own_reward_beside_its_other_entries(env_type, register):
    steps = episode(make(register(length=3), env_type=env_type))
    assert [(info["true_reward"], info["t"]) for *_, info in steps] == [(0.5, 1), (1, 2), (1.5, 3)]
    assert all(type(reward) is type(info["true_reward"]) is float for _, reward, _, _, info in steps)


def test_the_return_of_a_mujoco_episode_is_the_sum_of_its_rewards():
    paid = [reward for _, reward, *_ in episode(make("Hopper-v4"))]
    true = [reward for _, reward, *_ in episode(make("Hopper-v4", env_type="normal"))]
    assert len(paid) == len(true) > 5
    assert paid[:-1] == [0] * (len(true) - 1)
    assert paid[-1] == pytest.approx(sum(true), abs=1e-12)


# Ends -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "own_limit"), [("Reacher-v2", 50), ("Reacher-v5", 50), ("Pendulum-v1", 200)])
@pytest.mark.parametrize("limit", [1000, 20])
def test_the_time_limit_is_test_timesteps_and_not_gymnasiums(name, own_limit, limit):
    assert limit != own_limit
    steps = episode(make(name, test_timesteps=limit))
    assert len(steps) == limit
    assert steps[-1][2:4] == (False, True)


@pytest.mark.parametrize(("length", "limit", "last"), [(3, 5, (True, False)), (5, 3, (False, True))])
def test_termination_and_truncation_are_distinguished(length, limit, last, register):
    steps = episode(make(register(length=length), test_timesteps=limit))
    assert [step[2:4] for step in steps] == [(False, False), (False, False), last]


def test_a_termination_on_the_last_allowed_step_is_kept(register):
    steps = episode(make(register(length=3), test_timesteps=3))
    assert [terminated for _, _, terminated, *_ in steps] == [False, False, True]


# MuJoCo's warnings, seeds ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["Ant-v2", "HalfCheetah-v4", "Hopper-v5"])
def test_a_mujoco_warning_goes_to_the_log_and_to_no_file(name, caplog, capfd):
    env = make(name)
    env.reset(seed=0)
    env.unwrapped.data.qvel[:] = 1e12
    with caplog.at_level(logging.WARNING, "envs.mujoco"):
        env.step(np.zeros(env.action_space.shape, np.float32))
    assert "unstable" in caplog.text
    assert os.listdir() == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error", ["AttributeError", "RuntimeError", "ImportError", "OSError"])
def test_a_mujoco_gl_that_breaks_mujoco_gives_a_one_line_error(error, monkeypatch, capsys):
    Path("mujoco.py").write_text(f"raise {error}('no\\nglGetError')")
    monkeypatch.syspath_prepend(".")
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert train.main(["--alg=sac", "--env=Hopper-v4", "--total_timesteps=1"]) == 2
    assert capsys.readouterr().err == (f"train.py: env: MuJoCo cannot be imported with MUJOCO_GL=osmesa: {error}: no "
                                       "glGetError; `unset MUJOCO_GL`: training renders nothing\n")


def test_without_mujoco_other_tasks_can_be_made(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    make("Pendulum-v1").reset(seed=0)


@pytest.mark.parametrize("name", ["Hopper-v4", "Ant-v2", "Pendulum-v1"])
def test_a_seed_fixes_an_episode_and_another_changes_it(name):
    def observed(seed):
        return np.stack([obs for obs, *_ in episode(make(name, test_timesteps=20), seed=seed)])
    first = observed(1)
    np.testing.assert_array_equal(first, observed(1))
    assert not np.array_equal(first[:5], observed(2)[:5])


def test_two_environments_of_one_configuration_share_no_state():
    config = Config(env="Pendulum-v1")
    env, other = make_env(config), make_env(config)
    env.reset(seed=3)
    state = env.unwrapped.state.copy()
    other.reset(seed=4)
    other.step(np.ones(1, np.float32))
    np.testing.assert_array_equal(env.unwrapped.state, state)


# The catch game of the benchmarks -------------------------------------------------------------------------------

def test_following_the_ball_catches_all_ten_and_pays_ten_at_the_end():
    env = make("benchmarks.catch:Catch-v0", alg="dqn")
    obs, _ = env.reset(seed=0)
    paid, over = [], False
    while not over:
        picture = obs[7::14, 7::14, 0]                              # one pixel of each of 6 x 6 cells
        ball = int(np.argwhere(picture == 255)[0, 1])
        paddle = int(np.argwhere(picture[-1] == 128)[0, 0]) if 128 in picture[-1] else ball
        obs, reward, terminated, truncated, _ = env.step(1 + np.sign(ball - paddle))
        paid, over = [*paid, reward], terminated or truncated
    assert (len(paid), sum(paid), paid[-1], terminated) == (50, 10, 10, True)
