"""Replay of images, which keeps each frame once, against a naive buffer that keeps every stack."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math

import numpy as np
import pytest
import torch
from frames import (
    SIZE,
    Naive,
    assert_rewards_of,
    assert_same_content,
    build,
    each_alg,
    episode,
    stored,
    tags,
    with_stacks,
)
from hypothesis import given, settings, stateful
from hypothesis import strategies as st
from replays import REPEATABLE, assert_in_proportion, assert_same, assert_same_from_here_on, restored

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


@each_alg
def test_any_history_agrees_with_a_buffer_that_holds_every_stack(alg):
    stateful.run_state_machine_as_test(functools.partial(FramesMachine, alg),
                                       settings=settings(max_examples=40, stateful_step_count=20, **REPEATABLE))


@pytest.mark.parametrize(("capacity", "longest", "stack"), [
    (50, 50, 4), (51, 50, 4), (53, 50, 1), (10, 10, 12), (300, 50, 3), (300, 20, 1), (7, 1, 2), (1, 1, 4),
])
@each_alg
def test_both_rings_wrap_around_many_times(alg, capacity, longest, stack):
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


@pytest.mark.parametrize(("lengths", "stack", "held"), [
    ([5, 5, 5, 5], 3, [5, 5]),              # 20 steps would fit; 3 x 8 frames in 20 + 3 do not
    ([1] * 9, 3, [1] * 5), ([1] * 9, 1, [1] * 9), ([1] * 30, 1, [1] * 10), ([17, 1], 3, [1]),
    ([10, 10], 3, [10]), ([20, 1], 3, [1]), ([16, 1], 3, [16, 1]), ([20], 3, [20]), ([4, 4, 4, 20], 5, [20]),
])
@each_alg
def test_the_oldest_episodes_are_dropped_when_either_ring_is_full(lengths, stack, held, alg):
    buffer, naive = stored(alg, lengths, stack=stack, buffer_size=20)
    assert [naive.length(number) for number in naive.held] == held
    assert (buffer.episodes, len(buffer)) == (len(held), sum(held))
    assert_same_content(alg, buffer, naive, 2000)


@each_alg
def test_episodes_of_72_stacks_fill_the_ring_of_steps(alg):
    buffer, naive = stored(alg, [72 * 2] * 9, stack=2, buffer_size=72 * 2 * 5)
    assert (buffer.episodes, len(buffer)) == (len(naive.held), naive.steps) == (5, buffer.capacity)


@each_alg
def test_an_episode_longer_than_the_buffer_is_refused_and_changes_nothing(alg):
    buffer, _ = stored(alg, [6, 5], [1, 2], buffer_size=10)
    twin, _ = stored(alg, [6, 5], [1, 2], buffer_size=10)
    with pytest.raises(ValueError, match=r"episode: got 11 steps, expected at most buffer_size \(10\)"):
        buffer.store_episode(episode(2, 11))
    assert (buffer.episodes, len(buffer), buffer.steps_stored) == (1, 5, 11)
    assert_same(buffer.sample(100), twin.sample(100))


# Draws and their frequencies ---------------------------------------------------------------------------------

@pytest.mark.parametrize("lengths", [(1, 3, 6), (9, 5, 4, 1)], ids=["full", "wrapped"])
@each_alg
def test_transitions_are_uniform_over_the_steps_held(lengths, alg):
    buffer, naive = stored(alg, lengths, buffer_size=16)         # ten steps, and 19 frames, all that fit
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
@each_alg
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


@each_alg
def test_draws_follow_from_the_seed_alone(alg):
    draws = []
    for everybodys_seed, seed in enumerate([5, 5, 6]):
        torch.manual_seed(everybodys_seed)
        buffer, _ = stored(alg, [20, 30, 3], [1, 2, 3], seed=seed)
        draws.append([buffer.sample(64), buffer.sample(64)])
    assert_same(draws[0], draws[1])
    assert not torch.equal(draws[0][0]["obs"], draws[2][0]["obs"])
    assert not torch.equal(draws[0][0]["obs"], draws[0][1]["obs"])


# IRCR: payments by the episodes in the ring -------------------------------------------------------------------

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
def test_a_batch_of_ircr_has_its_size_without_best_episodes(size):
    buffer, _ = stored("ircr", [5, 5])
    assert len(buffer.sample(size)["obs"]) == size


@pytest.mark.parametrize("lengths", [[20], [7, 60, 1, 20, 33, 40, 30], [3] * 60], ids=str)
@each_alg
def test_a_restored_replay_equals_the_saved_one(alg, lengths):
    make = functools.partial(build, alg, K=4)
    buffer = make()
    for number, length in enumerate(lengths):
        buffer.store_episode(episode(number, length, number % 5))
    more = [episode(100 + n, length, 3) for n, length in enumerate([11, 1, 50])]
    assert_same_from_here_on(buffer, restored(buffer, make, 2), more)
