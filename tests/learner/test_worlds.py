"""Evaluation on frozen worlds, beside a plain loop over single worlds, and runs as the published trainer makes them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from boats import QUICK, SMALL, Seeker, write
from resumes import twice

import evaluate
import train
from algorithm import create_agent
from envs import make_env, sizes
from envs.marinenav.env import MarineNav
from envs.marinenav.files import read_worlds
from envs.marinenav.frozen import freeze, stages_of
from envs.training_env import TrainingEnv
from learner.loading import load_agent
from learner.worlds import WorldPlayer, open_worlds
from learner.worlds_evaluator import WorldsEvaluator
from utils.errors import CheckpointError, ConfigError
from utils.seeding import stream_seed
from utils.settings.cli import parse_args
from utils.stop import Stop, Stopped

LIMIT = 120
SCHEDULE = {"num_episodes": [5, 4, 3], "num_robots": [1, 3, 4], "num_cores": [0, 3, 0], "num_obstacles": [0, 0, 6],
            "min_start_goal_dis": [15.0, 30.0, 35.0]}


def test_the_means_are_those_of_a_plain_loop_over_each_world_by_itself():
    worlds = MarineNav(1, num_robots=4, noise=False).frozen(0, SCHEDULE)
    assert (worlds.num_groups, worlds.rows_per_group) == (12, 4)
    played = WorldPlayer(TrainingEnv(worlds, LIMIT, False), Seeker(), 0.97).play(0)
    for w in range(12):
        expected = by_itself(worlds, w)
        found = {name: values[w] for name, values in played.summaries().items()}
        found["at_goal"] = played.metrics["success"][w]
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4), w
    assert set(played.successes) == {0.0, 1.0}
    assert LIMIT > max(played.lengths) > min(played.lengths)


def by_itself(worlds: MarineNav, w: int) -> dict[str, float]:
    """What the published evaluation computes of one world, robot by robot."""
    layout = worlds.given.take(torch.tensor([w]))
    env = MarineNav(1, **worlds.settings)
    env.given, seeker = layout, Seeker()
    obs, robots = env.reset(), [r for r in range(4) if layout.robot_exists[0, r]]
    reward, seconds, energy = (dict.fromkeys(robots, 0.0) for _ in "abc")
    for t in range(LIMIT):
        active = [r for r in robots if env.active[r]]
        obs, rews, *_ = env.step(torch.from_numpy(seeker.step(obs.numpy())))
        for r in active:
            reward[r] += 0.97 ** t * float(rews[r])
            seconds[r] += 0.5
            energy[r] += 0.5 * float(env.thrust[0, r].abs().sum())
        if env.collision.any() or not env.active.any():
            break
    means = [sum(one.values()) / len(robots) for one in (reward, seconds, energy)]
    there = [bool(env.reach_goal[0, r]) and not bool(env.collision[0, r]) for r in robots]
    return dict(zip(("rewards", "times", "energies"), means, strict=True), successes=float(all(there)), lengths=t + 1,
                at_goal=sum(there) / len(robots))


def test_an_evaluation_leaves_no_trace_and_repeats_itself():
    """IQN draws fractions when it acts: the same ones each time, and none of those that training draws."""
    config = parse_args(["-C", write("c.json", agent_type="IQN"), "--device=cpu", "--test_timesteps=6"])
    env = make_env(config)
    config = sizes(config, env)
    agent, worlds = create_agent(config), open_worlds(config, env.unwrapped.task, 1)
    logged, before = [], agent.generator.get_state()
    evaluator = WorldsEvaluator(config, worlds, agent, Stop(), Path())
    for steps in (4, 8):
        evaluator.evaluate(SimpleNamespace(add=logged.append), steps)
    assert logged[0] == logged[1]
    assert torch.equal(agent.generator.get_state(), before)
    assert evaluator.state() == {"evaluations": 2}
    other = WorldsEvaluator(config, worlds, agent, Stop(), Path())
    other.restore({"evaluations": 1})                   # the second one was not saved with the run
    assert [int(steps) for steps in other.table["timesteps"]] == [4]
    Path("evaluations.npz").unlink()
    with pytest.raises(CheckpointError, match=r"evaluations.npz: No such file"):
        WorldsEvaluator(config, worlds, agent, Stop(), Path()).restore({"evaluations": 1})
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        WorldsEvaluator(config, worlds, agent, stop, Path()).evaluate(SimpleNamespace(add=logged.append))
    assert len(logged) == 2


def test_worlds_are_frozen_by_a_seed_of_their_own():
    """They obey the rules of each stage, and neither the environment's seed nor its draws change them."""
    one, two = (MarineNav(1, num_robots=4, seed=seed).frozen(0, SCHEDULE) for seed in (0, 1))
    for name, tensor in one.given.tensors().items():
        assert torch.equal(tensor, two.given.tensors()[name]), name
    assert one.given.robot_exists.sum(1).tolist() == [1] * 5 + [3] * 4 + [4] * 3
    assert (one.given.strength != 0).sum(1).tolist() == [0] * 5 + [3] * 4 + [0] * 3
    assert one.given.obstacle_exists.sum(1).tolist() == [0] * 9 + [6] * 3
    distance = torch.linalg.vector_norm(one.given.start - one.given.goal, dim=-1)
    for first, end, least in ((0, 5, 15), (5, 9, 30), (9, 12, 35)):
        assert (distance[first:end][one.given.robot_exists[first:end]] >= least).all()
    other = freeze(stages_of(SCHEDULE), one.settings, seed=1)
    assert not torch.equal(other.start, one.given.start)


