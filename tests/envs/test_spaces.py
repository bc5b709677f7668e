"""Spaces that people have: boxes that are not symmetric, parts, categories; what is refused names what helps."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, Sequence, Text, Tuple
from gymnasium.spaces.utils import flatten
from runs import SMALL, SMALL_RRD, run
from tiny_envs import Clock

import return_decomposition as rd
from envs import make_env
from envs.spaces import ScaleAction, unscaled
from utils.errors import ConfigError
from utils.settings.fields import Config

pytestmark = pytest.mark.usefixtures("forget")
ZERO = np.zeros(1, np.float32)


class Shows(Clock):
    """Observes samples of any space, keeps them, and keeps the actions that it gets."""

    def __init__(self, observes=None, acts=None, value="a sample"):
        super().__init__()
        self.observation_space, self.action_space = observes or Box(-1, 1, (2,)), acts or Box(-1, 1, (1,))
        self.value, self.seen, self.actions = value, [], []
        self.observation_space.seed(0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action):
        self.actions.append(action)
        _, *rest = super().step(action)
        return self._look(), *rest

    def _look(self):
        sampled = isinstance(self.value, str)
        self.seen.append(self.observation_space.sample() if sampled else self.value)
        return self.seen[-1]


def make(alg="sac", **kwargs) -> gym.Env:
    gym.registry.pop("Shows-v0", None)
    gym.register("Shows-v0", Shows, kwargs=kwargs)
    return make_env(Config(env="Shows-v0", alg=alg, test_timesteps=20))


# Actions --------------------------------------------------------------------------------------------------------------

BOXES = {
    "from 0 to 1": Box(0, 1, (1,)), "above 0": Box(2, 5, (3,)), "float64": Box(-1, 3, (2,), np.float64),
    "each its own": Box(np.float32([0, -3, 10]), np.float32([1, 1, 11])),
    "one of a kind": Box(np.float32([0, 2]), np.float32([1, 2])),
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_actions_are_rescaled_to_the_bounds(box):
    env = make(acts=box)
    assert env.action_space == Box(-1, 1, box.shape, np.float32)
    env.reset(seed=0)
    for action in (-1, 0, 1, 0.5):
        env.step(np.full(box.shape, action, np.float32))
    low, high = np.float64(box.low), np.float64(box.high)
    for given, share in zip(env.unwrapped.actions, (0, 0.5, 1, 0.75), strict=True):
        np.testing.assert_allclose(given, low + share * (high - low), rtol=1e-6)
        assert given.dtype == box.dtype
        assert box.contains(given)


@pytest.mark.parametrize("high", [0.4, 1.0, 3.0])
def test_symmetric_bounds_multiply_to_the_bit_as_before(high):
    env = make(acts=Box(-high, high, (2,)))
    env.reset(seed=0)
    for action in np.random.default_rng(0).uniform(-1, 1, (10, 2)).astype(np.float32):
        env.step(action)
        np.testing.assert_array_equal(env.unwrapped.actions[-1], action * np.float32(high))


MODULE = """
import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from tiny_envs import Match

class Thermostat(Match):
    '''The best action, in [10, 30], is 20 plus ten times the observation.'''
    action_space = Box(10, 30, (1,), np.float32)

    def step(self, action):
        return super().step((action - 20) / 10)

class Parts(Match):
    observation_space = Dict(x=Box(-1, 1, (1,)), on=Box(0, 1, (2,), bool), kind=Discrete(3))

    def reset(self, **given):
        _, info = super().reset(**given)
        return self._parts(), info

    def step(self, action):
        _, *rest = super().step(action)
        return self._parts(), *rest

    def _parts(self):
        return {"x": self.obs, "on": np.array([True, False]), "kind": self.t % 3}

