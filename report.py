"""Write one page about runs: scores, curves, learned rewards, settings, systems; see `python report.py --help`."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from program import complain, run_program

EXAMPLES = """
examples:
  python report.py outputs                                all runs in a directory, to report.html
  python report.py outputs/rrd-* outputs/ircr-* --out rrd.html --title 'RRD and IRCR'
  python report.py outputs 'RRD-SAC (TF)=log/rews/RUN/HalfCheetah-v2.npz'

The page is one file that fetches nothing and runs no script. How to read it: docs/report.md.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns: 0; 1 if the page cannot be written; 2 if an argument is invalid, no run can be read, or matplotlib or Jinja
        is not installed; 130 after Ctrl-C.
    """
    def work() -> int:
        from utils.installed import called
        given = sys.argv[1:] if argv is None else argv
        return report(parse(given), f"{called('report.py')} {shlex.join(given)}")
    return run_program("report.py", work)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse and check the options.

    Raises:
        ConfigError: an option is invalid.
        SystemExit: `--help` or `--completion` is printed.
    """
    from results.study import add_arguments
    from utils.settings.cli import Parser
    from utils.settings.completion import add_completion
    parser = Parser(prog="report.py", allow_abbrev=False, epilog=EXAMPLES,
                    formatter_class=argparse.RawDescriptionHelpFormatter,
                    description="Write one HTML page about runs: final scores, learning curves, the accuracy of "
                                "learned rewards, settings, systems.")
    add_arguments(parser)
    parser.add_argument("--out", metavar="FILE", type=Path, default=Path("report.html"),
                        help="the file to write (default: report.html)")
    parser.add_argument("--title", metavar="TEXT", help="the title of the page (default: the runs as given)")
    add_completion(parser)
    return parser.parse_args(argv)


def report(options: argparse.Namespace, command: str) -> int:
    """Read the runs and write the page; returns the exit code."""
    out = checked_out(options.out)
    render = import_render()
    from results.study import read_study
    from utils.display import say
    from utils.files import write_file
    from utils.text import printable

    study = read_study(options, partial(complain, "report.py"))
    title = options.title or (", ".join(options.runs) if len(options.runs) <= 3 else f"{len(study.records)} runs")
    about = {"title": printable(title), "command": printable(command), "made": time.strftime("%Y-%m-%d %H:%M")}
    write_file(out, render(study, options.last, options.smooth, about).encode("utf-8", "replace"))
    say(f"the report is in {options.out}")
    return 0


def checked_out(given: Path) -> Path:
    """The file to write; a link is kept, and its target written.

    Raises:
        ConfigError: its directory does not exist, or the path is no file.
    """
    from utils.errors import ConfigError
    out = Path(os.path.realpath(given))
    if not out.parent.is_dir() or (os.path.lexists(out) and not out.is_file()):
        raise ConfigError(f"--out: got {str(given)!r}, expected a file in a directory that exists")
    return out


def import_render():
    """Import `results.page.render`.

    Raises:
        ConfigError: matplotlib or Jinja is not installed.
    """
    from utils.errors import ConfigError
    from utils.installed import pip_install
    try:
        from results.page import render
    except ModuleNotFoundError as error:
        name = (error.name or "").split(".")[0]
        if name not in ("matplotlib", "jinja2"):
            raise
        raise ConfigError(f"{name} is not installed; {pip_install('plot')} installs it") from None
    return render


if __name__ == "__main__":
    sys.exit(main())
