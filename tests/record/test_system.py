"""The code that a run's record names."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from record import system
from utils.installed import HERE, ROOT


def git(*command: str) -> str:
    done = subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], capture_output=True,
                          text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_this_repository():
    expected = None if ROOT or not (HERE / ".git").exists() else git("-C", str(HERE), "rev-parse", "HEAD")
    assert system.describe_system("cpu")["git_commit"] == expected


def test_the_commit_of_a_project_around_the_sources_is_not_ours(monkeypatch):
    """A virtual environment, or a copy of the sources, often lies in the repository of a user's own project."""
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message=theirs")
    copy = Path("venv/lib").absolute()
    shutil.copytree(HERE / "record", copy / "record")
    monkeypatch.setattr(system, "HERE", copy)
    assert system._git("rev-parse", "HEAD") is None
    monkeypatch.setattr(system, "HERE", Path.cwd().resolve())
    assert system._git("rev-parse", "HEAD") == (None if ROOT else git("rev-parse", "HEAD"))


def test_another_version_of_a_wheel_is_other_code():
    facts = {**system.describe_system("cpu"), "git_commit": None}
    versions = [{**facts, "versions": {**facts["versions"], "return-decomposition": one}} for one in ("0.1.0", "0.2.0")]
    assert list(system.differences(*versions)) == [("code", "0.1.0", "0.2.0")]
    assert list(system.differences(versions[0], versions[0])) == []
