"""Several environments at once: the same episodes as one by one, the algorithm's ratio, and processes that end."""

from __future__ import annotations

import math
import multiprocessing
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from acting import Actor, play_alone, refusal
from runs import SMALL, SMALL_RRD, run

import utils.memory
from envs import make_env
from envs.workers.pool import Workers
from learner import Learner
from learner.collector import VectorCollector, env_seeds
from learner.drops import Drops
from learner.stepwise import Stepwise
from utils.errors import ConfigError
from utils.memory import WORKER_BYTES, check_workers
from utils.seeding import stream_seed
from utils.settings.resolve import resolve

# Episodes -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("env", "limit"), [
    ("tiny_envs:Match-v0", 100),            # draws at every reset and step
    ("tiny_envs:Clock10-v0", 7),            # ends at the time limit
    ("tiny_envs:InPlace-v0", 100),          # writes into the one array that it returns
    ("tiny_envs:Film-v0", 100),             # pictures
    ("Hopper-v4", 20),                      # ends by itself, at a different step in each environment, or at the limit
    ("Assault", 5),                         # FrameStack, and a random number of no-ops
])
def test_each_environment_plays_the_same_episodes_as_alone(env, limit):
    if env == "Assault":
        pytest.importorskip("ale_py")
        pytest.importorskip("cv2")
    discrete = env in ("tiny_envs:Film-v0", "Assault")
    config = resolve({"alg": "dqn" if discrete else "sac", "env": env, "num_envs": 3, "test_timesteps": limit})
    example = make_env(config)
    actor, collected = Actor(example.action_space), []
    workers = Workers(config, example)
    try:
        collector = VectorCollector(workers, actor, env_seeds(config))
        for t in range(45):
            collected += [(t, episode) for episode in collector.step()]
    finally:
        workers.close()
    expected = []
    for i, seed in enumerate(env_seeds(config)):
        seen, episodes = play_alone(config, seed, [acts[i] for acts in actor.acts])
        np.testing.assert_array_equal(np.stack(seen), np.stack(actor.seen)[:, i])
        expected += [(t, i, episode) for t, episode in episodes]
    expected.sort(key=lambda one: one[:2])
    assert [t for t, _ in collected] == [t for t, *_ in expected]
    assert len(collected) >= 6
    for (_, ours), (*_, alone) in zip(collected, expected, strict=True):
        assert ours.keys() == alone.keys()
        for name, column in ours.items():
            np.testing.assert_array_equal(column, alone[name])
            assert column.dtype == alone[name].dtype


