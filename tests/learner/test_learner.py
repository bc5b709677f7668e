"""The loop: when it acts, stores, trains and evaluates; and that a seed fixes all of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from agents import IDS, PAIRS
from runs import SMALL, SMALL_RRD, run

from algorithm import create_agent
from algorithm.engine import Engine
from algorithm.replay_buffer import create_buffer
from envs import make_env, sizes
from learner import Evaluator, Learner
from learner.collector import Collector, env_seeds
from utils.seeding import stream_seed
from utils.settings.resolve import resolve


class Record:
    """A stand-in for the run's record; `logger` is itself."""

    def __init__(self):
        self.logger, self.infos, self.cycles, self.saves = self, [], [], 0

    def add(self, info):
        self.infos.append(dict(info))

    def add_sums(self, sums):
        self.infos.append({name: float(total) / count for name, total, count in sums})

    def sums(self):
        return {}

    def progress(self, steps):
        self.steps = steps

    def save(self, snapshot):
        self.saves += 1

    def record(self, cycle, steps, episodes, save_model):
        self.cycles.append((cycle, steps, episodes))


def make_learner(**settings):
    """A learner on Clock, whose observations are (episode, time) and whose reward at time t is t."""
    given = dict(alg="sac", env="Clock10-v0", test_timesteps=10, total_timesteps=60, timesteps=20, iterations=1,
                 warmup=40, batch_size=4, train_batches=7, test_rollouts=0, buffer_size=500, device="cpu") | settings
    config = resolve(given)
    env, test_env = make_env(config), make_env(config)
    config = sizes(config, env)
    agent, buffer = create_agent(config), create_buffer(config)
    collector = Collector(env, agent, *env_seeds(config))
    return Learner(config, collector, Engine(agent, buffer), Evaluator(config, test_env, agent), Record())


def stored(learner) -> dict[str, np.ndarray]:
    """The steps in replay, in order."""
    buffer = learner.buffer
    return {name: value.numpy() for name, value in buffer.storage.fields(buffer.storage.rows[:len(buffer)]).items()}


@pytest.mark.parametrize(("env", "limit", "terminated", "done"), [
    ("Clock10-v0", 10, True, 1.0),          # ends by itself, on the very last allowed step: a termination
    ("Clock7-v0", 10, True, 1.0),           # ends by itself before the limit
    ("Clock10-v0", 7, False, 0.0),          # cut by the time limit: over, but not terminal
])
@pytest.mark.parametrize("env_type", ["ep_rews", "normal"])
def test_done_by_a_truth_table_of_termination_and_time_limit(env, limit, terminated, done, env_type):
    learner = make_learner(env=env, test_timesteps=limit, env_type=env_type)
    learner.learn()
    length = min(limit, int(env[5:-3]))
    held = stored(learner)
    assert len(held["done"]) == 60 // length * length
    for episode in held["done"].reshape(-1, length):
        assert episode[:-1].any() == np.False_
        assert episode[-1] == done == float(terminated)


@pytest.mark.parametrize("env_type", ["ep_rews", "normal"])
def test_the_agent_is_paid_the_episodes_return_at_its_end_or_each_step(env_type):
    learner = make_learner(env_type=env_type)
    learner.learn()
    for episode in stored(learner)["rews"].reshape(-1, 10):
        expected = np.arange(1, 11) if env_type == "normal" else [0] * 9 + [55]
        np.testing.assert_array_equal(episode, expected)


def test_transitions_join_up_within_an_episode_and_not_across_its_border():
    learner = make_learner()
    learner.learn()
    held = stored(learner)
    np.testing.assert_array_equal(held["obs"][:, 0], held["obs_next"][:, 0])
    np.testing.assert_array_equal(held["obs"][:, 1] + 1, held["obs_next"][:, 1])
    np.testing.assert_array_equal(held["obs"][:, 1], np.tile(np.arange(10), 6))


def test_an_environment_that_reuses_its_array_is_stored_right():
    learner = make_learner(env="InPlace-v0")
    learner.learn()
    np.testing.assert_array_equal(stored(learner)["obs"][:, 0], np.tile(np.arange(10), 6))
    np.testing.assert_array_equal(stored(learner)["obs_next"][:, 0], np.tile(np.arange(1, 11), 6))


def test_training_explores_and_evaluation_does_not():
    learner, calls = make_learner(test_rollouts=1), []
    step = learner.agent.step

    def watched(obs, explore=False, test_info=False):
        calls.append((explore, test_info))
        return step(obs, explore, test_info)
    learner.agent.step = watched
    learner.learn()
    assert calls == ([(True, False)] * 20 + [(False, True)] * 10) * 3


