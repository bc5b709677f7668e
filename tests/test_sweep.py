"""Environments x algorithms x seeds: each trial is its single run; what failed or was stopped is gone on with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import ROOT, SMALL
from saved import digest

import sweep

COMMON = dict(flag.lstrip("-").split("=") for flag in SMALL)
RUNS = {"SAC": {"alg": "sac"}, "RRD-SAC": {"alg": "rrd", "rrd_batch_size": 8, "rrd_sample_size": 4}}


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    """Trials find the tests' environments."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def write(env=("Pendulum-v1",), runs=RUNS, **common) -> str:
    Path("suite.json").write_text(json.dumps({"common": COMMON | common, "env": list(env), "runs": runs}))
    return "suite.json"


def directories(pattern: str) -> list[Path]:
    return sorted(path for path in Path("outputs").glob(pattern) if (path / "config.json").exists())


def test_every_trial_is_its_single_run(capsys):
    assert sweep.main([write(), "--seeds=0,1", "--jobs=2"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("4 done\n")
    assert out.count(": running") == out.count(": done") == 4
    assert len(directories("*")) == 4
    (ours,) = directories("RRD-SAC_seed_1-*")
    single = ["--tag=single", "--seed=1", "--env=Pendulum-v1", *SMALL,
              *(f"--{name}={value}" for name, value in RUNS["RRD-SAC"].items())]
    subprocess.run([sys.executable, ROOT / "train.py", *single], check=True, capture_output=True)
    (theirs,) = directories("single*")
    assert digest(ours) == digest(theirs)


def test_the_same_command_again_goes_on(capsys):
    suite = write(runs={"SAC": RUNS["SAC"]})
    assert sweep.main([suite]) == 0
    (run,) = directories("*")
    before = (run / "metrics.csv").read_bytes()
    assert sweep.main([suite]) == 0
    assert directories("*") == [run]
    assert (run / "metrics.csv").read_bytes() == before


def test_a_trial_that_fails_is_tried_again_told_and_stops_no_other(capsys):
    runs = {"bad": {"alg": "sac", "num_envs": 2, "worker_restarts": 0}, "SAC": {"alg": "sac"}}
    env = "tiny_envs:Fails-kill-v0"
    suite = write([env], {"bad": runs["bad"]})
    assert sweep.main([suite]) == 2
    assert capsys.readouterr().err == ("sweep.py: env: 'tiny_envs:Fails-kill-v0' names a module to import, which only "
                                       "a flag may: give --import=tiny_envs\n")
    assert sweep.main([suite, "--retries=2", "--import=tiny_envs"]) == 1
    err = capsys.readouterr().err
    assert re.match(r"sweep\.py: bad, tiny_envs:Fails-kill-v0, seed 0: failed 3 times: train\.py: env: .* "
                    r"\(all of it in outputs/sweep/bad,_tiny_envs:Fails-kill-v0,_seed_0\.log\)\n$", err)
    full = runs | {"bad": {"alg": "sac", "buffer_size": 10**15}}
    assert sweep.main([write(["Pendulum-v1"], full), "--retries=0"]) == 1
    told = capsys.readouterr()
    assert "SAC, Pendulum-v1, seed 0: done" in told.out
    assert "bad, Pendulum-v1, seed 0: failed 1 times: train.py: buffer_size" in told.err


@pytest.mark.parametrize(("suite", "message"), [
    ({}, "env: missing in 'suite.json'"),
    ({"env": ["A"], "runs": {"x": 3}}, "runs: 'x': got 3, wants an object of settings"),
    ({"env": "A", "runs": {"x": {}}}, 'env: got "A", wants list that is not empty'),
    ({"env": ["A"], "runs": {}}, "runs: got {}, wants dict that is not empty"),
    ({"env": ["A"], "runs": {"x": {"alg": "sac"}}, "more": 1}, "more: unknown in a suite, wants common, env, runs"),
    ({"env": ["A"], "runs": {"x": {"alg": "what"}}}, "alg: got 'what', wants one of"),
    ({"env": ["A"], "runs": {"x": {"alg": "sac", "gama": 1}}}, "--gama: unknown flag; did you mean --gamma?"),
])
def test_a_wrong_suite_is_one_line_and_nothing_is_started(suite, message, capsys):
    Path("suite.json").write_text(json.dumps(suite))
    assert sweep.main(["suite.json"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"sweep.py: {message}")
    assert err.count("\n") == 1
    assert not Path("outputs").exists()


@pytest.mark.parametrize("flags", [["nowhere.json"], ["suite.json", "--seeds=x"], ["suite.json", "--engine=ray"]])
def test_wrong_flags(flags, capsys):
    write()
    if "--engine=ray" in flags and _has_ray():
        pytest.skip("ray is installed")
    assert sweep.main(flags) == 2
    assert capsys.readouterr().err.count("\n") == 1


def _has_ray() -> bool:
    import importlib.util
    return importlib.util.find_spec("ray") is not None


def test_a_signal_stops_all_trials_which_save_themselves(capsys):
    write(total_timesteps=100_000_000)
    with subprocess.Popen([sys.executable, ROOT / "sweep.py", "suite.json", "--jobs=2"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while len(list(Path("outputs").glob("*/checkpoints/last.safetensors"))) < 2:
            assert time.monotonic() < end
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "sweep.py: interrupted; the same command goes on\n"
    assert out.endswith("2 stopped\n")
    assert all(digest(path) for path in directories("*"))


def test_trials_on_a_local_ray_cluster(capsys):
    pytest.importorskip("ray")
    assert sweep.main([write(runs={"SAC": RUNS["SAC"]}), "--seeds=0,1", "--engine=ray", "--jobs=2"]) == 0
    assert capsys.readouterr().out.endswith("2 done\n")
    assert len(directories("*")) == 2
