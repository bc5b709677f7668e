"""Replay of images, which keeps each frame once, against a naive buffer that keeps every stack.

Every frame says which episode and which time it is of, so that a stack says where it comes from.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import re
from argparse import Namespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings, stateful
from hypothesis import strategies as st
from replays import REPEATABLE, assert_in_proportion, assert_same, assert_same_from_here_on, restored
from runs import run

from algorithm import create_agent
from algorithm.replay_buffer import create_buffer
from algorithm.replay_buffer.episode import OpenEpisode
from algorithm.replay_buffer.storage import FrameStorage
from envs import make_env
from utils.errors import ConfigError
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes
from utils.text import human_bytes

SIZE, ACTS = (6, 5), 7          # of a frame; how many actions there are
ALGS = ["dqn", "rrd", "ircr", "uniform"]


@pytest.fixture(params=ALGS)
def alg(request):
    """Replay of single transitions, with sub-sequences, and paid by episode in two ways."""
    return request.param


def build(alg, K=None, N=4, stack=3, size=SIZE, acts=ACTS, **changes):
    """A buffer of 100 steps; with K, RRD draws N sub-sequences of K steps."""
    rrd = {"rrd_sample_size": K, "rrd_batch_size": K * N} if K and alg == "rrd" else {}
    basis = {} if alg == "dqn" else {"basis_alg": "dqn"}
    config = resolve({"alg": alg, "device": "cpu", "buffer_size": 100} | basis | rrd | changes)
    return create_buffer(with_sizes(config, (*size, stack), acts))


def frames_of(number, count, size=SIZE):
    """(count, H, W): no two pixels of a frame alike; the first three are the episode's number and the time."""
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
    """The same episode with every stack made: what a naive buffer holds."""
    length = len(one["acts"])
    stack = len(one["frames"]) - length
    stacks = [np.stack([one["frames"][t + i] for i in range(stack)], axis=-1) for t in range(length + 1)]
    rest = {name: field for name, field in one.items() if name != "frames"}
    return {"obs": np.stack(stacks[:-1]), "obs_next": np.stack(stacks[1:])} | rest


class Naive:
    """Every stack of every episode ever; which ones are held is the documented rule, counted anew each time."""

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
    """Episode and time of each stack (..., H, W, C), told by its first frame: two integer arrays (...)."""
    first = np.asarray(obs)[..., 0, :3, 0].astype(int)
    return 256 * first[..., 0] + first[..., 1], first[..., 2]


def assert_steps_of(naive, batch, names, prefix=""):
    """Each row is exactly a step that is held; return the (episode, time) seen."""
    where = list(zip(*(tag.ravel().tolist() for tag in tags(batch[f"{prefix}obs"])), strict=True))
    assert {number for number, _ in where} <= set(naive.held)
    for name in names.split():
        expected = np.stack([naive.ever[number][name][t] for number, t in where])
        np.testing.assert_array_equal(batch[prefix + name].reshape(expected.shape), expected, err_msg=name)
    return set(where)


def assert_rewards_of(alg, naive, batch):
    """RRD's mean rewards, IRCR's scaled returns, or the rewards themselves."""
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
    """What is drawn are held steps, and in a draw of thousands every held step."""
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


# Any history --------------------------------------------------------------------------------------------------

class FramesMachine(stateful.RuleBasedStateMachine):
    """Store, evict and sample in any order."""

    def __init__(self, alg):
        super().__init__()
        self.alg, self.count = alg, 0

    @stateful.initialize(capacity=st.integers(1, 60), stack=st.integers(1, 5), K=st.integers(1, 6))
    def start(self, capacity, stack, K):
        self.capacity, self.stack = capacity, stack
        self.buffer, self.naive = build(self.alg, K, stack=stack, buffer_size=capacity), Naive(capacity, stack)

    @stateful.rule(length=st.integers(1, 50), value=st.integers(-3, 3), form=st.sampled_from(["frames", "stacks"]),
                   kind=st.sampled_from([np.asarray, torch.as_tensor]))
    def store(self, length, value, form, kind):
        one = episode(self.count, length, value, self.stack)
        given = {name: kind(field) for name, field in (one if form == "frames" else with_stacks(one)).items()}
        fits = length <= self.capacity
        with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="buffer_size"):
            self.buffer.store_episode(given)
            self.naive.store(self.count, one)
        self.count += 1

    @stateful.invariant()
    def counts_agree(self):
        assert (self.buffer.episodes, len(self.buffer)) == (len(self.naive.held), self.naive.steps)
        assert self.buffer.steps_stored == sum(self.naive.length(number) for number in self.naive.ever)

    @stateful.precondition(lambda self: self.naive.held)
    @stateful.rule(size=st.sampled_from([1, 2, 7, 1000]))
    def sample(self, size):
        assert_same_content(self.alg, self.buffer, self.naive, size)


