"""Train an agent on the return of whole episodes; `python train.py --help`."""

import sys
from functools import partial
from typing import TYPE_CHECKING

from program import complain, leave_early, run_program

if TYPE_CHECKING:
    from utils.settings.fields import Config
    from utils.settings.grid import Grid


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns: 0; 1 if a disk, a worker process or one of several seeds fails, or a number is not finite; 2 for a wrong
        setting or a damaged checkpoint; 75 after SIGTERM, SIGUSR1 or SIGHUP, 130 after Ctrl-C: then the run can be
        resumed.
    """
    def work() -> int:
        from utils.settings.cli import parse_args
        from utils.settings.grid import read_grid
        words = sys.argv[1:] if argv is None else argv
        grid = read_grid(words)
        return run(parse_args(words)) if grid is None else run_grid(grid)
    return run_program("train.py", work, "try --buffer_device=cpu, or a smaller --batch_size")


def run(config: "Config") -> int:
    """Train with these settings; return the exit code."""
    from learner.training import train_runs
    from utils.errors import SeedsError
    from utils.stop import Stop, Stopped
    with Stop() as stop:
        try:
            train_runs(config, stop, report=partial(complain, "train.py"))
        except Stopped:
            return complain("train.py", stop.told(), stop.exit_code)
        except SeedsError:                              # each failed seed is reported already
            return 1
    return 0


def run_grid(grid: "Grid") -> int:
    """Train all trials of a grid in the lanes of sweep.py; return the exit code."""
    import importlib

    from sweeps.grid import trials_of
    from sweeps.lanes import Lanes
    from utils.installed import module_of
    sweep = importlib.import_module(module_of("sweep"))
    return sweep.sweep(trials_of(grid), Lanes(grid.jobs), retries=1)


if __name__ == "__main__":
    leave_early()
    sys.exit(main())
