"""--on_nan=drop: an episode whose simulation left the numbers is dropped and counted, and the run continues."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from resumes import FLAGS, twice
from runs import SMALL, SMALL_ROLLOUTS, SMALL_RRD, refusal, run

import learner.episodes
import train
from utils.errors import NotFiniteError

pytestmark = pytest.mark.usefixtures("forget")
MODULE = """
import gymnasium as gym
import numpy as np
from tiny_envs import Clock

class Breaks(Clock):
    '''Every third episode, from the second, gives what is not finite at its fourth step, or its start.'''

    def __init__(self, what="obs", value=float("nan"), always=False, evaluates=False):
        super().__init__(length=7)
        self.what, self.value, self.always = what, value, always

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        if self._due("start"):
            obs[0] = self.value
        return obs, info

    def step(self, action):
        obs, reward, *rest = super().step(action)
        if self.t == 4 and self._due("obs"):
            obs[1] = self.value
        return obs, self.value if self.t == 4 and self._due("reward") else reward, *rest

    def _due(self, what):
        return self.what == what and (self.always or self.episode % 3 == 1)

class Chance(Breaks):
    '''Breaks by chance: what it draws is restored, a count of episodes would not be.'''

    def reset(self, *, seed=None, options=None):
        self.breaks = False
        obs, info = super().reset(seed=seed)
        self.breaks = self.np_random.random() < 0.4
        return obs * 0 + (self.value if self._due("start") else 1), info

    def step(self, action):
        obs, *rest = super().step(action)
        return obs * np.float32([0, 1]), *rest                          # without the count of episodes

    def _due(self, what):
        return self.what == what and getattr(self, "breaks", False)

for what in ("obs", "reward", "start"):
    gym.register(f"{what}-by-chance-v0", Chance, kwargs={"what": what})
for what in ("obs", "reward", "start"):
    gym.register(f"{what}-v0", Breaks, kwargs={"what": what})
