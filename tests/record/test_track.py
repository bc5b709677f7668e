"""--track, with a stand-in for Weights & Biases: the calls it gets, and that its failures end no run."""

from __future__ import annotations

import json
import math
import os
import sys
import types
from pathlib import Path

import pytest
from resumes import same
from runs import SMALL, run

import train
from record.directories import MAY_CHANGE
from record.track import import_wandb
from utils.errors import ConfigError

ARGV = ["--alg=sac", "--env=Match-v0", *SMALL]


class Standin(types.ModuleType):
    """`init`, `login` and `Settings` as documented; records its calls."""

    def __init__(self, fails: str = "", key: bool = False):
        super().__init__("wandb")
        self.fails, self.key, self.runs = fails, key, []

    def login(self, prompt=True, verify=True) -> bool:
        assert not prompt, "it would ask"
        return self.key

    def Settings(self, *, silent, console, init_timeout):
        return {"silent": silent, "console": console, "init_timeout": init_timeout}

    def init(self, *, project, id, name, dir, config, tags, mode, resume, allow_val_change, reinit,
             settings):
        self.fail("init")
        json.dumps(config)
        assert all(1 <= len(tag) <= 64 for tag in tags)
        assert (resume, allow_val_change, reinit, settings["silent"]) == ("allow", True, "create_new", True)
        assert Path(dir).is_dir()
        self.runs.append(StandinRun(self, dict(project=project, id=id, name=name, config=config, tags=tags, mode=mode)))
        return self.runs[-1]

    def fail(self, where: str) -> None:
        if self.fails == where:
            raise ConnectionError(f"{where}\nhas failed")


class StandinRun:
    def __init__(self, module: Standin, facts: dict):
        self.module, self.facts, self.rows, self.ended = module, facts, [], None

    def log(self, data, step):
        self.module.fail("log")
        assert all(math.isfinite(value) for value in data.values())
        self.rows.append((step, data))

    def finish(self, exit_code):
        self.module.fail("finish")
        self.ended = exit_code


