"""What a run on policy writes to TensorBoard and Weights & Biases, by the names of the published trainer."""

from __future__ import annotations

import struct
from collections import defaultdict

import pytest
from runs import SMALL_ROLLOUTS, Finished, run
from saved import digest
from tensorboardX.proto.event_pb2 import Event

import train
from record.charts import NAMES, shown

FLAGS = [*SMALL_ROLLOUTS, "--alg=ppo", "--env=PointMassRL", "--num_envs=3", "--env_type=normal"]
AFTER_EACH = ["train/actor_loss", "train/value_loss", "train/entropy", "train/learning_rate", "charts/SPS",
              "charts/episode_reward_avg_100",
              "charts/episode_length_avg_100"]


def points(done: Finished) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each name: records of (length, checksum, event, checksum)."""
    found = defaultdict(list)
    for path in sorted((done.directory / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12:12 + size])
            data = data[16 + size:]
            for value in event.summary.value:
                found[value.tag].append((event.step, value.simple_value))
    return found


def test_after_each_rollout_and_with_each_evaluation():
    done = run(*FLAGS, "--total_timesteps=240")
    found = points(done)
    assert all([step for step, _ in found[name]] == [60, 120, 180, 240] for name in AFTER_EACH)
    assert [step for step, _ in found["eval/avg_reward"]] == [120, 240]
    assert [step for step, _ in found["metrics/success"]] == list(range(3, 241, 3))     # each step, and no mean beside
    assert {length for _, length in found["charts/episode_length_avg_100"]} == {10.0}
    assert not {"Pi_loss", "V_loss", "Entropy", "Rewards", "Steps"} & set(found)
    for name, column in (("train/actor_loss", "Pi_loss"), ("train/entropy", "Entropy")):
        rollouts = [value for _, value in found[name]]
        rows = [float(row[column]) for row in done.rows]
        assert [sum(rollouts[:2]) / 2, sum(rollouts[2:]) / 2] == pytest.approx(rows, rel=1e-5)
    rates = [value for _, value in found["eval/success_rate"]]
    assert rates == pytest.approx([float(row["eval/metrics/success"]) for row in done.rows])
    assert {name for name in found if name.startswith("eval/metrics/")} == {
        "eval/metrics/final_distance", "eval/metrics/path_length", "eval/metrics/collision_count"}
    rewards = [value for _, value in found["charts/episode_reward_avg_100"]]
    returns = [float(row["train/return"]) for row in done.rows]             # of 12 episodes each
    assert [rewards[1], rewards[3]] == pytest.approx([returns[0], sum(returns) / 2], rel=1e-5)


def test_the_last_100_episodes_are_those_before_a_run_was_stopped_as_well():
    parts = run(*FLAGS, "--total_timesteps=120", "--tag=parts")
    assert train.main([f"--resume={parts.directory}", "--total_timesteps=240"]) == 0
    whole = run(*FLAGS, "--total_timesteps=240", "--tag=whole")
    assert digest(parts.directory) == digest(whole.directory)
    ours, theirs = points(parts), points(whole)
    assert ours.keys() == theirs.keys()
    for name in theirs.keys() - {"charts/SPS", "TimeCost_sec_/train", "TimeCost_sec_/test"}:
        assert ours[name] == theirs[name], name


@pytest.mark.parametrize("alg", [["--alg=ppo"], ["--alg=rrd", "--basis_alg=a2c"], ["--alg=ppo", "--engine=eager"]],
                         ids=str)
def test_the_learning_rate_is_the_schedules(alg):
    flags = ["--lr_schedule=linear", "--lr_end=0.5", "--learning_rate=0.01", "--rollout_steps=20", "--batch_size=20"]
    found = points(run(*SMALL_ROLLOUTS, "--env=PointMassRL", "--num_envs=1", "--total_timesteps=120", *flags, *alg))
    rates = [rate for _, rate in found["train/learning_rate"]]
    assert len(rates) == 6
    assert rates == sorted(rates, reverse=True)
    assert 0.005 <= rates[-1] < 0.006
    assert 0.009 < rates[0] <= 0.01


def test_names_of_a_cycle():
    assert shown({"Pi_loss": 1, "KL": 2, "Rewards": 3, "train/return": 4}, NAMES) == {
        "KL": 2, "eval/avg_reward": 3, "train/return": 4}


def test_off_policy_names_stay_the_originals():
    found = points(run("--device=cpu", "--alg=sac", "--env=Pendulum-v1", "--total_timesteps=40", "--timesteps=20",
                       "--iterations=2", "--warmup=20", "--train_batches=1", "--batch_size=4", "--buffer_size=100",
                       "--test_timesteps=10", "--test_rollouts=1"))
    assert {"Pi_loss", "Q_loss", "Rewards", "Steps"} <= set(found)
    assert not [name for name in found if name.startswith(("charts/", "eval/"))]
