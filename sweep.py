"""Run environments x algorithms x seeds on the cores of this machine; `python sweep.py configs/suite.json --seeds 0-9`.

A suite is a JSON file:

    {"common": {"total_timesteps": 100000, "device": "cpu"},
     "env": ["HalfCheetah-v4", "Hopper-v4"],
     "runs": {"RRD-SAC": {"alg": "rrd"}, "SAC, dense": {"alg": "sac", "env_type": "normal"}}}

Every trial is a run of train.py in a process of its own, with one thread. It writes the record that train.py writes,
under `outputs/`, with the run's name as tag. The same command again resumes: it skips finished trials and resumes
stopped ones exactly. A trial that fails is tried again, is reported at the end, and stops no other trial.
"""

import argparse
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from program import complain, leave_early, run_program

WRONG = 2                   # train.py's exit code for an error that another try would repeat
PAUSE = 0.2                 # seconds between two looks at the trials


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns: 0; 1 if a trial failed or a disk did; 2 for an invalid setting; 75 if a trial was stopped or is run by
        another process, or after SIGTERM, SIGUSR1 or SIGHUP; 130 after Ctrl-C. After 75 and 130 the same command
        resumes.
    """
    def work() -> int:
        given = parse(sys.argv[1:] if argv is None else argv)
        from sweeps.lanes import Lanes
        from sweeps.ray_lanes import RayLanes
        from sweeps.suite import read_suite
        trials = read_suite(Path(given.suite), given.seeds, given.modules)
        lanes = (RayLanes if given.engine == "ray" else Lanes)(given.jobs)
        if not given.search:
            return sweep(trials, lanes, given.retries)
        from sweeps.search import open_search
        search = open_search(trials, Path(given.suite), given.search)
        return sweep(search.trials, lanes, given.retries, search)
    return run_program("sweep.py", work)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse and check the options.

    Raises:
        ConfigError: an option is invalid.
        SystemExit: `--help` or `--completion` is printed.
    """
    from utils.settings.cli import Parser
    from utils.settings.completion import add_completion
    parser = Parser(prog="sweep.py", description=__doc__, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", metavar="FILE", help="JSON file: common settings, environments, runs")
    parser.add_argument("--seeds", default="0", metavar="LIST", help="seeds, such as 0,1,2 or 0-9 (default: 0)")
    parser.add_argument("--import", action="append", default=[], dest="modules", metavar="MODULE",
                        help="import this module first in every trial, as train.py --import does; environments of the "
                        "suite, module:id, may come from it; may be given several times")
    parser.add_argument("--jobs", type=_count, metavar="N", help="trials at a time (default: the number of cores)")
    parser.add_argument("--retries", type=_count_or_none, default=1, metavar="N",
                        help="further tries of a trial that fails (default: 1)")
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help="where trials run: on this "
                        "machine, or on a Ray cluster (the extra [ray]; RAY_ADDRESS names the cluster; without it one "
                        "is started on this machine)")
    parser.add_argument("--search", type=_count, metavar="N", help="instead of the suite's runs: N trials of its only "
                        "run with values of its ranges, search, that Optuna proposes (the extra [optuna]); the same "
                        "command resumes")
    add_completion(parser)
    return parser.parse_args(argv)


def _count(text: str, least: int = 1) -> int:
    if not (text.isdecimal() and text.isascii() and least <= int(text) < 10**6):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected an integer of at least {least}")
    return int(text)


def _count_or_none(text: str) -> int:
    return _count(text, 0)


def sweep(trials: list, lanes, retries: int, search=None) -> int:
    """Run all trials and show a table; returns the exit code. However this ends, the trials save and end with it.

    Args:
        search: a `sweeps.search.Search`, which makes the trials; they are then added to `trials`.
    """
    from sweeps.board import live_table
    from utils.stop import Stop
    for trial in trials:
        trial.skip_if_finished()
    waiting, running = deque(trial for trial in trials if trial.state == "waiting") if search is None else search, []
    with Stop() as stop, live_table(trials) as show:
        try:
            while (waiting and not stop.is_set()) or running:
                fill(lanes, waiting, running, stop)
                collect(lanes, waiting, running, stop, retries)
                if search is not None:
                    search.watch(lanes)
                show()
                time.sleep(PAUSE)
        except KeyboardInterrupt:                       # the second Ctrl-C, long after the first
            for trial in running:
                lanes.kill(trial)
            raise
        finally:
            ask_to_stop(lanes, running)
            running = still(running, lanes)
            while running:
                time.sleep(PAUSE)
                running = still(running, lanes)
            lanes.close()
    best = search.summary() if search is not None else ""
    if best:
        from utils.display import say
        say(best)
    return report(trials, stop)


