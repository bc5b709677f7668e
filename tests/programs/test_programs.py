"""How every program begins, with closed descriptors or missing packages."""

from __future__ import annotations

import ast
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


# What an old Python reads of each thing that a user can start, up to the check of its version.
STARTED = {"train.py": [], "evaluate.py": [], "plot.py": [], "report.py": [], "sweep.py": [], "relabel.py": [],
           "doctor.py": [],
           "return_decomposition": ["return_decomposition/__init__.py"],
           "return_decomposition.cli": ["return_decomposition/__init__.py"],
           "utils.tf_checkpoint": ["utils/__init__.py", "utils/tf_checkpoint.py"],
           "algorithm.tf.convert": ["algorithm/__init__.py"], "sweeps.schema": ["sweeps/__init__.py"],
           "adapters.convert_sb3": ["adapters/__init__.py"],
           "utils.settings.schema": ["utils/__init__.py", "utils/settings/__init__.py"]}
OLD = """
import runpy, sys
sys.version_info = (3, 6, 9, "final", 0)
sys.argv = [sys.argv[1], "--help"]
if sys.argv[0].endswith(".py"):
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("name", STARTED)
def test_a_python_that_is_too_old_is_one_line(name):
    where = str(ROOT / name) if name.endswith(".py") else name
    done = subprocess.run([sys.executable, "-c", OLD, where], env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    called = name if ".py" in name else "tf_checkpoint.py" if "tf_ch" in name else "return_decomposition"
    assert done.stderr == (f"{called}: Python 3.6.9 at {sys.executable}, expected 3.11 or newer: `make "
                           "PYTHON=python3.12` makes .venv with one\n")


@pytest.mark.parametrize("name", sorted({"python_check.py", "program.py", *(name for name in STARTED if ".py" in name),
                                         *(file for files in STARTED.values() for file in files)}))
def test_what_an_old_python_reads_before_the_check_has_no_newer_syntax(name):
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 7))
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert future == []                                 # 3.6 knows no annotations there
    first = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [getattr(node, "module", None) or node.names[0].name for node in first]
    ours = [one for one in names if one.partition(".")[0] not in sys.stdlib_module_names]
    assert ours[:1] in ([], ["python_check"], ["program"])