def test_any_history_agrees_with_a_buffer_that_holds_every_stack(alg):
    stateful.run_state_machine_as_test(functools.partial(FramesMachine, alg),
                                       settings=settings(max_examples=40, stateful_step_count=20, **REPEATABLE))


@pytest.mark.parametrize(("capacity", "longest", "stack"), [
    (50, 50, 4), (51, 50, 4), (53, 50, 1), (10, 10, 12), (300, 50, 3), (300, 20, 1), (7, 1, 2), (1, 1, 4),
])
def test_both_rings_go_round_many_times(alg, capacity, longest, stack):
    """Episodes shorter than the stack, capacities barely above an episode, and 1/72 more than C frames (300)."""
    random = np.random.default_rng(capacity)
    buffer, naive = build(alg, K=4, stack=stack, buffer_size=capacity), Naive(capacity, stack)
    written = 0
    while written < 10 * naive.room or buffer.steps_stored < 10 * capacity:
        number, length = len(naive.ever), int(random.integers(1, longest + 1))
        one = episode(number, length, int(random.integers(5)), stack)
        buffer.store_episode(one)
        naive.store(number, one)
        written += length + stack
        assert (buffer.episodes, len(buffer)) == (len(naive.held), naive.steps)
        if number % 7 == 0:
            assert_same_content(alg, buffer, naive, 100)
    assert_same_content(alg, buffer, naive, 4000)


def stored(alg, lengths, values=0, stack=3, first=0, **changes):
    """A buffer with these episodes, and the naive one."""
    buffer = build(alg, stack=stack, **changes)
    naive = Naive(buffer.capacity, stack)
    for number, (length, value) in enumerate(zip(lengths, np.broadcast_to(values, len(lengths)), strict=True), first):
        buffer.store_episode(episode(number, length, value, stack))
        naive.store(number, episode(number, length, value, stack))
    return buffer, naive


@pytest.mark.parametrize(("lengths", "stack", "held"), [
    ([5, 5, 5, 5], 3, [5, 5]),              # 20 steps would fit; 3 x 8 frames in 20 + 3 do not
    ([1] * 9, 3, [1] * 5), ([1] * 9, 1, [1] * 9), ([1] * 30, 1, [1] * 10), ([17, 1], 3, [1]),
    ([10, 10], 3, [10]), ([20, 1], 3, [1]), ([16, 1], 3, [16, 1]), ([20], 3, [20]), ([4, 4, 4, 20], 5, [20]),
])
def test_whole_episodes_leave_from_the_old_end_when_either_ring_is_full(lengths, stack, held, alg):
    buffer, naive = stored(alg, lengths, stack=stack, buffer_size=20)
    assert [naive.length(number) for number in naive.held] == held
    assert (buffer.episodes, len(buffer)) == (len(held), sum(held))
    assert_same_content(alg, buffer, naive, 2000)


def test_episodes_of_72_stacks_fill_the_ring_of_steps(alg):
    buffer, naive = stored(alg, [72 * 2] * 9, stack=2, buffer_size=72 * 2 * 5)
    assert (buffer.episodes, len(buffer)) == (len(naive.held), naive.steps) == (5, buffer.capacity)


def test_an_episode_longer_than_the_buffer_is_refused_and_changes_nothing(alg):
    buffer, _ = stored(alg, [6, 5], [1, 2], buffer_size=10)
    twin, _ = stored(alg, [6, 5], [1, 2], buffer_size=10)
    with pytest.raises(ValueError, match=r"episode: got 11 steps, expected at most buffer_size \(10\)"):
        buffer.store_episode(episode(2, 11))
    assert (buffer.episodes, len(buffer), buffer.steps_stored) == (1, 5, 11)
    assert_same(buffer.sample(100), twin.sample(100))


