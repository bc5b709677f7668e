"""Runs of train.py inside the test's process, and their files."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import safetensors.torch

import train

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--device=cpu", "--test_timesteps=10", "--timesteps=20", "--iterations=2", "--total_timesteps=120",
         "--warmup=40", "--buffer_size=200", "--batch_size=8", "--train_batches=5", "--test_rollouts=2"]
SMALL_ROLLOUTS = ["--device=cpu", "--test_timesteps=10", "--rollout_steps=20", "--iterations=2", "--batch_size=10",
                  "--total_timesteps=120", "--buffer_size=200", "--n_epochs=2", "--test_rollouts=2"]
SMALL_RRD = ["--alg=rrd", "--rrd_batch_size=8", "--rrd_sample_size=4", *SMALL]


class Finished:
    """A run's directory, read back."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.config = json.loads((directory / "config.json").read_text())
        self.facts = json.loads((directory / "run.json").read_text())
        with open(directory / "metrics.csv", newline="") as file:
            self.rows = list(csv.DictReader(file))

    def untimed(self) -> list[dict[str, str]]:
        return [{name: value for name, value in row.items() if not name.startswith("TimeCost")} for row in self.rows]

    def tensors(self, name: str = "last") -> dict:
        return safetensors.torch.load_file(self.directory / "checkpoints" / f"{name}.safetensors")

    def returns(self, env: str) -> np.ndarray:
        with np.load(self.directory / "rews" / f"{env}.npz") as file:
            return file["info"]


def run(*argv: str) -> Finished:
    """Run train.py in the current directory, which must hold no other new run; it must succeed."""
    before = set(Path("outputs").glob("*"))
    assert train.main(list(argv)) == 0
    (directory,) = set(Path("outputs").glob("*")) - before
    return Finished(directory)


def run_on_terminal(*argv: str, columns: int = 100) -> str:
    """The output of train.py on a terminal, without its escape sequences; it must succeed."""
    main, other = pty.openpty()
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "TERM": "xterm-256color", "COLUMNS": str(columns)}
    code = "import sys, tiny_envs, train; sys.exit(train.main(sys.argv[1:]))"
    with subprocess.Popen([sys.executable, "-c", code, *argv], stdout=other, env=env) as process:
        os.close(other)
        shown = b""
        while chunk := _read(main):
            shown += chunk
    os.close(main)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:                                                 # the other end closed: Linux says EIO
        return b""


def refusal(argv: list[str], capsys) -> str:
    """The error of train.py for a wrong command line: one line on stderr, exit code 2, and no file."""
    assert train.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("train.py: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    assert not Path("outputs").exists()
    return err.removeprefix("train.py: ").rstrip()
