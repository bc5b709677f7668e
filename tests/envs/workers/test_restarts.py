"""Workers that are lost: named, replaced, or the end of the run."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
from acting import Actor, play_alone, refusal
from runs import SMALL_RRD, run

import envs.workers.pool
from envs import make_env
from envs.workers.pool import Workers
from learner.collector import VectorCollector, env_seeds
from utils.seeding import stream_seed
from utils.settings.resolve import resolve


class Collected:
    """Run a collector with seed 0: observations and actions, episodes with their last step, printed lines."""

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
@pytest.mark.sampled(2)
def test_a_process_that_is_lost_is_named_and_replaced_and_its_unfinished_episode_dropped(how, end):
    found = Collected(f"Fails-{how}", 3, 40, worker_timeout=4)
    assert found.lines == [end_of(2, 3, f"Fails-{how}", end)]
    assert found.restarts == 1
    clock = [(t // 10, t % 10) for t in range(40)]                      # (episode, time)
    np.testing.assert_array_equal(found.seen[:, 0], clock)              # the others do not notice
    np.testing.assert_array_equal(found.seen[:, 2], clock)
    np.testing.assert_array_equal(found.seen[:, 1], clock[:3] + clock[:37])
    ends = [t for t, _ in found.episodes]
    assert ends == [9, 9, 12, 19, 19, 22, 29, 29, 32, 39, 39]           # that of the second restarted after step 2
    for _, episode in found.episodes:                                   # whole, and without steps of another episode
        number = episode["obs"][0, 0]
        np.testing.assert_array_equal(episode["obs"], [(number, t) for t in range(10)])
        np.testing.assert_array_equal(episode["obs_next"], [(number, t) for t in range(1, 11)])
        assert episode["done"].ravel().tolist() == [0] * 9 + [1]
        assert episode["rews"].ravel().tolist() == [0] * 9 + [55]


def test_a_replaced_environment_has_a_new_seed_and_the_others_keep_theirs():
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


def test_several_processes_lost_at_once_are_all_replaced():
    def strike(t, workers):
        if t == 5:
            for i in (0, 2):
                workers.workers[i].process.kill()
    found = Collected("Clock10", 3, 26, strike)
    assert found.lines == [end_of(1, 3, "Clock10", KILLED), end_of(3, 3, "Clock10", KILLED, restart=2)]
    assert [t for t, _ in found.episodes] == [9, 15, 15, 19, 25, 25]


@pytest.mark.parametrize("when", ["reset1", "reset2"])
def test_a_process_lost_at_a_reset_loses_no_episode(when):
    found = Collected(f"Fails-kill-{when}", 2, 20)
    assert found.lines == [end_of(2, 2, f"Fails-kill-{when}", KILLED)]
    assert [t for t, _ in found.episodes] == [9, 9, 19, 19]
    assert all(len(episode["acts"]) == 10 for _, episode in found.episodes)


def test_a_process_lost_before_it_is_ready_is_replaced(monkeypatch):
    start, killed = Workers._start, []

    def start_and_kill(workers, i):
        start(workers, i)
        if i == 0 and len(killed) < 2:                                  # the first, and its replacement
            killed.append(workers.workers[i].process.pid)
            os.kill(killed[-1], signal.SIGKILL)
    monkeypatch.setattr(Workers, "_start", start_and_kill)
    found = Collected("Clock10", 2, 10)
    assert found.lines == [end_of(1, 2, "Clock10", KILLED, restart) for restart in (1, 2)]
    assert [t for t, _ in found.episodes] == [9, 9]


def test_a_run_continues_and_reports_the_restart(capfd):
    finished = run(*SMALL_RRD, "--env=tiny_envs:Fails-kill-v0", "--num_envs=3")
    out, err = capfd.readouterr()
    assert [line for line in out.splitlines() if "process" in line] == [end_of(2, 3, "Fails-kill", KILLED)]
    assert err == ""
    assert [(row["Timesteps"], row["Episodes"]) for row in finished.rows] == [("42", "3"), ("81", "6"), ("120", "11")]


def test_slow_processes_that_answer_one_after_another_do_not_count_as_hanging():
    config = resolve({"alg": "sac", "env": "tiny_envs:Naps-v0", "num_envs": 2})
    with contextlib.closing(Workers(config, make_env(config), pytest.fail)) as workers:
        workers.reset(seed=[15, 30])                                    # tenths of a second to a step
        workers.config = dataclasses.replace(config, worker_timeout=2)
        *_, info = workers.step(np.zeros((2, 1), np.float32))
    assert not info["restarted"].any()


def test_processes_that_start_together_on_few_cores_have_more_time_to_answer(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    workers = SimpleNamespace(config=resolve({}), workers={i: SimpleNamespace(heard=i < 4) for i in range(12)})
    assert Workers._patience(workers, range(4)) == Workers._patience(workers, range(5)) == 60
    assert Workers._patience(workers, range(12)) == 60 * 8 / 2


@pytest.mark.parametrize("most", [0, 2])
def test_more_losses_than_restarts_give_a_one_line_error(most, capfd):
    argv = [*SMALL_RRD, "--env=tiny_envs:Dies-v0", "--num_envs=3", f"--worker_restarts={most}"]
    assert refusal(argv, capfd, code=1) == (
        f"env: 'tiny_envs:Dies-v0', environment {most + 1} of 3: its process ended with exit code 3; restarts before "
        f"that: {most} (--worker_restarts={most})")


def test_a_refused_replacement_process_gives_a_one_line_error(monkeypatch):
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
