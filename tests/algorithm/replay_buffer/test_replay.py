"""The four replays: their content, their draws and frequencies, and refused episodes.

Every step carries its episode's number and its time in `obs`, so that a sample shows where it comes from.
"""

import contextlib
import functools
import itertools
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings, stateful
from hypothesis import strategies as st
from replays import (
    REPEATABLE,
    assert_in_proportion,
    assert_same,
    assert_same_from_here_on,
    build,
    episode,
    restored,
    store,
    tags,
)

from utils.errors import ConfigError
from utils.text import human_bytes


@pytest.fixture(params=["sac", "rrd", "ircr", "uniform"])
def alg(request):
    """Replay of single transitions, with sub-sequences, half from the best episodes, and of mean rewards."""
    return request.param


def assert_steps_of(episodes, batch, names, prefix=""):
    """Each row is exactly a step of the episode it claims, one of `episodes`; return the (episode, time) seen."""
    where = list(zip(*(tag.ravel() for tag in tags(batch[f"{prefix}obs"])), strict=True))
    assert {number for number, _ in where} <= set(episodes)
    for name in names.split():
        expected = np.stack([episodes[number][name][t] for number, t in where])
        np.testing.assert_array_equal(batch[prefix + name].reshape(expected.shape), expected, err_msg=name)
    return set(where)


def all_steps(episodes):
    return {(number, t) for number, one in episodes.items() for t in range(len(one["obs"]))}


# How often each step is drawn ---------------------------------------------------------------------------------

@pytest.mark.parametrize("lengths", [(1, 3, 6), (7, 5, 4, 1)], ids=["full", "wrapped"])
@pytest.mark.parametrize("kind", ["sac", "rrd"])
def test_transitions_are_uniform_over_the_steps_held(kind, lengths):
    buffer = build(kind, buffer_size=10)
    store(buffer, lengths)
    _, counts = np.unique(np.stack(tags(buffer.sample(60_000)["obs"])), axis=1, return_counts=True)
    assert_in_proportion(counts, np.ones(10))


@pytest.mark.parametrize(("lengths", "held"), [((1, 3, 6), (1, 3, 6)), ((9, 5, 4, 1), (5, 4, 1))])
def test_episodes_of_subsequences_are_drawn_in_proportion_to_their_length(lengths, held):
    buffer = build("rrd", K=2, N=60_000, buffer_size=10)
    store(buffer, lengths)
    numbers, _ = tags(buffer.sample(1)["rrd_obs"])
    assert numbers.min() == len(lengths) - len(held)
    assert_in_proportion(np.bincount(numbers[:, 0])[-len(held):], held)


@pytest.mark.parametrize("lengths", [(5,), (3,), (2,), (5, 2), (1, 2, 3, 5)])
def test_every_draw_of_K_steps_is_equally_likely(lengths):
    """K <= T: each of the C(T, K) sets; K > T: each of the T^K sequences; also where one batch holds both kinds."""
    K = 3
    buffer = build("rrd", K, N=40_000)
    store(buffer, lengths)
    numbers, steps = tags(buffer.sample(1)["rrd_obs"])
    for number, T in enumerate(lengths):
        drawn = steps[numbers[:, 0] == number]
        kinds, counts = np.unique(np.sort(drawn, axis=1) if K <= T else drawn, axis=0, return_counts=True)
        assert K > T or (np.diff(kinds, axis=1) > 0).all()
        assert_in_proportion(counts, np.ones(math.comb(T, K) if K <= T else T**K))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 60_001])
def test_half_of_an_ircr_batch_is_uniform_over_recent_steps_the_rest_over_the_best(size):
    buffer, lengths = build("ircr", buffer_size=6), [1, 2, 1, 1, 4, 3, 1, 1, 1, 1]    # the 4 wrap around the end
    store(buffer, lengths, 1)
    store(buffer, [2, 4], -1, first=10)         # the ring now holds none of the best
    numbers, t = tags(buffer.sample(size)["obs"])
    assert (numbers >= 10).sum() == size // 2
    for half, steps in ((numbers >= 10, 6), (numbers < 10, sum(lengths))) if size > 1000 else ():
        _, counts = np.unique(np.stack([numbers, t])[:, half], axis=1, return_counts=True)
        assert_in_proportion(counts, np.ones(steps))


# RRD's return and coefficient ---------------------------------------------------------------------------------

