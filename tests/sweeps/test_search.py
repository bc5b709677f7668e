"""A search over ranges: what is proposed, pruned and resumed, and the best settings."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from pathlib import Path

import optuna
import pytest
from runs import SMALL

import sweep
import train
from sweeps import lanes
from sweeps.search import Range, range_of, read_ranges
from utils.errors import ConfigError
from utils.settings.cli import parse_args

COMMON = dict(flag.lstrip("-").split("=") for flag in SMALL)
SEARCH = {"pi_lr": {"low": 1e-5, "high": 1e-2, "log": True}, "hidden_sizes": ["8", "16,16"]}


def write(search=SEARCH, env=("Pendulum-v1",), runs=None, **common) -> str:
    Path("find.json").write_text(json.dumps({"common": COMMON | common, "env": list(env),
                                             "runs": runs or {"SAC": {"alg": "sac"}}, "search": search}))
    return "find.json"


class Fake(lanes.Lanes):
    """Trials that write a learning curve: better the nearer pi_lr is to 1e-3; one line at each look."""

    started: list = []                  # noqa: RUF012
    fails: set = set()                  # noqa: RUF012
    most = math.inf                     # looks, after which Ctrl-C comes

    def start(self, trial):
        trial.read = lanes._make_log(trial.log)
        Fake.started.append(trial.settings | {"name": trial.name})
        score = -abs(math.log10(trial.settings["pi_lr"]) + 3)
        self.processes[trial.name] = [f"Epoch={i}  Timesteps={40 * i}  Rewards={score * (4 - i):.6f}" for i in
                                      (1, 2, 3)]

    def poll(self, trial):
        lines = self.processes[trial.name]
        Fake.most -= 1
        if Fake.most < 0:
            raise KeyboardInterrupt
        if trial.name in self.fails:
            return 2
        if trial.stopping:
            return 75
        if not lines:
            return 0
        with open(trial.log, "a") as log:
            log.write(lines.pop(0) + "\n")
        return None

    def stop(self, trial):
        pass

    def kill(self, trial):
        pass


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """An SQLite file with Optuna's tables, which take a second to make, and no study."""
    path = tmp_path_factory.mktemp("optuna") / "empty.db"
    optuna.storages.RDBStorage(f"sqlite:///{path}")
    return path


@pytest.fixture(autouse=True)
def _fake(monkeypatch, tables):
    Path("outputs/search").mkdir(parents=True)
    shutil.copy(tables, "outputs/search/find.db")
    monkeypatch.setattr(lanes, "Lanes", Fake)
    monkeypatch.setattr(sweep, "PAUSE", 0)
    monkeypatch.setattr(Fake, "started", [])
    monkeypatch.setattr(Fake, "fails", set())
    monkeypatch.setattr(Fake, "most", math.inf)


def study():
    return optuna.load_study(study_name="find", storage="sqlite:///outputs/search/find.db")


def test_values_are_proposed_within_their_ranges_and_the_best_is_a_config(capsys):
    assert sweep.main([write(), "--search=4", "--jobs=2"]) == 0
    out = capsys.readouterr().out
    values = [one["pi_lr"] for one in Fake.started]
    assert len(values) == 4
    assert all(1e-5 <= value <= 1e-2 for value in values)
    assert {one["hidden_sizes"] for one in Fake.started} <= {"8", "16,16"}
    best = min(values, key=lambda value: abs(math.log10(value) + 3))
    config = parse_args(["--config", "outputs/search/find.json"])
    assert config.pi_lr == pytest.approx(best)
    assert (config.env, config.alg, config.total_timesteps) == ("Pendulum-v1", "sac", 120)
    assert "train with `python train.py --config outputs/search/find.json`" in out
    assert re.search(r"best: return -[\d.e-]+ with pi_lr", out)


def test_the_value_of_a_trial_is_the_mean_of_its_last_evaluations():
    assert sweep.main([write(), "--search=1"]) == 0
    (trial,) = study().trials
    assert list(trial.intermediate_values) == [40, 80, 120]
    assert trial.value == pytest.approx(sum(trial.intermediate_values.values()) / 3)


def test_trials_below_the_median_are_stopped(capsys):
    assert sweep.main([write(), "--search=10", "--jobs=1"]) == 0
    states = [trial.state.name for trial in study().trials]
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert states[:5] == ["COMPLETE"] * 5
    for trial in study().trials:
        if trial.state.name == "PRUNED":
            assert len(trial.intermediate_values) < 3
    assert re.search(rf"{states.count('COMPLETE')} done, .*pruned|pruned, .*done", capsys.readouterr().out)