def test_an_open_episode_is_not_stored():
    learner = make_learner(total_timesteps=25, timesteps=25)
    learner.learn()
    assert (len(learner.buffer), len(learner.collector.open_episode), learner.episodes) == (20, 5, 2)


def test_updates_start_with_warmup_and_follow_the_steps():
    learner = make_learner(total_timesteps=100, train_batches=7)
    updates = []
    learner.run.progress = lambda steps: updates.append((steps, learner.agent.updates))
    learner.learn()
    assert updates == [(20, 0), (40, 7), (60, 14), (80, 21), (100, 28)]


def test_a_shortened_last_iteration_makes_its_share_of_updates():
    learner = make_learner(total_timesteps=65, timesteps=20, train_batches=8)
    learner.learn()
    assert learner.steps == 65
    assert learner.agent.updates == 8 + 8 + 2


@pytest.mark.parametrize("every", [1, 3])
def test_targets_are_updated_after_every_train_target_th_update(every):
    learner, calls = make_learner(train_target=every, total_timesteps=60), []
    learner.agent.target_update = lambda: calls.append(learner.agent.updates)
    learner.learn()
    assert calls == [n for n in range(1, 15) if n % every == 0]


def test_one_normalizer_update_an_iteration():
    learner, calls = make_learner(obs_normalization=True), []
    learner.agent.normalizer_update = lambda batch: calls.append(len(batch["obs"]))
    learner.learn()
    assert calls == [4, 4]


def test_cycles_end_with_an_evaluation_and_a_record():
    learner = make_learner(total_timesteps=100, iterations=2, test_rollouts=3)
    learner.learn()
    assert learner.run.cycles == [(0, 40, 4), (1, 80, 8), (2, 100, 10)]
    episodes = [info for info in learner.run.infos if "Rewards" in info]
    assert episodes == [{"Steps": 10, "Rewards": 55.0}] * 9


def test_evaluation_reads_the_true_reward_with_both_reward_types():
    for env_type in ("ep_rews", "normal"):
        learner = make_learner(env_type=env_type, test_rollouts=1, env="Clock7-v0")
        learner.learn()
        assert {"Steps": 7, "Rewards": 28.0} in learner.run.infos


def test_every_random_stream_has_its_own_seed():
    seeds = [stream_seed(seed, name) for seed in (0, 1) for name in ("agent", "weights", "replay", "env", "test env")]
    assert len(set(seeds)) == len(seeds)
    assert stream_seed(0, "env") == stream_seed(0, "env") >= 0


def options(alg: str, basis: str | None) -> list[str]:
    sizes = SMALL_RRD[1:] if alg == "rrd" else SMALL
    return [f"--alg={alg}", *([f"--basis_alg={basis}"] if basis else []), *sizes, "--env=Match-v0"]


@pytest.mark.parametrize(("alg", "basis"), PAIRS, ids=IDS)
@pytest.mark.sampled(2)
def test_the_same_seed_gives_the_same_run_to_the_bit_and_another_does_not(alg, basis):
    first, second, other = (run(*options(alg, basis), f"--seed={seed}") for seed in (3, 3, 4))
    assert first.untimed() == second.untimed() != other.untimed()
    ours, theirs = first.tensors(), second.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_same_seed_gives_the_same_run_on_mujoco():
    argv = [*SMALL_RRD, "--env=Hopper-v4", "--seed=5"]
    assert run(*argv).untimed() == run(*argv).untimed()


def test_the_same_seed_gives_the_same_run_with_several_threads():
    torch.set_num_threads(2)
    try:
        argv = [*SMALL_RRD, "--env=Match-v0", "--batch_size=256", "--rrd_batch_size=256"]
        assert run(*argv).untimed() == run(*argv).untimed()
    finally:
        torch.set_num_threads(1)


def test_training_does_not_depend_on_the_global_generators():
    first = run(*SMALL_RRD, "--env=Match-v0")
    torch.manual_seed(123)
    np.random.seed(123)
    assert first.untimed() == run(*SMALL_RRD, "--env=Match-v0").untimed()


@pytest.mark.parametrize(("alg", "basis"), PAIRS, ids=IDS)
@pytest.mark.sampled(2)
def test_evaluation_on_or_off_does_not_change_training(alg, basis):
    with_it = run(*options(alg, basis), "--test_rollouts=3").tensors()
    without = run(*options(alg, basis), "--test_rollouts=0").tensors()
    assert all(torch.equal(with_it[name], without[name]) for name in with_it)
