"""The diagnosis of a learned reward: its numbers by hand, and runs that it must not change."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from resumes import FLAGS, flags_of, same, twice
from runs import SMALL, SMALL_RRD, run
from saved import digest

import train
from algorithm import create_agent
from algorithm.decomposition import diagnosis
from algorithm.decomposition.base import Decomposition
from algorithm.decomposition.diagnosis import (
    COLUMNS,
    NAMES,
    by_step,
    calibration,
    diagnose,
    pearson,
    ranks,
    replay_error,
    spearman,
)
from algorithm.decomposition.judge import Judge, create_judge, held_columns
from algorithm.replay_buffer import create_buffer
from envs import make_env, sizes
from learner import diagnoser
from learner.episodes import Player
from learner.training import check_reference
from utils.errors import ConfigError
from utils.settings.resolve import resolve
from utils.stop import Stop, Stopped

DQN = ["--basis_alg=dqn", "--eps_decay=1000", "--warmup=20"]


# By hand ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("x", "y", "r"), [
    ([1, 2, 3], [2, 4, 6], 1), ([1, 2, 3], [3, 2, 1], -1),
    ([1, 2, 3], [1, 3, 2], 0.5),                        # deviations (-1, 0, 1), (-1, 1, 0): 1 / sqrt(2 * 2)
    ([0, 0, 1, 1], [0, 1, 0, 1], 0), ([1e200, 2e200, 3e200], [1e-200, 3e-200, 2e-200], 0.5),
    ([1, 1, 1], [1, 2, 3], None), ([1, 2, 3], [5, 5, 5], None), ([0.1] * 3, [1, 2, 3], None), ([1], [1], None),
    ([], [], None),
])
def test_pearson(x, y, r):
    found = pearson(np.array(x, float), np.array(y, float))
    assert found == (r if r is None else pytest.approx(r, abs=1e-12))


@pytest.mark.parametrize(("x", "expected"), [
    ([10, 30, 20], [1, 3, 2]), ([5, 3, 5], [2.5, 1, 2.5]), ([7, 7, 7], [2, 2, 2]), ([1, 2, 2, 2, 3], [1, 3, 3, 3, 5]),
    ([], []),
])
def test_ranks_average_ties(x, expected):
    np.testing.assert_array_equal(ranks(np.array(x)), expected)


@pytest.mark.parametrize(("x", "y", "rho"), [
    ([1, 2, 3, 4], [1, 10, 100, 1000], 1),              # any increasing function
    ([1, 2, 3], [1, 3, 2], 0.5),                        # 1 - 6 (0 + 1 + 1) / (3 * 8)
    ([1, 2, 2], [1, 2, 3], np.sqrt(3) / 2),             # ranks (1, 2.5, 2.5), (1, 2, 3): 1.5 / sqrt(1.5 * 2)
    ([4, 4], [1, 2], None),
])
def test_spearman(x, y, rho):
    found = spearman(np.array(x), np.array(y))
    assert found == (rho if rho is None else pytest.approx(rho, abs=1e-12))


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=8))
@example([(0.0, 0.0), (0.0, 6.7e-301)])
@example([(0.0, 0.0), (6.7e-301, 1.0)])
@example([(1.0, 0.0), (3.0, 5e-324)])
def test_correlations_are_symmetric_lie_between_minus_one_and_one_and_never_warn(pairs):
    x, y = np.array(pairs).reshape(-1, 2).T
    for correlation in (pearson, spearman):
        one, other = correlation(x, y), correlation(y, x)
        assert (one is None) == (other is None)
        if one is not None:
            assert one == pytest.approx(other, abs=1e-9)
            assert -1 <= one <= 1
    assert all(value is None or np.isfinite(value) for value in calibration(x, y).values())


def test_calibration():
    exact = calibration(np.array([1, 2, 3]), np.array([1, 2, 3]))
    assert exact == {"r2": 1, "slope": pytest.approx(1), "intercept": pytest.approx(0)}
    # R = 10 + 2 P without error, yet the predictions themselves are off by (11, 12, 13): r2 = 1 - 434 / 8
    line = calibration(np.array([1, 2, 3]), np.array([12, 14, 16]))
    assert line == pytest.approx({"r2": 1 - 434 / 8, "slope": 2, "intercept": 10})
    # R = (0, 2, 1): slope 1/2 and intercept 0; the errors are (-1, 0, -2), the deviations from the mean (-1, 1, 0)
    assert calibration(np.array([1, 2, 3]), np.array([0, 2, 1])) == pytest.approx(
        {"r2": 1 - 5 / 2, "slope": 0.5, "intercept": 0})
    assert calibration(np.array([4, 4]), np.array([1, 3])) == {"r2": 1 - 10 / 2, "slope": None, "intercept": None}
    assert calibration(np.array([1, 3]), np.array([4, 4])) == {"r2": None, "slope": 0, "intercept": 4}
    assert set(calibration(np.array([1]), np.array([2])).values()) == {None}


def test_episodes_of_different_lengths():
    predicted = [np.array([1, 2, 3]), np.array([4.0]), np.array([2, 2]), np.array([1, 5])]
    true = [np.array([1, 3, 2]), np.array([5.0]), np.array([1, 3]), np.array([6, 2])]
    found = diagnose(predicted, true)
    assert found["pearson_within"] == pytest.approx((0.5 - 1) / 2)          # the second and the third have none
    assert found["spearman_within"] == pytest.approx((0.5 - 1) / 2)
    assert found["std_within"] == pytest.approx((np.sqrt(2 / 3) + 0 + 2) / 3)
    # P = (6, 4, 4, 6), R = (6, 5, 4, 8); deviations (1, -1, -1, 1), (0.25, -0.75, -1.75, 2.25)
    assert found["pearson_across"] == pytest.approx(5 / np.sqrt(4 * 8.75))
    assert found["spearman_across"] == pytest.approx(4 / np.sqrt(4 * 5))    # ranks (3.5, 1.5, 1.5, 3.5), (3, 2, 1, 4)
    assert found["slope"] == pytest.approx(5 / 4)
    assert found["intercept"] == pytest.approx(5.75 - 5 / 4 * 5)
    assert found["r2"] == pytest.approx(1 - 5 / 8.75)
    assert diagnose(predicted, true, unit="share") == found | dict.fromkeys(("r2", "sum_error", "error_played"))
    assert sorted(found) == sorted(NAMES[:-2])


def test_returns_that_differ_by_rounding_alone_are_constant():
    """The same 50 rewards in six orders, whose returns then differ by up to 1.8e-15."""
    rng = np.random.default_rng(0)
    rewards = np.array([0.1, 0.2, 0.3, 0.7] * 12 + [0.1, 0.2])
    true = [rng.permutation(rewards) for _ in range(6)]
    assert 0 < np.ptp([one.sum() for one in true]) < 1e-14
    predicted = [one + rng.normal(size=50) for one in true]
    found = diagnose(predicted, true)
    assert {name: found[name] for name in ("r2", "pearson_across", "spearman_across", "slope")} == {
        "r2": None, "pearson_across": None, "spearman_across": None, "slope": 0}
    assert found["intercept"] == pytest.approx(rewards.sum())
    assert found["pearson_within"] > 0.05
    assert calibration(*np.array([(p.sum(), r.sum()) for p, r in zip(predicted, true, strict=True)]).T)["r2"] is None


def test_shares_of_one_in_float32_have_no_r2():
    """Each share is rounded to float32, so the returns, all 1, differ by about 1e-8."""
    rng = np.random.default_rng(0)
    true = [rng.dirichlet(np.ones(30)).astype(np.float32) for _ in range(6)]
    assert np.ptp([one.astype(float).sum() for one in true]) > 1e-9
    found = diagnose([rng.normal(size=30) for _ in true], true)
    assert (found["r2"], found["pearson_across"], found["slope"]) == (None, None, 0)
    assert diagnose(true, [rng.normal(size=30) for _ in true])["slope"] is None         # the P are constant


@pytest.mark.parametrize(("x", "dtype"), [(100, np.float64), (4, np.float32)], ids=str)
def test_rewards_that_differ_by_rounding_alone_are_constant_in_their_episode(x, dtype):
    positions = np.random.default_rng(0).uniform(-x, x, 50).astype(dtype)
    rewards = (positions + dtype(0.1)) - positions
    assert len(set(rewards)) > 2
    other = np.random.default_rng(1).normal(size=50)
    for found in (diagnose([other], [rewards]), diagnose([rewards], [other])):
        assert (found["pearson_within"], found["spearman_within"]) == (None, None)


@pytest.mark.parametrize(("x", "constant"), [
    ([1, 1 - 2**-18], True), ([1, 1 - 2**-17], False),                      # float32: u = 2^-18, max 1
    ([4, 4 - 2**-16, 4 - 2**-20], True), ([4, 4 - 2**-15], False), ([-4, -4 + 2**-15], False),          # max 4
    ([1, 1 - 2**-42], True), ([1, 1 - 2**-41], False), ([1, 1 + 1e-10, 1 + 2e-10], False),              # doubles
    ([1e6, 1e6 + 1], False), ([1e6, 1e6 + 0.5], True),                      # whole numbers are not rounded
    ([0, 1e-30], False), ([1e-30, 2e-30], False), ([0, 0], True), ([1e150, -1e150], False),
])
def test_the_least_difference_of_steps_that_are_not_constant(x, constant):
    found = diagnose([np.array(x, float)], [np.arange(len(x))])
    assert (found["pearson_within"] is None) == constant


@pytest.mark.parametrize(("step", "last", "constant"), [
    # 64 steps of `step`, but for the last of one episode: u sqrt(64) step + 64 * 2^-52 * 64 step, for a step of 1.5
    (1.5, 2**-16, True), (1.5, 2**-14, False),                              # u = 2^-18: 12 * 2^-18 = 0.75 * 2^-14
    (1.1, 2**-40, True), (1.1, 2**-38, False),                              # 2^-42: 8.8 * 2^-42 + 4.4 * 2^-42
    (1000.0, 1.0, False), (1e6, 1.0, False), (0.0, 1e-30, False),
])
def test_the_least_difference_of_returns_that_are_not_constant(step, last, constant):
    one, other = np.full(64, step), np.full(64, step)
    other[-1] += last
    found = diagnose([np.zeros(64), np.ones(64)], [one, other])
    assert (found["pearson_across"] is None) == (found["r2"] is None) == constant
    assert found["slope"] == (0 if constant else pytest.approx(last / 64, rel=1e-2))


def test_no_statistic_is_defined_for_no_episode_or_one():
    assert set(diagnose([], []).values()) == {None}
    found = diagnose([np.array([1, 2])], [np.array([2, 4])])
    assert {name for name, value in found.items() if value is not None} == {
        "pearson_within", "spearman_within", "std_within", "sum_error", "error_played"}
    with pytest.raises(ValueError, match="got 3 numbers, expected 2"):
        diagnose([np.array([1, 2])], [np.array([2, 4, 5])])


def test_by_how_much_payments_miss_the_return_in_all_and_a_step():
    predicted, true = [np.array([1, 2, 3]), np.array([4.0]), np.array([2, 2])], [np.array([2, 2, 1.5]), np.array([5.0]),
                                                                                  np.array([4, 0])]
    found = diagnose(predicted, true)                                       # |P - R| is 0.5, 1 and 0
    assert found["sum_error"] == pytest.approx(0.5)
    assert found["error_played"] == pytest.approx((0.5 / 3 + 1) / 3)
    assert diagnose(predicted, true, "share")["sum_error"] is None
    thirds = np.full(3000, np.float32(1 / 3), np.float32)
    rounded = diagnose([thirds], [np.full(3000, thirds.astype(np.float64).sum() / 3000)])
    assert rounded["sum_error"] == 0


def test_payments_by_where_they_stand_in_an_episode():
    """Two episodes of 20 and 10 steps, one paid at the end and one step by step, and a third like the first."""
    late, even = np.zeros(20), np.full(10, 2.0)
    late[-1] = 6.0
    found = by_step([late, even, 2 * late], [np.full(20, 0.3), even, np.full(20, 0.6)])
    assert found["predicted"][:9] == pytest.approx([2 / 5] * 9)             # four steps of 0 and one of 2
    assert found["predicted"][9] == pytest.approx((6 + 2 + 12) / 5)
    assert found["true"] == pytest.approx([(0.6 + 2 + 1.2) / 5] * 10)
    first, last = ([0, 2, 0], [0.6, 2, 1.2]), ([6, 20, 12], [6, 20, 12])
    for part, (paid, earned) in ((0, first), (9, last)):
        assert found["pearson_so_far"][part] == pytest.approx(np.corrcoef(paid, earned)[0, 1])
    assert by_step([], [])["pearson_so_far"] == [None] * 10
    short = by_step([np.array([1.0, 2.0])], [np.array([1.0, 2.0])], parts=4)
    assert short["true"] == [None, 1.0, 2.0, None]                         # cut at 0, 0, 1, 2 and 2, rounded to even


def test_the_error_on_recent_and_on_old_episodes():
    errors = [8.0, 4.0, 2.0, 1.0, 3.0]
    assert replay_error(5, errors.__getitem__) == {"error_recent": 2, "error_old": 6}       # two of each
    assert replay_error(5, errors.__getitem__, most=1) == {"error_recent": 3, "error_old": 8}
    assert replay_error(1, errors.__getitem__) == {"error_recent": None, "error_old": None}


# Of agents --------------------------------------------------------------------------------------------------------

def parts(alg: str, env: str, **more):
    config = resolve({"alg": alg, "env": env, "device": "cpu", "test_timesteps": 10, "buffer_size": 100} | more)
    world = make_env(config)
    config = sizes(config, world)
    return world, create_agent(config), create_buffer(config)


def constant_reward(agent, value: float) -> None:
    with torch.no_grad():
        for parameter in agent.decomposition.reward.parameters():
            parameter.zero_()
        list(agent.decomposition.reward.parameters())[-1].fill_(value)                    # the last layer's bias


def columns(rewards: list[float]) -> dict[str, np.ndarray]:
    steps = len(rewards)
    return {"obs": np.zeros((steps, 2), np.float32), "obs_next": np.ones((steps, 2), np.float32),
            "acts": np.zeros((steps, 1), np.float32), "rews": np.float32(rewards)[:, None],
            "done": np.zeros((steps, 1), np.float32)}


def test_rrd_is_judged_by_its_reward_network_step_by_step():
    env, agent, _ = parts("rrd", "Match-v0")
    player = Player(env, agent)
    player.judge = create_judge(agent)
    assert player.judge.unit == "reward"
    episode = player.play(3, explore=True)
    obs, _ = env.reset(seed=3)
    for action, true, predicted in zip(episode.acts, episode.true, episode.predicted, strict=True):
        obs_next, _, _, _, info = env.step(action)
        assert info["true_reward"] == true
        assert float(agent.rewards(obs, action, obs_next)) == pytest.approx(predicted, abs=1e-6)
        obs = obs_next
    assert len(episode.true) == 10


def test_long_episodes_are_predicted_in_pieces(monkeypatch):
    _, agent, _ = parts("rrd", "Clock10-v0")
    given = columns([0.0] * 10)
    given["obs"] += np.arange(10, dtype=np.float32)[:, None]
    whole = create_judge(agent).redistribute(given)
    monkeypatch.setattr("algorithm.decomposition.base.VECTORS", 3)
    np.testing.assert_allclose(create_judge(agent).redistribute(given), whole, atol=1e-6)
    assert len(set(whole)) == 10


class Counting(Decomposition):
    """A model that pays a step the sum of the observations up to it: p_t = obs_0 + ... + obs_t."""

    markov = joint = False

    def __init__(self, config, generator=None):
        super().__init__(config, generator)
        self.opts = ["one that learns"]

    def credit(self, episodes, mask):
        return episodes["obs"][..., 0].cumsum(1).requires_grad_()

    def predict(self, obs, acts, obs_next):
        raise AssertionError("step by step")


def test_a_reward_that_depends_on_the_whole_episode_gets_the_whole_episode(monkeypatch):
    monkeypatch.setattr("algorithm.decomposition.base.VECTORS", 3)
    _, agent, buffer = parts("rrd", "Clock10-v0", buffer_size=1000)
    counting = Counting(agent.config)
    given = columns([0.0] * 600)
    given["obs"][:, 0] = 1
    np.testing.assert_array_equal(Judge(counting).redistribute(given), np.arange(1, 601))
    for length, paid in ((5, 10.0), (600, 0.0)):
        one = columns([0.0] * (length - 1) + [paid])
        buffer.store_episode(one | {"obs": np.ones((length, 2), np.float32)})
    # Of lengths 5 and 600 the mean of p_t is 3 and 300.5; R/T is 2 and 0.
    assert Judge(counting, buffer).replay_error() == {"error_old": 1, "error_recent": 300.5}


@pytest.mark.parametrize(("env", "basis"), [("Match-v0", "sac"), ("CartPole-v1", "dqn"), ("Film-v0", "dqn")])
def test_a_played_episode_and_a_stored_one_are_judged_alike(env, basis):
    env, agent, buffer = parts("rrd", env, basis_alg=basis, batch_size=4)
    player, asked = Player(env, agent), []
    player.judge = SimpleNamespace(redistribute=lambda one: asked.append(one) or np.zeros(len(one["rews"])))
    for seed in range(2):
        player.play(seed, explore=True)
        buffer.store_episode(asked[seed])
    for number, one in enumerate(asked):
        held, numbers = held_columns(buffer, number)
        assert set(held) == set(one)
        assert numbers == one["rews"].sum()
        for name, column in one.items():
            assert (held[name].dtype.kind, held[name].shape) == (column.dtype.kind, column.shape)
            np.testing.assert_array_equal(held[name], column)


def test_pictures_are_predicted_from_their_stacks():
    env, agent, buffer = parts("rrd", "Film-v0", basis_alg="dqn", batch_size=4)
    player = Player(env, agent)
    player.judge = create_judge(agent, buffer)
    episode = player.play(1, explore=False)
    obs, _ = env.reset(seed=1)
    for action, predicted in zip(episode.acts, episode.predicted, strict=True):
        obs_next, *_ = env.step(action)
        expected = agent.rewards(obs, np.int64(action), obs_next)
        assert float(expected) == pytest.approx(predicted, abs=1e-5)
        obs = obs_next


def test_the_error_in_the_replay_is_of_the_mean_reward():
    _, agent, buffer = parts("rrd", "Clock10-v0")
    for rewards in ([0, 0, 6], [0, 0, 0, 0], [1, 1], [5]):                  # R/T = 2, 0, 1, 5
        buffer.store_episode(columns(rewards))
    constant_reward(agent, 1.5)
    found = create_judge(agent, buffer).replay_error()
    assert found == pytest.approx({"error_old": (0.5 + 1.5) / 2, "error_recent": (0.5 + 3.5) / 2})
    assert create_judge(agent).replay_error() == {}


def test_the_replay_numbers_its_episodes_from_the_oldest():
    *_, buffer = parts("rrd", "Clock10-v0", buffer_size=10)
    for value in range(1, 8):
        buffer.store_episode(columns([value] * 3))                          # three of them fit
    assert [buffer.held_episode(number)[1] for number in range(3)] == [15, 18, 21]
    rows, _ = buffer.held_episode(0)
    np.testing.assert_array_equal(buffer.storage.read(rows)["rews"][:, 0], [5, 5, 5])


def test_ircr_is_judged_by_what_its_replay_would_pay():
    _, agent, buffer = parts("ircr", "Clock10-v0")
    assert create_judge(agent, buffer) is None                              # it is empty
    buffer.store_episode(columns([0, 0, 10]))
    judge = create_judge(agent, buffer)
    assert judge.unit == "share"
    np.testing.assert_array_equal(judge.redistribute(columns([0, 25])), [0, 0])  # all returns are equal
    buffer.store_episode(columns([0, 50]))
    np.testing.assert_array_equal(judge.redistribute(columns([0, 20])), [0.25, 0.25])
    np.testing.assert_array_equal(judge.redistribute(columns([70])), [1.5])      # beyond all that was seen
    assert (buffer.sample()["rews"].unique() == torch.tensor([0, 1])).all()
    assert judge.replay_error() == {}
    assert create_judge(agent) is None


@pytest.mark.parametrize(("alg", "basis"), [("rrd", "sac"), ("rrd", "td3"), ("ircr", "ddpg"), ("rrd", "dqn")])
def test_a_diagnosis_does_not_change_the_agent(alg, basis, monkeypatch):
    env, agent, _ = parts(alg, "CartPole-v1" if basis == "dqn" else "Match-v0", basis_alg=basis)
    before, counters = agent.generator.get_state(), dict(agent.counters)
    player = Player(env, agent)
    first, second, greedy = player.play(5, True), player.play(5, True), player.play(5, False)
    assert torch.equal(agent.generator.get_state(), before)
    assert agent.counters == counters
    np.testing.assert_array_equal(first.acts, second.acts)                  # by its seed alone
    assert not np.array_equal(first.acts, greedy.acts)
    monkeypatch.setattr(env, "step", lambda action: _stop())
    with pytest.raises(Stopped):                                            # also after an error
        player.play(5, True)
    assert torch.equal(agent.generator.get_state(), before)
    assert agent.counters == counters


def _stop():
    raise Stopped


def test_a_share_of_greedy_actions_can_be_random():
    env, agent, _ = parts("rrd", "CartPole-v1", basis_alg="dqn", test_timesteps=50)
    with torch.no_grad():
        list(agent.basis.value.parameters())[-1].copy_(torch.tensor([100.0, -100.0]))   # always to the left
    assert set(Player(env, agent).play(1, False).acts) == {0}
    assert set(np.concatenate([Player(env, agent, 1.0).play(seed, False).acts for seed in range(3)])) == {0, 1}


# In runs ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flags", [
    [*SMALL_RRD, "--env=Match-v0"], [*SMALL_RRD, "--env=tiny_envs:Film-v0", *DQN],
    [*SMALL, "--alg=ircr", "--env=Match-v0"], [*SMALL_RRD, "--env=tiny_envs:Match-v0", "--num_envs=2"],
    [*SMALL_RRD, "--env=Match-v0", "--test_rollouts=0", "--engine=eager"]], ids=str)
@pytest.mark.sampled(3)
def test_a_run_is_the_same_with_and_without(flags):
    plain, diagnosed = run(*flags), run(*flags, "--diagnose_every=1")
    assert [{name: value for name, value in row.items() if name not in COLUMNS}
            for row in diagnosed.untimed()] == plain.untimed()
    assert not set(COLUMNS) & set(plain.rows[0])
    assert set(COLUMNS) <= set(diagnosed.rows[0])
    ours, theirs = plain.tensors(), diagnosed.tensors()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    # Evaluation, generators, replay and record are equal as well; only the counts of evaluations are added.
    ours, theirs = digest(plain.directory), digest(diagnosed.directory)
    assert theirs["values/evaluator"] == {"evaluator": ours.pop("values/evaluator"), "evaluations": 3}
    assert {name: value for name, value in theirs.items() if name in ours and name != "rows"} == {
        name: value for name, value in ours.items() if name != "rows"}


def test_every_second_cycle():
    finished = run(*SMALL_RRD, "--env=Match-v0", "--diagnose_every=2")
    assert [[bool(row[name]) for row in finished.rows] for name in COLUMNS] == [[False, True, False]] * len(COLUMNS)


def test_ircr_has_no_correlation_within_an_episode():
    finished = run(*SMALL, "--alg=ircr", "--env=Match-v0", "--diagnose_every=1")
    *_, last = finished.rows
    numbers = {name for name in COLUMNS if last[name]}
    assert numbers == {f"Reward/{name}" for name in ("pearson_across", "spearman_across", "slope", "intercept",
                                                  "std_within")}
    # All episodes have ten steps, so the payments of IRCR are linear in the return.
    assert float(last["Reward/pearson_across"]) == pytest.approx(1)
    assert float(last["Reward/std_within"]) == 0


def test_uniform_predicts_the_mean_reward_of_an_episode_for_its_steps():
    _, agent, buffer = parts("uniform", "Clock10-v0")
    judge = create_judge(agent)                                             # unlike IRCR, it needs no replay
    buffer.store_episode(columns([0, 0, 10]))
    np.testing.assert_array_equal(judge.redistribute(columns([0, 25])), [12.5, 12.5])
    np.testing.assert_array_equal(np.float32(judge.redistribute(columns([0, 0, 10]))), buffer.sample(3)["rews"][:, 0])
    assert judge.unit == "reward"
    assert judge.replay_error() == {}
    *_, last = run(*SMALL, "--alg=uniform", "--env=Match-v0", "--diagnose_every=2", "--total_timesteps=160").rows
    numbers = {name.removeprefix("Reward/"): float(last[name]) for name in COLUMNS if last[name]}
    assert numbers == pytest.approx({"pearson_across": 1, "spearman_across": 1, "r2": 1, "slope": 1, "intercept": 0,
                                  "std_within": 0, "sum_error": 0, "error_played": 0}, abs=1e-5)      # it gets R itself


def test_a_learned_reward_is_diagnosed_as_right():
    """Match has a reward for each step, so that decomposition can be checked against it."""
    flags = [*SMALL_RRD, "--env=Match-v0", "--total_timesteps=900", "--iterations=45", "--buffer_size=2000",
             "--test_timesteps=3", "--rrd_batch_size=64", "--train_batches=20", "--diagnose_every=1", "--r_lr=0.003"]
    (last,) = run(*flags).rows
    assert float(last["Reward/pearson_within"]) > 0.8
    assert float(last["Reward/r2"]) > 0.8
    assert float(last["Reward/slope"]) == pytest.approx(1, abs=0.3)
    assert float(last["Reward/error_recent"]) < 0.2


@pytest.mark.parametrize("flags", [
    [*flags_of("rrd", "sac"), "--env=Hopper-v4"], [*flags_of("ircr", "td3"), "--env=Hopper-v4"],
    [*flags_of("rrd", "dqn"), "--env=CartPole-v1", "--diagnose_every=2"],
    [*flags_of("rrd", "sac"), "--env=Hopper-v4", "--num_envs=2"]], ids=str)
@pytest.mark.sampled(2)
def test_two_parts_of_a_diagnosed_run_equal_the_whole_run(flags):
    twice([*FLAGS, "--diagnose_every=1", *flags], 100, 200)


@pytest.mark.slow
def test_two_parts_of_a_diagnosed_game_equal_the_whole_run(monkeypatch):
    monkeypatch.setattr(diagnoser, "EPISODES", 1)
    twice([*FLAGS, "--alg=ircr", "--env=Assault", "--sticky=True", "--noop=5", "--eps_decay=100",
           "--diagnose_every=1"], 60, 120)


@pytest.mark.slow
def test_several_seeds_are_diagnosed_as_their_single_runs():
    flags = [*SMALL_RRD, "--env=Match-v0", "--diagnose_every=1"]
    assert train.main([*flags, "--seeds=0,1", "--tag=many"]) == 0
    for seed in (0, 1):
        (one,) = Path("outputs").glob(f"many*_seed{seed}_*")
        same(one, run(*flags, f"--seed={seed}", f"--tag=single{seed}").directory)


def test_a_run_that_is_stopped_during_a_diagnosis_resumes(monkeypatch):
    flags = [*FLAGS, *flags_of("rrd", "sac"), "--env=Hopper-v4", "--total_timesteps=120", "--diagnose_every=1"]
    whole = run(*flags, "--tag=whole")
    play, calls = Player.play, []

    def asked(self, *given):
        calls.append(given)
        if len(calls) == diagnoser.EPISODES * 2 + 4:                        # in the second cycle
            signal.raise_signal(signal.SIGTERM)
        return play(self, *given)
    with monkeypatch.context() as patched:
        patched.setattr(Player, "play", asked)
        assert train.main([*flags, "--tag=parts"]) == 75
    (parts,) = Path("outputs").glob("parts*")
    assert len(calls) == diagnoser.EPISODES * 2 + 4
    assert digest(parts)["values/evaluator"]["evaluations"] == 1
    assert train.main([f"--resume={parts}"]) == 0
    same(parts, whole.directory)


def test_a_diagnosis_cannot_be_added_to_a_resumed_run(capsys):
    directory = run(*SMALL_RRD, "--env=Match-v0").directory
    assert train.main([f"--resume={directory}", "--diagnose_every=1"]) == 2
    assert "diagnose_every 0 -> 1" in capsys.readouterr().err


@pytest.mark.parametrize("alg", ["sac", "dqn"])
def test_an_agent_that_learns_no_reward_cannot_be_diagnosed(alg, capsys):
    assert train.main([f"--alg={alg}", "--env=CartPole-v1", "--diagnose_every=3"]) == 2
    assert capsys.readouterr().err == (f"train.py: diagnose_every: got 3, but {alg} learns no reward; expected "
                                       "0, or --alg=rrd, ircr, uniform, rd, vib_rd, lrr, gp_lrr, rudder, rbt, ares, "
                                       "diaster or grd\n")


def test_the_tensorflow_reference_is_not_diagnosed(monkeypatch):
    monkeypatch.setenv("USE_PYTORCH", "0")
    with pytest.raises(ConfigError, match="not read by the TensorFlow reference"):
        check_reference(dataclasses.replace(resolve({"alg": "rrd"}), diagnose_every=1))


def test_undefined_numbers_are_not_logged():
    logged = []
    one = diagnoser.Diagnoser.__new__(diagnoser.Diagnoser)
    one.evaluator, one.every, one.evaluations = SimpleNamespace(evaluate=lambda logger, steps: None), 1, 0
    one.diagnose = lambda: dict.fromkeys(NAMES) | {"slope": 2.0}
    one.evaluate(SimpleNamespace(add=logged.append))
    assert logged == [{diagnosis.PREFIX + "slope": 2.0}]


def test_stop_reaches_the_diagnosis():
    stop = Stop()
    stop.set()
    from learner.episodes import Stoppable
    env, agent, _ = parts("rrd", "Match-v0")
    with pytest.raises(Stopped):
        Player(Stoppable(env, stop), agent).play(0, False)
