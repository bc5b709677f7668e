"""Runs of algorithms with replay on tensor environments: what is stored, resumed, recorded, evaluated and refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from resumes import FLAGS, flags_of, twice
from runs import SMALL, run
from tasks import Team, Walk

import evaluate
import train
from envs import make_env, sizes
from envs.curriculum import Curriculum, Stage
from envs.registration import register_env
from envs.training_env import TrainingEnv
from learner.staging import Dense
from learner.tensor_collector import TensorCollector
from utils.errors import ConfigError, NotFiniteError
from utils.settings.resolve import resolve

pytestmark = pytest.mark.usefixtures("forget")
PPO = ["--device=cpu", "--test_timesteps=17", "--alg=ppo", "--rollout_steps=10", "--n_epochs=2", "--batch_size=8",
       "--iterations=2", "--test_rollouts=1"]
POINT = ["--env=PointMassRL", "--alg=sac"]


class Actor:
    """Draws actions; keeps the observations that it was shown."""

    def __init__(self, env):
        self.env, self.seen, self.draws = env, [], np.random.default_rng(0)

    def step(self, obs, explore=False):
        assert explore
        self.seen.append(obs)
        if not self.env.action_space.shape:
            return self.draws.integers(2, size=len(obs))
        return self.draws.uniform(-1, 1, (len(obs), *self.env.action_space.shape)).astype(np.float32)


def collector(task=None, limit=5, curriculum=None) -> TensorCollector:
    env = TrainingEnv(task or Walk(3), limit, False)
    return TensorCollector(env, Actor(env), curriculum)


def gather(one: TensorCollector, steps: int) -> list[dict[str, np.ndarray]]:
    return [episode for _ in range(steps) for episode in one.step()]


def test_episodes_are_those_that_the_environment_plays():
    ours = collector(Walk(3, seed=4))
    episodes = gather(ours, 40)
    env, actor, expected = TrainingEnv(Walk(3, seed=4), 5, False), Actor(ours.env), []
    obs, open_ones = env.reset(), [[], [], []]
    for _ in range(40):
        acts = actor.step(obs.numpy(), explore=True)
        obs_next, rews, terminated, truncated, _ = env.step(torch.from_numpy(acts))
        for i, steps in enumerate(open_ones):
            steps.append((obs[i], acts[i], rews[i], terminated[i], obs_next[i]))
            if terminated[i] or truncated[i]:
                expected.append(steps.copy())
                steps.clear()
        obs = env.reset(terminated | truncated)
    assert len(episodes) == len(expected) > 20
    for episode, steps in zip(episodes, expected, strict=True):
        for name, column in zip(("obs", "acts", "rews", "done", "obs_next"), zip(*steps, strict=True), strict=True):
            assert np.array_equal(episode[name].reshape(len(steps), -1), np.array(column).reshape(len(steps), -1))
    assert {bool(episode["done"][-1]) for episode in episodes} == {True, False}
    assert max(len(episode["acts"]) for episode in episodes) == 5


class Careless(Team):
    """Returns anything of rows that take no part."""

    def _step(self, acts):
        idle = ~self.active
        obs, rews, over, truncated, info = super()._step(acts)
        return obs, rews.masked_fill(idle, torch.nan), over | idle, truncated | idle, info


@pytest.mark.parametrize("task", [Team, Careless])
def test_nothing_is_stored_of_rows_that_take_no_part(task):
    episodes = gather(collector(task(2, size=2)), 8)
    assert [len(episode["acts"]) for episode in episodes] == [1, 1, 2, 2] * 4
    assert [episode["rews"][:, 0].tolist() for episode in episodes[:4]] == [[1], [1], [1, 2], [1, 2]]
    worlds = [episode["obs"][0, 1] for episode in episodes]                 # a number drawn at each reset of a world
    assert worlds[0] == worlds[2] != worlds[4] == worlds[6]


@pytest.mark.parametrize("after", [0, 1, 7, 19])
def test_a_saved_collector_resumes_to_the_bit(after):
    two = [Stage({"far": 0.5}, {"length": (None, 5)}, 9), Stage({"far": 2.0})]
    whole, parts = (collector(Walk(3), curriculum=Curriculum(two)) for _ in range(2))
    expected = gather(whole, after + 20)
    first = gather(parts, after)
    values, tensors = parts.state()
    values = json.loads(json.dumps(values))
    other = collector(Walk(3, seed=8), curriculum=Curriculum(two))
    other.agent.draws = parts.agent.draws
    assert other.restore(values, tensors) == 0
    rest = gather(other, 20)
    assert len(first + rest) == len(expected)
    for ours, theirs in zip(first + rest, expected, strict=True):
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert (other.steps, other.staged.state()) == (whole.steps, whole.staged.state())
    assert other.staged.curriculum.stage == 1
    assert not other.dense.points[0].isnan().any()


class Pictures(Walk):
    """Observes a stack of three pictures."""

    def setup(self):
        super().setup()
        self.observation_space, self.action_space = Box(0, 255, (4, 4, 3), np.uint8), Discrete(2)

    def observe(self):
        counts = torch.stack([self.count - 2, self.count - 1, self.count], 1).clamp(min=0).to(torch.uint8)
        return counts[:, None, None].expand(-1, 4, 4, 3).contiguous()

    def _step(self, acts):
        return super()._step(acts[:, None].float())


def test_open_episodes_of_pictures_are_saved_too():
    one = collector(Pictures(2))
    gather(one, 3)
    other = collector(Pictures(2))
    other.restore(*one.state())
    assert len(other.open_episodes[0]) == 3
    assert [a.digest() == b.digest() for a, b in zip(one.open_episodes, other.open_episodes, strict=True)] == [True] * 2
    assert other.obs.dtype == np.uint8


def test_an_observation_that_is_not_finite_is_reported_with_its_place():
    class Broken(Walk):
        def observe(self):
            return super().observe() + torch.where((self.count == 2) & (torch.arange(self.num_envs) == 1), torch.nan, 0
                                                   )[:, None]
    one = collector(Broken(3, far=50.0))
    one.step()
    with pytest.raises(NotFiniteError, match="in environment 2 of 3 at step 6, step 2 of its episode"):
        one.step()


class Log:
    """Keeps what is logged."""

    def __init__(self):
        self.series, self.values = [], {}

    def add_series(self, steps, series):
        self.series.append((steps, {name: column.tolist() for name, column in series.items()}))

    def set(self, values):
        self.values |= values


def test_what_the_environment_tells_is_logged_at_each_step():
    one, log = collector(Walk(3, far=50.0)), Log()                          # no episode ends
    gather(one, 2)
    one.log(log)
    gather(one, 1)
    distance = one.env.task.place.abs().mean()
    one.log(log)
    one.log(log)
    assert [steps for steps, _ in log.series] == [[3, 6], [9]]
    assert set(log.series[0][1]) == {"rewards/near", "metrics/distance", "metrics/success"}
    assert log.series[1][1]["rewards/near"] == [-value for value in log.series[1][1]["metrics/distance"]]
    assert log.values == {}
    assert log.series[1][1]["metrics/distance"] == pytest.approx([distance.item()])


def test_a_value_that_is_nan_or_of_a_row_that_takes_no_part_is_none():
    dense, log = Dense(Walk(3)), Log()
    for distance in ([1, 2, 99], [torch.nan, 4, 99], [torch.nan, torch.nan, 99]):
        value = torch.tensor(distance, dtype=torch.float32)
        info = {"rewards": {"near": value}, "metrics": {"distance": value, "success": value}}
        dense.add(info, torch.tensor([True, True, False]))
    dense.log(log, 5)
    ((steps, series),) = log.series
    assert steps == [9, 12, 15]
    assert series["metrics/distance"][:2] == [1.5, 4]
    assert np.isnan(series["metrics/distance"][2])


# Runs -----------------------------------------------------------------------------------------------------------------

STAGES = {"window": 9, "stages": [{"settings": {"success_threshold": 0.9}, "until": {"success": 0.2}, "episodes": 3},
                                  {"settings": {"success_threshold": 0.5}, "until": {"length": [None, 17]}}, {}]}


@pytest.mark.parametrize("flags", [[*POINT, "--num_envs=1"], [*POINT, "--num_envs=3", "--env_type=normal"],
                                   ["--env=PointMassRL", *flags_of("rrd", "sac"), "--num_envs=2"],
                                   [*POINT, "--num_envs=3", "--curriculum=stages.json"]], ids=str)
@pytest.mark.sampled(2)
def test_two_parts_of_a_run_are_the_whole(flags):
    Path("stages.json").write_text(json.dumps(STAGES))
    twice([*FLAGS, *flags], 60, 160)


@pytest.mark.parametrize("flags", [["--env=PointMassRL", "--num_envs=3", "--curriculum=stages.json"],
                                   ["--env=PointMassRL", "--num_envs=3", "--env_type=normal"],
                                   ["--env=Pendulum-v1", "--num_envs=2"]], ids=str)
@pytest.mark.sampled(2)
def test_two_parts_of_a_run_on_rollouts_are_the_whole(flags):
    Path("stages.json").write_text(json.dumps(STAGES))
    twice([*PPO, *flags], 60, 240)


def test_rollouts_go_through_the_stages():
    first = {"settings": {"limit": 2}, "until": {"success": 0.0}, "episodes": 50}
    Path("stages.json").write_text(json.dumps({"stages": [first, {"settings": {"limit": 6}}]}))
    register_env("Walk-v0")(Walk)
    done = run(*PPO, "--env=Walk-v0", "--num_envs=4", "--total_timesteps=400", "--curriculum=stages.json")
    assert [row["Stage"] for row in done.rows] == ["0", "1", "1", "1", "1"]
    assert float(done.rows[0]["train/length"]) <= 2 < float(done.rows[-1]["train/length"])


@pytest.mark.parametrize("alg", ["sac", "td3", "ddpg", "rrd"])
def test_algorithms_with_replay_train_on_rows(alg):
    done = run(*SMALL, f"--alg={alg}", "--env=PointMassRL", "--num_envs=4",
               *(["--rrd_batch_size=8", "--rrd_sample_size=4"] if alg == "rrd" else []))
    assert float(done.rows[-1]["Q_loss"]) > 0
    assert float(done.rows[-1]["metrics/final_distance"]) > 0
    assert done.facts["env_id"] == "PointMassRL-v0"


def test_indices_and_pictures():
    register_env("TensorPictures-v0")(Pictures)
    done = run(*SMALL, "--alg=dqn", "--env=TensorPictures-v0", "--num_envs=3", "--eps_decay=100")
    assert float(done.rows[-1]["Q_loss"]) > 0


def test_the_stage_is_a_column_and_evaluation_plays_the_last_one():
    first = {"settings": {"limit": 2}, "until": {"success": 0.0}, "episodes": 30}
    form = {"stages": [first, {"settings": {"limit": 6}}]}
    Path("stages.json").write_text(json.dumps(form))
    register_env("Walk-v0")(Walk)
    flags = [*SMALL, "--alg=sac", "--env=Walk-v0", "--num_envs=2", "--curriculum=stages.json"]
    done = run(*flags)
    stages = [float(row["Stage"]) for row in done.rows]
    assert (stages[0], stages[-1]) == (0, 1)
    assert all(2 < float(row["Steps"]) <= 6 for row in done.rows)           # of evaluation, from the beginning
    assert done.config["curriculum"] == "stages.json"
    assert train.main([*flags, "--curriculum=none"]) == 0
    newest = max(Path("outputs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert "Stage" not in (newest / "metrics.csv").read_text()


def test_a_trained_run_is_evaluated_filmed_and_diagnosed():
    pytest.importorskip("imageio_ffmpeg")
    done = run(*SMALL, "--alg=rrd", "--env=PointMassRL", "--rrd_batch_size=8", "--rrd_sample_size=4", "--num_envs=3",
               "--diagnose_every=1")
    assert done.rows[-1]["Reward/std_within"] != ""
    assert evaluate.main([str(done.directory), "--episodes=2", "--video=film.mp4", "--diagnose", "--json=e.json"]) == 0
    assert Path("film.mp4").stat().st_size > 1000
    first = json.loads(Path("e.json").read_text())
    assert evaluate.main([str(done.directory), "--episodes=2", "--diagnose", "--json=f.json"]) == 0
    second = json.loads(Path("f.json").read_text())
    assert first["episodes"] == second["episodes"]


@pytest.mark.parametrize("alg", ["sac", "ppo"])
def test_settings_of_the_task_are_the_runs(alg):
    """A goal so wide that every episode ends with its first step, in training and in evaluation."""
    flags = PPO if alg == "ppo" else [*SMALL, "--alg=sac"]
    done = run(*flags, "--env=PointMassRL", "--num_envs=3", "--total_timesteps=120", "--env_type=normal",
               '--env_kwargs={"success_threshold": 9, "obstacle_radius_range": [0.1, 0.2]}')
    assert {row["Steps"] for row in done.rows} == {"1"}
    assert int(done.rows[-1]["Episodes"]) == 120
    assert done.facts["env_kwargs"]["success_threshold"] == 9


def test_several_seeds():
    assert train.main([*SMALL, *POINT, "--num_envs=2", "--seeds=0,1"]) == 0
    runs = sorted(Path("outputs").glob("*/metrics.csv")) or sorted(Path("outputs").rglob("metrics.csv"))
    assert len(runs) == 2
    assert runs[0].read_text() != runs[1].read_text()


WRONG = """
import torch
from tasks import Walk
from envs.tensor import register_env

