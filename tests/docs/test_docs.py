"""The code, tables and limits of the README, and the pins of the build."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest
import setuptools

from sweeps.suite import read_suite
from utils.settings.algorithms import ALGORITHMS
from utils.settings.cli import parse_args
from utils.settings.json_files import read_json

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
LONG = "total_timesteps=20_000"
SHORT = ("total_timesteps=400, timesteps=50, iterations=4, warmup=200, test_rollouts=1, batch_size=8, "
         "rrd_batch_size=8, rrd_sample_size=4")


def test_python_in_the_readme_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert LONG in code
    names = {}
    exec(compile(code.replace(LONG, SHORT), "README.md", "exec"), names)
    assert isinstance(names["learned"], float)
    assert names["learned"] != names["info"]["true_reward"]


@pytest.mark.parametrize("number", [0, 1])
def test_python_on_the_page_of_the_api_runs(number):
    codes = re.findall(r"```python\n(.*?)```", API, re.DOTALL)
    assert len(codes) == 2
    exec(compile(codes[number], "api.md", "exec"), {})
    assert Path("model.safetensors").exists() == bool(number)


def test_python_on_the_page_of_marinenav_runs():
    page, names = (ROOT / "docs" / "marinenav.md").read_text(encoding="utf-8"), {}
    codes = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for code in codes:
        exec(compile(code, "marinenav.md", "exec"), names)
    assert len(codes) == 2
    assert names["layout"].start.shape == (3, 2, 2)


def test_python_on_the_page_of_torchrl_runs():
    page, names = (ROOT / "docs" / "torchrl.md").read_text(encoding="utf-8"), {}
    codes = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for code in codes:
        exec(compile(code, "torchrl.md", "exec"), names)
    assert len(codes) == 2
    assert names["rewards"].shape == (64, 1)
    assert names["rollout"]["objects_state"].shape == (4, 20, 3, 5, 5)


def test_python_on_the_page_of_arena_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "arena.md").read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(compile(code.replace("4096", "4"), "arena.md", "exec"), names)
    assert names["picture"].shape == (768, 1216, 3)
    assert names["obs"].shape == (4, 32)


def test_python_on_the_page_of_recorded_episodes_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "offline.md").read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)                # of what the data set's metadata lack
        exec(compile(code.replace("updates=50", "updates=2"), "offline.md", "exec"), names)
    assert names["paid"][0].rewards[:-1].any()
    assert not names["data"][0].rewards[:-1].any()


def test_the_readme_has_at_most_700_words_and_its_two_commands_first():
    assert len(README.split()) <= 700
    assert "make train" in README[:600]
    assert "make test" in README[:600]


def test_every_algorithm_is_in_the_readmes_table():
    table = README.partition("## Algorithms")[2].partition("##")[0]
    built_in = [name for name, one in ALGORITHMS.items() if one.built_in]
    assert len(built_in) >= 7
    assert all(f"`{name}`" in table for name in built_in)


CONFIGS = {path.name for path in (ROOT / "configs").glob("*.json")} - {"schema.json", "suite.schema.json"}
SUITES = {name for name in CONFIGS if "runs" in json.loads((ROOT / "configs" / name).read_text())}


@pytest.mark.parametrize("path", sorted(CONFIGS - SUITES))
def test_every_config_is_understood(path):
    env = read_json(ROOT / "configs" / path)["env"]
    parse_args(["--config", str(ROOT / "configs" / path), *([f"--env={env}"] if ":" in env else [])])


@pytest.mark.parametrize("path", sorted(SUITES))
def test_every_suite_is_understood(path):
    suite = json.loads((ROOT / "configs" / path).read_text())
    own = sorted({env.partition(":")[0] for env in suite["env"] if ":" in env})         # modules to import
    trials = read_suite(ROOT / "configs" / path, "0-2", own)
    assert len(trials) == 3 * len(suite["env"]) * len(suite["runs"])


def test_oldest_are_the_declared_floors_and_everything_declared_is_pinned(monkeypatch):
    given = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, "setup", given.update)
    runpy.run_path("setup.py")
    extras = given["extras_require"]
    others = "tensorflow-cpu|ale-py|stable-baselines3|torchrl|tensordict"
    optional = [entry for entry in extras["test"] if re.match(others, entry)]
    declared = extras["tensorflow"] + extras["atari"] + extras["sb3"] + extras["torchrl"]
    assert sorted(declared) == sorted(entry.replace("-cpu", "") for entry in optional)
    floors = dict(re.sub(r"\[.*\]", "", entry).split(">=") for entry in given["install_requires"] + optional)
    oldest, pins = (dict(re.findall(r"^([\w-]+)==(.+)$", (ROOT / name).read_text(), re.MULTILINE))
                    for name in ("constraints-oldest.txt", "constraints.txt"))
    assert floors == oldest
    assert set(floors) <= set(pins)


# The migration guide ------------------------------------------------------------------------------------------------

GUIDE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n# (PyTorch|TensorFlow 2|TensorFlow 1\.12)\n(.*?)```", GUIDE, re.DOTALL)


def test_every_block_of_the_guide_names_its_framework():
    assert len(BLOCKS) == GUIDE.count("```python") >= 19


def test_both_sides_of_the_guide_run_and_compute_the_same(monkeypatch):
    pytest.importorskip("tensorflow")
    sides: dict[str, dict] = {"PyTorch": {}, "TensorFlow 2": {}}
    compared = set()
    for backend, code in BLOCKS:
        if backend in sides:
            exec(compile(code, f"migration.md ({backend})", "exec"), sides[backend])
        if backend == "TensorFlow 2":
            ours, theirs = sides.values()
            for name in {"action", "mean", "loss", "info", "weight"} & set(theirs):
                compared.add(name)
                both = [side[name] if isinstance(side[name], dict) else {name: side[name]} for side in (ours, theirs)]
                assert both[0].keys() == both[1].keys()
                for key in both[0]:
                    np.testing.assert_allclose(both[0][key], both[1][key], 1e-4, 1e-6, err_msg=f"{name} {key}")
    assert compared == {"action", "mean", "loss", "info", "weight"}


@pytest.mark.parametrize("command", re.findall(r"^ {4}(?:USE_PYTORCH=0 )?python train\.py (.*)$", GUIDE, re.MULTILINE))
def test_commands_in_the_guide_are_understood(command):
    parse_args(shlex.split(command))


def test_every_file_that_the_guide_names_is_there():
    ours = [cell for row in re.findall(r"^\| `\w.*\|$", GUIDE.partition("## How to switch")[0], re.MULTILINE)
            for cell in row.strip("|").split("|")[1:]]
    named = [name for cell in ours for name in re.findall(r"`([\w/{},.]+(?:\.py|/))`", cell)]
    assert len(named) >= 15
    for name in named:
        stem, brace, rest = name.partition("{")
        names, _, tail = rest.partition("}")
        for path in [stem + part + tail for part in names.split(",")] if brace else [name]:
            assert path.startswith("outputs/") or (ROOT / path).exists(), path


def test_the_table_of_the_first_results_equals_the_scores():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    six_ways = page.partition("## Six ways to reward SAC")[2].partition("\n## ")[0]
    with open(ROOT / "benchmarks" / "results" / "scores.csv", newline="") as file:
        scores = {(row["algorithm"], row["env"]): row for row in csv.DictReader(file)}
    names = {"SAC, paid at each step": "SAC (dense reward)", "SAC, paid at the end": "SAC"}
    head, _, *rows = re.findall(r"^\|(.*)\|$", six_ways, re.MULTILINE)
    envs = [cell.strip() for cell in head.split("|")[1:]]
    assert len(envs) * len(rows) == len(scores) == 18
    for name, *cells in ([cell.strip() for cell in row.split("|")] for row in rows):
        for env, cell in zip(envs, cells, strict=True):
            found = scores[names.get(name, name), env]
            assert cell == "{:.0f} [{:.0f}, {:.0f}]".format(*(float(found[key]) for key in ("value", "low", "high")))
