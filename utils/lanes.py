"""Where the trials of a sweep run: as processes of this machine, or as tasks of a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from utils.config import ConfigError
from utils.stop import AGAIN
from utils.suite import Trial

ROOT = Path(__file__).resolve().parent.parent


class Lanes:
    """Trials as processes of this machine, some at a time."""

    def __init__(self, jobs: int | None):
        from utils.run import count_cores
        self.jobs, self.processes = jobs or count_cores(), {}

    def start(self, trial: Trial) -> None:
        """Raises OSError if its log cannot be written."""
        trial.read = _make_log(trial.log)
        self.processes[trial.name] = spawn(trial.flags, str(trial.log), os.getcwd(), str(ROOT))

    def poll(self, trial: Trial) -> int | None:
        """The exit code, once there is one."""
        return self.processes[trial.name].poll()

    def stop(self, trial: Trial) -> None:
        """Ask it to end; it saves itself first."""
        with contextlib.suppress(ProcessLookupError):
            self.processes[trial.name].send_signal(signal.SIGTERM)

    def close(self) -> None:
        pass


class RayLanes(Lanes):
    """Trials as tasks of a Ray cluster that sees the same directory."""

    def __init__(self, jobs: int | None):
        """Raises ConfigError: ray is not installed, or the cluster does not answer."""
        try:
            import ray
        except ImportError:
            raise ConfigError("engine: ray is not installed; pip install 'return-decomposition[ray]' brings it, in a "
                              "clone pip install -e '.[ray]'") from None
        self.ray, self.tasks = ray, {}
        try:
            ray.init(ignore_reinit_error=True, logging_level="ERROR", log_to_driver=False, include_dashboard=False)
        except Exception as error:                      # whatever its parts raise
            told = " ".join(str(error).split())[:200]
            raise ConfigError(f"engine: Ray cannot be reached: {type(error).__name__}: {told}") from None
        self.jobs = jobs or int(ray.cluster_resources().get("CPU", 1))
        # the cluster's workers need not find this module
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        self.remote = ray.remote(num_cpus=1, max_retries=0)(run_remotely)

    def start(self, trial: Trial) -> None:
        trial.read = _make_log(trial.log)
        Path(f"{trial.log}.stop").unlink(missing_ok=True)
        self.tasks[trial.name] = self.remote.remote(trial.flags, str(trial.log.absolute()), os.getcwd(), str(ROOT))

    def poll(self, trial: Trial) -> int | None:
        task = self.tasks[trial.name]
        done, _ = self.ray.wait([task], timeout=0)
        if not done:
            return None
        try:
            return self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            trial.told = " ".join(str(error).split())[:200]
            return 1

    def stop(self, trial: Trial) -> None:
        Path(f"{trial.log}.stop").touch()

    def close(self) -> None:
        self.ray.shutdown()


def _make_log(path: Path) -> int:
    """How long it is already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path.stat().st_size


def spawn(flags: list[str], log: str, directory: str, root: str) -> subprocess.Popen:
    """train.py with one thread, in a session of its own: Ctrl-C is for the sweep, which tells its trials."""
    with open(log, "ab") as file:
        return subprocess.Popen([sys.executable, str(Path(root) / "train.py"), *flags], stdout=file, cwd=directory,
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                                env=os.environ | {"OMP_NUM_THREADS": "1"})


def run_remotely(flags: list[str], log: str, directory: str, root: str) -> int:
    """In a worker of the cluster: train, and stop when a file says so, for a task has no signals."""
    stop = Path(f"{log}.stop")
    if stop.exists():                                   # before it began
        return AGAIN
    process, told = spawn(flags, log, directory, root), False
    while process.poll() is None:
        if stop.exists() and not told:
            process.send_signal(signal.SIGTERM)
            told = True
        time.sleep(0.2)
    return process.returncode
