"""What the README and the build promise."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
import setuptools

from utils.cli import parse_args
from utils.config import ALGORITHMS, DECOMPOSITIONS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_in_the_readme_runs(code):
    exec(compile(code, "README.md", "exec"), {})
    assert Path("model.safetensors").exists()


@pytest.mark.parametrize("command", re.findall(r"^ {4}python train\.py (.*)$", README, re.MULTILINE))
def test_commands_in_the_readme_are_understood(command):
    parse_args(shlex.split(command))


def test_every_algorithm_is_in_the_readmes_table():
    for name in ("ddpg", "td3", "sac", "rrd", "ircr"):
        assert f"| `{name}` |" in README
        assert name in ALGORITHMS | DECOMPOSITIONS


@pytest.mark.parametrize("path", sorted(path.name for path in (ROOT / "configs").glob("*.json")))
def test_every_config_is_understood(path):
    parse_args(["--config", str(ROOT / "configs" / path)])


def test_the_build_holds_the_packages_and_the_script_but_no_tests(monkeypatch):
    given = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, "setup", given.update)
    runpy.run_path("setup.py")
    assert set(given["packages"]) == {"algorithm", "algorithm.basis_alg", "algorithm.replay_buffer", "envs", "learner",
                                      "utils"}
    assert given["py_modules"] == ["train"]


def test_oldest_are_the_declared_floors_and_everything_declared_is_pinned(monkeypatch):
    given = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, "setup", given.update)
    runpy.run_path("setup.py")
    floors = dict(re.sub(r"\[.*\]", "", entry).split(">=") for entry in given["install_requires"])
    oldest, pins = (dict(re.findall(r"^([\w-]+)==(.+)$", (ROOT / name).read_text(), re.MULTILINE))
                    for name in ("constraints-oldest.txt", "constraints.txt"))
    assert floors == oldest
    assert set(floors) <= set(pins)
