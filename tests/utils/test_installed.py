"""Hints and names: in a clone, by the command `rrd`, and (simulated) in a wheel."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

from program import complain
from utils import installed

LISTED = ["torch>=2.10.0", "gymnasium[mujoco]>=1.1.0", "matplotlib>=3.9; extra == \"plot\"",
          "jinja2>=3.1.3 ; extra == 'plot'", "ray>=2.40; extra == \"ray\""]


@pytest.fixture
def wheel(monkeypatch):
    """Pretend that this module is the wheel's."""
    monkeypatch.setattr(installed, "ROOT", "return_decomposition.")
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: LISTED)


@pytest.fixture
def by_rrd(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/home/me/.venv/bin/rrd", "train", "--nope"])


def test_in_a_clone_hints_install_the_clone():
    assert installed.pip_install("plot") == "pip install -e '.[plot]'"
    assert installed.pip_install() == "pip install -e ."


@pytest.mark.usefixtures("wheel")
def test_in_a_wheel_hints_name_the_packages_of_its_metadata():
    assert installed.pip_install("plot") == "pip install 'matplotlib>=3.9' 'jinja2>=3.1.3'"
    assert installed.pip_install("ray") == "pip install 'ray>=2.40'"
    assert installed.pip_install() == "pip install 'torch>=2.10.0' 'gymnasium[mujoco]>=1.1.0'"


@pytest.mark.usefixtures("wheel")
def test_a_wheel_that_was_copied_instead_of_installed_has_no_metadata(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)
    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert installed.pip_install("plot") == "pip install the packages of the extra `plot`"
    assert installed.pip_install() == "pip install the packages that setup.py requires"


def test_names_of_programs_in_a_clone():
    assert installed.called("train.py") == "train.py"
    assert installed.module_of("train") == "train"
    assert installed.started_by("train") == [str(installed.HERE / "train.py")]
    assert installed.room_of("algorithm.engine.eager") == "algorithm"


@pytest.mark.usefixtures("wheel")
def test_names_in_a_wheel():
    assert installed.called("train.py") == "train.py"           # `python -m` may have started it
    assert installed.as_called("python train.py --device=cpu") == "rrd train --device=cpu"
    assert installed.started_by("train") == ["-P", "-m", "return_decomposition.programs.train"]
    assert installed.room_of("return_decomposition.algorithm.engine.eager") == "algorithm"
    assert installed.room_of("algorithms.mine") == "algorithms"


@pytest.mark.usefixtures("by_rrd")
def test_names_by_the_command(capsys):
    assert installed.called("train.py") == "rrd train"
    assert installed.called("convert") == "rrd convert"
    assert installed.called("rrd") == "rrd"
    assert complain("train.py", "saved; train.py --resume=x resumes it", 3) == 3
    assert capsys.readouterr().err == "rrd train: saved; rrd train --resume=x resumes it\n"


@pytest.mark.usefixtures("by_rrd")
@pytest.mark.parametrize(("text", "shown"), [
    ("python train.py --env=X", "rrd train --env=X"), ("OMP_NUM_THREADS=1 python train.py ...",
                                                       "OMP_NUM_THREADS=1 rrd train ..."),
    ("evaluate.py --diagnose judges it", "rrd evaluate --diagnose judges it"), ("python plot.py outputs",
                                                                               "rrd plot outputs"),
    ("import: got 'train.py', expected a name", "import: got 'train.py', expected a name"),
    ("convert it: `python -m utils.tf_checkpoint m.ckpt --out=x`", "convert it: `rrd convert m.ckpt --out=x`"),
    ("python -m return_decomposition.algorithm.tf.convert x", "rrd convert x"),
    ("my_train.py --x", "my_train.py --x"), ("./train.py --x", "./train.py --x"), ("train.py is a file",
                                                                                  "train.py is a file"),
    ("python trainer.py", "python trainer.py"),
])
def test_commands_in_a_text_are_those_that_the_user_has(text, shown, monkeypatch):
    assert installed.as_called(text) == shown
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert installed.as_called(text) == text


def test_without_arguments_of_a_command_line_nothing_fails(monkeypatch):
    """An interpreter that is embedded may have none."""
    monkeypatch.setattr(sys, "argv", [])
    assert installed.called("train.py") == "train.py"