"""
SAC = ["--alg=sac", *SMALL]
PPO = ["--alg=ppo", *SMALL_ROLLOUTS]
RRD = ["--alg=rrd", "--basis_alg=ppo", "--rrd_batch_size=8", "--rrd_sample_size=4"]


@pytest.fixture(autouse=True)
def _module(monkeypatch):
    Path("breaks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(".")


@pytest.mark.parametrize("what", ["obs", "reward", "start"])
@pytest.mark.parametrize("flags", [[], ["--num_envs=2"]], ids=["one", "workers"])
@pytest.mark.parametrize("env_type", ["ep_rews", "normal"])
@pytest.mark.sampled(4)
def test_the_run_continues_and_stores_whole_episodes_alone(what, flags, env_type, capsys):
    finished = run(*SAC, f"--env=breaks:{what}-v0", "--on_nan=drop", "--test_rollouts=0", f"--env_type={env_type}",
                   *flags)
    shown = capsys.readouterr().out
    (first,) = (line for line in shown.splitlines() if "is dropped" in line)
    assert "got nan" in first
    assert "expected" in first
    dropped, stored = int(finished.rows[-1]["train/dropped"]), int(finished.rows[-1]["Episodes"])
    assert f"note: {dropped} episodes were dropped" in shown
    envs = 1 + bool(flags)
    # Of three episodes one is dropped after four steps, or before its first.
    lengths = (14 + 4 * (what != "start")) / 3
    assert dropped == pytest.approx(120 / lengths / 3, abs=envs + 0.5)
    assert stored == pytest.approx(2 * dropped, abs=2 * envs)
    assert {row["train/length"] for row in finished.rows} == {"7"}
    assert {row["train/return"] for row in finished.rows} == {"28"}
    assert all(torch.isfinite(tensor).all() for tensor in finished.tensors().values() if tensor.is_floating_point())
    counts = [int(row["train/dropped"]) for row in finished.rows]
    assert counts == sorted(counts)


@pytest.mark.parametrize("flags", [[], ["--num_envs=2"]], ids=["one", "workers"])
def test_by_default_the_run_stops(flags, capsys):
    assert train.main([*SAC, "--env=breaks:obs-v0", *flags]) == 1
    assert "observation[1]: got nan" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--num_envs=2"], RRD], ids=["one", "workers", "rrd"])
@pytest.mark.parametrize("what", ["obs", "reward", "start"])
@pytest.mark.sampled(4)
def test_on_policy_runs_drop_episodes_too(what, flags):
    finished = run(*PPO, f"--env=breaks:{what}-v0", "--on_nan=drop", "--test_rollouts=0", *flags)
    assert int(finished.rows[-1]["train/dropped"]) >= 3
    assert {row["train/length"] for row in finished.rows} <= {"7", ""}
    assert {row["train/return"] for row in finished.rows} <= {"28", ""}
    assert all(torch.isfinite(tensor).all() for tensor in finished.tensors().values() if tensor.is_floating_point())


@pytest.mark.parametrize("flags", [[], ["--num_envs=2"]], ids=["one", "workers"])
def test_by_default_an_on_policy_run_stops(flags, capsys):
    assert train.main([*PPO, "--env=breaks:obs-v0", *flags]) == 1
    assert "observation[1]: got nan" in capsys.readouterr().err


def test_tensor_environments_refuse_it(capsys):
    assert refusal([*PPO, "--env=PointMassRL", "--on_nan=drop"], capsys) == (
        "on_nan: got 'drop', not read by tensor environments, whose step can itself end an episode; expected stop")


@pytest.mark.parametrize("value", ["Infinity", "-1e39", "1e300"])
def test_what_is_too_large_is_dropped_as_well(value, monkeypatch):
    Path("huge.py").write_text(MODULE.replace('float("nan")', value.replace("Infinity", 'float("inf")')))
    finished = run(*SAC, "--env=huge:reward-v0", "--on_nan=drop", "--test_rollouts=0")
    assert int(finished.rows[-1]["train/dropped"]) > 3


def test_evaluation_drops_its_episodes_too():
    finished = run(*SAC, "--env=breaks:obs-v0", "--on_nan=drop", "--test_rollouts=3")
    assert {row["test/dropped"] for row in finished.rows} == {"1"}
    assert {row["Rewards"] for row in finished.rows} == {"28"}
    finished = run(*SAC, "--env=breaks:obs-v0", '--eval_env_kwargs={"what": "obs", "always": true}', "--on_nan=drop",
                   "--tag=always")
    assert {row["test/dropped"] for row in finished.rows} == {"2"}
    assert {row["Rewards"] for row in finished.rows} == {""}


def test_diagnoses_drop_theirs():
    finished = run(*SMALL_RRD, "--env=breaks:obs-v0", "--on_nan=drop", "--diagnose_every=1")
    assert any(row["Reward/pearson_within"] for row in finished.rows)


@pytest.mark.parametrize("flags", [[], ["--num_envs=2"]], ids=["one", "workers"])
def test_an_environment_that_never_starts_stops_the_run(flags, capsys):
    assert train.main([*SAC, "--env=breaks:start-v0", '--env_kwargs={"always": true}', "--test_rollouts=0",
                       "--on_nan=drop", *flags]) == 1
    assert "got 10 starts of episodes in a row that are not finite" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--num_envs=2"]], ids=["one", "workers"])
@pytest.mark.parametrize("what", ["obs", "start"])
@pytest.mark.sampled(1)
def test_a_resumed_run_has_dropped_what_an_uninterrupted_one_has(flags, what):
    twice([*FLAGS, "--alg=sac", "--import=breaks", f"--env={what}-by-chance-v0", "--on_nan=drop", *flags], 50, 130,
          "--import=breaks")


@pytest.mark.parametrize("flags", [[], ["--num_envs=2"]], ids=["one", "workers"])
@pytest.mark.parametrize("what", ["obs", "start"])
@pytest.mark.sampled(1)
def test_a_resumed_on_policy_run_has_dropped_what_an_uninterrupted_one_has(flags, what):
    twice([*PPO, "--import=breaks", f"--env={what}-by-chance-v0", "--on_nan=drop", *flags], 60, 130, "--import=breaks")


def test_a_run_that_has_stopped_is_resumed_with_it():
    flags = [*SAC, "--import=breaks", "--env=obs-v0", "--test_rollouts=0", "--checkpoint_every=1", "--timesteps=5"]
    assert train.main([*flags, "--iterations=1"]) == 1
    (directory,) = Path("outputs").iterdir()
    assert train.main([f"--resume={directory}", "--import=breaks", "--on_nan=drop"]) == 0
    rows = [line.split(",") for line in (directory / "metrics.csv").read_text().splitlines()]
    assert rows[0][-2:] == ["train/dropped", "test/dropped"]
    assert {len(row) for row in rows} == {len(rows[0])}
    dropped = rows[0].index("train/dropped")
    assert rows[1][dropped] == ""
    assert int(rows[-1][dropped]) > 3


def test_a_learned_reward_that_is_not_finite_still_stops_the_run(monkeypatch, capsys):
    def refuse(*given):
        raise NotFiniteError("predicted reward: got nan")
    monkeypatch.setattr(learner.episodes, "check_predicted", refuse)
    assert train.main(["--alg=uniform", *SMALL, "--env=breaks:obs-v0", "--on_nan=drop", "--diagnose_every=1"]) == 1
    assert capsys.readouterr().err.startswith("train.py: predicted reward: got nan")