@pytest.mark.parametrize(("K", "T", "c"), [
    (1, 2, 0.5), (4, 5, 0.2), (64, 1000, 0.936),        # 1 - K/T
    (4, 3, 1), (4, 2, 1), (64, 63, 1),                  # with replacement
    (4, 4, 0), (2, 2, 0), (1, 1, 0), (2, 1, 0), (64, 1, 0),     # the whole episode; a single step
])
def test_variance_coefficient(K, T, c):
    buffer = build("rrd", K, N=3, buffer_size=1000)
    store(buffer, [T])
    assert buffer.sample(1)["rrd_var_coef"].numpy() == pytest.approx(np.full((3, 1), c), abs=1e-7)


@pytest.mark.parametrize(("K", "T"), [(2, 5), (3, 4), (4, 4), (3, 2), (4, 3), (2, 1)])
def test_coefficient_makes_the_corrected_loss_unbiased(K, T):
    """Over every draw, the mean of (mean_K r - g)^2 - c s^2/K is (mean_T r - g)^2, with the c of the batch."""
    buffer = build("rrd", K, N=1)
    store(buffer, [T])
    c = buffer.sample(1)["rrd_var_coef"].item()
    rewards, goal = np.random.default_rng(0).normal(size=T), 0.7
    draws = itertools.combinations(rewards, K) if K <= T else itertools.product(rewards, repeat=K)
    losses = [(np.mean(draw) - goal) ** 2 - c * np.var(draw, ddof=1) / K for draw in draws]
    assert np.mean(losses) == pytest.approx((rewards.mean() - goal) ** 2, abs=1e-6)


def test_rrd_rews_and_coefficient_belong_to_the_episode_of_their_steps():
    lengths, values = np.array([1, 2, 3, 8]), np.array([5, -3, 2**24 + 5, 7])    # a float32 sum is 2**24 + 4
    buffer = build("rrd", K=3, N=200)
    store(buffer, lengths, values)
    batch = buffer.sample(1)
    numbers = tags(batch["rrd_obs"])[0][:, 0]
    assert set(numbers) == {0, 1, 2, 3}
    np.testing.assert_array_equal(batch["rrd_rews"][:, 0], np.float32(values / lengths)[numbers])
    np.testing.assert_allclose(batch["rrd_var_coef"][:, 0], np.array([0, 1, 0, 5 / 8])[numbers])


@pytest.mark.parametrize("size", [None, 1, 7])
def test_shapes(alg, size):
    B, N, K = size or 12, 17 // 4, 4
    buffer = build(alg, K, N=17 / 4, batch_size=12)
    store(buffer, [5, 3])
    shapes = {"obs": (B, 3), "obs_next": (B, 3), "acts": (B, 2), "rews": (B, 1), "done": (B, 1)}
    rrd = {"obs": (N, K, 3), "obs_next": (N, K, 3), "acts": (N, K, 2), "rews": (N, 1), "var_coef": (N, 1)}
    shapes |= {f"rrd_{name}": shape for name, shape in rrd.items() if alg == "rrd"}
    batch = buffer.sample(size)
    assert {name: field.shape for name, field in batch.items()} == shapes
    assert {field.dtype for field in batch.values()} == {torch.float32}


# IRCR: the ten best episodes and the scaled rewards -----------------------------------------------------------

@settings(max_examples=40, **REPEATABLE)
@given(values=st.lists(st.integers(0, 4), min_size=10, max_size=25))
def test_the_ten_best_episodes_outlive_the_ring_and_the_younger_of_equal_ones(values):
    buffer = build("ircr", buffer_size=4)
    store(buffer, [1] * len(values), values)
    store(buffer, [4], -1, first=100)           # all others leave the ring, and this one is not among the best
    by_return_and_age = sorted(range(len(values)), key=lambda number: (values[number], number))
    assert set(tags(buffer.sample(1000)["obs"])[0]) - {100} == set(by_return_and_age[-10:])


def ircr_rewards(buffer):
    """The one reward that the steps of each episode get, by the episode's number."""
    batch = buffer.sample(2000)
    pairs = {(int(number), rew.item()) for number, rew in zip(tags(batch["obs"])[0], batch["rews"], strict=True)}
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_ircr_scales_over_both_sets_and_falls_back_when_the_worst_episode_has_left_them():
    buffer = build("ircr", buffer_size=6)
    store(buffer, [1] * 11, [-100, *range(10, 20)])         # the first one has left both
    assert ircr_rewards(buffer) == pytest.approx({i: (i - 1) / 9 for i in range(1, 11)})
    store(buffer, [2, 4], [-100, 0], first=11)              # the maximum is in one set only, the minimum in the other
    assert ircr_rewards(buffer) == pytest.approx({i: (109 + i) / 119 for i in range(1, 11)} | {11: 0, 12: 100 / 119})
    store(buffer, [6], 12, first=13)                        # empties the ring, and takes 1's place among the best
    assert ircr_rewards(buffer) == pytest.approx({i: (i - 2) / 8 for i in range(2, 11)} | {13: 1 / 8})


