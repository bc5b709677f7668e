"""Several environments at once: the same episodes as one by one, the algorithm's ratio, and processes that end."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from runs import SMALL, SMALL_RRD, run

import envs.workers.pool
import train
import utils.memory
from algorithm.replay_buffer.episode import OpenEpisode
from envs import make_env
from envs.workers.pool import Workers
from learner import Learner
from learner.collector import VectorCollector, env_seeds
from utils.errors import ConfigError
from utils.memory import WORKER_BYTES, check_workers
from utils.seeding import stream_seed
from utils.settings.resolve import resolve

ROOT = Path(__file__).resolve().parent.parent.parent.parent


@pytest.fixture(autouse=True)
def _no_process_is_left():
    yield
    assert multiprocessing.active_children() == []


def refusal(argv: list[str], capfd, code: int = 2) -> str:
    """The one line that train.py and its workers write to standard error, without the program's name."""
    assert train.main(argv) == code
    err = capfd.readouterr().err
    assert err.startswith("train.py: ")
    assert len(err.splitlines()) == 1
    return err.removeprefix("train.py: ").strip()


# Episodes -------------------------------------------------------------------------------------------------------

class Actor:
    """Acts at random, and remembers what it saw and did."""

    def __init__(self, space: gym.Space):
        self.space, self.seen, self.acts = space, [], []
        space.seed(0)

    def step(self, obs, explore):
        assert explore
        self.seen.append(obs.copy())
        self.acts.append(np.stack([self.space.sample() for _ in obs]))
        return self.acts[-1]


def play_alone(config, seed: int, acts) -> tuple[list[np.ndarray], list[tuple[int, dict]]]:
    """One environment by itself: what was seen before each step, and (last step, episode) of each that ended."""
    env, seen, episodes = make_env(config), [], []
    obs, _ = env.reset(seed=seed)
    episode = OpenEpisode(obs)
    for t, action in enumerate(acts):
        seen.append(obs.copy())
        obs, reward, terminated, truncated, _ = env.step(action)
        episode.add(action, reward, terminated, obs)
        if terminated or truncated:
            episodes.append((t, episode.columns()))
            obs, _ = env.reset()
            episode = OpenEpisode(obs)
    return seen, episodes


@pytest.mark.parametrize(("env", "limit"), [
    ("tiny_envs:Match-v0", 100),            # draws at every reset and step
    ("tiny_envs:Clock10-v0", 7),            # ends at the time limit
    ("tiny_envs:InPlace-v0", 100),          # writes into the one array that it returns
    ("tiny_envs:Film-v0", 100),             # pictures
    ("Hopper-v4", 20),                      # ends by itself, at a different step in each environment, or at the limit
    ("Assault", 5),                         # FrameStack, and a random number of no-ops
])
def test_each_environment_gives_the_episodes_that_it_gives_alone(env, limit):
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

class Steps:
    """Stands in for a collector: every step of it ends an episode in each environment."""

    def __init__(self, num_envs: int):
        self.num_envs, self.calls = num_envs, 0

    def step(self):
        self.calls += 1
        return [{}] * self.num_envs


class Listener:
    """Stands in for replay, agent, engine, evaluator and record."""

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

    def evaluate(self, logger):
        pass

    def state(self):
        return {}

    sums = state

    def save(self, learner):
        pass

    def progress(self, steps):
        self.told.append(steps)

    def record(self, agent, cycle, steps, episodes):
        self.cycles.append((cycle, steps, episodes))


@pytest.mark.parametrize(("num_envs", "length", "iterations", "warmup"), [
    (1, 100, 2, 1), (2, 100, 2, 1), (3, 100, 2, 1), (7, 400, 3, 1), (33, 400, 2, 1), (200, 400, 2, 1),
    (3, 95, 2, 1), (7, 333, 2, 60),
])
def test_updates_per_step_are_the_algorithms_however_many_environments(num_envs, length, iterations, warmup):
    config = SimpleNamespace(timesteps=20, iterations=iterations, run_length=length, train_batches=8, warmup=warmup,
                             checkpoint_every=1)
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
    assert Path("closed").read_text() == "..." * 3              # by the workers, at each run's end
    out, err = capfd.readouterr()
    assert "note: 3 environments take turns on 2 cores\n" in out
    assert err == ""