# What is drawn, and how often ---------------------------------------------------------------------------------

@pytest.mark.parametrize("lengths", [(1, 3, 6), (9, 5, 4, 1)], ids=["full", "wrapped"])
def test_transitions_are_uniform_over_the_steps_held(lengths, alg):
    buffer, naive = stored(alg, lengths, buffer_size=16)         # ten steps, and 19 frames, all that there is room for
    where, counts = np.unique(np.stack(tags(buffer.sample(30_000)["obs"])), axis=1, return_counts=True)
    assert {tuple(step) for step in where.T.tolist()} == naive.where()
    assert_in_proportion(counts, np.ones(10))


def test_episodes_of_subsequences_are_drawn_in_proportion_to_their_length():
    buffer, _ = stored("rrd", [9, 5, 4, 1], buffer_size=16, K=2, N=30_000)
    numbers, _ = tags(buffer.sample(1)["rrd_obs"])
    assert_in_proportion(np.bincount(numbers[:, 0])[1:], [5, 4, 1])


@pytest.mark.parametrize("lengths", [(5,), (3,), (2,), (1, 2, 3, 5)])
def test_every_draw_of_K_steps_is_equally_likely(lengths):
    """K <= T: each of the C(T, K) sets, none twice; K > T: each of the T^K sequences."""
    K = 3
    buffer, _ = stored("rrd", lengths, K=K, N=20_000)
    numbers, steps = tags(buffer.sample(1)["rrd_obs"])
    for number, T in enumerate(lengths):
        drawn = steps[numbers[:, 0] == number]
        kinds, counts = np.unique(np.sort(drawn, axis=1) if K <= T else drawn, axis=0, return_counts=True)
        assert K > T or (np.diff(kinds, axis=1) > 0).all()
        assert_in_proportion(counts, np.ones(math.comb(T, K) if K <= T else T**K))


@pytest.mark.parametrize(("K", "T", "c"), [
    (1, 2, 0.5), (4, 5, 0.2), (32, 50, 0.36), (4, 3, 1), (4, 2, 1), (4, 4, 0), (1, 1, 0), (2, 1, 0), (32, 1, 0),
])
def test_rrd_rews_are_the_mean_reward_and_the_coefficient_is_that_of_the_length(K, T, c):
    buffer, _ = stored("rrd", [T], 2**24 + 5, K=K, N=3)         # a float32 sum would be 2**24 + 4
    batch = buffer.sample(1)
    np.testing.assert_array_equal(batch["rrd_rews"], np.full((3, 1), np.float32((2**24 + 5) / T)))
    np.testing.assert_allclose(batch["rrd_var_coef"], np.full((3, 1), c), atol=1e-7)


@pytest.mark.parametrize(("K", "T"), [(2, 5), (3, 4), (4, 4), (3, 2), (2, 1)])
def test_the_coefficient_makes_the_corrected_loss_unbiased(K, T):
    """Over every draw, the mean of (mean_K r - g)^2 - c s^2/K is (mean_T r - g)^2, with the c of the batch."""
    buffer, _ = stored("rrd", [T], K=K, N=1)
    c = buffer.sample(1)["rrd_var_coef"].item()
    rewards, goal = np.random.default_rng(0).normal(size=T), 0.7
    draws = itertools.combinations(rewards, K) if K <= T else itertools.product(rewards, repeat=K)
    losses = [(np.mean(draw) - goal) ** 2 - c * np.var(draw, ddof=1) / K for draw in draws]
    assert np.mean(losses) == pytest.approx((rewards.mean() - goal) ** 2, abs=1e-6)


