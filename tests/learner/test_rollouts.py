"""On-policy runs: resumed to the bit, several seeds and environments, dense metrics, the best checkpoint, engines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from resumes import twice
from runs import Finished, refusal, run
from saved import board
from tasks import Team, Walk

import return_decomposition as rd
import train
from algorithm import create_agent
from algorithm.engine import create_engine
from algorithm.engine.iteration import iterate
from algorithm.replay_buffer import create_buffer
from envs.training_env import TrainingEnv
from learner.rollouts import Rollouts
from utils.finite import NotFiniteError
from utils.settings.resolve import resolve
from utils.settings.sizes import of_spaces

POINTS = ["--device=cpu", "--env=PointMassRL-v0", "--num_envs=4", "--rollout_steps=8", "--iterations=2",
          "--batch_size=16", "--n_epochs=2", "--test_rollouts=1", "--test_timesteps=13", "--hidden_sizes=8"]
RRD = ["--alg=rrd", "--rrd_batch_size=8", "--rrd_sample_size=4", "--buffer_size=300"]


def tensors(directory: Path, name: str = "last") -> dict:
    return Finished(directory).tensors(name)


# Resuming ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flags", [
    ["--alg=ppo"], ["--alg=a2c"],
    ["--alg=ppo", "--normalize_rewards", "--obs_normalization"],
    ["--alg=ppo", "--normalize_advantages=rollout", "--vf_clip_coef=0.1"],
    ["--alg=ppo", "--target_kl=1e-4", "--learning_rate=0.01"],
    ["--alg=ppo", "--policy=recurrent", "--lstm_size=5"],
    [*RRD, "--basis_alg=ppo"], [*RRD, "--basis_alg=a2c", "--rrd_bias_correction"],
    ["--alg=ircr", "--basis_alg=ppo", "--buffer_size=300"], ["--alg=uniform", "--basis_alg=ppo", "--buffer_size=300"],
], ids=" ".join)
@pytest.mark.parametrize(("short", "long"), [(64, 160), (96, 150)])
@pytest.mark.sampled(5)
def test_two_parts_are_the_whole(flags, short, long):
    """At the end of a cycle and within one; episodes are open, and the last rollout is short."""
    twice([*POINTS, *flags], short, long)


@pytest.mark.parametrize("flags", [["--env=CartPole-v1"], ["--env=CartPole-v1", "--num_envs=2"],
                                   ["--env=Hopper-v4", "--num_envs=2", "--env_type=normal"]], ids=" ".join)
def test_gymnasiums_environments_resume(flags):
    twice(["--device=cpu", "--alg=ppo", "--rollout_steps=20", "--iterations=2", "--batch_size=20", "--n_epochs=2",
           "--test_rollouts=1", "--test_timesteps=17", *flags], 80, 160)


# Runs -------------------------------------------------------------------------------------------------------------

def test_several_seeds_are_single_runs():
    assert train.main([*POINTS, "--alg=ppo", "--total_timesteps=96", "--seeds=0,1"]) == 0
    together = {json.loads((path / "config.json").read_text())["seed"]: path for path in Path("outputs").iterdir()}
    alone = run(*POINTS, "--alg=ppo", "--total_timesteps=96", "--seed=1")
    ours, theirs = alone.tensors(), tensors(together[1])
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not all(torch.equal(ours[name], tensors(together[0])[name]) for name in ours)


def test_dense_metrics_are_points_at_each_step_and_means_in_the_table():
    finished = run(*POINTS, "--alg=ppo", "--total_timesteps=128")
    points = [(name, step) for name, step, _ in series(finished.directory, "metrics/final_distance")]
    assert [step for _, step in points] == [4 * (t + 1) for t in range(32)]
    values = [value for *_, value in series(finished.directory, "metrics/final_distance")]
    for row, some in zip(finished.rows, (values[:16], values[16:]), strict=True):
        assert float(row["metrics/final_distance"]) == pytest.approx(np.mean(some), rel=1e-5)
    assert {"rewards/distance", "metrics/success", "train/return", "train/length"} <= set(finished.rows[0])


def series(directory: Path, name: str) -> list[tuple[str, int, float]]:
    """The points of one name."""
    return [(tag, step, value) for tag, step, value in board(directory) if tag == name]


def test_training_returns_are_those_of_whole_episodes():
    finished = run("--device=cpu", "--alg=ppo", "--env=CartPole-v1", "--rollout_steps=50", "--iterations=4",
                   "--total_timesteps=400", "--test_rollouts=0", "--num_envs=2", "--batch_size=50", "--n_epochs=1")
    for row in finished.rows:
        assert float(row["train/return"]) == pytest.approx(float(row["train/length"]))      # a reward of 1 a step


@pytest.mark.parametrize(("best", "choose"), [("metrics/final_distance", max), ("-metrics/final_distance", min)])
def test_the_best_checkpoint_is_chosen_by_any_column(best, choose):
    finished = run(*POINTS, "--alg=ppo", "--total_timesteps=256", f"--best={best}", "--learning_rate=0.05")
    column = [float(row["metrics/final_distance"]) for row in finished.rows]
    is_last = choose(column) == column[-1]
    same = all(torch.equal(value, finished.tensors("last")[name]) for name, value in finished.tensors("best").items())
    assert same == is_last
    assert (finished.directory / "checkpoints" / "best.safetensors").is_file()


def test_a_column_that_does_not_exist_is_one_line(capsys):
    line = refusal([*POINTS, "--alg=ppo", "--best=metrics/sucess"], capsys)
    assert line.startswith("best: got 'metrics/sucess'; did you mean metrics/success")


@pytest.mark.parametrize("alg", [["--alg=ppo"], [*RRD, "--basis_alg=ppo"]], ids=" ".join)
def test_what_was_trained_is_loaded_and_acts(alg):
    finished = run(*POINTS, *alg, "--total_timesteps=96")
    agent = rd.load(finished.directory)
    acts = agent.step(np.zeros((3, 14), np.float32))
    assert acts.shape == (3, 2)
    discrete = run("--device=cpu", *alg, "--env=CartPole-v1", "--rollout_steps=50", "--total_timesteps=100",
                   "--test_rollouts=1", "--batch_size=50", "--test_timesteps=50")
    assert rd.load(discrete.directory).step(np.zeros(4, np.float32)) in (0, 1)


def test_the_last_rollout_is_short():
    finished = run(*POINTS, "--alg=ppo", "--total_timesteps=75")
    assert finished.rows[-1]["Timesteps"] == "76"       # whole steps of four environments
    state = finished.tensors()
    assert int(state["updates"]) == 2 * (2 + 2 + 1)      # two epochs of 32, 32 and 12 rows, in batches of 16


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.slow
def test_compiled_minibatches_compute_the_same():
    found = []
    for name in ("eager", "compile"):
        finished = run(*POINTS, "--alg=ppo", "--total_timesteps=96", f"--engine={name}", f"--tag={name}")
        found.append(finished.tensors())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("alg", [["--alg=ppo", "--obs_normalization"], ["--alg=a2c"], [*RRD, "--basis_alg=ppo"]],
                         ids=" ".join)
@pytest.mark.usefixtures("no_graphs")
def test_captured_minibatches_compute_the_same(alg):
    found = []
    for name in ("eager", "cudagraph"):
        finished = run(*POINTS, *alg, "--total_timesteps=96", f"--engine={name}", f"--tag={name}")
        assert finished.facts is not None
        found.append(finished.tensors())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=0, atol=1e-6, msg=name)


def test_a_number_that_is_not_finite_stops_the_run(monkeypatch):
    from envs.point_mass import PointMassRL
    true = PointMassRL._step

    def broken(self, acts):
        obs, rews, *rest = true(self, acts)
        rews = rews.clone()
        rews[2] = torch.nan if int(self.steps.max()) == 5 else rews[2]
        return obs, rews, *rest
    monkeypatch.setattr(PointMassRL, "_step", broken)
    with pytest.raises(NotFiniteError, match="reward: got nan in environment 3 of 4 at its step 5"):
        rd.train(env="PointMassRL-v0", alg="ppo", device="cpu", num_envs=4, rollout_steps=8, batch_size=16,
                 env_type="normal", total_timesteps=64, test_rollouts=0)


def test_a_loss_that_is_not_finite_stops_the_run(capsys):
    assert train.main([*POINTS, "--alg=ppo", "--total_timesteps=960", "--learning_rate=1e30"]) == 1
    assert "in update 2" in capsys.readouterr().err


# Learning ---------------------------------------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize(("flags", "least"), [
    (["--env=CartPole-v1", "--num_envs=4", "--rollout_steps=128", "--batch_size=128", "--learning_rate=1e-3",
      "--total_timesteps=60000", "--test_timesteps=500"], 400),
    (["--env=Pendulum-v1", "--num_envs=4", "--rollout_steps=256", "--batch_size=256", "--learning_rate=1e-3",
      "--gamma=0.9", "--total_timesteps=120000", "--test_timesteps=200", "--obs_normalization"], -350),
], ids=lambda value: value[0] if isinstance(value, list) else str(value))
def test_ppo_solves(flags, least):
    finished = run("--device=cpu", "--alg=ppo", "--env_type=normal", "--test_rollouts=5", "--iterations=20", *flags)
    assert max(float(row["Rewards"]) for row in finished.rows) > least


# Rows that take no part -------------------------------------------------------------------------------------------

class Careless(Team):
    """Returns anything of rows that take no part."""

    def _step(self, acts):
        idle = ~self.active
        obs, rews, over, truncated, info = super()._step(acts)
        return obs, rews.masked_fill(idle, torch.nan), over | idle, truncated | idle, info

    def observe(self):
        return {name: value.masked_fill(~self.active[:, None] & (self.count > 0)[:, None], torch.nan)
                for name, value in super().observe().items()}


def of_task(task, **settings):
    """The collector of a task, and its agent and buffer."""
    env = TrainingEnv(task, 50, False)
    config = of_spaces(resolve({"alg": "ppo", "device": "cpu", "num_envs": 4, "rollout_steps": 9, "batch_size": 27,
                                "hidden_sizes": (8,), **settings}), env.observation_space, env.action_space)
    agent = create_agent(config)
    return Rollouts(env, agent), agent, create_buffer(config)


@pytest.mark.parametrize("settings", [{}, {"normalize_rewards": True, "obs_normalization": True},
                                      {"policy": "recurrent", "lstm_size": 4}], ids=str)
def test_nothing_is_learned_of_rows_that_take_no_part(settings):
    """Whatever the task returns there; the last observations of a rollout are among it."""
    found = []
    for task in (Team, Careless):
        rollouts, agent, buffer = of_task(task(4, size=2), **settings)
        engine, _ = create_engine(agent.config, agent, buffer)
        for _ in range(2):
            rollouts.gather(9 * 12, buffer)
            list(iterate(engine, 0))
        found.append(agent.state_dict())
    team, careless = found
    assert all(value.isfinite().all() for value in careless.values() if value.is_floating_point())
    assert all(torch.equal(value, careless[name]) for name, value in team.items())


def test_a_row_that_rests_begins_its_next_episode_without_a_memory():
    """The robots of a world are over after one, two and three steps, and begin anew together."""
    rollouts, _, buffer = of_task(Team(2), policy="recurrent", lstm_size=4)
    rollouts.gather(9 * 6, buffer)
    empty = (buffer["states"] == 0).all(-1)
    active = buffer["active"]
    assert active[:3, :3].tolist() == [[True] * 3, [False, True, True], [False, False, True]]
    assert empty[::3].all()                                             # a world's first step
    assert not (empty & active)[1::3].any()
    assert torch.equal(buffer["starts"] > 0, empty)


def test_a_time_limit_is_worth_what_the_policy_says_with_its_memory_then():
    """Of the episode's last observation, after the step that led to it."""
    rollouts, agent, buffer = of_task(Walk(5, limit=3, far=50.0), policy="recurrent", lstm_size=4)
    rollouts.gather(9 * 5, buffer)
    cut = buffer["truncated"]
    assert cut.sum() == 15
    for t, row in cut.nonzero().tolist():
        *_, after = agent.policy.step(buffer["obs"][t], buffer["states"][t])
        expected = agent.policy.value_after(buffer["obs_next"][t], after)
        torch.testing.assert_close(buffer["final_values"][t, row], expected[row])
    assert not buffer["final_values"][~cut].any()
