"""Replay of images, and a naive buffer that keeps every stack of frames.

Every frame encodes its episode and its time, so that a stack shows where it comes from.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from algorithm.replay_buffer import create_buffer
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

SIZE, ACTS = (6, 5), 7          # of a frame; how many actions there are
ALGS = ["dqn", "rrd", "ircr", "uniform"]
# Replay of single transitions, with sub-sequences, and paid by episode in two ways.
each_alg = pytest.mark.parametrize("alg", ALGS)


def build(alg, K=None, N=4, stack=3, size=SIZE, acts=ACTS, **changes):
    """A buffer of 100 steps; with K, RRD draws N sub-sequences of K steps."""
    rrd = {"rrd_sample_size": K, "rrd_batch_size": K * N} if K and alg == "rrd" else {}
    basis = {} if alg == "dqn" else {"basis_alg": "dqn"}
    config = resolve({"alg": alg, "device": "cpu", "buffer_size": 100} | basis | rrd | changes)
    return create_buffer(with_sizes(config, (*size, stack), acts))


def frames_of(number, count, size=SIZE):
    """(count, H, W): all pixels of a frame differ; the first three encode the episode's number and the time."""
    t, pixel = np.arange(count)[:, None], np.arange(math.prod(size))
    pixels = (8 * pixel + 37 * t + 101 * number) % 256
    pixels[:, :3] = np.concatenate([np.full_like(t, number // 256), np.full_like(t, number % 256), t], axis=1)
    return np.uint8(pixels).reshape(count, *size)


def episode(number, length, value=0, stack=3):
    """`length` steps; the rewards all differ and add up to `value`; every other episode ends at a time limit."""
    t = np.arange(length)
    rews, done = np.float32(t)[:, None], np.zeros((length, 1), np.float32)
    rews[-1] += value - t.sum()
    done[-1] = number % 2
    return {"frames": frames_of(number, length + stack), "acts": (number + t * t) % ACTS, "rews": rews, "done": done}


def with_stacks(one):
    """The episode with every stack, as a naive buffer keeps it."""
    length = len(one["acts"])
    stack = len(one["frames"]) - length
    stacks = [np.stack([one["frames"][t + i] for i in range(stack)], axis=-1) for t in range(length + 1)]
    rest = {name: field for name, field in one.items() if name != "frames"}
    return {"obs": np.stack(stacks[:-1]), "obs_next": np.stack(stacks[1:])} | rest


class Naive:
    """Keeps every stack of every episode; the documented rule decides which ones count as in the ring."""

    def __init__(self, capacity, stack):
        self.capacity, self.stack = capacity, stack
        self.room = capacity + max(math.ceil(capacity / 72), stack)     # frames
        self.ever, self.held = {}, []

    def store(self, number, one):
        self.ever[number] = with_stacks(one)
        self.held.append(number)
        while self.steps > self.capacity or self.frames > self.room:
            self.held.pop(0)

    @property
    def steps(self):
        return sum(self.length(number) for number in self.held)

    @property
    def frames(self):
        return self.steps + self.stack * len(self.held)

    def length(self, number):
        return len(self.ever[number]["acts"])

    def value(self, number):
        return float(self.ever[number]["rews"].sum())

    def where(self):
        return {(number, t) for number in self.held for t in range(self.length(number))}


def tags(obs):
    """Episode and time of each stack (..., H, W, C), read from its first frame: two integer arrays (...)."""
    first = np.asarray(obs)[..., 0, :3, 0].astype(int)
    return 256 * first[..., 0] + first[..., 1], first[..., 2]


def assert_steps_of(naive, batch, names, prefix=""):
    """Check that each row is a step in the ring; return their (episode, time)."""
    where = list(zip(*(tag.ravel().tolist() for tag in tags(batch[f"{prefix}obs"])), strict=True))
    assert {number for number, _ in where} <= set(naive.held)
    for name in names.split():
        expected = np.stack([naive.ever[number][name][t] for number, t in where])
        np.testing.assert_array_equal(batch[prefix + name].reshape(expected.shape), expected, err_msg=name)
    return set(where)


def assert_rewards_of(alg, naive, batch):
    """Check RRD's mean rewards, IRCR's scaled returns, or the rewards themselves."""
    values = {number: naive.value(number) for number in naive.held}
    if alg == "rrd":
        numbers = tags(batch["rrd_obs"])[0][:, 0]
        expected = [[np.float32(values[number] / naive.length(number))] for number in numbers]
        np.testing.assert_array_equal(batch["rrd_rews"], expected)
    if alg == "ircr":
        low, spread = min(values.values()), max(values.values()) - min(values.values())
        expected = [[np.float32((values[number] - low) / (spread or 1))] for number in tags(batch["obs"])[0]]
        np.testing.assert_array_equal(batch["rews"], expected)
    elif alg == "uniform":
        expected = [[np.float32(values[number] / naive.length(number))] for number in tags(batch["obs"])[0]]
        np.testing.assert_array_equal(batch["rews"], expected)
    else:
        assert_steps_of(naive, batch, "rews")


def assert_same_content(alg, buffer, naive, size):
    """Check that draws are steps in the ring, and that thousands of draws include every one."""
    batch = buffer.sample(size)
    seen = assert_steps_of(naive, batch, "obs obs_next acts done")
    assert size < 1000 or seen == naive.where()
    assert_rewards_of(alg, naive, batch)
    if alg == "rrd":
        assert_steps_of(naive, batch, "obs obs_next acts", prefix="rrd_")
        numbers, steps = tags(batch["rrd_obs"])
        assert (numbers == numbers[:, :1]).all()
        K = steps.shape[1]
        for number, drawn in zip(numbers[:, 0], steps.tolist(), strict=True):
            assert len(set(drawn)) == K or naive.length(number) < K


def stored(alg, lengths, values=0, stack=3, first=0, **changes):
    """A buffer with these episodes, and the naive one."""
    buffer = build(alg, stack=stack, **changes)
    naive = Naive(buffer.capacity, stack)
    for number, (length, value) in enumerate(zip(lengths, np.broadcast_to(values, len(lengths)), strict=True), first):
        buffer.store_episode(episode(number, length, value, stack))
        naive.store(number, episode(number, length, value, stack))
    return buffer, naive
