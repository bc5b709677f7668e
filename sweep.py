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
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from program import complain, leave_early, run_program

WRONG = 2                   # train.py's exit code for what another try would not change
ORDER = ("running", "failed", "stopped", "elsewhere", "done")       # of the table's rows


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns 0; 1 if a trial failed or a disk did, 2 for a wrong setting; 75 if a trial was stopped or is another
    process's, or after SIGTERM, SIGUSR1 or SIGHUP, 130 after Ctrl-C: then the same command goes on.
    """
    def work() -> int:
        given = parse(sys.argv[1:] if argv is None else argv)
        from sweeps.lanes import Lanes
        from sweeps.ray_lanes import RayLanes
        from sweeps.suite import read_suite
        trials = read_suite(Path(given.suite), given.seeds, given.modules)
        return sweep(trials, (RayLanes if given.engine == "ray" else Lanes)(given.jobs), given.retries)
    return run_program("sweep.py", work)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options, checked.

    Raises:
        ConfigError: one is wrong.
        SystemExit: `--help` was asked for.
    """
    from utils.settings.cli import Parser
    from utils.settings.completion import add_completion
    parser = Parser(prog="sweep.py", description=__doc__, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", metavar="FILE", help="JSON file: common settings, environments, runs")
    parser.add_argument("--seeds", default="0", metavar="LIST", help="such as 0,1,2 or 0-9 (default: 0)")
    parser.add_argument("--import", action="append", default=[], dest="modules", metavar="MODULE", help="imported "
                        "first in every trial, as train.py --import does; environments of the suite, module:id, may "
                        "come from it; may be given several times")
    parser.add_argument("--jobs", type=_count, metavar="N", help="trials at a time (default: the cores)")
    parser.add_argument("--retries", type=_count_or_none, default=1, metavar="N",
                        help="of a trial that fails (default: 1)")
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help="where trials run: here, or on a "
                        "Ray cluster (the extra [ray]; RAY_ADDRESS says which, else one on this machine)")
    add_completion(parser)
    return parser.parse_args(argv)


def _count(text: str, least: int = 1) -> int:
    if not (text.isdecimal() and text.isascii() and least <= int(text) < 10**6):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected an integer of at least {least}")
    return int(text)


def _count_or_none(text: str) -> int:
    return _count(text, 0)


def sweep(trials: list, lanes, retries: int) -> int:
    """Run them all; a table shows how they stand. However this ends, the trials end with it, and save themselves."""
    from utils.stop import Stop
    waiting, running = deque(trials), []
    with Stop() as stop, live_table(trials) as show:
        try:
            while (waiting and not stop.is_set()) or running:
                while waiting and len(running) < lanes.jobs and not stop.is_set():
                    running.append(start(lanes, waiting.popleft()))
                if stop.is_set() and (told := tell(lanes, running)):
                    announce(stop, told)
                for trial in [one for one in running if look(one, lanes.poll(one))]:
                    running.remove(trial)
                    if trial.may_recover and trial.tries <= retries and not stop.is_set():
                        trial.state = "waiting"
                        waiting.append(trial)
                show()
                time.sleep(0.2)
        except KeyboardInterrupt:                       # asked again, long after the first time
            for trial in running:
                lanes.kill(trial)
            raise
        finally:
            tell(lanes, running)
            while running := [trial for trial in running if not look(trial, lanes.poll(trial))]:
                time.sleep(0.2)
            lanes.close()
    return report(trials, stop)


def start(lanes, trial):
    """Begin a try of it; returns the trial."""
    trial.state, trial.told, trial.tries = "running", "", trial.tries + 1
    lanes.start(trial)
    return trial


def tell(lanes, running: list) -> list:
    """Once, each that runs, to stop; returns those that hear it now."""
    told = [trial for trial in running if not trial.stopping]
    for trial in told:
        lanes.stop(trial)
        trial.stopping = True
    return told


