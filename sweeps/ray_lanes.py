"""Run the trials of a sweep as tasks of a Ray cluster."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

from sweeps.lanes import TRAIN, Lanes, _make_log, spawn
from sweeps.suite import Trial
from utils.errors import ConfigError
from utils.installed import pip_install
from utils.stop import AGAIN
from utils.text import one_line, printable


class RayLanes(Lanes):
    """Trials as tasks of a Ray cluster whose machines share the directory."""

    def __init__(self, jobs: int | None):
        """Connect to the cluster, or start one on this machine.

        Raises:
            ConfigError: ray is not installed, the cluster does not answer, or it has no CPU.
        """
        try:
            import ray
        except ImportError:
            raise ConfigError(f"engine: ray is not installed; {pip_install('ray')} installs it") from None
        self.ray, self.tasks, self.never_began = ray, {}, set()
        _check_address(os.environ.get("RAY_ADDRESS", ""))
        _connect(ray)
        cores = int(ray.cluster_resources().get("CPU", 0))
        if not cores:
            raise ConfigError("engine: the Ray cluster has no CPU, of which each trial needs one")
        self.jobs = jobs or cores
        for module in (__name__, spawn.__module__):     # the cluster's workers may be unable to import them
            ray.cloudpickle.register_pickle_by_value(sys.modules[module])
        self.remote = ray.remote(num_cpus=1, max_retries=0)(run_remotely)

    def start(self, trial: Trial) -> None:
        trial.read = _make_log(trial.log)
        self.never_began.discard(trial.name)
        _sign(trial.log, "stop").unlink(missing_ok=True)
        _sign(trial.log, "go").touch()
        self.tasks[trial.name] = self.remote.remote(trial.flags, str(trial.log.absolute()), os.getcwd(), TRAIN)

    def poll(self, trial: Trial) -> int | None:
        if trial.name in self.never_began:
            return AGAIN
        task = self.tasks[trial.name]
        done, _ = self.ray.wait([task], timeout=0)
        if not done:
            return None
        _sign(trial.log, "stop").unlink(missing_ok=True)
        try:
            return self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            trial.error = one_line(error)[:200]
            return 1

    def stop(self, trial: Trial) -> None:
        """Ask the trial to end; cancel a task that has not started. The first to remove the file `go` decides."""
        try:
            _sign(trial.log, "go").unlink()
        except FileNotFoundError:
            _sign(trial.log, "stop").touch()
        else:
            self.never_began.add(trial.name)
            self.ray.cancel(self.tasks[trial.name])

    def kill(self, trial: Trial) -> None:
        self.ray.cancel(self.tasks[trial.name], force=True)

    def close(self) -> None:
        self.ray.shutdown()


def _connect(ray) -> None:
    try:
        ray.init(ignore_reinit_error=True, logging_level="ERROR", log_to_driver=False, include_dashboard=False)
    except Exception as error:                      # Ray's parts may raise anything
        reason = one_line(error)[:200]
        hint = "; if the cluster needs a token, set RAY_AUTH_MODE=token" * isinstance(error, ConnectionError)
        raise ConfigError(f"engine: Ray cannot be reached: {type(error).__name__}: {reason}{hint}") from None


def _check_address(address: str) -> None:
    """Check that the address answers; Ray itself would try for minutes."""
    match = re.fullmatch(r"(?:ray://)?\[?([^\]/]+)\]?:(\d{1,5})", address)
    try:
        if match:
            socket.create_connection((match[1], int(match[2])), timeout=10).close()
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"engine: RAY_ADDRESS={printable(address)} does not answer: {why}") from None


def _sign(log: Path | str, name: str) -> Path:
    """A file by which the sweep and a task, which gets no signals, communicate."""
    return Path(f"{log}.{name}")


def run_remotely(flags: list[str], log: str, directory: str, program: list[str]) -> int:
    """In a worker of the cluster: train, and stop when the file `stop` exists; returns the exit code."""
    stop = _sign(log, "stop")
    try:
        _sign(log, "go").unlink()
    except FileNotFoundError:                           # the sweep has stopped before the task began
        return AGAIN
    process, asked = spawn(flags, log, directory, program), False
    while process.poll() is None:
        if stop.exists() and not asked:
            process.send_signal(signal.SIGTERM)
            asked = True
        time.sleep(0.2)
    return process.returncode
