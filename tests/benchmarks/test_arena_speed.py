"""The benchmark of Arena: its table, its play of a run, and its suite."""

from __future__ import annotations

import json
from pathlib import Path

import train
from benchmarks.arena import main, same_results
from envs.arena.step import advance
from sweeps.suite import read_suite

SUITE = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "arena" / "late_reward.json"
SMALL = ["--algo=ppo_torch", "--style=2", "--steps=64", "--rollout_steps=16", "--num_envs=4", "--batch=32",
         "--n_epochs=1", "--device=cpu", "--test_rollouts=0"]


def test_the_table_names_games_and_rates(capsys):
    assert main(["--games", "2", "3", "--rounds", "1", "--steps", "2"]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["games", "step", "steps/s"]
    assert [row.split()[:2] for row in rows] == [["2", "eager"], ["3", "eager"]]


def test_a_step_that_differs_is_found():
    def wrong(games, *args):
        outcome = advance(games, *args)
        return outcome._replace(rews=outcome.rews + 1e-3 * (games.counts[0] == 20))
    assert same_results(8, 2, advance, "cpu", 30)
    assert not same_results(8, 2, wrong, "cpu", 30)


def test_a_run_is_played_to_the_end_of_each_first_episode(capsys):
    assert train.main(SMALL) == 0
    capsys.readouterr()
    run = next(Path("outputs").iterdir())
    assert main(["--play", str(run), "--games", "2", "--stage", "6", "--limit", "40"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"return", "length", "spawners_destroyed", "enemies_destroyed", "phase", "win"}
    assert (found["length"], found["win"]) == (40, 0)


def test_the_suite_is_read():
    trials = read_suite(SUITE, "0-1", [])
    assert len(trials) == 6