def test_the_same_command_resumes_the_study_and_its_open_trials(monkeypatch):
    Fake.most = 9
    assert sweep.main([write(), "--search=4", "--jobs=2"]) == 130
    done = [trial for trial in study().trials if trial.state.name == "COMPLETE"]
    left = [trial for trial in study().trials if trial.state.name == "RUNNING"]
    assert done
    assert left
    Fake.most, Fake.started[:] = math.inf, []
    assert sweep.main([write(), "--search=4", "--jobs=2"]) == 0
    assert len(study().trials) == 4
    assert [one["pi_lr"] for one in Fake.started[:len(left)]] == [trial.params["pi_lr"] for trial in left]
    assert len(Fake.started) == 4 - len(done)
    Fake.started.clear()
    assert sweep.main([write(), "--search=4"]) == 0
    assert not Fake.started
    assert sweep.main([write(), "--search=5"]) == 0
    assert len(Fake.started) == 1


def test_a_trial_that_fails_is_no_result(capsys):
    Fake.fails = {"SAC, Pendulum-v1, seed 0, trial 1"}
    assert sweep.main([write(), "--search=3", "--jobs=1"]) == 1
    assert [trial.state.name for trial in study().trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "trial 1: failed" in capsys.readouterr().err


def test_another_study_of_the_same_name_is_refused(capsys):
    assert sweep.main([write(), "--search=1"]) == 0
    assert sweep.main([write(gamma=0.9), "--search=2"]) == 2
    assert "search: outputs/search/find.db is a study of other settings or ranges" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "message"), [
    ({"search": {}}, "search: got {}, expected an object of ranges by setting"),
    ({"search": {"pi_lr": 3}}, "search: pi_lr: got 3, expected"),
    ({"search": {"pi_lr": {"low": 1}}}, "pi_lr: got {'low"),
    ({"search": {"pi_lr": {"low": 2, "high": 1}}}, "search: pi_lr: got .*, expected low below high"),
    ({"search": {"q_reg": {"low": 0, "high": 1, "log": True}}}, "expected low below high, and above 0 with log"),
    ({"search": {"pi_lr": {"low": -1, "high": 1}}}, "pi_lr: got -1"),
    ({"search": {"pi_rl": [1]}}, "pi_rl: unknown setting"),
    ({"search": {"engine": {"low": 0, "high": 1}}}, "search: engine: got a range, expected a list of values"),
    ({"search": {"seed": [1, 2]}}, "search: seed: not searched: --seeds chooses"),
    ({"runs": {"SAC": {"alg": "sac", "pi_lr": 1e-3}}}, "search: pi_lr: also a setting of the run"),
    ({"runs": {"a": {"alg": "sac"}, "b": {"alg": "td3"}}},
     r"runs: got 2 \(a, b\) with --search, expected one run; search each in a suite of its own"),
    ({"runs": {name: {"alg": "sac"} for name in "abcdefg"}}, r"runs: got 7 \(a, b, c, d, e, \.\.\.\) with"),
    ({"env": ["Pendulum-v1", "Hopper-v4"]}, r"env: got 2 \(Pendulum-v1, Hopper-v4\) with --search, expected one env"),
])
def test_what_cannot_be_searched_is_refused(given, message, capsys):
    assert sweep.main([write(**given), "--search=2"]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_one_seed_is_searched(capsys):
    assert sweep.main([write(), "--search=2", "--seeds=0,1"]) == 2
    assert "seeds: got 2 with --search, expected one" in capsys.readouterr().err


def test_without_optuna_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert sweep.main([write(), "--search=2"]) == 2
    assert "optuna is not installed; pip install -e '.[optuna]' installs it" in capsys.readouterr().err


def test_a_suite_with_ranges_also_runs_without_a_search():
    runs = {"SAC": {"alg": "sac", "q_lr": 1e-3}}
    assert sweep.main([write({"pi_lr": [1e-3]}, runs=runs, pi_lr=1e-4)]) == 0
    assert [one["pi_lr"] for one in Fake.started] == [1e-4]


def test_kinds_of_ranges():
    assert range_of("rrd_sample_size", [4, 8]) == Range("rrd_sample_size", (4, 8))
    assert range_of("hidden_sizes", [[8, 8], "4"]).choices == ("8,8", "4")
    assert range_of("batch_size", {"low": 4, "high": 64, "log": True}) == Range("batch_size", None, 4, 64, True)
    Path("none.json").write_text('{"env": ["Pendulum-v1"], "runs": {"SAC": {}}}')
    with pytest.raises(ConfigError, match=r"got no ranges in 'none\.json'"):
        read_ranges(Path("none.json"))


@pytest.mark.slow
def test_real_trials_are_searched(monkeypatch):
    monkeypatch.setattr(lanes, "Lanes", Fake.__base__)
    monkeypatch.setattr(sweep, "PAUSE", 0.2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert sweep.main([write({"pi_lr": [1e-4, 1e-3]}), "--search=2", "--jobs=1"]) == 0
    assert [trial.state.name for trial in study().trials] == ["COMPLETE", "COMPLETE"]
    assert train.main(["--config", "outputs/search/find.json", "--tag=best"]) == 0