@pytest.mark.parametrize("size", [None, 1, 7])
def test_shapes_and_kinds(alg, size):
    B, N, K, image = size or 12, 4, 4, (*SIZE, 3)
    buffer, _ = stored(alg, [5, 3], K=K, N=N, batch_size=12)
    shapes = {"obs": (B, *image), "obs_next": (B, *image), "acts": (B,), "rews": (B, 1), "done": (B, 1)}
    rrd = {"obs": (N, K, *image), "obs_next": (N, K, *image), "acts": (N, K), "rews": (N, 1), "var_coef": (N, 1)}
    shapes |= {f"rrd_{name}": shape for name, shape in rrd.items() if alg == "rrd"}
    batch = buffer.sample(size)
    assert {name: field.shape for name, field in batch.items()} == shapes
    kinds = {"obs": torch.uint8, "next": torch.uint8, "acts": torch.int64}
    assert all(field.dtype == kinds.get(name.split("_")[-1], torch.float32) for name, field in batch.items())


def test_a_batch_holds_the_frames_that_obs_and_obs_next_share_once():
    buffer, _ = stored("dqn", [5, 3], stack=3)
    batch = buffer.sample(7)
    first, second = (batch[name].untyped_storage() for name in ("obs", "obs_next"))
    assert first.data_ptr() == second.data_ptr()
    assert first.nbytes() == 7 * 4 * math.prod(SIZE)


def test_draws_follow_from_the_seed_alone(alg):
    draws = []
    for everybodys_seed, seed in enumerate([5, 5, 6]):
        torch.manual_seed(everybodys_seed)
        buffer, _ = stored(alg, [20, 30, 3], [1, 2, 3], seed=seed)
        draws.append([buffer.sample(64), buffer.sample(64)])
    assert_same(draws[0], draws[1])
    assert not torch.equal(draws[0][0]["obs"], draws[2][0]["obs"])
    assert not torch.equal(draws[0][0]["obs"], draws[0][1]["obs"])


# IRCR: by episode, of those that are held ---------------------------------------------------------------------

@settings(max_examples=40, **REPEATABLE)
@given(values=st.lists(st.integers(-4, 4), min_size=1, max_size=30))
def test_ircr_scales_over_the_episodes_held_and_keeps_no_best_ones(values):
    buffer, naive = stored("ircr", [2] * len(values), values, buffer_size=20)
    batch = buffer.sample(1000)
    assert len(naive.held) == min(len(values), 4)                    # of 5 frames in 20 + 3
    assert set(tags(batch["obs"])[0].tolist()) == set(naive.held)
    assert_rewards_of("ircr", naive, batch)


@pytest.mark.parametrize(("count", "value"), [(1, 0), (2, -3.5), (15, 1e6)])
def test_ircr_pays_0_while_all_returns_are_equal(count, value):
    buffer, _ = stored("ircr", [3] * count, value, buffer_size=8)
    assert (buffer.sample(50)["rews"] == 0).all()
    buffer.store_episode(episode(count, 1, value + 1))
    assert set(buffer.sample(200)["rews"].ravel().tolist()) == {0, 1}


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_batch_of_ircr_has_its_size_though_no_half_is_the_bests(size):
    buffer, _ = stored("ircr", [5, 5])
    assert len(buffer.sample(size)["obs"]) == size


# Two forms of an episode, and wrong ones ----------------------------------------------------------------------

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
def test_any_memory_layout_will_do(layout, form):
    buffer, naive = build("dqn"), Naive(100, 3)
    one = form(episode(1, 6))
    buffer.store_episode(one | {name: layout(field) for name, field in one.items() if field.dtype == np.uint8})
    naive.store(1, episode(1, 6))
    assert_same_content("dqn", buffer, naive, 1000)


@pytest.mark.parametrize("form", [dict, with_stacks], ids=["frames", "stacks"])
@pytest.mark.parametrize("kind", [np.array, torch.tensor], ids=["array", "tensor"])
def test_replay_copies_what_it_takes_and_what_it_gives(form, kind, alg):
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
def test_one_pixel_that_does_not_follow_is_found(name, where, alg):
    with pytest.raises(ValueError, match=r"episode\['obs(_next)?'\]: got stacks .* not the one before it"):
        build(alg).store_episode(changed(name, where))


@pytest.mark.parametrize("order", ["newest first", "obs_next is obs", "a step left out", "steps in reverse"])
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
    """An OpenEpisode that saw `one`, from an environment that writes every stack into the same array."""
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
def test_an_open_episode_gives_each_frame_once_and_does_not_hold_the_environments_array(length, stack):
    one = episode(3, length, 5, stack)
    played = play(one)
    columns = played.columns()
    assert len(played) == length
    assert columns.keys() == one.keys()
    for name, field in columns.items():
        np.testing.assert_array_equal(field, one[name], err_msg=name)
    assert {name: field.dtype for name, field in columns.items()} == {
        "frames": np.uint8, "acts": np.int64, "rews": np.float32, "done": np.float32}


