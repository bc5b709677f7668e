"""Episodes of images: frames or stacks, wrong ones, and episodes while they are played."""

from __future__ import annotations

import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from frames import (
    ACTS,
    SIZE,
    Naive,
    assert_same_content,
    build,
    each_alg,
    episode,
    frames_of,
    with_stacks,
)
from gymnasium.spaces import Box, Discrete
from replays import assert_same
from runs import run

from algorithm.replay_buffer.episode import OpenEpisode
from algorithm.replay_buffer.storage import FrameStorage
from envs import make_env
from utils.settings.resolve import resolve


@each_alg
def test_frames_and_stacks_give_the_same(alg):
    first, second = (build(alg, K=3, buffer_size=40) for _ in range(2))
    for number, length in enumerate([3, 20, 1, 15, 9]):
        first.store_episode(episode(number, length))
        second.store_episode(with_stacks(episode(number, length)))
    assert_same(first.sample(500), second.sample(500))


LAYOUTS = {
    "Fortran's": np.asfortranarray,
    "a tensor": torch.from_numpy,
    "a transposed tensor": lambda field: torch.from_numpy(field.swapaxes(1, 2).copy()).transpose(1, 2),
    "negative strides": lambda field: field[::-1, ::-1].copy()[::-1, ::-1],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("form", [dict, with_stacks], ids=["frames", "stacks"])
def test_any_memory_layout_is_accepted(layout, form):
    buffer, naive = build("dqn"), Naive(100, 3)
    one = form(episode(1, 6))
    buffer.store_episode(one | {name: layout(field) for name, field in one.items() if field.dtype == np.uint8})
    naive.store(1, episode(1, 6))
    assert_same_content("dqn", buffer, naive, 1000)


@pytest.mark.parametrize("form", [dict, with_stacks], ids=["frames", "stacks"])
@pytest.mark.parametrize("kind", [np.array, torch.tensor], ids=["array", "tensor"])
@each_alg
def test_replay_copies_its_inputs_and_outputs(form, kind, alg):
    buffer, naive = build(alg, K=3), Naive(100, 3)
    mine = {name: kind(field) for name, field in form(episode(1, 6)).items()}
    buffer.store_episode(mine)
    naive.store(1, episode(1, 6))
    for field in [*mine.values(), *buffer.sample(50).values()]:
        field[:] = 0
    assert_same_content(alg, buffer, naive, 1000)


def changed(name, where, T=6):
    """An episode of stacks, one of whose pixels differs."""
    one = with_stacks(episode(1, T))
    one[name][where] ^= 1
    return one


@pytest.mark.parametrize(("name", "where"), [
    ("obs", (2, 0, 0, 0)), ("obs", (5, 5, 4, 2)), ("obs", (1, 3, 3, 1)), ("obs", (0, 1, 1, 2)),
    ("obs_next", (0, 0, 0, 0)), ("obs_next", (3, 5, 4, 1)), ("obs_next", (5, 0, 0, 0)), ("obs_next", (2, 0, 0, 2)),
])
@each_alg
def test_one_pixel_that_does_not_follow_is_found(name, where, alg):
    with pytest.raises(ValueError, match=r"episode\['obs(_next)?'\]: got a stack that does not continue the one "):
        build(alg).store_episode(changed(name, where))


@pytest.mark.parametrize("order", ["newest first", "obs_next is obs", "a step left out", "steps in reverse"])
@each_alg
def test_stacks_in_another_order_are_refused(order, alg):
    one = with_stacks(episode(1, 6))
    obs, obs_next = one["obs"], one["obs_next"]
    wrong = {"newest first": (obs[..., ::-1], obs_next[..., ::-1]), "obs_next is obs": (obs, obs),
             "a step left out": (obs[[0, 1, 3, 4, 5, 5]], obs_next[[0, 1, 3, 4, 5, 5]]),
             "steps in reverse": (obs[::-1], obs_next[::-1])}
    with pytest.raises(ValueError, match=r"episode\['obs"):
        build(alg).store_episode(one | dict(zip(("obs", "obs_next"), wrong[order], strict=True)))


T = 4


def as_kind(kind):
    return np.zeros((T + 3, *SIZE), kind)


@pytest.mark.parametrize(("change", "words"), [
    ({"frames": as_kind(np.float32)}, ["'frames'", "float32", "uint8"]),
    ({"frames": as_kind(np.float64)}, ["'frames'", "float64", "uint8"]),
    ({"frames": as_kind(np.int64)}, ["'frames'", "int64", "uint8"]),
    ({"frames": as_kind(np.int8)}, ["'frames'", "int8", "uint8"]),
    ({"frames": as_kind(bool)}, ["'frames'", "bool", "uint8"]),
    ({"frames": as_kind(np.uint16) + 256}, ["'frames'", "uint16", "uint8"]),
    ({"frames": as_kind(np.uint64)}, ["'frames'", "uint64", "uint8"]),
    ({"frames": torch.zeros(T + 3, *SIZE, dtype=torch.uint16)}, ["'frames'", "uint16", "uint8"]),
    ({"frames": torch.zeros(T + 3, *SIZE)}, ["'frames'", "float32", "uint8"]),
    ({"frames": np.zeros((T + 3, 6, 4), np.uint8)}, ["'frames'", "(7, 6, 4)", "(F, 6, 5)"]),
    ({"frames": np.zeros((T + 3, 5, 6), np.uint8)}, ["'frames'", "(7, 5, 6)", "(F, 6, 5)"]),
    ({"frames": np.zeros((T + 3, 6, 5, 1), np.uint8)}, ["'frames'", "(7, 6, 5, 1)", "(F, 6, 5)"]),
    ({"frames": np.zeros((T, 6, 5, 3), np.uint8)}, ["'frames'", "(4, 6, 5, 3)", "(F, 6, 5)"]),
    ({"frames": np.zeros((0, 6, 5), np.uint8)}, ["'frames'", "(0, 6, 5)", "empty"]),
    ({"frames": frames_of(1, T + 2)}, ["'frames'", "6 frames", "expected 7"]),
    ({"frames": frames_of(1, T + 4)}, ["'frames'", "8 frames", "expected 7"]),
    ({"frames": frames_of(1, T)}, ["'frames'", "4 frames", "expected 7"]),
    ({"frames": None}, ["missing"]),
    ({"acts": None}, ["'acts'", "missing", "(T,)"]),
    ({"acts": np.zeros((T, 1), int)}, ["'acts'", "(4, 1)", "(T,)"]),
    ({"acts": np.zeros(T)}, ["'acts'", "float64", "int64"]),
    ({"acts": np.array([0, 1, 2, ACTS])}, ["'acts'", "got 7", "0 to 6"]),
    ({"acts": np.array([0, 1, 2, -1])}, ["'acts'", "got -1", "0 to 6"]),
    ({"acts": np.zeros(T + 1, int)}, ["(T, 1)", "T = 5"]),
    ({"rews": np.zeros(T)}, ["'rews'", "(4,)", "(T, 1)"]),
    ({"rews": None}, ["'rews'", "missing"]),
    ({"done": np.zeros((T - 1, 1))}, ["'done'", "(3, 1)", "(T, 1)"]),
], ids=" ".join)
def test_a_bad_episode_of_frames_is_named_and_changes_nothing(change, words):
    buffer = build("dqn")
    with pytest.raises(ValueError, match=r"^episode\[.*" + ".*".join(map(re.escape, words))):
        buffer.store_episode({name: field for name, field in (episode(0, T) | change).items() if field is not None})
    assert (buffer.episodes, len(buffer), buffer.steps_stored) == (0, 0, 0)


@pytest.mark.parametrize(("change", "words"), [
    ({"obs": np.zeros((T, *SIZE, 3))}, ["'obs'", "float64", "uint8"]),
    ({"obs_next": np.zeros((T, *SIZE, 3), np.float32)}, ["'obs_next'", "float32", "uint8"]),
    ({"obs": np.zeros((T, *SIZE, 3), np.uint16)}, ["'obs'", "uint16", "uint8"]),
    ({"obs_next": np.full((T, *SIZE, 3), 300, np.uint16)}, ["'obs_next'", "uint16", "uint8"]),
    ({"obs": np.zeros((T, *SIZE, 4), np.uint8)}, ["'obs'", "(4, 6, 5, 4)", "(T, 6, 5, 3)"]),
    ({"obs": np.zeros((T, 3, *SIZE), np.uint8)}, ["'obs'", "(4, 3, 6, 5)", "(T, 6, 5, 3)"]),
    ({"obs_next": np.zeros((T + 1, *SIZE, 3), np.uint8)}, ["'obs_next'", "(5, 6, 5, 3)", "T = 4"]),
    ({"obs": None}, ["'obs'", "missing"]), ({"obs_next": None}, ["'obs_next'", "missing"]),
], ids=" ".join)
def test_a_bad_episode_of_stacks_is_named_and_changes_nothing(change, words):
    buffer, one = build("dqn"), with_stacks(episode(0, T)) | change
    with pytest.raises(ValueError, match=r"^episode\[.*" + ".*".join(map(re.escape, words))):
        buffer.store_episode({name: field for name, field in one.items() if field is not None})
    assert (buffer.episodes, len(buffer), buffer.steps_stored) == (0, 0, 0)


# An episode while it is played --------------------------------------------------------------------------------

def play(one):
    """An OpenEpisode of the steps of `one`, from an environment that writes every stack into the same array."""
    stacks = with_stacks(one)
    array = stacks["obs"][0].copy()
    played = OpenEpisode(array)
    for action, rew, done, obs_next in zip(*(stacks[name] for name in ("acts", "rews", "done", "obs_next")),
                                           strict=True):
        array[:] = obs_next
        played.add(int(action), float(rew[0]), bool(done[0]), array)
    array[:] = 0
    return played


@pytest.mark.parametrize(("length", "stack"), [(1, 1), (1, 4), (2, 4), (50, 4), (7, 1)])
def test_an_open_episode_has_each_frame_once_and_does_not_keep_the_environments_array(length, stack):
    one = episode(3, length, 5, stack)
    played = play(one)
    columns = played.columns()
    assert len(played) == length
    assert columns.keys() == one.keys()
    for name, field in columns.items():
        np.testing.assert_array_equal(field, one[name], err_msg=name)
    assert {name: field.dtype for name, field in columns.items()} == {
        "frames": np.uint8, "acts": np.int64, "rews": np.float32, "done": np.float32}


@each_alg
def test_an_open_episode_can_be_stored(alg):
    buffer, naive = build(alg, K=3, buffer_size=30), Naive(30, 3)
    for number, length in enumerate([1, 9, 2, 20, 7]):
        buffer.store_episode(play(episode(number, length, number)).columns())
        naive.store(number, episode(number, length, number))
    assert_same_content(alg, buffer, naive, 2000)


def test_an_open_episode_of_vectors_has_both_observations_of_each_step():
    obs = np.arange(8, dtype=np.float32).reshape(4, 2)
    played = OpenEpisode(obs[0])
    for t in range(3):
        played.add(t, t / 2, t == 2, obs[t + 1])
    columns = played.columns()
    np.testing.assert_array_equal(columns["obs"], obs[:3])
    np.testing.assert_array_equal(columns["obs_next"], obs[1:])
    np.testing.assert_array_equal(columns["acts"], [0, 1, 2])
    np.testing.assert_array_equal(columns["rews"], [[0], [0.5], [1]])
    np.testing.assert_array_equal(columns["done"], [[0], [0], [1]])


class Pictures(gym.Env):
    """Two kinds of pictures, always in the same array: stacks of grey frames, or colours."""

    def __init__(self, colours: bool = False):
        self.observation_space, self.action_space = Box(0, 255, (*SIZE, 3), np.uint8), Discrete(3)
        self.colours, self.number = colours, -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number, self.t, self.array = self.number + 1, 0, np.zeros((*SIZE, 3), np.uint8)
        return self._observe(), {}

    def step(self, action):
        self.t += 1
        return self._observe(), float(action), self.t == 5 + self.number % 3, False, {}

    def _observe(self):
        frames = frames_of(self.number, 20)
        self.array[:] = np.stack(frames[5 + 3 * self.t:][:3] if self.colours else frames[self.t:][:3], axis=-1)
        return self.array


gym.register("Pictures-v0", Pictures)
gym.register("Colours-v0", Pictures, kwargs={"colours": True})
SMALL = ["--env=Pictures-v0", "--device=cpu", "--total_timesteps=60", "--timesteps=20", "--iterations=1",
         "--warmup=20", "--batch_size=4", "--train_batches=2", "--test_timesteps=6", "--test_rollouts=1",
         "--buffer_size=40"]


@pytest.mark.parametrize("options", [
    ["--alg=dqn"], ["--alg=dqn", "--dueling", "--double"], ["--alg=ircr", "--basis_alg=dqn"],
    ["--alg=rrd", "--basis_alg=dqn", "--rrd_sample_size=4"], ["--alg=ircr", "--basis_alg=dqn", "--batch_size=1"],
], ids=" ".join)
def test_any_environment_of_stacked_pictures_can_be_learned_from(options, monkeypatch):
    stored, store = [], FrameStorage.check
    monkeypatch.setattr(FrameStorage, "check", lambda self, one: stored.append(one) or store(self, one))
    assert run(*SMALL, *options).rows[-1]["Q_loss"]
    assert [len(one["acts"]) for one in stored[:5]] == [5, 6, 6, 5, 6]
    for number, one in enumerate(stored):
        np.testing.assert_array_equal(one["frames"], frames_of(number, len(one["acts"]) + 3))


def test_a_returned_picture_does_not_change_later():
    env = make_env(resolve({"alg": "dqn", "env": "Pictures-v0"}))
    pictures = [env.reset()[0], *(env.step(0)[0] for _ in range(4))]
    for t, picture in enumerate(pictures):
        np.testing.assert_array_equal(picture, np.stack(frames_of(0, 20)[t:t + 3], axis=-1))


def test_pictures_whose_channels_are_not_frames_are_refused(capsys):
    """Of red, green and blue, only blue would be stored."""
    from train import main
    assert main([*SMALL, "--alg=dqn", "--env=Colours-v0"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