def announce(stop, told: list) -> None:
    """What is waited for."""
    from utils.stop import PATIENCE
    names = "; ".join(trial.name for trial in told[:3]) + (f" and {len(told) - 3} more" if len(told) > 3 else "")
    complain("sweep.py", f"{stop.told()}; waiting until {names} saved what they have; Ctrl-C after {PATIENCE:g} "
                         "seconds ends what hangs")


def look(trial, code: int | None) -> bool:
    """Take down how a running trial stands; whether it has ended."""
    from record.store import IN_USE
    from utils.stop import AGAIN, INTERRUPTED
    for line in trial.new_lines():
        if line.startswith("train.py: "):
            trial.told = line
        elif line.startswith("Epoch="):
            trial.fields |= dict(part.split("=", 1) for part in line.split("  ") if "=" in part)
    if code is None:
        return False
    if code == WRONG and IN_USE in trial.told:
        trial.state = "elsewhere"
    elif code in (AGAIN, INTERRUPTED) or (code < 0 and trial.stopping):         # it did not listen yet, or no more
        trial.state = "stopped"
    else:
        trial.state = "done" if code == 0 else "failed"
    if trial.state == "failed" and not trial.told:
        trial.told = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    trial.may_recover = trial.state == "failed" and code != WRONG
    return True


# What is shown ------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def live_table(trials: list) -> Iterator[Callable[[], None]]:
    """On a terminal a table that is drawn anew; elsewhere a line for each change."""
    from rich.live import Live

    from utils.display import console, say
    screen = console()
    if not screen.is_terminal:
        seen: dict[str, str] = {}

        def say_changes() -> None:
            for trial in trials:
                if seen.get(trial.name, "waiting") != trial.state:
                    seen[trial.name] = trial.state
                    say(f"{trial.name}: {trial.state}")
        yield say_changes
        say_changes()
        return
    with Live(table(trials, screen.height), console=screen, refresh_per_second=2) as live:
        yield lambda: live.update(table(trials, screen.height))
        live.update(table(trials, screen.height))


def table(trials: list, height: int):
    """What Rich draws: the trials for which the terminal has room, those that run first; under them the counts."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text
    drawn = Table()
    for name in ("trial", "state", "steps", "return"):
        drawn.add_column(name)
    styles = {"done": "green", "failed": "red", "running": "bold"}
    shown = sorted((one for one in trials if one.state in ORDER), key=lambda trial: ORDER.index(trial.state))
    for trial in shown[:max(1, height - 6)]:
        cells = (trial.name, trial.state, trial.fields.get("Timesteps", ""), trial.fields.get("Rewards", ""))
        drawn.add_row(*map(Text, cells), style=styles.get(trial.state))         # whatever a name holds, it is no markup
    return Group(drawn, Text(counts(trials)))


def counts(trials: list) -> str:
    """'3 done, 2 running, 7 waiting'."""
    return ", ".join(f"{count} {state}" for state, count in Counter(trial.state for trial in trials).items())


def report(trials: list, stop) -> int:
    """What has become of them, in a line, and in one for each that is not done; returns the exit code."""
    from utils.display import say
    from utils.stop import AGAIN
    say(counts(trials))
    states = {trial.state for trial in trials}
    for trial in trials:
        if trial.state == "failed":
            complain("sweep.py", f"{trial.name}: failed {_times(trial.tries)}: {trial.told} (all of it in {trial.log})")
        elif trial.state == "elsewhere":
            complain("sweep.py", f"{trial.name}: another process is running it")
        elif trial.state == "stopped" and not stop.is_set():
            complain("sweep.py", f"{trial.name}: stopped by somebody else")
    if stop.is_set():
        return complain("sweep.py", f"{stop.told()}; the same command goes on", stop.exit_code)
    if "failed" in states:
        return 1
    return complain("sweep.py", "not all is done; the same command goes on", AGAIN) if states != {"done"} else 0


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


if __name__ == "__main__":
    leave_early()
    sys.exit(main())