@pytest.fixture
def wandb(monkeypatch):
    """Put a stand-in where the package would be."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", "none")

    def put(*args, **kwargs) -> Standin:
        monkeypatch.setitem(sys.modules, "wandb", Standin(*args, **kwargs))
        return sys.modules["wandb"]
    yield put
    os.environ.pop("WANDB_SILENT", None)


def test_a_run_is_tracked_as_it_is_recorded(wandb):
    module = wandb()
    finished = run(*ARGV, "--track", f"--tag={'x' * 100}")
    (tracked,) = module.runs
    assert tracked.ended == 0
    assert [step for step, _ in tracked.rows] == [40, 80, 120]
    for (_, values), row in zip(tracked.rows, finished.rows, strict=True):
        assert {name: f"{value:.10g}" for name, value in values.items()} == {k: v for k, v in row.items() if v}
    facts = tracked.facts
    assert (facts["project"], facts["name"]) == ("return-decomposition", finished.directory.name)
    assert facts["id"] == finished.facts["wandb"]
    assert facts["config"] == finished.config
    assert facts["tags"] == ["x" * 64, "sac", "Match-v0"]
    assert os.environ["WANDB_SILENT"] == "true"


def test_the_record_is_the_same_without_tracking(wandb):
    wandb()
    tracked, alone = run(*ARGV, "--track", "--tag=a"), run(*ARGV, "--tag=b")
    same(tracked.directory, alone.directory)
    assert "wandb" not in alone.facts


@pytest.mark.parametrize(("key", "variable", "mode"), [(False, None, "offline"), (True, None, "online"),
                                                       (True, "offline", "offline"), (False, "disabled", "disabled")])
def test_without_a_login_it_is_offline_and_asks_for_none(wandb, monkeypatch, key, variable, mode):
    module = wandb(key=key)
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    run(*ARGV, "--track")
    assert (module.runs[0].facts["mode"], module.runs[0].facts["project"]) == (mode, "mine")


@pytest.mark.parametrize(("variables", "netrc", "mode"), [
    ({}, None, "offline"), ({"WANDB_API_KEY": "k"}, None, "online"), ({}, "machine api.wandb.ai login user password k",
                                                                      "online"),
    ({}, "machine example.org login user password k", "offline"), ({}, "machine api.wandb.ai login user", "offline"),
    ({"WANDB_BASE_URL": "https://example.org"}, "machine example.org login user password k", "online"),
    ({}, "what is this", "offline"),
], ids=str)
def test_an_older_package_is_not_asked_who_has_logged_in(wandb, monkeypatch, variables, netrc, mode):
    module = wandb()
    module.login = lambda key=None: pytest.fail("it would ask")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if netrc:
        Path("none").write_text(netrc + "\n")
    run(*ARGV, "--track")
    assert module.runs[0].facts["mode"] == mode


def test_a_resumed_run_keeps_its_id(wandb):
    module = wandb()
    directory = run(*ARGV, "--track").directory
    for steps, track in ((160, "True"), (200, "False"), (240, "True")):
        assert train.main([f"--resume={directory}", f"--total_timesteps={steps}", f"--track={track}"]) == 0
    assert len({tracked.facts["id"] for tracked in module.runs}) == 1
    assert [[step for step, _ in tracked.rows] for tracked in module.runs] == [[40, 80, 120], [160], [240]]
    assert "track" in MAY_CHANGE


@pytest.mark.parametrize("facts", ["", "[]", '{"wandb": 3}', '{"wandb": "../../x"}'])
def test_a_run_whose_id_is_lost_begins_a_new_one(wandb, facts):
    module = wandb()
    directory = run(*ARGV, "--track").directory
    (directory / "run.json").write_text(facts)
    assert train.main([f"--resume={directory}", "--total_timesteps=160"]) == 0
    first, second = (tracked.facts["id"] for tracked in module.runs)
    assert first != second
    assert second.isalnum()


def test_every_seed_is_tracked_as_its_own_run(wandb):
    module = wandb()
    assert train.main([*ARGV, "--track", "--seeds=0,1"]) == 0
    assert len({tracked.facts["id"] for tracked in module.runs}) == 2
    assert sorted(tracked.facts["config"]["seed"] for tracked in module.runs) == [0, 1]
    assert [tracked.ended for tracked in module.runs] == [0, 0]


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_a_failure_of_tracking_is_one_warning(wandb, fails, capsys):
    wandb(fails=fails)
    finished = run(*ARGV, "--track")
    shown = capsys.readouterr()
    assert shown.out.count("Weights & Biases") == 1
    assert ("note: Weights & Biases failed, the run continues without it: "
            f"ConnectionError: {fails} has failed") in shown.out
    assert shown.err == ""
    assert len(finished.rows) == 3


def test_an_error_that_ends_the_run_is_tracked(wandb, monkeypatch):
    module = wandb()

    def fail(self):
        raise ValueError("broken")
    monkeypatch.setattr("learner.Learner.learn", fail)
    with pytest.raises(ValueError, match="broken"):
        train.main([*ARGV, "--track"])
    assert module.runs[0].ended == 1


@pytest.mark.parametrize("there", [None, types.ModuleType("wandb")], ids=["absent", "a folder"])
def test_without_the_package_the_extra_is_named_before_anything_is_built(monkeypatch, capsys, there):
    monkeypatch.setitem(sys.modules, "wandb", there)
    monkeypatch.setattr("envs.make_env", lambda config: pytest.fail("an environment was built"))
    assert train.main([*ARGV, "--track"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("train.py: track: wandb is not installed; pip install")
    assert "[track]" in err
    assert err.count("\n") == 1
    assert not Path("outputs").exists()
    os.environ.pop("WANDB_SILENT", None)


def test_wandb_is_imported_only_with_track(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    run(*ARGV)


@pytest.mark.parametrize("error", ["TypeError", "AttributeError", "ImportError", "RuntimeError"])
def test_a_wandb_whose_import_fails_gives_a_one_line_error(error, monkeypatch):
    Path("wandb.py").write_text(f"raise {error}('Descriptors cannot\\nbe created')")
    monkeypatch.syspath_prepend(".")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(ConfigError, match=f"^track: wandb cannot be imported: {error}: Descriptors cannot be created; "
                                          "reinstall it, or leave out --track$"):
        import_wandb()


def test_a_run_on_policy_is_logged_after_each_rollout(wandb):
    module = wandb()
    run("--device=cpu", "--alg=ppo", "--env=PointMassRL", "--num_envs=2", "--rollout_steps=20", "--batch_size=20",
        "--iterations=2", "--total_timesteps=80", "--test_timesteps=10", "--test_rollouts=1", "--track")
    rows = module.runs[0].rows
    assert [step for step, _ in rows] == [40, 80, 80]
    assert {"train/actor_loss", "charts/SPS", "charts/episode_reward_avg_100"} <= set(rows[0][1])
    assert {"eval/avg_reward", "metrics/success", "rewards/goal", "KL"} <= set(rows[2][1])
    assert "Pi_loss" not in rows[2][1]