def test_an_open_episode_goes_into_replay_as_it_is(alg):
    buffer, naive = build(alg, K=3, buffer_size=30), Naive(30, 3)
    for number, length in enumerate([1, 9, 2, 20, 7]):
        buffer.store_episode(play(episode(number, length, number)).columns())
        naive.store(number, episode(number, length, number))
    assert_same_content(alg, buffer, naive, 2000)


def test_an_open_episode_of_vectors_gives_both_sides_of_each_step():
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


def test_a_picture_that_was_given_does_not_change_later():
    env = make_env(resolve({"alg": "dqn", "env": "Pictures-v0"}))
    pictures = [env.reset()[0], *(env.step(0)[0] for _ in range(4))]
    for t, picture in enumerate(pictures):
        np.testing.assert_array_equal(picture, np.stack(frames_of(0, 20)[t:t + 3], axis=-1))


def test_pictures_whose_channels_are_no_frames_are_refused_and_not_garbled(capsys):
    """Red, green and blue: only blue would be stored, and sampled as the three last blues."""
    from train import main
    assert main([*SMALL, "--alg=dqn", "--env=Colours-v0"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


# Memory -------------------------------------------------------------------------------------------------------

@pytest.fixture
def no_allocation(monkeypatch):
    monkeypatch.setattr(FrameStorage, "allocate", lambda self: None)


ATARI = dict(size=(84, 84), stack=4, acts=18)


def test_a_million_steps_of_atari_take_less_than_7_2_kB_each(alg, no_allocation, monkeypatch):
    monkeypatch.setattr("algorithm.replay_buffer.transition.available_bytes", lambda device: None)
    assert build(alg, buffer_size=1_000_000, **ATARI).bytes_needed < 7.2e9
    assert build(alg, buffer_size=10_000, **ATARI).bytes_needed < 7.2e7


def test_bytes_needed_is_what_is_allocated(alg):
    buffer = build(alg, buffer_size=20_000, **ATARI)
    storages = [value.untyped_storage() for value in (vars(buffer) | vars(buffer.storage)).values()
                if isinstance(value, torch.Tensor)]
    allocated = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())     # views count once
    assert 0 <= allocated - buffer.bytes_needed < 100
    assert buffer.bytes_needed < 20_000 * 7200


def test_a_buffer_that_does_not_fit_is_refused_with_a_size_that_does(alg, monkeypatch, no_allocation):
    def available(count):
        monkeypatch.setattr("algorithm.replay_buffer.transition.available_bytes", lambda device: count)
    available(None)
    needed = build(alg, buffer_size=1_000_000, **ATARI).bytes_needed
    free = needed // 6
    available(free)
    with pytest.raises(ConfigError) as refusal:
        build(alg, buffer_size=1_000_000, **ATARI)
    told = re.fullmatch(r"buffer_size: 1000000 .* (\S+ GB) .* (\S+ GB) free; --buffer_size=(\d+) would fit",
                        str(refusal.value))
    assert told.groups()[:2] == (human_bytes(needed), human_bytes(free))
    assert 0.8 * free < build(alg, buffer_size=told[3], **ATARI).bytes_needed <= free


# What the agents make of it -----------------------------------------------------------------------------------

IMAGE = (12, 9, 3)
AGENTS = {
    "dqn": dict(alg="dqn"), "double": dict(alg="dqn", double=True), "dueling": dict(alg="dqn", dueling=True),
    "normalised": dict(alg="dqn", obs_normalization=True), "rmsprop": dict(alg="dqn", optimizer="rmsprop"),
    "rrd": dict(alg="rrd", basis_alg="dqn"), "ircr": dict(alg="ircr", basis_alg="dqn"),
    "rrd-l(rd)": dict(alg="rrd", basis_alg="dqn", rrd_bias_correction=True),
}


@pytest.fixture(params=AGENTS.values(), ids=AGENTS)
def options(request):
    """An algorithm over images."""
    return request.param


def make_agent(options, dims=IMAGE):
    return create_agent(Namespace(obs_dims=dims, acts_dims=(ACTS,), device="cpu", **options))


def bytes_batch(dims=IMAGE, B=5, N=2, K=3):
    g = torch.Generator().manual_seed(0)

    def pixels(*shape):
        return torch.randint(256, (*shape, *dims), dtype=torch.uint8, generator=g)
    return {"obs": pixels(B), "obs_next": pixels(B), "acts": torch.arange(B) % ACTS, "rews": torch.randn(B, 1),
            "done": torch.zeros(B, 1), "rrd_obs": pixels(N, K), "rrd_obs_next": pixels(N, K),
            "rrd_acts": torch.arange(N * K).view(N, K) % ACTS, "rrd_rews": torch.ones(N, 1),
            "rrd_var_coef": torch.full((N, 1), 0.5)}


def as_floats(batch):
    """The same pixels from 0 to 1, by NumPy."""
    return {name: np.asarray(field).astype(np.float32) / np.float32(255) if name.endswith(("obs", "obs_next")) else
            field for name, field in batch.items()}


FORMS = {
    "tensors": dict, "arrays": lambda batch: {name: field.numpy() for name, field in batch.items()},
    "views": lambda batch: {name: field.transpose(1, -1).contiguous().transpose(1, -1) if field.ndim > 2 else field
                            for name, field in batch.items()},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_an_agent_takes_bytes_as_the_same_pixels_divided_by_255_to_the_bit(options, form):
    batch, agents = bytes_batch(), [make_agent(options) for _ in range(2)]
    forms = form(batch), as_floats(batch)
    for agent, pixels in zip(agents, forms, strict=True):
        agent.normalizer_update(pixels)
    for _ in range(3):
        assert_same(*(agent.train(pixels) for agent, pixels in zip(agents, forms, strict=True)))
    assert_same(agents[0].state_dict(), agents[1].state_dict())


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.int16, np.int64, np.int8, bool, torch.uint16, torch.int64])
@pytest.mark.parametrize("field", ["obs", "obs_next", "rrd_obs"])
def test_pixels_of_other_kinds_are_refused(kind, field):
    agent, batch = make_agent(AGENTS["rrd"]), bytes_batch()
    value = batch[field].to(kind) if isinstance(kind, torch.dtype) else batch[field].numpy().astype(kind)
    # Whole numbers would be taken for pixels from 0 to 1, or wrap.
    with pytest.raises(ValueError, match=rf"batch\['{field}'\]: got dtype \w+, expected float32"):
        agent.train(batch | {field: value})
    assert agent.updates == 0


