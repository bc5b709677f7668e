"""Training returns: the mean true return and length of the episodes that ended in a cycle."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from resumes import FLAGS, twice
from runs import SMALL, SMALL_ROLLOUTS, SMALL_RRD, run

import plot
import report
import return_decomposition as rd
import train
from envs import make_env
from record.logger import read_rows
from utils.settings.fields import Config

pytestmark = pytest.mark.usefixtures("forget")
SAC = ["--alg=sac", *SMALL]


@pytest.mark.parametrize("flags", [[], ["--num_envs=3"]], ids=["one", "workers"])
@pytest.mark.parametrize("paid", [["--env_type=ep_rews"], ["--env_type=normal"], ["--reward_every=3"]], ids=str)
def test_they_are_the_true_returns_whatever_is_paid(flags, paid):
    finished = run(*SAC, "--env=tiny_envs:Clock7-v0", *paid, *flags, "--test_rollouts=0")
    assert {(row["train/return"], row["train/length"]) for row in finished.rows} == {("28", "7")}


def test_a_clipped_reward_is_not_the_true_one():
    from tiny_envs import Clock

    from envs.wrappers import ClipReward, TrueReward
    from learner.collector import Collector

    class Still:
        def step(self, obs, explore):
            return np.zeros(1, np.float32)
    collector = Collector(ClipReward(TrueReward(Clock(4)), 1.0), Still(), 0)
    found = [(list(collector.step()), list(collector.returns)) for _ in range(8)]
    assert [returns for _, returns in found] == [[], [], [], [(10.0, 4)]] * 2
    assert found[3][0][0]["rews"].tolist() == [[1.0]] * 4


def test_a_cycle_is_the_mean_of_its_episodes_and_empty_without_any():
    finished = run(*SAC, "--env=Match-v0", "--test_timesteps=25", "--timesteps=20", "--iterations=1", '--env_kwargs='
                   '{"length": 99}')
    ended = [int(row["Timesteps"]) // 25 - (int(row["Timesteps"]) - 20) // 25 for row in finished.rows]
    assert [bool(row["train/return"]) for row in finished.rows] == [count > 0 for count in ended]
    assert {row["train/length"] for row in finished.rows} == {"", "25"}


@pytest.mark.parametrize("flags", [[], ["--num_envs=2"]], ids=["one", "workers"])
def test_a_resumed_run_records_those_of_an_uninterrupted_one(flags):
    twice([*FLAGS, "--alg=sac", "--import=tiny_envs", "--env=Match-v0", *flags], 50, 130,
          "--import=tiny_envs")


def test_callbacks_and_tensorboard_get_them():
    rows = []
    rd.train("Clock7-v0", alg="sac", callback=rows.append,
             **dict(flag.removeprefix("--").split("=") for flag in SMALL))
    assert {row["train/return"] for row in rows} == {28.0}
    from saved import board
    (directory,) = Path("outputs").iterdir()
    assert "train/return" in str(board(directory))


def test_a_record_of_an_earlier_version_gets_their_columns(monkeypatch):
    from learner import training
    names = training.metric_names
    with monkeypatch.context() as patch:
        from learner.learner import Learner
        patch.setattr(training, "metric_names", lambda *given: [n for n in names(*given) if not n.startswith("train/")])
        gather = Learner._gather

        def without(self, count):
            add = self.run.logger.add
            self.run.logger.add = lambda info: None if "train/return" in info else add(info)
            gather(self, count)
            self.run.logger.add = add
        patch.setattr(Learner, "_gather", without)
        old = run(*SAC, "--env=Clock7-v0")
    assert "train/return" not in old.rows[0]
    assert train.main([f"--resume={old.directory}", "--total_timesteps=200"]) == 0
    rows = read_rows(old.directory)
    assert ["train/return" in row for row in rows] == [False, False, False, True, True]
    with open(old.directory / "metrics.csv", newline="") as file:
        assert {len(line) for line in csv.reader(file)} == {len(old.rows[0]) + 2}
    assert [row["Rewards"] for row in rows[:3]] == [float(row["Rewards"]) for row in old.rows]


TIMER = '''
import numpy as np
import torch
from gymnasium.spaces import Box

from envs.registration import register_env
from envs.tensor import TensorEnv

@register_env("Timer-v0")
class Timer(TensorEnv):
    """Pays 1, 2, 3, ... and ends after seven steps; `acts` keeps the actions it was given."""

    STATE = ("count",)
    acts = []

    def setup(self):
        self.observation_space = Box(0, 1, (1,), np.float32)
        self.action_space = Box(np.float32([1, -3]), np.float32([5, 9]))
        self.count = self.zeros()

    def _reset(self, rows):
        self.count = self.count.masked_fill(rows, 0)
        return self.observe()

    def observe(self):
        return self.count[:, None] / 10

    def _step(self, acts):
        Timer.acts.append(acts.clone())
        self.count = self.count + 1
        return self.observe(), self.count, self.count >= 7, torch.zeros_like(self.count, dtype=torch.bool), {}
'''


@pytest.mark.parametrize("alg", ["sac", "ppo"])
@pytest.mark.parametrize("paid", [["--env_type=ep_rews"], ["--env_type=normal"], ["--reward_every=3"]], ids=str)
def test_those_of_a_tensor_environment_whose_actions_are_in_its_own_bounds(alg, paid, monkeypatch):
    Path("timer.py").write_text(TIMER)
    monkeypatch.syspath_prepend(".")
    small = SMALL if alg == "sac" else SMALL_ROLLOUTS
    finished = run(f"--alg={alg}", *small, "--env=timer:Timer-v0", *paid, "--num_envs=3", "--test_rollouts=0")
    assert {row["train/return"] for row in finished.rows} == {"28"}
    assert {row["train/length"] for row in finished.rows} == {"7"}
    from timer import Timer
    acts = torch.cat(Timer.acts)
    assert (acts.min(0).values >= torch.tensor([1.0, -3.0])).all()
    assert (acts.max(0).values <= torch.tensor([5.0, 9.0])).all()
    assert acts[:, 0].min() < 2
    assert acts[:, 1].max() > 6


# Figures --------------------------------------------------------------------------------------------------------------

def test_plot_draws_them_of_a_run_without_evaluations(capsys):
    run(*SAC, "--env=Clock7-v0", "--test_rollouts=0")
    assert plot.main(["outputs"]) == 2
    assert "no evaluations; --metric=train/return draws its training returns" in capsys.readouterr().err
    assert plot.main(["outputs", "--metric=train/return"]) == 0
    with open("plots/evaluations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["return"] for row in rows} == {"28.0"}
    assert [float(row["steps"]) for row in rows] == [40, 80, 120]
    assert list(Path("plots").glob("curves-*.png"))


def test_any_column_can_be_drawn_and_an_unknown_one_names_those_there_are(capsys):
    run(*SMALL_RRD, "--env=Clock7-v0")
    assert plot.main(["outputs", "--metric=R_loss", "--out=loss"]) == 0
    assert list(Path("loss").glob("curves-*.png"))
    capsys.readouterr()
    assert plot.main(["outputs", "--metric=train/retrun"]) == 2
    assert "'train/retrun': no such column in metrics.csv; did you mean train/return?" in capsys.readouterr().err


def test_report_takes_a_metric_too():
    run(*SAC, "--env=Clock7-v0", "--test_rollouts=0")
    assert report.main(["outputs", "--metric=train/return"]) == 0
    assert "train/return" in Path("report.html").read_text()


# Late rewards ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("every", "paid"), [(1, [1, 2, 3, 4, 5, 6, 7]), (2, [0, 3, 0, 7, 0, 11, 7]),
                                             (3, [0, 0, 6, 0, 0, 15, 7]), (7, [0] * 6 + [28]), (99, [0] * 6 + [28])])
@pytest.mark.parametrize("env_type", ["ep_rews", "normal"])
def test_the_sum_of_some_steps_is_paid_at_the_last_of_them(every, paid, env_type):
    env = make_env(Config(env="Clock7-v0", alg="sac", env_type=env_type, reward_every=every))
    for _ in range(2):
        env.reset(seed=0)
        steps = [env.step(np.zeros(1, np.float32)) for _ in range(7)]
        assert [reward for _, reward, *_ in steps] == paid
        assert [info["true_reward"] for *_, info in steps] == [1, 2, 3, 4, 5, 6, 7]


def test_what_is_left_is_paid_at_a_time_limit():
    env = make_env(Config(env="Clock10-v0", alg="sac", reward_every=3, test_timesteps=4))
    env.reset(seed=0)
    assert [env.step(np.zeros(1, np.float32))[1] for _ in range(4)] == [0, 0, 6, 4]


def test_a_reward_that_is_not_finite_is_paid_at_once():
    from tiny_envs import Clock

    from envs.wrappers import LateReward

    class Breaks(Clock):
        def step(self, action):
            obs, reward, *rest = super().step(action)
            return obs, np.nan if self.t == 2 else reward, *rest
    env = LateReward(Breaks(), 5)
    env.reset()
    assert env.step(0)[1] == 0
    assert np.isnan(env.step(0)[1])


@pytest.mark.parametrize(("every", "twin"), [("1", "--env_type=normal"), ("10", "--env_type=ep_rews")])
def test_its_ends_are_the_two_types(every, twin):
    ours = run(*SAC, "--env=Match-v0", f"--reward_every={every}", "--tag=a")
    theirs = run(*SAC, "--env=Match-v0", twin, "--tag=b")
    assert ours.untimed() == theirs.untimed()
    assert ours.config["reward_every"] == int(every)


def test_a_flag_wins_over_the_other_one_of_a_file(capsys):
    directory = run(*SAC, "--env=Clock7-v0", "--reward_every=3").directory
    again = run(f"--config={directory}/config.json", "--env_type=normal", "--tag=again")
    assert (again.config["reward_every"], again.config["env_type"]) == (0, "normal")
    assert run(f"--config={directory}/config.json", "--tag=same").config["reward_every"] == 3
    assert train.main([*SAC, "--env_type=normal", "--reward_every=3"]) == 2
    assert "env_type: not read with --reward_every; give one of the two" in capsys.readouterr().err


def test_figures_tell_it_from_the_other_types():
    from results.reading import algorithm_name
    assert algorithm_name({"alg": "sac", "env_type": "normal", "reward_every": 5}) == "SAC (reward every 5 steps)"
    assert algorithm_name({"alg": "sac", "env_type": "ep_rews", "reward_every": 0}) == "SAC"