@pytest.mark.parametrize(("count", "value"), [(1, 0), (2, -3.5), (15, 1e6)])
def test_ircr_pays_0_while_all_returns_are_equal(value, count):
    buffer = build("ircr", buffer_size=8)
    store(buffer, [3] * count, value)
    assert (buffer.sample(50)["rews"] == 0).all()
    store(buffer, [1], value + 1, first=count)
    assert set(ircr_rewards(buffer).values()) == {0, 1}


# The ring of whole episodes -----------------------------------------------------------------------------------

@pytest.mark.parametrize(("lengths", "held"), [
    ([4, 4, 2], 3), ([4, 4, 4], 2), ([4, 4, 9], 1),     # just full; around the end; one leaving is not enough
    ([10], 1), ([3, 10], 1), ([3, 10, 10], 1), ([9, 1, 1], 2), ([1] * 23, 10),
])
def test_the_oldest_episodes_are_dropped_and_the_rest_is_read_back_exactly(alg, lengths, held):
    buffer = build(alg, buffer_size=10)
    episodes = store(buffer, lengths)
    recent = dict(list(episodes.items())[-held:])
    assert (buffer.episodes, len(buffer), buffer.steps_stored) == (held, len(all_steps(recent)), sum(lengths))
    allowed = episodes if alg == "ircr" else recent         # which are the best ones is tested above
    assert all_steps(recent) <= assert_steps_of(allowed, buffer.sample(2000), "obs acts done obs_next")


def test_an_episode_longer_than_the_buffer_is_refused_and_changes_nothing(alg):
    buffer, twin = build(alg, buffer_size=10), build(alg, buffer_size=10)
    for one in (buffer, twin):
        store(one, [6, 5], [1, 2])
    with pytest.raises(ValueError, match=r"episode: got 11 steps, expected at most buffer_size \(10\)"):
        buffer.store_episode(episode(2, 11, 3))
    assert (buffer.episodes, len(buffer), buffer.steps_stored) == (1, 5, 11)
    assert_same(buffer.sample(100), twin.sample(100))


@pytest.mark.parametrize("kind", [torch.from_numpy, np.float32, np.float64])
def test_replay_copies_its_inputs_and_outputs(alg, kind):
    buffer, original = build(alg), episode(1, 4)
    mine = {name: kind(field.copy()) for name, field in original.items()} | {"done": original["done"] > 0}
    buffer.store_episode(mine)
    for field in [*mine.values(), *buffer.sample(50).values()]:
        field[:] = 7
    assert_steps_of({1: original}, buffer.sample(50), "obs acts done obs_next")


def test_samples_never_carry_a_gradient(alg):
    buffer, acts = build(alg), torch.zeros(4, 2, requires_grad=True)
    buffer.store_episode(episode(0, 4) | {"acts": acts * 2})
    assert not any(field.requires_grad for field in buffer.sample(5).values())


# Any history, against a list of episodes ----------------------------------------------------------------------