@pytest.mark.parametrize(("schedule", "message"), [
    ({"num_episodes": [1], "num_robos": [1]}, "got 'num_robos', expected num_episodes, num_robots"),
    ({"num_robots": [1]}, "got None as num_episodes"), ({"num_episodes": [0]}, r"got \[0\] as num_episodes"),
    ({"num_episodes": [1], "num_robots": [1, 2]}, "expected a list as long as num_episodes, of 1"),
    ({"num_episodes": [1], "num_robots": [0]}, "num_robots: got 0, expected 1 to 1000"),
    ({"num_episodes": [1], "min_start_goal_dis": [500.0]}, "no robot found room in 500 proposals"),
], ids=["name", "missing", "none", "length", "value", "room"])
def test_a_wrong_schedule_is_refused(schedule, message):
    with pytest.raises(ConfigError, match=message):
        MarineNav(1).frozen(1, schedule)


# Runs ---------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the published file in a directory of its own; returns that and the run's."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("published")
    patch.chdir(folder)
    assert train.main(["-C", write("c.json"), *QUICK]) == 0
    patch.undo()
    return folder, next(folder.glob("logs/training_*/seed_0"))


def rows_of(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_record_stands_beside_the_published_files(trained):
    folder, run = trained
    trial = json.loads((run / "trial_config.json").read_text())
    expected = SMALL | {"seed": 0, "training_time": run.parent.name.removeprefix("training_"), "env_batch_size": 1}
    assert trial == expected
    layout, settings = read_worlds(run / "eval_configs.json")
    assert layout.robot_exists.sum(1).tolist() == [2, 2, 4]
    assert json.loads((run / "eval_configs.json").read_text())[0]["env"]["seed"] == 253
    assert settings["num_robots"] == 4
    with np.load(run / "evaluations.npz", allow_pickle=False) as file:
        table = {name: file[name] for name in file.files}
    assert table["timesteps"].tolist() == [40, 80]
    assert {name: values.shape for name, values in table.items() if name != "timesteps"} == dict.fromkeys(
        ("rewards", "successes", "times", "energies", "lengths"), (2, 3))
    rows = rows_of(run)
    assert [int(row["Timesteps"]) for row in rows] == [40, 80]
    assert [row["Stage"] for row in rows] == ["1", "1"]
    for row, rewards, lengths in zip(rows, table["rewards"], table["lengths"], strict=True):
        assert float(row["eval/reward"]) == pytest.approx(rewards.mean(), rel=1e-6)
        assert float(row["Steps"]) == pytest.approx(lengths.mean())
        assert row["eval/success"] == row["eval/metrics/success"] == "0"
        assert float(row["eval/metrics/distance_to_goal"]) > 5
        assert row["eval/time"] == ""                   # no success, so no time of one
    with np.load(run / "trajectories" / "80.npz", allow_pickle=False) as file:
        counts = file["steps"]
        assert (counts >= 0).tolist() == [[True, True, False, False]] * 2 + [[True] * 4]
        assert len(file["trajectories"]) == (counts[counts >= 0] + 1).sum()
        assert file["actions"].shape == (counts[counts >= 0].sum(), 2)
        assert file["trajectories"][0, :2] == pytest.approx(layout.start[0, 0].numpy(), abs=1e-5)
    assert not list(folder.glob("outputs/*"))


def test_the_evaluation_is_that_of_the_worlds_in_its_file(trained):
    """The written worlds, the last model and the same draws give the last evaluation again."""
    _, run = trained
    worlds = MarineNav(1, worlds=str(run / "eval_configs.json")).frozen(3)
    agent = load_agent(run, "last")
    played = WorldPlayer(TrainingEnv(worlds, 9, False), agent, agent.config.gamma).play(stream_seed(0, "test env"))
    with np.load(run / "evaluations.npz", allow_pickle=False) as file:
        for name, values in played.summaries().items():
            assert values == pytest.approx(file[name][1], rel=1e-6), name


def test_an_update_is_due_every_four_joint_steps_of_all_worlds(trained):
    """80 joint steps, of which the first ones warm up; with several worlds a vector step is as many joint steps."""
    assert load_agent(trained[1], "last").updates == 16             # after steps 20, 24, ..., 80
    assert train.main(["--config", write("c.json", env_batch_size=5, save_dir="more"), *QUICK, "--warmup=60"]) == 0
    run = next(Path("more").glob("training_*/seed_0"))
    assert load_agent(run, "last").updates == 6         # after steps 60, 64, ..., 80
    assert [int(row["Timesteps"]) for row in rows_of(run)] == [40, 80]
    agent = load_agent(run, "last")
    assert agent.counters["steps"] == 80                            # by which epsilon falls: those of a world


def test_on_existing_finds_the_run_of_the_same_settings_whatever_its_time(trained, monkeypatch, capsys):
    folder, run = trained
    monkeypatch.chdir(folder)
    assert train.main(["-C", "c.json", *QUICK, "--on_existing=resume"]) == 0
    assert "resumed after 80 steps of 80" in capsys.readouterr().out
    flags = [*QUICK, "--test_rollouts=0", "--total_timesteps=8"]        # other settings: another run
    assert train.main(["-C", "c.json", *flags, "--on_existing=resume"]) == 0
    runs = sorted(folder.glob("logs/training_*/*"))
    assert len(runs) == 2
    assert run in runs
    own = ["-C", "c.json", *flags, "--run_dir=here/s{seed}"]
    for expected in (["s0"], ["s0", "s0.2"]):           # a directory is not written into twice
        assert train.main(own) == 0
        assert sorted(path.name for path in (folder / "here").iterdir()) == expected
    assert train.main([*own, "--on_existing=overwrite"]) == 0
    assert sorted(path.name for path in (folder / "here").iterdir()) == ["s0", "s0.2"]
    assert train.main(["-C", "c.json", *flags, "--run_dir=c.json/s", "--on_existing=new"]) == 2
    assert "run_dir: cannot create 'c.json/s'" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["IQN", "DDPG", "DQN", "SAC"])
