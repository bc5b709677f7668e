"""Run environments x algorithms x seeds on this machine's cores; `python sweep.py configs/suite.json --seeds 0-9`.

A suite is a JSON file:

    {"common": {"total_timesteps": 100000, "device": "cpu"},
     "env": ["HalfCheetah-v4", "Hopper-v4"],
     "runs": {"RRD-SAC": {"alg": "rrd"}, "SAC, dense": {"alg": "sac", "env_type": "normal"}}}

Every trial is a run of train.py in a process of its own, with one thread, and its record is the one that train.py
writes, under `outputs/` with the run's name as tag. The same command again goes on: what is done is done, and what was
stopped goes on to the bit. A trial that fails is tried again, is told at the end, and stops no other.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
AGAIN, INTERRUPTED = 75, 130            # exit codes of train.py: stopped, and can be gone on with


@dataclass
class Trial:
    """One run of train.py, and how it stands."""

    name: str
    settings: dict[str, Any]
    modules: list[str] = field(default_factory=list)            # that it imports first
    state: str = "waiting"              # then running, done, failed or stopped
    tries: int = 0
    told: str = ""                      # the last line that it wrote
    process: subprocess.Popen | None = None
    began: float = 0.0
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def flags(self) -> list[str]:
        imports = [f"--import={module}" for module in self.modules]
        return [*imports, *(f"--{name}={value}" for name, value in self.settings.items()), "--on_existing=resume"]

    @property
    def log(self) -> Path:
        return Path("outputs") / "sweep" / f"{self.name.replace('/', '_').replace(' ', '_')}.log"


def main(argv: list[str] | None = None) -> int:
    """Returns 0; 1 if a trial failed, 2 for a wrong setting, 75 or 130 if it was stopped."""
    from utils.config import ConfigError
    try:
        given = _parser().parse_args(argv)
        trials = read_suite(Path(given.suite), given.seeds, given.modules)
        if given.engine == "ray":
            return sweep(trials, RayLanes(given.jobs), given.retries)
        return sweep(trials, Lanes(given.jobs), given.retries)
    except ConfigError as error:
        print(f"sweep.py: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sweep.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", help="JSON file: common settings, environments, runs")
    parser.add_argument("--seeds", default="0", metavar="LIST", help="such as 0,1,2 or 0-9 (default: 0)")
    parser.add_argument("--import", action="append", default=[], dest="modules", metavar="MODULE", help="imported "
                        "first in every trial, as train.py --import does; environments of the suite, module:id, may "
                        "come from it; may be given several times")
    parser.add_argument("--jobs", type=_positive, metavar="N", help="trials at a time (default: the cores)")
    parser.add_argument("--retries", type=int, default=1, metavar="N", help="of a trial that fails (default: 1)")
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help="where trials run: here, or on a "
                        "Ray cluster (the extra [ray]; RAY_ADDRESS says which, else one on this machine)")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, wants an integer of at least 1")
    return int(text)


def read_suite(path: Path, seeds: str, modules: list[str]) -> list[Trial]:
    """The trials of a suite, seed by seed, so that every comparison is complete for the seeds that are done.

    Args:
        modules: what every trial imports, and environments may come from.
    Raises:
        ConfigError: the file cannot be read, or a setting in it is wrong; nothing was started.
    """
    from utils.cli import parse_args
    from utils.config import ConfigError, coerce, read_object
    suite = read_object(path)
    known = {"common": dict, "env": list, "runs": dict}
    for name, value in suite.items():
        if name not in known:
            raise ConfigError(f"{name}: unknown in a suite, wants {', '.join(known)}")
        if not isinstance(value, known[name]) or not value:
            raise ConfigError(f"{name}: got {json.dumps(value)[:60]}, wants {known[name].__name__} that is not empty")
    for name in ("env", "runs"):
        if name not in suite:
            raise ConfigError(f"{name}: missing in {str(path)!r}")
    for module, _, rest in (str(env).partition(":") for env in suite["env"]):
        if rest and module not in modules:
            raise ConfigError(f"env: {f'{module}:{rest}'!r} names a module to import, which only a flag may: give "
                              f"--import={module}")
    trials = []
    for seed, env, (name, own) in itertools.product(coerce("seeds", seeds), suite["env"], suite["runs"].items()):
        if not isinstance(own, dict):
            raise ConfigError(f"runs: {name!r}: got {json.dumps(own)[:60]}, wants an object of settings")
        settings = {**suite.get("common", {}), **own, "env": env, "seed": seed, "tag": f"{name} seed {seed}"}
        if any(setting.partition("=")[0] == "import" for setting in settings):
            raise ConfigError("import: a module to import, which only a flag may name: give --import=MODULE")
        trial = Trial(f"{name}, {env}, seed {seed}", settings, modules)
        parse_args(trial.flags)
        trials.append(trial)
    return trials


class Lanes:
    """Trials as processes of this machine, some at a time."""

    def __init__(self, jobs: int | None):
        from utils.run import count_cores
        self.jobs = jobs or count_cores()

    def start(self, trial: Trial) -> None:
        trial.log.parent.mkdir(parents=True, exist_ok=True)
        with open(trial.log, "ab") as log:
            # A session of its own: Ctrl-C is for this program, which tells its trials.
            trial.process = subprocess.Popen([sys.executable, str(ROOT / "train.py"), *trial.flags], stdout=log,
                                             stderr=subprocess.STDOUT, start_new_session=True,
                                             env=os.environ | {"OMP_NUM_THREADS": "1"})

    def poll(self, trial: Trial) -> int | None:
        """The exit code, once there is one."""
        return trial.process.poll()

    def stop(self, trial: Trial) -> None:
        with contextlib.suppress(ProcessLookupError):
            trial.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        pass


class RayLanes(Lanes):
    """Trials as tasks of a Ray cluster that sees the same directory."""

    def __init__(self, jobs: int | None):
        from utils.config import ConfigError
        try:
            import ray
        except ImportError:
            raise ConfigError("engine: ray is not installed; pip install 'return-decomposition[ray]' brings it, in a "
                              "clone pip install -e '.[ray]'") from None
        self.ray, self.tasks = ray, {}
        ray.init(ignore_reinit_error=True, logging_level="ERROR", log_to_driver=False, include_dashboard=False)
        self.jobs = jobs or int(ray.cluster_resources().get("CPU", 1))
        self.remote = ray.remote(num_cpus=1, max_retries=0)(_run_remotely)

    def start(self, trial: Trial) -> None:
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


def _run_remotely(flags: list[str], log: str, directory: str, root: str) -> int:
    """In a worker of the cluster: train, and stop when a file says so, for a task has no signals."""
    stop = Path(f"{log}.stop")
    stop.unlink(missing_ok=True)
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        process = subprocess.Popen([sys.executable, str(Path(root) / "train.py"), *flags], stdout=file, cwd=directory,
                                   stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"})
        told = False
        while process.poll() is None:
            if stop.exists() and not told:
                process.send_signal(signal.SIGTERM)
                told = True
            time.sleep(0.2)
    stop.unlink(missing_ok=True)
    return process.returncode


def sweep(trials: list[Trial], lanes: Lanes, retries: int) -> int:
    """Run them all; a table shows how they stand."""
    from utils.stop import Stop
    waiting, running = deque(trials), []
    with Stop() as stop, live_table(trials) as show:
        told = False
        while waiting or running:
            if stop.is_set() and not told:
                told = True
                waiting.clear()
                for trial in running:
                    lanes.stop(trial)
            while waiting and len(running) < lanes.jobs:
                trial = waiting.popleft()
                lanes.start(trial)
                trial.state, trial.tries, trial.began = "running", trial.tries + 1, time.monotonic()
                running.append(trial)
            for trial in [one for one in running if look(one, lanes.poll(one))]:
                running.remove(trial)
                if trial.state == "failed" and trial.tries <= retries and not stop.is_set():
                    trial.state = "waiting"
                    waiting.append(trial)
            show()
            time.sleep(0.2)
    lanes.close()
    return report(trials, stop)


def look(trial: Trial, code: int | None) -> bool:
    """Take down how a running trial stands; whether it has ended."""
    for line in _new_lines(trial):
        trial.told = line
        trial.fields |= dict(part.split("=", 1) for part in line.split("  ") if "=" in part)
    if code is not None:
        # SIGTERM ends what has not yet begun to listen for it
        trial.state = {0: "done"}.get(code, "stopped" if code in (AGAIN, INTERRUPTED, -signal.SIGTERM) else "failed")
    return code is not None


def _new_lines(trial: Trial) -> Iterator[str]:
    """The last lines of its log."""
    with contextlib.suppress(OSError), open(trial.log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        yield from file.read().decode(errors="replace").splitlines()[-3:]


@contextlib.contextmanager
def live_table(trials: list[Trial]):
    """On a terminal a table that is drawn anew; elsewhere a line for each change."""
    from rich.console import Console
    from rich.live import Live
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        seen: dict[str, str] = {}

        def say() -> None:
            for trial in trials:
                if seen.get(trial.name, "waiting") != trial.state:
                    seen[trial.name] = trial.state
                    console.print(f"{trial.name}: {trial.state}", markup=False)
        yield say
        say()
        return
    with Live(table(trials), console=console, refresh_per_second=2) as live:
        yield lambda: live.update(table(trials))
        live.update(table(trials))


def table(trials: list[Trial]):
    """Trials that run or are over; those that wait are counted."""
    from rich.table import Table
    drawn = Table()
    for name in ("trial", "state", "steps", "return"):
        drawn.add_column(name)
    styles = {"done": "green", "failed": "red", "running": "bold"}
    for trial in (one for one in trials if one.state != "waiting"):
        drawn.add_row(trial.name, trial.state, trial.fields.get("Timesteps", ""), trial.fields.get("Rewards", ""),
                      style=styles.get(trial.state))
    waiting = sum(one.state == "waiting" for one in trials)
    drawn.caption = f"{waiting} of {len(trials)} waiting" if waiting else None
    return drawn


def report(trials: list[Trial], stop) -> int:
    """What has become of them, in a line, and in one for each that failed."""
    counts = Counter(trial.state for trial in trials)
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    for trial in (one for one in trials if one.state == "failed"):
        print(f"sweep.py: {trial.name}: failed {trial.tries} times: {trial.told} (all of it in {trial.log})",
              file=sys.stderr)
    if stop.is_set():
        print(f"sweep.py: {stop.told()}; the same command goes on", file=sys.stderr)
        return stop.exit_code
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
