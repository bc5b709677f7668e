"""How every program begins, with closed descriptors or missing packages."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from program import REQUIRED, run_program

ROOT = Path(__file__).resolve().parent.parent.parent


def python(code: str, closed: str = "", flags: tuple[str, ...] = (), **env: str) -> subprocess.CompletedProcess:
    """Run code that may import this project, by a shell that closes some of the standard descriptors."""
    return subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, *flags, "-c", code],
                          env=os.environ | {"PYTHONPATH": str(ROOT)} | env, capture_output=True, text=True, check=False)


OPENS = """
import subprocess, sys, program
from utils.errors import ConfigError

def work():
    with open("new", "w") as file:
        number = file.fileno()
        subprocess.run(["sh", "-c", "echo out; echo err >&2; cat"])     # a child has them, too
    with open("number", "w") as file:
        file.write(str(number))
    raise ConfigError("told")
sys.exit(program.run_program("x", work))
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_descriptor_is_opened_on_the_null_device(closed):
    """Otherwise a file would become the standard error, and MuJoCo's GLFW could not be loaded."""
    done = python(OPENS, closed)
    assert done.returncode == 2
    assert int(Path("number").read_text()) > 2
    assert Path("new").read_text() == ""
    assert done.stdout == ("" if " >&-" in f" {closed}" else "out\n")
    assert done.stderr == ("" if "2>&-" in closed else "err\nx: told\n")


def test_every_package_that_setup_requires_is_reported_if_missing():
    listed = re.search(r"install_requires=\[(.*?)\n    \]", (ROOT / "setup.py").read_text(), re.DOTALL)[1]
    modules = {"opencv-python-headless": "cv2"}
    assert tuple(modules.get(name, name) for name in re.findall(r'"([\w-]+)', listed)) == REQUIRED


@pytest.mark.parametrize("program", ["train.py", "evaluate.py"])
def test_a_clone_without_its_packages_reports_how_to_install_them(program):
    """A clone without site-packages."""
    given = {"train.py": "--env=Pendulum-v1", "evaluate.py": "."}[program]
    done = subprocess.run([sys.executable, "-S", str(ROOT / program), given], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": ""}, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"\w+\.py: \w+ is not installed; `pip install -e \.` installs it\n",
                        done.stderr)


@pytest.mark.parametrize("name", ["nosuchmodule", "torch.nosuchmodule"])
def test_a_missing_module_of_the_users_code_stays_a_traceback(name):
    def work():
        importlib.import_module(name)
    with pytest.raises(ModuleNotFoundError, match=f"No module named '{name}'"):
        run_program("x", work)
