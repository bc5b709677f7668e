"""How every program here begins, whatever it is started with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def python(code: str, closed: str = "", flags: tuple[str, ...] = (), **env: str) -> subprocess.CompletedProcess:
    """Run code that may import this project, by a shell that closes some of the standard descriptors."""
    return subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, *flags, "-c", code],
                          env=os.environ | {"PYTHONPATH": str(ROOT)} | env, capture_output=True, text=True, check=False)


OPENS = """
import subprocess, sys, train
from utils.config import ConfigError

def work():
    with open("new", "w") as file:
        number = file.fileno()
        subprocess.run(["sh", "-c", "echo out; echo err >&2; cat"])     # a child has them, too
    with open("number", "w") as file:
        file.write(str(number))
    raise ConfigError("told")
sys.exit(train.run_program("x", work))
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_descriptor_leads_nowhere(closed):
    """Else a file that is opened would be the standard error, and MuJoCo's GLFW could not be loaded."""
    done = python(OPENS, closed)
    assert done.returncode == 2
    assert int(Path("number").read_text()) > 2
    assert Path("new").read_text() == ""
    assert done.stdout == ("" if " >&-" in f" {closed}" else "out\n")
    assert done.stderr == ("" if "2>&-" in closed else "err\nx: told\n")
