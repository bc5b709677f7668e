"""The benchmarks of MarineNav: their tables, the count of an update's products, and their suite."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from torch.utils.flop_counter import FlopCounterMode

from algorithm import create_agent
from benchmarks.marinenav import speed, updates
from envs.marinenav import world
from envs.marinenav.env import MarineNav
from sweeps.suite import read_suite

SUITE = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "marinenav" / "late_reward.json"


@pytest.mark.parametrize("alg", ["ac_iqn", "iqn"])
def test_updates_are_those_of_agents_in_the_worlds(alg):
    env = MarineNav(1, discrete=alg == "iqn")
    agent = create_agent(updates.settings(alg))
    space = env.action_space
    assert (agent.obs_dims, agent.act_dim) == ((env.observation_space.shape[-1],), 25 if alg == "iqn" else 2)
    assert agent.act_dim == (space.n if alg == "iqn" else space.shape[-1])


@pytest.mark.parametrize("alg", ["ac_iqn", "iqn"])
def test_the_products_of_an_update_are_those_that_autograd_makes(alg):
    agent = create_agent(updates.settings(alg))
    batch = updates.filled(agent.config).sample()
    with FlopCounterMode(display=False) as counter:
        agent.train(batch)
    assert updates.update_flops(agent) == counter.get_total_flops()


def test_the_rates_of_updates_are_printed_by_engine(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["updates.py", "--quick"])
    assert updates.main() == 0
    machine, *rows = capsys.readouterr().out.splitlines()
    assert "PyTorch" in machine
    assert [row.split()[:2] for row in rows] == [[alg, engine] for alg in ("ac_iqn", "iqn")
                                                 for engine in ("manual", "eager")]


def test_the_rates_of_worlds_are_printed(capsys):
    assert speed.main(["--worlds", "2", "--robots", "2", "--seconds", "0.1"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["2", "eager"]


@pytest.mark.parametrize(("flag", "expected"), [
    ("--worlds=0", "got '0', expected an integer of at least 1"), ("--threads=0", "got '0', expected an integer of"),
    ("--robots=2000", "num_robots: got 2000, expected 1 to 1000"), ("--device=gpu", "device: got 'gpu'")])
def test_a_wrong_flag_is_a_line(flag, expected, capsys):
    with pytest.raises(SystemExit) as found:
        speed.main([flag, "--seconds=0.1"])
    assert found.value.code == 2
    assert expected in capsys.readouterr().err.splitlines()[-1]


def test_a_compiled_step_that_differs_is_found():
    def wrong(state, *args):
        found, view, outcome = world.step(state, *args)
        return found, view, dataclasses.replace(outcome, reward=outcome.reward + 1e-3 * (state.steps == 20)[:, None])
    env = MarineNav(3, num_robots=2, seed=0)
    assert speed.same_results(env, world.step, 30)
    assert not speed.same_results(env, wrong, 30)


def test_the_late_rewards_suite_is_a_suite():
    trials = read_suite(SUITE, "0-1", [])
    assert len(trials) == 6