@register_env("Wrong-v0")
class Wrong(Walk):
    def _step(self, acts):
        obs, rews, *rest = super()._step(acts)
        return obs, rews[:, None], *rest
"""


@pytest.mark.parametrize(("flags", "message"), [
    (["--env=wrong:Wrong-v0"], "env: Wrong gives float32 of shape (2, 1) as rews, expected float32 of shape (2,)"),
    (["--env=PointMasRL"], "env: got 'PointMasRL'; did you mean PointMassRL-v0?"),
    (["--env=PointMassRL", "--alg=dqn"], "acts in Box"),
    (["--env=PointMassRL", '--env_kwargs={"succes_bonus": 1}'], "no setting 'succes_bonus'; did you mean success_bo"),
    (["--env=PointMassRL", '--env_kwargs={"dt": -1}'], "PointMassRL's setting dt: got -1, expected at least"),
    (["--env=PointMassRL", "--curriculum=none.json"], "curriculum: 'none.json' cannot be read"),
    (["--env=Pendulum-v1", "--curriculum=none.json"], "curriculum: got 'none.json', but the environment's settings")])
def test_what_is_wrong_is_one_line_and_exit_code_2(flags, message, capsys, monkeypatch):
    Path("wrong.py").write_text(WRONG)
    assert train.main([*SMALL, "--alg=sac", "--num_envs=2", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_team_has_no_environment_of_one_row(capsys):
    register_env("Team-v0")(Team)
    config = resolve({"alg": "dqn", "env": "Team-v0"})
    env = make_env(config)
    assert sizes(config, env).rows == 3
    with pytest.raises(ConfigError, match="Team has 3 rows a group"):
        env.reset()
    for flags, message in ((["--alg=dqn"], "test_rollouts: got 2, but Team has 3 rows a group"),
                           (["--alg=ppo"], "env: Team has 3 rows a group, expected one for ppo"),
                           (["--alg=dqn", '--eval_worlds={"num_episodes": [1]}'], "eval_worlds: not read by Team")):
        short = ["--device=cpu", "--test_rollouts=2"] if "--alg=ppo" in flags else SMALL
        assert train.main([*short, "--env=Team-v0", *flags]) == 2
        assert message in capsys.readouterr().err
