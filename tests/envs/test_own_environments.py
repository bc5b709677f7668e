"""A user's environment that does not follow Gymnasium's API ends a run with one line that names it."""

from __future__ import annotations

import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from runs import SMALL, run

import train
from envs import make_env
from utils.errors import ConfigError
from utils.settings.fields import Config

pytestmark = pytest.mark.usefixtures("forget")
ZERO = np.zeros(1, np.float32)


class Plain(gym.Env):
    """Returns its attributes, without end."""

    observation_space, action_space = Box(-1, 1, (2,), np.float32), Box(-1, 1, (1,), np.float32)
    obs, reward, info = np.zeros(2, np.float32), 1.0, {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.obs, self.info

    def step(self, action):
        return self.obs, self.reward, False, False, self.info


class OldStep(Plain):
    def step(self, action):
        return self.obs, 1.0, False, {}


class OldReset(Plain):
    def reset(self):
        return self.obs


class SeedOnly(Plain):
    def reset(self, seed=None):
        return self.obs, {}


class BareReset(Plain):
    def reset(self, **given):
        return self.obs


class PairReset(Plain):
    def reset(self, **given):
        return [0.1, 0.2]


class NoStep(Plain):
    def step(self, action):
        pass


class NoSpaces(gym.Env):
    pass


def having(**attributes) -> type[Plain]:
    return type("Having", (Plain,), attributes)


def make(kind: type[gym.Env], **settings) -> gym.Env:
    gym.register("Own-v0", kind)
    return make_env(Config(env="Own-v0", **settings))


SHAPE = ", expected numbers of shape (2,), as its observation_space says"
FIVE = "(observation, reward, terminated, truncated, info)"
SLIPS = {
    "None as a reward": (having(reward=None), "gives None as a reward, expected a number"),
    "a text as a reward": (having(reward="much"), "gives 'much' as a reward, expected a number"),
    "two rewards": (having(reward=np.ones(2)), "gives array([1., 1.]) as a reward, expected a number"),
    "a complex reward": (having(reward=1j), "gives 1j as a reward, expected a number"),
    "no reward": (having(reward=[]), "gives [] as a reward, expected a number"),
    "a reward with a gradient": (having(reward=torch.ones(1, requires_grad=True)),
                                 "gives tensor([1.], requires_grad=True) as a reward, expected a number"),
    "four values": (OldStep, f"gives 4 values from step, expected 5: {FIVE}"),
    "nothing": (NoStep, f"gives a NoneType from step, expected {FIVE}"),
    "reset()": (OldReset, "has a reset without `seed` or `options`, "
                    "expected reset(self, *, seed=None, options=None)"),
    "reset(seed)": (SeedOnly, "has a reset without `seed` or `options`, "
                    "expected reset(self, *, seed=None, options=None)"),
    "an observation alone": (BareReset, "gives a ndarray from reset, expected (observation, info)"),
    "a pair that is one": (PairReset, "gives a float as info from reset, expected a dict"),
    "no info": (having(info=None), "gives a NoneType as info from reset, expected a dict"),
    "another shape": (having(obs=np.zeros(3, np.float32)), f"observes float32 of shape (3,){SHAPE}"),
    "another number of dimensions": (having(obs=np.zeros((2, 1))), f"observes float64 of shape (2, 1){SHAPE}"),
    "nothing to see": (having(obs=None), f"observes object of shape (){SHAPE}"),
    "texts": (having(obs=["a", "b"]), f"observes <U1 of shape (2,){SHAPE}"),
    "rows of different lengths": (having(obs=[[1], [2, 3]]),
                                  "observes a list that is no array, expected numbers of shape (2,)"),
    "no spaces": (NoSpaces, "has no observation_space, expected one of gymnasium.spaces"),
    "no actions": (having(action_space=None), "has no action_space, expected one of gymnasium.spaces"),
}


@pytest.mark.parametrize(("kind", "message"), SLIPS.values(), ids=SLIPS)
def test_a_mistake_in_an_environment_gives_a_one_line_error(kind, message):
    def play():
        env = make(kind)
        env.reset(seed=0)
        env.step(ZERO)
    with pytest.raises(ConfigError, match="^" + re.escape(f"env: 'Own-v0' {message}") + "$"):
        play()


def test_a_run_ends_with_exit_code_2_and_that_line(capsys):
    gym.register("Own-v0", OldStep)
    assert train.main(["--alg=rrd", "--env=Own-v0", "--rrd_sample_size=4", *SMALL]) == 2
    assert capsys.readouterr().err == f"train.py: env: 'Own-v0' gives 4 values from step, expected 5: {FIVE}\n"


def test_a_run_with_several_environments_ends_with_exit_code_2_and_that_line(capsys, monkeypatch):
    Path("mine.py").write_text("""
import gymnasium as gym
import tiny_envs

class OldStep(tiny_envs.Match):
    def step(self, action):
        return super().step(action)[1:]

gym.register("Own-v0", OldStep)
""")
    monkeypatch.syspath_prepend(".")
    assert train.main(["--env=mine:Own-v0", *SMALL, "--num_envs=2"]) == 2
    assert capsys.readouterr().err == f"train.py: env: 'mine:Own-v0' gives 4 values from step, expected 5: {FIVE}\n"


@pytest.mark.parametrize("reward", [1, True, np.float32(1), np.int64(1), np.array(1.0), np.array([1.0]),
                                    np.array([[1]]), [1.0], torch.ones(1)], ids=repr)
def test_one_number_of_any_type_is_a_reward(reward):
    env = make(having(reward=reward), env_type="normal")
    env.reset(seed=0)
    _, paid, _, _, info = env.step(ZERO)
    assert (paid, type(paid), info["true_reward"]) == (1.0, float, 1.0)


@pytest.mark.parametrize("obs", [[0.1, 0.2], (1, 2), torch.zeros(2), np.zeros(2)], ids=repr)
def test_numbers_of_any_type_and_the_spaces_shape_are_an_observation(obs):
    env = make(having(obs=obs))
    for seen in (env.reset(seed=0)[0], env.step(ZERO)[0]):
        assert seen.dtype == np.float32
        np.testing.assert_array_equal(seen, np.float32(obs))


def test_an_error_inside_an_environment_stays_a_traceback():
    class Fails(Plain):
        def step(self, action):
            raise TypeError("sensor lost")
    env = make(Fails)
    env.reset(seed=0)
    with pytest.raises(TypeError, match="sensor lost"):
        env.step(ZERO)


def test_a_run_on_rewards_in_arrays_equals_that_on_numbers():
    learned = []
    for reward in (1.0, np.array([1.0])):
        gym.register("Own-v0", having(reward=reward))
        learned.append(run("--alg=sac", "--env=Own-v0", *SMALL, f"--tag={np.ndim(reward)}").untimed())
        del gym.registry["Own-v0"]
    assert learned[0] == learned[1]
