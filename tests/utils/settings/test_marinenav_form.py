"""Files in the form of the published MarineNav trainer: their settings, their grids, and what is wrong in them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from boats import SHIPPED, SMALL, write

import train
from algorithm import create_agent
from utils.errors import ConfigError
from utils.settings.cli import parse_args
from utils.settings.grid import read_grid
from utils.settings.marinenav_form import AGENT_TYPES, expand, trial_of
from utils.settings.sizes import with_sizes

DISCRETE = ("IQN", "DQN", "Rainbow")


def parsed(*flags: str, content: dict = SHIPPED, **changes):
    return parse_args(["--config", write("c.json", content, **changes), "--device=cpu", *flags])


def test_the_file_in_configs_is_the_shipped_one():
    path = Path(__file__).parents[3] / "configs" / "marinenav" / "config_AC_IQN.json"
    assert json.loads(path.read_text()) == SHIPPED | {"save_dir": "outputs"}


def test_the_shipped_file_is_the_published_run():
    config = parsed()
    assert (config.alg, config.env, config.env_type, config.encoder) == ("ac_iqn", "MarineNav-v0", "normal", "objects")
    assert (config.run_length, config.iterations * config.timesteps, config.seed) == (6_000_000, 60_000, 0)
    assert (config.timesteps, config.train_batches) == (4, 1)                       # UPDATE_EVERY
    assert config.train_target * config.timesteps == 10_000
    assert (config.warmup, config.batch_size, config.buffer_size, config.gamma) == (2000, 64, 1_000_000, 0.99)
    assert (config.q_lr, config.pi_lr, config.polyak, config.max_grad_norm) == (1e-4, 1e-4, 0.0, 0.5)
    assert config.test_timesteps == 1001
    assert config.env_kwargs == {"num_robots": 5}
    assert json.loads(config.curriculum) == SHIPPED["training_schedule"]
    assert config.eval_worlds == SHIPPED["eval_schedule"]
    assert config.run_dir.startswith("./logs/training_2")
    assert config.run_dir.endswith("/seed_{seed}")
    assert config.notes == ()


@pytest.mark.parametrize("kind", AGENT_TYPES)
def test_epsilon_falls_by_joint_steps_as_published(kind):
    """0.6 to 0.05, linear while p = step / total < 0.25, for every agent, however many robots a world has."""
    config = parsed(f"--agent-type={kind}", total_timesteps=1000)
    assert config.alg == AGENT_TYPES[kind]
    assert config.discrete == (config.env_kwargs.get("discrete") is True) == (kind in DISCRETE)
    agent = create_agent(with_sizes(config, 37, 25 if kind in DISCRETE else 2))
    object.__setattr__(agent.config, "rows", 5)
    chances = torch.full((15,), 2.0)                                # three worlds; no chance is below epsilon
    for step in range(0, 300, 3):
        share = min(step / 1000 / 0.25, 1.0)
        assert agent.epsilon == pytest.approx(0.6 + (0.05 - 0.6) * share)
        assert not agent.random_rows(chances).any()                 # no random warm-up either


def test_what_a_file_leaves_out_has_the_programs_values():
    config = parsed(content={"agent_type": "SAC"})
    assert (config.alg, config.run_length, config.seed) == ("marinenav_sac", 6_000_000, 0)
    assert config.env_kwargs == {"num_robots": 6}
    assert (config.curriculum, config.eval_worlds, config.run_dir) == ("default", None, "")
    assert (config.greedy, config.alpha_init) == ("sample", 0.078)


@pytest.mark.parametrize(("flags", "name", "value"), [
    (["--agent-type", "IQN"], "alg", "iqn"), (["--agent_type=DQN"], "alg", "marinenav_dqn"),
    (["-D", "cpu"], "device", "cpu"), (["--seed=7"], "seed", 7), (["--total_timesteps=400"], "eps_decay", 100),
    (["--batch_size=8"], "batch_size", 8), (["-P", "3"], "alg", "ac_iqn"), (["--greedy=mean", "--agent-type=SAC"],
                                                                         "greedy", "mean")])
def test_flags_win_over_the_file(flags, name, value):
    assert getattr(parsed(*flags), name) == value


@pytest.mark.parametrize(("changes", "name", "value"), [
    ({"env_batch_size": 8}, "num_envs", 8), ({"train_batch_size_total": 128}, "batch_size", 128),
    ({"grad_accum_steps": 4}, "grad_accum_steps", 4),
    ({"load_model": "m"}, "load_model", "m"), ({"seed": 3}, "seed", 3), ({"agent_type": "Rainbow"}, "alg", "rainbow"),
    ({"agent_type": ["DDPG"]}, "alg", "marinenav_ddpg")])
def test_keys_have_settings(changes, name, value):
    assert getattr(parsed(**changes), name) == value


def test_half_precision_is_off_unless_the_file_says_it():
    assert parsed().precision == parsed(amp_enabled=False).precision == "fp32"
    config = parsed(amp_enabled=True, grad_accum_steps=4, eval_freq=10)
    assert config.precision == "bf16"
    assert config.notes == ("note: eval_freq: got 10, evaluated every 8 steps, a multiple of 4",)
    trial = trial_of(config, "")
    assert (trial["amp_enabled"], trial["grad_accum_steps"]) == (True, 4)


@pytest.mark.parametrize(("changes", "flags", "message"), [
    ({"imitation_learning": True}, [], "imitation_learning: got true, expected false"),
    ({"agent_typ": "IQN"}, [], r"agent_typ: unknown key; did you mean agent_type\?"),
    ({"agent_type": "ACIQN"}, [], r"agent_type: got 'ACIQN'; did you mean AC-IQN\?"),
    ({}, ["--agent-type=PPO"], "agent_type: got 'PPO', expected one of AC-IQN, IQN"),
    ({"alg": "iqn"}, [], "alg: a key of another form"),
    ({"trainer": {}}, [], "trainer: a key of another form"), ({"seed": []}, [], r"seed: got \[\], expected a value"),
    ({"save_dir": {"a": 1}}, [], "save_dir: got .*, expected a value, or a list"),
    ({"seed": [0, 1]}, [], "config: got a grid of 2 trials"), ({"seed": "x"}, [], "seed: got 'x', expected an integer"),
    ({"total_timesteps": 0}, [], "total_timesteps: got 0, expected an integer at least 1"),
    ({"training_schedule": {"timesteps": [0], "num_robot": [1]}}, [], "training_schedule.num_robot: unknown key; did"),
    ({"training_schedule": {"timesteps": [0, 5], "num_robots": [1]}}, [], "training_schedule.num_robots: got .1., exp"),
    ({"training_schedule": {"num_robots": [1]}}, [], "training_schedule.num_robots: got .1., expected a list as long"),
    ({"training_schedule": {"timesteps": [0], "num_robots": [0]}}, [], "training_schedule.num_robots: got 0, exp"),
    ({"eval_schedule": 3}, [], "eval_schedule: got 3, expected an object of lists"),
    ({}, ["--num_procs=0"], "num_procs: got 0"),
], ids=lambda value: next(iter(value), "") if isinstance(value, dict) else None)
def test_what_is_wrong_is_one_line(changes, flags, message):
    with pytest.raises(ConfigError, match=message):
        parsed(*flags, **changes)


def test_an_agent_type_needs_the_form():
    Path("own.json").write_text('{"alg": "sac"}')
    for flags in ([], ["--config=own.json"]):
        with pytest.raises(ConfigError, match="agent_type: read with a file of the form of MarineNav's trainer alone"):
            parse_args(["--agent-type=IQN", *flags])


def test_a_record_repeats_its_run_and_says_the_published_keys():
    config = parsed(content=SMALL)
    Path("config.json").write_text(json.dumps(config.settings()))
    again = parse_args(["--config=config.json"])
    assert again.settings() == config.settings()
    trial = trial_of(again, "now")
    assert trial == SMALL | {"seed": 0, "training_time": "now", "env_batch_size": 1}


# Grids --------------------------------------------------------------------------------------------------------------

def test_lists_are_axes_in_the_order_of_the_keys():
    trials = expand(SMALL | {"seed": [0, 1], "agent_type": ["IQN", "SAC", "DQN"]})
    assert [(trial["seed"], trial["agent_type"]) for trial in trials] == list(
        itertools.product([0, 1], ["IQN", "SAC", "DQN"]))
    assert all(trial["training_schedule"] == SMALL["training_schedule"] for trial in trials)


def test_a_grid_has_one_time_and_a_directory_for_each_trial():
    path = write("c.json", seed=[0, 1], agent_type=["IQN", "SAC"])
    grid = read_grid(["-C", path, "-P", "2", "--batch_size=16"])
    assert list(grid.trials) == ["seed 0, agent_type IQN", "seed 0, agent_type SAC", "seed 1, agent_type IQN",
                                 "seed 1, agent_type SAC"]
    assert grid.jobs == 2
    directories = [settings["run_dir"].replace("{seed}", str(settings["seed"])) for settings in grid.trials.values()]
    assert len(set(directories)) == 4
    assert len({Path(one).parent for one in directories}) == 1
    assert [Path(one).name for one in directories[:2]] == ["seed_0_agent_type=IQN", "seed_0_agent_type=SAC"]
    assert {settings["batch_size"] for settings in grid.trials.values()} == {16}
    only = read_grid(["--config", path, "--agent-type=DDPG"])       # the flag wins over the axis
    assert [settings["alg"] for settings in only.trials.values()] == ["marinenav_ddpg"] * 2
    assert [Path(settings["run_dir"]).name for settings in only.trials.values()] == ["seed_{seed}"] * 2
    assert read_grid(["--config", path, "--agent-type=DDPG", "--seed=1"]) is None
    assert read_grid(["--alg=sac"]) is None
    with pytest.raises(ConfigError, match="config: got two equal trials, seed 0"):
        read_grid(["--config", write("c.json", seed=[0, 1, 0])])
    with pytest.raises(ConfigError, match="seeds, run_dir: not read with a grid"):
        read_grid(["--config", path, "--seeds=0,1"])


def test_a_grid_runs_in_lanes_and_the_same_command_resumes(capsys):
    """Two trials in processes of their own, with one time; then both are found done, without a process."""
    flags = ["--config", write("c.json", seed=[0, 1], total_timesteps=16, eval_freq=8), "-P", "2",
             "--test_timesteps=5", "--warmup=8", "--batch_size=4", "--buffer_size=100"]
    assert train.main(flags) == 0
    runs = sorted(Path("logs").glob("training_*/seed_*"))
    assert [run.name for run in runs] == ["seed_0", "seed_1"]
    assert len({run.parent for run in runs}) == 1
    assert "seed 0: done" in capsys.readouterr().out
    assert all((run / name).is_file() for run in runs for name in ("evaluations.npz", "trial_config.json", "run.json"))
    written = [(run / "metrics.csv").stat().st_mtime_ns for run in runs]
    assert train.main(flags) == 0
    assert sorted(Path("logs").glob("training_*/seed_*")) == runs
    assert [(run / "metrics.csv").stat().st_mtime_ns for run in runs] == written
    assert "running" not in capsys.readouterr().out