def test_every_environment_has_a_stream_of_its_own_and_the_first_that_of_a_single_one():
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


# What ends badly ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("how", "line"), [
    ("raise", "Private: the arm fell off; run with --num_envs=1 to see the whole traceback"),
    ("exit", "its process ended with exit code 3; restarts before that: 0 (--worker_restarts=0)"),
    ("kill", "its process was ended by signal 9 (Killed; out of memory?); restarts before that: 0 "
             "(--worker_restarts=0)"),
    ("hang", "its process has not answered for 4 s; restarts before that: 0 (--worker_restarts=0)"),
])
def test_an_environment_that_fails_is_one_line_that_names_it(how, line, capfd):
    argv = [*SMALL_RRD, f"--env=tiny_envs:Fails-{how}-v0", "--num_envs=3", "--worker_restarts=0",
            "--worker_timeout=4"]
    assert refusal(argv, capfd, code=1) == f"env: 'tiny_envs:Fails-{how}-v0', environment 2 of 3: {line}"


def test_an_environment_that_only_the_main_process_knows_is_refused(capfd):
    assert refusal([*SMALL_RRD, "--env=Match-v0", "--num_envs=2"], capfd) == (
        "env: got 'Match-v0', expected a registered Gymnasium id (in a worker process, which finds environments by "
        "--env=module:id, or in a module of --import)")


# Processes that are started anew -----------------------------------------------------------------------------------

class Collected:
    """What a collector with seed 0 gathers: what was seen and done, episodes with their last step, lines for people."""

    def __init__(self, env: str, num_envs: int, steps: int, before_step=lambda t, workers: None, **settings):
        config = resolve({"alg": "sac", "env": f"tiny_envs:{env}-v0", "num_envs": num_envs, **settings})
        example, self.config, self.lines, self.episodes = make_env(config), config, [], []
        actor = Actor(example.action_space)
        with contextlib.closing(Workers(config, example, self.lines.append)) as workers:
            collector = VectorCollector(workers, actor, env_seeds(config))
            for t in range(steps):
                before_step(t, workers)
                self.episodes += [(t, episode) for episode in collector.step()]
            self.restarts = workers.restarts
        self.acts, self.seen = actor.acts, np.stack(actor.seen)


def end_of(i: int, num_envs: int, env: str, end: str, restart: int = 1, most: int = 3) -> str:
    return (f"note: env: 'tiny_envs:{env}-v0', environment {i} of {num_envs}: its process {end}; it is replaced, "
            f"and its unfinished episode is dropped (restart {restart} of at most {most})")


KILLED = "was ended by signal 9 (Killed; out of memory?)"