class ReplayMachine(stateful.RuleBasedStateMachine):
    """Store, evict and sample in any order; the model is all episodes ever by number, and the numbers held."""

    def __init__(self, alg):
        super().__init__()
        self.alg, self.ever, self.held = alg, {}, []

    @stateful.initialize(capacity=st.integers(1, 12), K=st.integers(1, 5))
    def start(self, capacity, K):
        self.capacity, self.K = capacity, K
        self.buffer = build(self.alg, K, buffer_size=capacity)

    def steps(self, numbers):
        return sum(len(self.ever[number]["obs"]) for number in numbers)

    @stateful.rule(length=st.integers(1, 13), value=st.integers(-3, 3))
    def store(self, length, value):
        number, fits = len(self.ever), length <= self.capacity
        with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="buffer_size"):
            self.ever |= store(self.buffer, [length], value, first=number)
            self.held.append(number)
        while self.steps(self.held) > self.capacity:
            self.held.pop(0)

    @stateful.invariant()
    def counts_agree(self):
        assert (self.buffer.episodes, len(self.buffer)) == (len(self.held), self.steps(self.held))
        assert self.buffer.steps_stored == self.steps(self.ever)

    @stateful.precondition(lambda self: self.held)
    @stateful.rule(size=st.sampled_from([1, 2, 7, 600]))
    def sample(self, size):
        batch = self.buffer.sample(size)
        value = {number: float(one["rews"].sum()) for number, one in self.ever.items()}
        best = sorted(value, key=lambda number: (value[number], number))[-10:] if self.alg == "ircr" else []
        allowed = {number: self.ever[number] for number in {*self.held, *best}}
        seen = assert_steps_of(allowed, batch, "obs acts done obs_next" + " rews" * (self.alg in ("sac", "rrd")))
        assert size < 600 or all_steps({number: self.ever[number] for number in self.held}) <= seen
        if self.alg == "ircr":
            low, high = min(value[number] for number in allowed), max(value[number] for number in allowed)
            rews = [(value[number] - low) / ((high - low) or 1) for number in tags(batch["obs"])[0]]
            np.testing.assert_array_equal(batch["rews"][:, 0], np.float32(rews))
        if self.alg == "uniform":
            rews = [value[number] / self.steps([number]) for number in tags(batch["obs"])[0]]
            np.testing.assert_array_equal(batch["rews"][:, 0], np.float32(rews))
        if self.alg == "rrd":
            assert_steps_of(allowed, batch, "obs acts obs_next", prefix="rrd_")
            numbers, steps = tags(batch["rrd_obs"])
            assert (numbers == numbers[:, :1]).all()
            for number, drawn, rew in zip(numbers[:, 0], steps, batch["rrd_rews"], strict=True):
                T = self.steps([number])
                assert len(set(drawn)) == self.K or self.K > T
                assert rew.item() == np.float32(value[number] / T)


def test_any_history_agrees_with_a_list_of_episodes(alg):
    stateful.run_state_machine_as_test(functools.partial(ReplayMachine, alg),
                                       settings=settings(max_examples=25, stateful_step_count=30, **REPEATABLE))


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("lengths", [[20], [7, 90, 1, 20, 33, 40, 30], [70, 2, 60, 40], [3] * 60], ids=str)
def test_a_restored_replay_equals_the_saved_one(alg, lengths, parts):
    """Also when its shortest and longest episodes have left the ring, and when the ring has wrapped around."""
    make = functools.partial(build, alg, K=4)
    buffer = make()
    store(buffer, lengths, np.arange(len(lengths)) % 5)
    buffer.sample(16)
    more = [episode(100 + n, length, 3) for n, length in enumerate([11, 1, 50])]
    assert_same_from_here_on(buffer, restored(buffer, make, parts), more)


def test_a_replay_does_not_restore_episodes_that_do_not_fit(alg):
    buffer = build(alg)
    store(buffer, [20, 30])
    logged = [(0, buffer.read_episodes(0, 2))]
    for wrong in ({"steps": 49}, {"episodes": 1}, {"episodes": 3}):
        with pytest.raises(ValueError, match="replay: got"):
            build(alg).restore(buffer.numbers() | wrong, buffer.tensors(), logged)
    with pytest.raises(ValueError, match="replay: got an episode of 30 steps, expected 1 to 20"):
        build(alg, buffer_size=40).restore(buffer.numbers(), buffer.tensors(), logged)


# Seeds and bad input ------------------------------------------------------------------------------------------

def test_draws_follow_from_the_seed_alone(alg):
    draws = []
    for everybodys_seed, seed in enumerate([5, 5, 6]):
        torch.manual_seed(everybodys_seed)
        before = torch.get_rng_state()
        buffer = build(alg, seed=seed)
        store(buffer, [20, 30, 3], [1, 2, 3])
        draws.append([buffer.sample(64), buffer.sample(64)])
        assert torch.equal(before, torch.get_rng_state())
    (first, second), _, (other, _) = draws
    assert_same(draws[0], draws[1])
    for name in ("obs", "rrd_obs") if alg == "rrd" else ("obs",):
        assert not any(torch.equal(first[name], draw[name]) for draw in (second, other))