def test_a_sampled_batch_trains_the_agent_as_its_stacks_do(options):
    sizes = dict(rrd_sample_size=3, rrd_batch_size=6) if options["alg"] == "rrd" else {}
    agents, buffer = [make_agent(options | sizes, (*SIZE, 3)) for _ in range(2)], build(options["alg"], K=3, N=2)
    for number in range(5):
        buffer.store_episode(episode(number, 9))
    for _ in range(3):
        batch = buffer.sample(4)
        assert_same(agents[0].train(batch), agents[1].train(as_floats(batch)))


def test_the_learned_reward_of_a_sampled_batch_can_be_asked_for():
    agent, batch = make_agent(AGENTS["rrd"]), bytes_batch()
    names = ("obs", "acts", "obs_next")
    assert_same(*(agent.rewards(*(pixels[name] for name in names)) for pixels in (batch, as_floats(batch))))
    several = agent.rewards(*(batch[f"rrd_{name}"] for name in names))
    assert several.shape == (2, 3, 1)


@pytest.mark.parametrize("lengths", [[20], [7, 60, 1, 20, 33, 40, 30], [3] * 60], ids=str)
def test_a_restored_replay_is_the_one_that_was_saved(alg, lengths):
    make = functools.partial(build, alg, K=4)
    buffer = make()
    for number, length in enumerate(lengths):
        buffer.store_episode(episode(number, length, number % 5))
    more = [episode(100 + n, length, 3) for n, length in enumerate([11, 1, 50])]
    assert_same_from_here_on(buffer, restored(buffer, make, 2), more)