def fill(lanes, waiting: deque, running: list, stop) -> None:
    """Start trials while lanes are free; after a signal ask those that run to stop instead."""
    while waiting and len(running) < lanes.jobs and not stop.is_set():
        running.append(start(lanes, waiting.popleft()))
    asked = ask_to_stop(lanes, running) if stop.is_set() else []
    if asked:
        announce(stop, asked)


def collect(lanes, waiting: deque, running: list, stop, retries: int) -> None:
    """Remove the trials that have ended; one that may recover waits for another try."""
    for trial in [one for one in running if look(one, lanes.poll(one))]:
        running.remove(trial)
        if trial.may_recover and trial.tries <= retries and not stop.is_set():
            trial.state = "waiting"
            waiting.append(trial)


def start(lanes, trial):
    """Begin a try of a trial; returns the trial."""
    trial.state, trial.error, trial.trace, trial.tries = "running", "", [], trial.tries + 1
    trial.began = trial.last = None
    trial.stopping = trial.pruned = False
    lanes.start(trial)
    return trial


def ask_to_stop(lanes, running: list) -> list:
    """Ask each running trial once to save and stop; returns those that were asked now."""
    asked = [trial for trial in running if not trial.stopping]
    for trial in asked:
        lanes.stop(trial)
        trial.stopping = True
    return asked


def announce(stop, asked: list) -> None:
    """Say which trials the sweep waits for."""
    from utils.stop import PATIENCE
    names = "; ".join(trial.name for trial in asked[:3]) + (f" and {len(asked) - 3} more" if len(asked) > 3 else "")
    complain("sweep.py", f"{stop.told()}; waiting until {names} have saved; Ctrl-C after {PATIENCE:g} seconds kills "
                         "those that hang")


def look(trial, code: int | None) -> bool:
    """Update a running trial from its log and its exit code, None while it runs; returns whether it has ended."""
    read_log(trial)
    if code is None:
        return False
    trial.state = state_of(trial, code)
    if trial.state == "failed" and not trial.error:
        trial.error = f"killed by {signal.Signals(-code).name}" if code < 0 else raised(trial) or f"exit code {code}"
    trial.may_recover = trial.state == "failed" and code != WRONG
    return True


def still(running: list, lanes) -> list:
    """Return the trials that still run."""
    return [trial for trial in running if not look(trial, lanes.poll(trial))]


def read_log(trial) -> None:
    """Take the error and the fields of the last record from the new lines of a trial's log."""
    now = time.monotonic()
    for line in trial.new_lines():
        trial.began = trial.began or (now, 0)
        if trial.trace or line.strip(" +").startswith(("Traceback ", "Exception Group Traceback ")):
            trial.trace.append(line)
        if line.startswith("train.py: "):
            trial.error = line
        elif line.startswith("Epoch="):
            fields = dict(part.split("=", 1) for part in line.split("  ") if "=" in part)
            trial.fields.update(fields)
            trial.last = (now, trial.steps)
            if "Rewards" in fields:
                trial.curve.append((trial.steps, float(fields["Rewards"])))
        resumed = re.match(r"resumed after (\d+) steps", line)
        if resumed:
            trial.began = (now, int(resumed[1]))


def raised(trial) -> str:
    """The error of a traceback in the log of a trial; "" if there is none."""
    from utils.text import error_of
    return error_of("\n".join(trial.trace))


def state_of(trial, code: int) -> str:
    """The state of a trial that ended with this exit code."""
    from utils.errors import IN_USE
    from utils.stop import AGAIN, INTERRUPTED
    if code == WRONG and IN_USE in trial.error:
        return "elsewhere"
    if code in (AGAIN, INTERRUPTED) or (code < 0 and trial.stopping):   # a signal before or after train.py handles it
        return "pruned" if trial.pruned else "stopped"
    return "done" if code == 0 else "failed"


def report(trials: list, stop) -> int:
    """Print the counts, and a line for each trial that is not done; returns the exit code."""
    from sweeps.board import counts
    from utils.display import say
    from utils.stop import AGAIN
    say(counts(trials))
    for trial in trials:
        line = problem(trial, stop)
        if line:
            complain("sweep.py", f"{trial.name}: {line}")
    states = {trial.state for trial in trials}
    if stop.is_set():
        return complain("sweep.py", f"{stop.told()}; run the same command to resume", stop.exit_code)
    if "failed" in states:
        return 1
    unfinished = states - {"done", "pruned"}
    return complain("sweep.py", "unfinished; run the same command to resume", AGAIN) if unfinished else 0


def problem(trial, stop) -> str:
    """Why a trial is not done; "" if it is done, or was stopped with the sweep."""
    if trial.state == "failed":
        return f"failed {_times(trial.tries)}: {trial.error} (whole log: {trial.log})"
    if trial.state == "elsewhere":
        return "another process is running it"
    return "stopped by a signal from outside" if trial.state == "stopped" and not stop.is_set() else ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


if __name__ == "__main__":
    leave_early()
    sys.exit(main())
