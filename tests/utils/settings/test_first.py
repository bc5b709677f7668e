"""A module of the user's that another one comes before is named, with the one that was found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from utils.errors import ConfigError
from utils.settings.imports import check_first, import_modules

ROOT = Path(__file__).resolve().parent.parent.parent.parent
pytestmark = pytest.mark.usefixtures("forget")
SMALL = ["--alg=sac", "--total_timesteps=20", "--iterations=1", "--timesteps=20", "--test_rollouts=0",
         "--test_timesteps=10", "--buffer_size=100"]
ENV = """
import sys
sys.path.append(TESTS)
import gymnasium as gym
from tiny_envs import Clock
gym.register("Mine-v0", Clock)
""".replace("TESTS", repr(str(ROOT / "tests")))


def last_line(*argv: str) -> str:
    done = subprocess.run([sys.executable, str(ROOT / "train.py"), *argv, *SMALL], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2, done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("folder", "argv"), [
    ("envs", ["--env=envs.mine:Mine-v0"]), ("utils", ["--import=utils.mine", "--env=Mine-v0"]),
    ("algorithm", ["--import=algorithm.mine", "--env=Mine-v0"]), ("results", ["--import=task", "--env=Mine-v0"]),
], ids=str)
def test_a_package_of_ones_own_with_a_name_of_ours(folder, argv):
    Path(folder).mkdir()
    Path(folder, "__init__.py").touch()
    Path(folder, "mine.py").write_text(ENV)
    Path("task.py").write_text(f"import {folder}.mine")
    line = last_line(*argv)
    assert f"the module {folder!r} that comes first on the path is {ROOT / folder}; rename yours" in line
    assert "pip install" in line


def test_a_module_of_ones_own_with_the_name_of_a_program_is_not_mistaken_for_it():
    Path("plot.py").write_text(ENV)
    assert f"the module 'plot' that comes first on the path is {ROOT / 'plot.py'}" in last_line("--import=plot",
                                                                                            "--env=Mine-v0")


def test_a_module_of_another_package_is_named_as_well():
    Path("json.py").write_text(ENV)
    with pytest.raises(ConfigError, match=r"^import: 'json' was not read from .*the module 'json' .*; rename yours$"):
        import_modules(["json"])


def test_a_name_that_a_module_does_not_hold_is_the_modules_error():
    Path("utils").mkdir()
    Path("utils", "__init__.py").touch()
    Path("task.py").write_text("from utils import maths")
    with pytest.raises(ConfigError, match="the module 'utils' that comes first"):
        import_modules(["task"])


def test_what_is_found_here_or_has_no_twin_here_is_fine():
    Path("fine.py").touch()
    Path("folder").mkdir()
    for name in ("fine", "utils.text", "folder", "nothing.there", ""):
        check_first(name)
    import_modules(["fine"])