gym.register("Thermostat-v0", Thermostat, kwargs={"gain": 0.8})
gym.register("Parts-v0", Parts)
"""


@pytest.fixture
def rooms(monkeypatch):
    Path("rooms.py").write_text(MODULE)
    monkeypatch.syspath_prepend(".")


@pytest.mark.parametrize("flags", [[], ["--num_envs=2"]], ids=["one", "workers"])
def test_a_run_on_a_box_that_is_not_symmetric_says_so_once_and_keeps_the_agents_actions(rooms, flags, capsys):
    finished = run("--alg=sac", "--env=rooms:Thermostat-v0", *SMALL, *flags)
    shown = capsys.readouterr().out
    assert shown.count("actions are rescaled from [-1, 1] to the environment's bounds, 10 to 30") == 1
    assert finished.config["alg"] == "sac"
    from learner.evaluation import run_settings
    from learner.loading import load_replay
    from utils.settings.sizes import with_sizes
    replay = load_replay(finished.directory, with_sizes(run_settings(finished.directory, {"env": "Match-v0"}), 1, 1))
    acts = replay.sample(100)["acts"]
    assert acts.abs().max() <= 1
    assert acts.std() > 0.2


def test_symmetric_bounds_say_nothing(capsys):
    run("--alg=sac", "--env=Clock10-v0", *SMALL)
    assert "rescaled" not in capsys.readouterr().out


def test_thermostats_are_learned_as_their_twin_in_symmetric_bounds(rooms):
    ours = run("--alg=sac", "--env=rooms:Thermostat-v0", *SMALL, "--tag=a").untimed()
    theirs = run("--alg=sac", "--env=Match-v0", *SMALL, "--tag=b").untimed()
    for one, other in zip(ours, theirs, strict=True):
        assert float(one["train/return"]) == pytest.approx(float(other["train/return"]), rel=1e-4)


# Observations ---------------------------------------------------------------------------------------------------------

SPACES = {
    "bool": Box(0, 1, (3,), bool), "discrete": Discrete(5), "discrete from 2": Discrete(3, start=2),
    "multi-discrete": MultiDiscrete([2, 3]), "multi-binary": MultiBinary((2, 2)),
    "dict": Dict(b=Box(-9, 9, (2, 2)), a=Discrete(3), c=Box(0, 1, (2,), bool)),
    "tuple": Tuple((Discrete(2), Box(0, 255, (2, 2, 3), np.uint8))),
    "nested": Dict(goal=Dict(place=Box(-1, 1, (2,)), kind=Discrete(2)), seen=Tuple((MultiBinary(3), Box(-1, 1, ())))),
}


def vector(space, obs) -> np.ndarray:
    """The parts by name, each as Gymnasium flattens it."""
    if isinstance(space, Dict):
        return np.concatenate([vector(space[name], obs[name]) for name in sorted(space)])
    if isinstance(space, Tuple):
        return np.concatenate([vector(part, one) for part, one in zip(space, obs, strict=True)])
    return np.float32(flatten(space, obs)).reshape(-1)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("alg", ["sac", "dqn", "ppo"])
def test_parts_are_flattened_and_categories_one_hot_as_gymnasium_does(space, alg):
    env = make(alg, observes=space, acts=Discrete(2) if alg == "dqn" else None)
    found = [env.reset(seed=0)[0], *(env.step(0 if alg == "dqn" else ZERO)[0] for _ in range(5))]
    for obs, seen in zip(found, env.unwrapped.seen, strict=True):
        assert obs.dtype == np.float32
        assert env.observation_space.shape == obs.shape
        np.testing.assert_array_equal(obs, vector(space, seen))


WRONG = {
    "a key is missing": (Dict(a=Box(-1, 1, (1,)), b=Discrete(2)), {"a": ZERO}),
    "no mapping": (Dict(a=Box(-1, 1, (1,))), [ZERO]),
    "a part of another shape": (Dict(a=Box(-1, 1, (1,))), {"a": np.zeros(2)}),
    "a part that is no number": (Dict(a=Box(-1, 1, (1,))), {"a": ["x"]}),
    "too few parts": (Tuple((Discrete(2), Discrete(2))), (0,)),
    "an unknown category": (Discrete(3), 3), "a category below 0": (Discrete(3), -1),
    "half a category": (Discrete(3), 0.5), "None": (Discrete(3), None), "two categories": (Discrete(3), [0, 1]),
    "one of several unknown": (MultiDiscrete([2, 3]), [1, 3]), "no bit": (MultiBinary(2), [0, 2]),
}


@pytest.mark.parametrize(("space", "value"), WRONG.values(), ids=WRONG)
def test_an_observation_that_does_not_fit_its_space_is_one_line(space, value):
    env = make(observes=space, value=value)
    with pytest.raises(ConfigError, match=r"^env: 'Shows-v0' observes .*, expected what its observation_space says, "):
        env.reset(seed=0)


@pytest.mark.parametrize("value", [np.int64(1), 1, np.array(1), np.uint8(1), True], ids=repr)
def test_a_category_may_come_as_any_integer(value):
    np.testing.assert_array_equal(make(observes=Discrete(3), value=value).reset(seed=0)[0], [0, 1, 0])


@pytest.mark.parametrize("flags", [["--alg=sac", *SMALL], ["--alg=sac", *SMALL, "--num_envs=2"], SMALL_RRD], ids=str)
def test_a_run_on_parts_learns_and_its_reward_is_used_outside(rooms, flags):
    finished = run("--env=rooms:Parts-v0", *flags)
    assert finished.facts["obs_dims"] == [6]
    if "--alg=rrd" not in flags:
        return
    import rooms as module
    env = rd.LearnedReward(module.Parts(), rd.load_reward(finished.directory))
    obs, _ = env.reset(seed=0)
    obs_next, reward, _, _, info = env.step(ZERO)
    ordered = Dict(dict(sorted(module.Parts.observation_space.spaces.items())))         # parts in alphabetical order
    flat = [np.float32(flatten(ordered, one)) for one in (obs, obs_next)]
    assert reward == pytest.approx(float(env.learned(flat[0][None], ZERO[None], flat[1][None])[0, 0]))
    assert info["true_reward"] < 0


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_a_learned_reward_takes_the_environments_actions(box):
    inner = Shows(acts=box)
    env = ScaleAction(inner)
    env.reset(seed=0)
    action = np.linspace(-0.9, 0.8, *box.shape, dtype=np.float32)
    env.step(action)
    moving = box.high > box.low
    np.testing.assert_allclose(unscaled(inner.actions[-1], box)[moving], action[moving], atol=1e-5)
    assert (unscaled(inner.actions[-1], box)[~moving] == 0).all()


@pytest.mark.parametrize(("low", "high", "acts", "expected"), [
    ([-2, 0], [2, 0], [1, 0], [0.5, 0]), ([-2, -2], [2, 2], [-2, 1], [-1, 0.5]),
    ([0, 3], [4, 3], [1, 3], [-0.5, 0]), ([-3, 1], [1, 1.5], [1, 1.25], [1, 0]), ([5], [5], [5], [0]),
])
def test_actions_are_unscaled_by_their_bounds_as_arrays_and_as_tensors(low, high, acts, expected):
    box = Box(np.float32(low), np.float32(high))
    found = unscaled([acts, acts], box)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [expected, expected])
    tensors = unscaled(torch.tensor([[acts]], dtype=torch.float64), box)
    assert tensors.dtype == torch.float32
    assert tensors.tolist() == [[expected]]


# Refused --------------------------------------------------------------------------------------------------------------

REFUSED = {
    "no bounds": (dict(acts=Box(-np.inf, np.inf, (2,))), "sac", "expected finite bounds, .*wrappers.TransformAction"),
    "one bound": (dict(acts=Box(0, np.inf, (2,))), "sac", "expected finite bounds, .*wrappers.TransformAction"),
    "two dimensions": (dict(acts=Box(-1, 1, (2, 2))), "sac", "with one dimension; gymnasium.wrappers.TransformAction"),
    "integers": (dict(acts=Box(0, 9, (2,), np.int32)), "sac", "a Box of floats .*gymnasium.wrappers.TransformAction"),
    "several discrete": (dict(acts=MultiDiscrete([2, 2])), "dqn", "gymnasium.wrappers.TransformAction"),
    "discrete": (dict(acts=Discrete(2)), "sac", "expected --alg=dqn"),
    "a box for dqn": (dict(), "dqn", "or choose ddpg, td3, sac, ac_iqn, .*, ppo, a2c or grpo$"),
    "a sequence": (dict(observes=Sequence(Discrete(2))), "sac", "gymnasium.wrappers.TransformObservation"),
    "a graph": (dict(observes=Graph(Box(-1, 1, (2,)), None)), "sac", "gymnasium.wrappers.TransformObservation"),
    "a sequence inside": (dict(observes=Dict(a=Sequence(Discrete(2)))), "sac", "wrappers.TransformObservation"),
    "pictures": (dict(observes=Box(0, 255, (8, 8, 3), np.uint8)), "sac", "gymnasium.wrappers.FlattenObservation"),
}


@pytest.mark.parametrize(("spaces", "alg", "helps"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_names_what_helps(spaces, alg, helps):
    with pytest.raises(ConfigError, match=rf"^env: 'Shows-v0' (acts in|observes) .*{helps}"):
        make(alg, **spaces)


def test_texts_are_encoded_as_gymnasium_does():
    space = Text(4, charset="abc")
    assert make(observes=space).reset(seed=0)[0].shape == (4,)
