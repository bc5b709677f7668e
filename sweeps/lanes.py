"""Run the trials of a sweep as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from sweeps.suite import Trial
from utils.installed import started_by

# Becomes another Python, after prctl(PR_SET_PDEATHSIG, SIGTERM).
TIED = ("import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])")
TRAIN = started_by("train")


class Lanes:
    """Trials as processes of this machine, `jobs` at a time."""

    def __init__(self, jobs: int | None):
        from utils.cores import count_cores
        self.jobs, self.processes = jobs or count_cores(), {}

    def start(self, trial: Trial) -> None:
        """Start a try.

        Raises:
            OSError: its log cannot be written.
        """
        trial.read = _make_log(trial.log)
        self.processes[trial.name] = spawn(trial.flags, str(trial.log), os.getcwd(), TRAIN)

    def poll(self, trial: Trial) -> int | None:
        """The exit code; None while it runs."""
        return self.processes[trial.name].poll()

    def stop(self, trial: Trial) -> None:
        """Ask it to end; it saves itself first."""
        with contextlib.suppress(ProcessLookupError):
            self.processes[trial.name].send_signal(signal.SIGTERM)

    def kill(self, trial: Trial) -> None:
        """End it at once; its last checkpoint stays."""
        self.processes[trial.name].kill()

    def close(self) -> None:
        """Release what all trials share; processes share nothing."""


def _make_log(path: Path) -> int:
    """Create the log; returns its length, which older tries wrote."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path.stat().st_size


def spawn(flags: list[str], log: str, directory: str, program: list[str]) -> subprocess.Popen:
    """Start train.py with one thread, in a session of its own: Ctrl-C stops the sweep, which then stops its trials.

    On Linux the kernel sends it SIGTERM when this process ends, even by SIGKILL.

    Args:
        flags: of train.py.
        log: the file that its output is appended to.
        directory: where it runs.
        program: the arguments after `python` that start it, `TRAIN` of the machine that the sweep runs on.
    """
    tie = ["-c", TIED] if sys.platform == "linux" else []
    command = [sys.executable, *tie, *program, *flags]
    with open(log, "ab") as file:
        return subprocess.Popen(command, cwd=directory, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=file,
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