@pytest.mark.parametrize(("how", "end"), [
    ("kill", KILLED), ("exit", "ended with exit code 3"), ("hang", "has not answered for 4 s"),
])
def test_a_process_that_is_lost_is_named_and_replaced_and_its_unfinished_episode_dropped(how, end):
    found = Collected(f"Fails-{how}", 3, 40, worker_timeout=4)
    assert found.lines == [end_of(2, 3, f"Fails-{how}", end)]
    assert found.restarts == 1
    clock = [(t // 10, t % 10) for t in range(40)]                      # (episode, time)
    np.testing.assert_array_equal(found.seen[:, 0], clock)              # the others do not notice
    np.testing.assert_array_equal(found.seen[:, 2], clock)
    np.testing.assert_array_equal(found.seen[:, 1], clock[:3] + clock[:37])
    ends = [t for t, _ in found.episodes]
    assert ends == [9, 9, 12, 19, 19, 22, 29, 29, 32, 39, 39]           # that of the second began anew after step 2
    for _, episode in found.episodes:                                   # whole, and nothing of another among it
        number = episode["obs"][0, 0]
        np.testing.assert_array_equal(episode["obs"], [(number, t) for t in range(10)])
        np.testing.assert_array_equal(episode["obs_next"], [(number, t) for t in range(1, 11)])
        assert episode["done"].ravel().tolist() == [0] * 9 + [1]
        assert episode["rews"].ravel().tolist() == [0] * 9 + [55]


def test_what_takes_the_place_of_a_lost_one_draws_from_a_seed_of_its_own_and_the_others_from_theirs():
    def strike(t, workers):
        if t == 14:
            workers.workers[1].process.kill()
        if t == 27:
            workers.workers[0].process.kill()
    found = Collected("Match", 3, 45, strike, seed=5)
    assert found.lines == [end_of(2, 3, "Match", KILLED), end_of(1, 3, "Match", KILLED, restart=2)]
    # (environment, seed, its first and last step): a step that is lost belongs to no episode
    parts = [(0, "env", 0, 27), (0, "env 0 restart 2", 28, 45), (1, "env 1", 0, 14), (1, "env 1 restart 1", 15, 45),
             (2, "env 2", 0, 45)]
    expected = []
    for i, name, start, end in parts:
        seen, episodes = play_alone(found.config, stream_seed(5, name), [acts[i] for acts in found.acts[start:end]])
        np.testing.assert_array_equal(np.stack(seen), found.seen[start:end, i])
        expected += [(start + t, i, episode) for t, episode in episodes]
    expected.sort(key=lambda one: one[:2])
    assert [t for t, _ in found.episodes] == [t for t, *_ in expected]
    for (_, ours), (*_, alone) in zip(found.episodes, expected, strict=True):
        for name, column in ours.items():
            np.testing.assert_array_equal(column, alone[name])


def test_several_that_are_lost_at_once_are_all_replaced():
    def strike(t, workers):
        if t == 5:
            for i in (0, 2):
                workers.workers[i].process.kill()
    found = Collected("Clock10", 3, 26, strike)
    assert found.lines == [end_of(1, 3, "Clock10", KILLED), end_of(3, 3, "Clock10", KILLED, restart=2)]
    assert [t for t, _ in found.episodes] == [9, 15, 15, 19, 25, 25]


@pytest.mark.parametrize("when", ["reset1", "reset2"])
def test_one_that_is_lost_at_a_reset_loses_no_episode(when):
    found = Collected(f"Fails-kill-{when}", 2, 20)
    assert found.lines == [end_of(2, 2, f"Fails-kill-{when}", KILLED)]
    assert [t for t, _ in found.episodes] == [9, 9, 19, 19]
    assert all(len(episode["acts"]) == 10 for _, episode in found.episodes)


def test_one_that_is_lost_before_it_is_ready_is_replaced(monkeypatch):
    start, killed = Workers._start, []

    def start_and_kill(workers, i):
        start(workers, i)
        if i == 0 and len(killed) < 2:                                  # the first, and what takes its place
            killed.append(workers.workers[i].process.pid)
            os.kill(killed[-1], signal.SIGKILL)
    monkeypatch.setattr(Workers, "_start", start_and_kill)
    found = Collected("Clock10", 2, 10)
    assert found.lines == [end_of(1, 2, "Clock10", KILLED, restart) for restart in (1, 2)]
    assert [t for t, _ in found.episodes] == [9, 9]


def test_a_run_goes_on_and_tells_of_it(capfd):
    finished = run(*SMALL_RRD, "--env=tiny_envs:Fails-kill-v0", "--num_envs=3")
    out, err = capfd.readouterr()
    assert [line for line in out.splitlines() if "process" in line] == [end_of(2, 3, "Fails-kill", KILLED)]
    assert err == ""
    assert [(row["Timesteps"], row["Episodes"]) for row in finished.rows] == [("42", "3"), ("81", "6"), ("120", "11")]


def test_slow_ones_that_answer_after_each_other_do_not_hang():
    config = resolve({"alg": "sac", "env": "tiny_envs:Naps-v0", "num_envs": 2})
    with contextlib.closing(Workers(config, make_env(config), pytest.fail)) as workers:
        workers.reset(seed=[15, 30])                                    # tenths of a second to a step
        workers.config = dataclasses.replace(config, worker_timeout=2)
        *_, info = workers.step(np.zeros((2, 1), np.float32))
    assert not info["restarted"].any()


def test_processes_that_start_at_once_on_few_cores_have_the_longer_to_answer(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    workers = SimpleNamespace(config=resolve({}), workers={i: SimpleNamespace(heard=i < 4) for i in range(12)})
    assert Workers._patience(workers, range(4)) == Workers._patience(workers, range(5)) == 60
    assert Workers._patience(workers, range(12)) == 60 * 8 / 2


@pytest.mark.parametrize("most", [0, 2])
def test_more_losses_than_restarts_are_one_line(most, capfd):
    argv = [*SMALL_RRD, "--env=tiny_envs:Dies-v0", "--num_envs=3", f"--worker_restarts={most}"]
    assert refusal(argv, capfd, code=1) == (
        f"env: 'tiny_envs:Dies-v0', environment {most + 1} of 3: its process ended with exit code 3; restarts before "
        f"that: {most} (--worker_restarts={most})")


def test_a_system_that_starts_no_more_is_one_line_when_one_is_replaced_too(monkeypatch):
    def refuse(*_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    def strike(t, workers):
        workers.workers[1].process.kill()
        monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", refuse)
    with pytest.raises(ChildProcessError, match=r"environment 2 of 2: .* no new one can be started: Resource temp"):
        Collected("Clock10", 2, 10, strike)


def test_an_environment_that_does_not_close_is_killed(monkeypatch):
    monkeypatch.setattr(envs.workers.pool, "GRACE", 0.5)
    start = time.monotonic()
    assert [t for t, _ in Collected("Stays", 2, 10).episodes] == [9, 9]
    assert time.monotonic() - start < 10                                # and no process is left


class Session:
    """train.py in a session of its own, with two environments and far to go."""

    def __init__(self, env: str = "Pendulum-v1", *flags: str):
        argv = [sys.executable, str(ROOT / "train.py"), *SMALL, "--alg=sac", f"--env={env}", "--num_envs=2",
                "--test_rollouts=0", "--total_timesteps=1e6", "--train_batches=1", *flags]
        self.process = subprocess.Popen(argv, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, env=os.environ | {"OMP_NUM_THREADS": "1",
                                                                     "PYTHONPATH": str(ROOT / "tests")})
        self.pid = self.process.pid

    def read_to(self, begins: str) -> None:
        assert any(line.startswith(begins) for line in self.process.stdout), self.process.communicate()[1]

    def others(self) -> set[int]:
        """The processes beside the first one that are alive."""
        found = set()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            except OSError:                                     # gone meanwhile
                continue
            if int(session) == self.pid and state != "Z":
                found.add(int(stat.parent.name))
        return found - {self.pid}

    def disturb_each_as_it_starts(self, count: int) -> None:
        told = set()
        while len(told) < count:
            new = self.others() - told
            self.disturb(new)
            told |= new

    def disturb(self, pids: set[int]) -> None:
        """Send them what a terminal or a scheduler sends to a whole group of processes."""
        for pid in pids:
            for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                os.kill(pid, one)

    def kill(self) -> None:
        for pid in self.others():
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def session(request):
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    session = Session(*getattr(request, "param", ()))
    yield session
    session.kill()


def errors_of(session: Session, code: int, patience: float = 2) -> str:
    """What it wrote to standard error; it ends within 20 s with that code, and soon after no other process is left."""
    session.process.wait(20)
    end = time.monotonic() + patience
    while session.others() and time.monotonic() < end:
        time.sleep(0.02)
    assert not session.others()
    err = session.process.communicate()[1]
    assert session.process.returncode == code
    return err


def test_ctrl_c_while_workers_start_is_one_line_and_leaves_no_process(session):
    session.read_to("env ")
    while len(session.others()) < 2:
        time.sleep(0.01)
    os.killpg(session.pid, signal.SIGINT)                       # as a terminal does
    assert errors_of(session, 130) == "train.py: interrupted\n"


@pytest.mark.parametrize("session", [("Pendulum-v1", "--worker_restarts=0")], indirect=True)
def test_workers_leave_signals_to_the_main_process_and_end_with_it(session):
    session.read_to("env ")
    session.disturb_each_as_it_starts(3)                        # one is Python's own, for shared memory
    session.read_to("Epoch")
    before = session.others()
    session.disturb(before)
    for _ in range(5):
        session.read_to("Epoch")
    assert session.others() == before
    os.killpg(session.pid, signal.SIGINT)
    assert errors_of(session, 130) == "train.py: interrupted\n"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_whose_main_process_was_ended_end_quietly(session, how):
    session.read_to("Epoch")
    assert len(session.others()) == 3
    if how == signal.SIGTERM:
        os.killpg(session.pid, how)                             # a scheduler means all of them; the run saves itself
        assert errors_of(session, 75) == "train.py: stopped by SIGTERM\n"
    else:
        os.kill(session.pid, how)
        assert errors_of(session, -how) == ""


@pytest.mark.parametrize("session", [("tiny_envs:Fails-hang-v0",)], indirect=True)
def test_a_worker_that_hangs_ends_with_the_main_process_too(session):
    session.read_to("env ")
    while len(session.others()) < 3:
        time.sleep(0.01)
    time.sleep(3)                                               # until its third step
    os.kill(session.pid, signal.SIGKILL)
    assert errors_of(session, -signal.SIGKILL, patience=envs.workers.worker.GRACE + 2) == ""


@pytest.mark.parametrize("session", [("tiny_envs:Fails-hang-v0", "--worker_timeout=4")], indirect=True)
def test_a_worker_that_is_replaced_leaves_no_process(session):
    session.read_to("note: env: 'tiny_envs:Fails-hang-v0', environment 2 of 2: its process has not answered for 4 s")
    session.read_to("Epoch")
    assert len(session.others()) == 3
    os.kill(session.pid, signal.SIGKILL)
    assert errors_of(session, -signal.SIGKILL) == ""


def test_a_program_that_ends_while_a_thread_steps_leaves_no_process():
    code = """if True:
        import threading, time
        from envs import make_env
        from envs.workers.pool import Workers
        from utils.settings.resolve import resolve
        if __name__ == "__main__":
            config = resolve({"alg": "sac", "env": "tiny_envs:Fails-hang-v0", "num_envs": 2})
            env = make_env(config)
            def play():
                workers = Workers(config, env)
                workers.reset(seed=[0, stream])
                print(*(worker.process.pid for worker in workers.workers.values()), flush=True)
                while True:
                    workers.step([env.action_space.sample()] * 2)
            from utils.seeding import stream_seed
            stream = stream_seed(0, "env 1")
            threading.Thread(target=play, daemon=True).start()
            time.sleep(4)
    """
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True,
                           env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"})
    pids = [int(pid) for pid in found.stdout.split()]
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


# Bad input ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "", "nan", "1e300"])
def test_a_number_of_environments_that_is_none_is_refused_before_anything_is_built(value, capfd, monkeypatch):
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


def test_a_system_that_starts_no_more_processes_is_one_line_and_those_started_end(capfd, monkeypatch):
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
