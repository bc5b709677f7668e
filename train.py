"""Train an agent on the return of whole episodes; `python train.py --help`."""

import sys
from functools import partial
from typing import TYPE_CHECKING

from program import complain, leave_early, run_program

if TYPE_CHECKING:
    from utils.settings.fields import Config


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns: 0; 1 if a disk, a worker process or one of several seeds fails, or a number is not finite; 2 for a wrong
        setting or a damaged checkpoint; 75 after SIGTERM, SIGUSR1 or SIGHUP, 130 after Ctrl-C: then the run can be
        resumed.
    """
    def work() -> int:
        from utils.settings.cli import parse_args
        return run(parse_args(sys.argv[1:] if argv is None else argv))
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


if __name__ == "__main__":
    leave_early()
    sys.exit(main())