def test_every_agent_type_trains_and_is_evaluated(kind):
    assert train.main(["-C", write("c.json", total_timesteps=40), *QUICK, f"--agent-type={kind}"]) == 0
    run = next(Path("logs").glob("training_*/seed_0"))
    agent = load_agent(run, "last")
    assert (agent.updates, agent.counters["steps"], agent.epsilon) == (6, 40, pytest.approx(0.05))
    (row,) = rows_of(run)
    assert row["eval/reward"] not in ("", row["Rewards"])           # that one is discounted
    trial = json.loads((run / "trial_config.json").read_text())
    assert trial["agent_type"] == kind


def test_a_run_that_is_stopped_in_the_middle_of_an_episode_is_as_a_whole_one():
    content = {name: value for name, value in SMALL.items() if name != "save_dir"}
    twice(["--config", write("c.json", content, env_batch_size=2), *QUICK, "--eps_decay=30"], 44, 80)
    parts, whole = (next(Path("outputs").glob(f"{tag}-*")) for tag in ("parts", "whole"))
    for name in ("evaluations.npz", "trajectories/80.npz"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_evaluation_plays_the_runs_frozen_worlds_and_films_the_first(trained, monkeypatch):
    folder, run = trained
    monkeypatch.chdir(folder)
    pytest.importorskip("imageio")
    worlds = '--env_kwargs={"worlds": "two.json"}'      # fewer robots than the curriculum's last stage
    Path("two.json").write_text(json.dumps(json.loads((run / "eval_configs.json").read_text())[:2]))
    assert evaluate.main([str(run), "--episodes=2", "--json=e.json", worlds]) == 0
    assert len(json.loads(Path("e.json").read_text())["returns"]) == 2
    assert evaluate.main([str(run), "--checkpoint=last", "--json=e.json", "--video=v.mp4"]) == 0
    facts = json.loads(Path("e.json").read_text())
    assert (facts["episodes"], len(facts["returns"])) == (3, 3)
    with np.load(run / "evaluations.npz", allow_pickle=False) as file:
        lengths = file["lengths"][1]
    assert facts["lengths"] == pytest.approx(lengths, abs=2)        # other draws of noise
    assert facts["metrics"]["time"]["mean"] is None
    assert Path("v.mp4").stat().st_size > 1000


def test_a_multi_robot_run_without_the_published_file(capsys):
    """Rewards are paid at the end of each robot's episode, the worlds of evaluation are those of the settings."""
    flags = ["--alg=rrd", "--basis_alg=sac", "--env=MarineNav-v0", '--env_kwargs={"num_robots": 2, "num_cores": 0}',
             "--rrd_batch_size=8", "--rrd_sample_size=4", "--timesteps=20", "--iterations=2", "--total_timesteps=40",
             "--train_batches=2", "--test_rollouts=2", "--device=cpu", "--test_timesteps=9", "--warmup=20",
             "--batch_size=8", "--buffer_size=500"]
    assert train.main([*flags, "--run_dir=own/{seed}", "--seed=3"]) == 0
    (row,) = rows_of(Path("own/3"))
    assert float(row["Steps"]) == 9
    assert row["eval/success"] == "0"
    assert train.main([*flags, '--eval_worlds={"num_episodes": [0]}']) == 2
    assert "eval_worlds: got [0] as num_episodes, expected" in capsys.readouterr().err
    assert not list(Path("outputs").glob("*"))          # nothing was written
    assert train.main([*flags, "--diagnose_every=1"]) == 2
    assert "diagnose_every: got 1, but worlds of several rows" in capsys.readouterr().err
