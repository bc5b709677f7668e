"""Replays filled with known steps, and checks of them."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import torch

from algorithm.replay_buffer import create_buffer
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

assert_same = functools.partial(torch.testing.assert_close, rtol=0, atol=0)
REPEATABLE = {"deadline": None, "derandomize": True, "database": None}


def episode(number, length, value=0):
    """`length` steps that encode their episode and time, whose rewards all differ and add up to `value`."""
    def obs(t):
        return np.concatenate([np.full_like(t, number), t, np.sin(1 + number + 17 * t)], axis=1)

    t = np.arange(length, dtype=np.float32)[:, None]
    rews, done = t.copy(), np.zeros_like(t)
    rews[-1] += value - t.sum()
    done[-1] = number % 2                # every other episode ends at a time limit
    return {"obs": obs(t), "acts": np.concatenate([np.cos(number + t), -t], axis=1), "rews": rews, "done": done,
            "obs_next": obs(t + 1)}


def build(alg, K=None, N=4, obs_dim=3, act_dim=2, **changes):
    """A buffer of 100 steps; with K, RRD draws N sub-sequences of K steps."""
    rrd = {"rrd_sample_size": K, "rrd_batch_size": K * N} if K and alg == "rrd" else {}
    config = resolve({"alg": alg, "device": "cpu", "buffer_size": 100} | rrd | changes)
    return create_buffer(with_sizes(config, obs_dim, act_dim))


def store(buffer, lengths, values=0, first=0):
    """Store episodes number `first`, `first` + 1, ...; return them by number."""
    pairs = zip(lengths, np.broadcast_to(values, len(lengths)), strict=True)
    episodes = {number: episode(number, *pair) for number, pair in enumerate(pairs, first)}
    for one in episodes.values():
        buffer.store_episode(one)
    return episodes


def tags(obs):
    """Episode and time of each step: two integer arrays (...)."""
    whole = np.asarray(obs)[..., :2].astype(int)
    return whole[..., 0], whole[..., 1]


def assert_in_proportion(counts, weights):
    """Pearson's chi-square is far below what other weights would give; by chance it is not, once in a million."""
    counts, weights = np.asarray(counts, float), np.asarray(weights, float)
    expected = counts.sum() * weights / weights.sum()
    assert len(counts) == len(weights)
    assert ((counts - expected) ** 2 / expected).sum() < 30 + 2 * len(counts)


def restored(buffer, make, parts):
    """Another replay with the state of this one restored, its episodes in so many parts."""
    borders = np.linspace(buffer.first_episode, buffer.episodes_stored, parts + 1).astype(int).tolist()
    logged = [(first, buffer.read_episodes(first, end)) for first, end in itertools.pairwise(borders) if first < end]
    other = make()
    other.restore(buffer.numbers(), {name: tensor.clone() for name, tensor in buffer.tensors().items()}, logged)
    return other


def assert_same_from_here_on(ours, theirs, more):
    """Check that they have the same state, draw the same, and continue alike."""
    for one in [None, *more]:
        if one is not None:
            ours.store_episode(one), theirs.store_episode(one)
        assert ours.numbers() == theirs.numbers()
        assert ours.layout == theirs.layout
        for _ in range(3):
            expected, got = ours.sample(32), theirs.sample(32)
            assert expected.keys() == got.keys()
            assert all(torch.equal(expected[name], got[name]) for name in expected)