@pytest.mark.parametrize(("change", "words"), [
    ({"acts": None}, ["acts", "missing", "(T, 2)"]),
    ({"obs": np.zeros((4, 5))}, ["obs", "(4, 5)", "(T, 3)"]),
    ({"acts": np.zeros((3, 2))}, ["acts", "(3, 2)", "(T, 2)", "T = 4"]),
    ({"rews": np.zeros(4)}, ["rews", "(4,)", "(T, 1)"]),
    ({"obs": np.zeros((0, 3))}, ["obs", "(0, 3)", "empty"]),
    ({"obs_next": np.array([["a"] * 3] * 4)}, ["obs_next", "<U1", "float32"]),
    ({"done": [["yes"]] * 4}, ["done", "<U3", "float32"]),
    ({"acts": np.zeros((4, 2), int)}, ["acts", "int64", "float32"]),
])
def test_a_bad_episode_is_named_and_changes_nothing(alg, change, words):
    buffer = build(alg)
    words = [f"episode['{words[0]}']: ", *words[1:]]
    with pytest.raises(ValueError, match=".*".join(map(re.escape, words))):
        buffer.store_episode({name: field for name, field in (episode(0, 4) | change).items() if field is not None})
    assert (buffer.episodes, len(buffer), buffer.steps_stored) == (0, 0, 0)
    with pytest.raises(ValueError, match="buffer: got no episode yet, expected at least one"):
        buffer.sample(4)


def test_an_episode_that_is_not_a_mapping_is_named(alg):
    with pytest.raises(ValueError, match=r"^episode: got list, expected a mapping with obs, obs_next, acts, rews, "
                                         r"done$"):
        build(alg).store_episode([])


@pytest.mark.parametrize("size", [0, -3, "4", 2.5])
def test_a_bad_batch_size_is_named(alg, size):
    buffer = build(alg)
    store(buffer, [4])
    with pytest.raises(ValueError, match=f"batch_size: got '?{size}'?, expected"):
        buffer.sample(size)


# Memory -------------------------------------------------------------------------------------------------------

def test_a_million_steps_of_27_observations_and_8_actions_take_less_than_300_MB(alg):
    """The memory that is used is part of the allocated 276 MB, which `bytes_needed` reports.

    A step uses its row, 4 (2 * 27 + 8 + 2) = 256 bytes, and 4 that name its episode; an episode uses 16 more.
    That is 260 MB with episodes of 1000 steps, and 276 MB if every episode is one step.
    """
    buffer = build(alg, obs_dim=27, act_dim=8, buffer_size=1_000_000)
    storages = [value.untyped_storage() for value in (vars(buffer) | vars(buffer.storage)).values()
                if isinstance(value, torch.Tensor)]
    allocated = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())     # views count once
    best = 10 * 1000 * 256 if alg == "ircr" else 0      # ten episodes of test_timesteps, beside their joined copy
    assert 0 <= allocated + best - buffer.bytes_needed < 100
    assert buffer.bytes_needed < 300e6


@pytest.mark.parametrize("size", [1_000_000, 300_000])
def test_a_buffer_that_does_not_fit_is_refused_with_a_size_that_does(alg, size, monkeypatch):
    needed = build(alg, buffer_size=size).bytes_needed
    free = needed // 6
    monkeypatch.setattr("algorithm.replay_buffer.transition.available_bytes", lambda device: free)
    with pytest.raises(ConfigError) as refusal:
        build(alg, buffer_size=size)
    match = re.fullmatch(rf"buffer_size: {size} .* (\S+ MB) .* (\S+ MB) free; --buffer_size=(\d+) would fit",
                        str(refusal.value))
    assert match.groups()[:2] == (human_bytes(needed), human_bytes(free))
    assert 0.8 * free < build(alg, buffer_size=match[3]).bytes_needed <= free


@pytest.mark.parametrize("free", [0, 10_000, 60_000])
def test_no_size_is_suggested_if_not_even_one_episode_fits(alg, free, monkeypatch):
    """A step of 3 observations and 2 actions takes 60 bytes, and a tenth of the free memory stays free."""
    monkeypatch.setattr("algorithm.replay_buffer.transition.available_bytes", lambda device: free)
    with pytest.raises(ConfigError) as refusal:
        build(alg, buffer_size=1_000_000)
    assert "buffer_size=" not in str(refusal.value)
    assert re.fullmatch(r"buffer_size: 1000000 .* free, too little for one episode of test_timesteps \(1000\); .*",
                        str(refusal.value))


def test_the_least_size_that_is_suggested_holds_one_episode(monkeypatch):
    monkeypatch.setattr("algorithm.replay_buffer.transition.available_bytes", lambda device: 66_680)
    with pytest.raises(ConfigError, match=r"free; --buffer_size=1000 would fit$"):
        build("sac", buffer_size=1_000_000)


def test_a_buffer_that_just_fits_is_built_and_so_is_one_in_unknown_memory(monkeypatch):
    for free in (build("sac").bytes_needed, None):
        monkeypatch.setattr("algorithm.replay_buffer.transition.available_bytes", lambda device, free=free: free)
        build("sac")