def test_the_last_step_of_an_episode_holds_its_own_last_observation():
    config = resolve({"alg": "sac", "env": "tiny_envs:Clock10-v0", "num_envs": 2, "test_timesteps": 7})
    env = make_env(config)
    workers = Workers(config, env)
    try:
        collector = VectorCollector(workers, Actor(env.action_space), env_seeds(config))
        episodes = [episode for _ in range(14) for episode in collector.step()]
    finally:
        workers.close()
    assert len(episodes) == 4
    for number, episode in enumerate(episodes):
        np.testing.assert_array_equal(episode["obs"][:, 1], np.arange(7))               # Clock shows (episode, time)
        np.testing.assert_array_equal(episode["obs_next"], [(number // 2, t) for t in range(1, 8)])
        assert not episode["done"].any()                                                # cut by the time limit
        assert episode["rews"].tolist() == [[0]] * 6 + [[28]]


# The schedule ---------------------------------------------------------------------------------------------------

class Steps(Stepwise):
    """A stand-in for a collector: every step of it ends an episode in each environment."""

    def __init__(self, num_envs: int):
        self.num_envs, self.calls, self.drops, self.returns = num_envs, 0, Drops(), []

    def step(self):
        self.calls += 1
        return [{}] * self.num_envs


class Listener:
    """A stand-in for replay, agent, engine, evaluator and record."""

    resumable = False                                   # no state is saved

    def __init__(self):
        self.agent = self.actor = self.buffer = self
        self.steps_stored, self.told, self.cycles, self.logger = 0, [], [], self

    def store_episode(self, episode):
        self.steps_stored += 1

    def explore_metrics(self):
        return {}

    def check_state(self):
        pass

    def skip(self):
        pass

    def add(self, info):
        pass

    def evaluate(self, logger, steps):
        pass

    def state(self):
        return {}

    sums = state

    def progress(self, steps):
        self.told.append(steps)

    def save_model(self, path):
        pass

    def record(self, cycle, steps, episodes, save_model):
        assert save_model == self.save_model
        self.cycles.append((cycle, steps, episodes))


@pytest.mark.parametrize(("num_envs", "length", "iterations", "warmup"), [
    (1, 100, 2, 1), (2, 100, 2, 1), (3, 100, 2, 1), (7, 400, 3, 1), (33, 400, 2, 1), (200, 400, 2, 1),
    (3, 95, 2, 1), (7, 333, 2, 60),
])
def test_updates_per_step_are_the_algorithms_however_many_environments(num_envs, length, iterations, warmup):
    config = SimpleNamespace(timesteps=20, iterations=iterations, run_length=length, train_batches=8, warmup=warmup,
                             checkpoint_every=1, rows=1)
    listener, updates = Listener(), []
    learner = Learner(config, Steps(num_envs), listener, listener, listener)
    learner._train = lambda count: updates.append((learner.steps, count))
    learner.learn()
    due = [*range(20, length, 20), length]                                      # when an iteration is over
    taken = [math.ceil(step / num_envs) * num_envs for step in due]             # the first multiple reaching that
    assert listener.told == taken
    shares = np.diff([0, *due])
    assert updates == [(steps, math.ceil(8 * share / 20)) for steps, share in zip(taken, shares, strict=True)
                       if steps >= warmup]
    ends = [*range(20 * iterations, length, 20 * iterations), length]
    assert listener.cycles == [(n, steps, steps) for n, steps in
                               enumerate(math.ceil(step / num_envs) * num_envs for step in ends)]
    assert learner.steps == learner.collector.calls * num_envs == taken[-1] < length + num_envs


def test_a_run_counts_the_steps_of_all_environments():
    finished = run(*SMALL, "--alg=dqn", "--env=tiny_envs:Film-v0", "--num_envs=3", "--iterations=1",
                   "--eps_decay=1000", "--eps_r=0.5", "--train_batches=1")
    steps = [int(row["Timesteps"]) for row in finished.rows]
    assert steps == [21, 42, 60, 81, 102, 120]
    assert [float(row["Epsilon"]) for row in finished.rows] == pytest.approx([1 - 0.5 * n / 1000 for n in steps])
    assert [int(row["Episodes"]) for row in finished.rows] == [0, 3, 6, 6, 9, 12]
    assert [bool(row["Q_loss"]) for row in finished.rows] == [False, False, True, True, True, True]  # warmup: 40 stored
    assert finished.config["num_envs"] == 3
    assert finished.tensors()["updates"] == 4


# Seeds ----------------------------------------------------------------------------------------------------------

def test_the_same_seed_gives_the_same_run_to_the_bit_whatever_the_workers_timing(monkeypatch, capfd):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    argv = [*SMALL_RRD, "--env=tiny_envs:Dawdles-v0", "--num_envs=3"]
    first, second, other = (run(*argv, f"--seed={seed}") for seed in (3, 3, 4))
    assert first.untimed() == second.untimed() != other.untimed()
    ours, theirs = first.tensors(), second.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert Path("closed").read_text() == "....." * 3            # three by workers, an example and that of evaluation
    out, err = capfd.readouterr()
    assert "note: 3 environments take turns on 2 cores\n" in out
    assert err == ""


def test_every_environment_has_its_own_seed_and_the_first_that_of_a_single_one():
    seeds = [env_seeds(resolve({"seed": seed, "num_envs": 5})) for seed in (0, 1)]
    assert len({*seeds[0], *seeds[1]}) == 10
    assert seeds[0][:1] == env_seeds(resolve({})) == [stream_seed(0, "env")]


# The other backend ----------------------------------------------------------------------------------------------

def test_the_tensorflow_reference_steps_several_too(monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.setenv("USE_PYTORCH", "0")
    finished = run(*SMALL_RRD, "--env=tiny_envs:Match-v0", "--num_envs=3")
    assert [row["Timesteps"] for row in finished.rows] == ["42", "81", "120"]
    assert finished.facts["backend"] == "tensorflow"


# Failures ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("how", "line"), [
    ("raise", "Private: the arm fell off; run with --num_envs=1 to see the whole traceback"),
    ("exit", "its process ended with exit code 3; restarts before that: 0 (--worker_restarts=0)"),
    ("kill", "its process was ended by signal 9 (Killed; out of memory?); restarts before that: 0 "
             "(--worker_restarts=0)"),
    ("hang", "its process has not answered for 4 s; restarts before that: 0 (--worker_restarts=0)"),
])
@pytest.mark.sampled(2)
def test_an_environment_that_fails_gives_a_one_line_error_that_names_it(how, line, capfd):
    argv = [*SMALL_RRD, f"--env=tiny_envs:Fails-{how}-v0", "--num_envs=3", "--worker_restarts=0",
            "--worker_timeout=4"]
    assert refusal(argv, capfd, code=1) == f"env: 'tiny_envs:Fails-{how}-v0', environment 2 of 3: {line}"


def test_an_environment_that_only_the_main_process_knows_is_refused(capfd):
    assert refusal([*SMALL_RRD, "--env=Match-v0", "--num_envs=2"], capfd) == (
        "env: got 'Match-v0', expected a registered Gymnasium id; --import=MODULE imports the module that registers "
        "one of your own (in a worker process, which finds environments by "
        "--env=module:id, or in a module of --import)")


# Bad input ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "", "nan", "1e300"])
def test_a_wrong_number_of_environments_is_refused_before_anything_is_built(value, capfd, monkeypatch):
    monkeypatch.setattr("envs.make_env", lambda config: pytest.fail("an environment was built"))
    assert re.match(r"num_envs: got '?\S*, expected an integer",
                    refusal([*SMALL_RRD, f"--num_envs={value}", "--env=Pendulum-v1"], capfd))


@pytest.mark.parametrize("env", ["NoSuch-v1", "Pusher-v4", "CartPole-v1", "nosuchmodule:Foo-v0"])
def test_a_wrong_environment_is_refused_before_any_process_starts(env, capfd, monkeypatch):
    monkeypatch.setattr("envs.workers.pool.Workers.__init__", lambda *_: pytest.fail("a process was started"))
    assert refusal([*SMALL_RRD, "--num_envs=2", f"--env={env}"], capfd).startswith("env: ")


def test_more_environments_than_memory_are_refused_with_the_number_that_fits(capfd, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(utils.memory, "available_bytes", lambda device: 5 * WORKER_BYTES)
        check_workers(5, 0)
        check_workers(3, 2 * WORKER_BYTES)
        check_workers(1, 9 * WORKER_BYTES)                  # no process; replay checks for itself
        for count, replay, fits in ((6, 0, 5), (4, 2 * WORKER_BYTES, 3), (2, 9 * WORKER_BYTES, 1)):
            with pytest.raises(ConfigError, match=rf"^num_envs: {count} .* --num_envs={fits} would fit$"):
                check_workers(count, replay)
    argv = [*SMALL_RRD, "--num_envs=1e6", "--env=Pendulum-v1"]
    assert refusal(argv, capfd).startswith("num_envs: 1000000 environments, a process each, need about 40 TB")
    assert not Path("outputs").exists()


def test_a_system_that_refuses_processes_gives_a_one_line_error_and_the_started_ones_end(capfd, monkeypatch):
    start, started = multiprocessing.get_context("spawn").Process.start, []

    def limited(process):
        if len(started) == 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(process)
        start(process)
    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", limited)
    assert refusal([*SMALL_RRD, "--num_envs=4", "--env=Pendulum-v1"], capfd) == (
        "num_envs: got 4, but the system refuses so many processes: Resource temporarily unavailable")
    assert len(started) == 2
    assert all(process.exitcode is not None for process in started)
