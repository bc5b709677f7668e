"""Draw learning curves and statistics of runs; see `python plot.py --help`."""

import argparse
import csv
import math
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from program import complain, run_program

MARK = "* "             # before the best of a table
EXAMPLES = """
examples:
  python plot.py outputs                                  all runs in a directory
  python plot.py outputs/rrd-* outputs/ircr-* --out figures --last 0.2
  python plot.py outputs 'RRD-SAC (TF)=log/rews/RUN/HalfCheetah-v2.npz'
  python plot.py outputs --normalize anchors.json         {"HalfCheetah-v4": [0, 12000], ...}

Runs of one algorithm (--alg, --basis_alg, --rrd_bias_correction, --env_type) and of equal settings, but for the
seed, on one environment form a curve.
How to read the figures: docs/plots.md.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns: 0; 1 if a figure cannot be written; 2 if an argument is invalid, no run can be read or matplotlib is not
        installed; 130 after Ctrl-C.
    """
    return run_program("plot.py", lambda: plot(parse(sys.argv[1:] if argv is None else argv)))


def note(line: str) -> None:
    """Print a note, which is no error, on standard error."""
    complain("plot.py", f"note: {line}")


# The command line ---------------------------------------------------------------------------------------------------

def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse and check the options.

    Raises:
        ConfigError: an option is invalid.
        SystemExit: `--help` or `--completion` is printed.
    """
    from results.study import add_arguments
    from utils.settings.cli import Parser
    from utils.settings.completion import add_completion
    parser = Parser(prog="plot.py", allow_abbrev=False, epilog=EXAMPLES,
                    formatter_class=argparse.RawDescriptionHelpFormatter,
                    description="Draw learning curves of runs and statistics over all environments: figures (PNG, "
                                "SVG), their numbers (CSV), and tables.")
    add_arguments(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("plots"),
                        help="the directory to write to (default: plots)")
    add_completion(parser)
    return parser.parse_args(argv)


# The program -------------------------------------------------------------------------------------------------------

def plot(options: argparse.Namespace) -> int:
    """Read the runs, draw, write and print; returns the exit code."""
    figures, began = import_figures(), time.time()
    from results.study import read_study

    study = read_study(options, partial(complain, "plot.py"))
    for line in (*study.notes, *figures.notes(study.algorithms, [*study.groups], study.improvements)):
        note(line)
    options.out.mkdir(parents=True, exist_ok=True)
    write(study, figures.Styles(study.algorithms), options)
    older = sorted(path.name for path in options.out.iterdir() if is_ours(path) and path.stat().st_mtime < began)
    if older:
        note(f"{options.out} also holds older figures, perhaps of other runs: {', '.join(older)}")
    print_results(study, options)                       # last: below all notes, and a reader may close the pipe
    return 0


def write(study, styles, options: argparse.Namespace) -> None:
    """Write all figures and their numbers."""
    write_curves(study, styles, options)
    write_csv(options.out / "scores.csv", study.scores)
    write_csv(options.out / "evaluations.csv", evaluations(study), ("env", "algorithm", "run", "steps", "return"))
    if study.estimates:
        write_aggregates(study, styles, options.out)


def print_results(study, options: argparse.Namespace) -> None:
    """Print the tables and the place of the figures."""
    from utils.display import say
    print_scores(study.scores, options.last)
    if study.estimates:
        print_aggregates(study.estimates, study.tasks)
    say(f"figures and their numbers are in {options.out}")


def evaluations(study) -> Iterator[tuple]:
    """A row for each evaluation of each run."""
    for curve in (record.curve for record in study.records):
        yield from ((curve.env, curve.algorithm, curve.run, *row) for row in curve.rows.tolist())


def is_ours(path: Path) -> bool:
    """Whether this program writes files of this name."""
    return bool(re.fullmatch(r"((curves|reward)-.+|aggregates|profiles|improvement)\.(png|svg|csv)", path.name))


def import_figures():
    """Import the module that draws.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    from utils.errors import ConfigError
    from utils.installed import pip_install
    try:
        from results import figures
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        raise ConfigError(f"matplotlib is not installed; {pip_install('plot')} installs it") from None
    return figures


def write_curves(study, styles, options: argparse.Namespace) -> None:
    """Write a figure of the returns for each environment, and one of the learned reward if it was diagnosed."""
    from results import figures
    from results.curves import Line
    names = file_names(list(study.groups))
    for env, lines in study.lines.items():
        path = options.out / f"curves-{names[env]}"
        figures.save(figures.learning_curves(env, lines, styles, options.smooth, options.metric), path)
        write_csv(path.with_name(f"{path.name}.csv"), (row for line in lines for row in rows_of(line)), Line._fields)
    for env, numbers in study.reward_lines.items():
        path = options.out / f"reward-{names[env]}"
        figures.save(figures.reward_numbers(env, numbers, styles), path)
        write_csv(path.with_name(f"{path.name}.csv"),
                  ((name, *row) for name, lines in numbers.items() for line in lines for row in rows_of(line)),
                  ("number", *Line._fields))


def file_names(envs: Sequence[str]) -> dict[str, str]:
    """Environment -> its part of a file's name; all are different."""
    from record.directories import file_name
    names: dict[str, str] = {}
    for env in envs:
        name = file_name(env)
        names[env] = name if name not in names.values() else f"{name}-{len(names)}"
    return names


def write_aggregates(study, styles, out: Path) -> None:
    """Write the figures over all environments that have anchors, and their numbers."""
    from results import figures
    from results.scores import Profile
    figures.save(figures.aggregates(study.estimates, styles), out / "aggregates")
    write_csv(out / "aggregates.csv", study.estimates)
    figures.save(figures.profiles(study.profiles, styles), out / "profiles")
    write_csv(out / "profiles.csv", (row for one in study.profiles for row in rows_of(one)), Profile._fields)
    if study.improvements:
        figures.save(figures.improvements(study.improvements, styles), out / "improvement")
        write_csv(out / "improvement.csv", study.improvements)


# Writing and printing -----------------------------------------------------------------------------------------------

def rows_of(arrays: Any) -> Iterator[tuple]:
    """The rows of a named tuple of texts and arrays (P,), one for each point."""
    count = max(len(value) for value in arrays if not isinstance(value, str))
    columns = ([value] * count if isinstance(value, str) else value.tolist() for value in arrays)
    yield from zip(*columns, strict=True)


def write_csv(path: Path, rows: Iterable[Sequence], names: Sequence[str] | None = None) -> None:
    """Write numbers exactly, to the last bit; NaN becomes an empty cell."""
    rows = list(rows)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names or rows[0]._fields)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, str | int):
        return value
    return "" if math.isnan(value) else repr(float(value))


def print_scores(table, last: float) -> None:
    """Print the final scores, environment by environment."""
    from results.scores import best
    headers = ["environment", "algorithm", "runs", "score", "95 % interval", "normalised"]
    rows, before, first = [], None, best(table)
    for one in table:
        name = f"{one.value:.5g}" + " (mean)" * (one.statistic == "mean" and one.runs > 1)
        mark = MARK * ((one.env, one.algorithm) in first)
        rows.append([one.env if one.env != before else "", mark + one.algorithm, str(one.runs), name,
                     _interval(one.low, one.high, ".5g"), "-" if math.isnan(one.normalized) else
                     f"{one.normalized:z.3f}"])
        before = one.env
    title = f"final scores: IQM over runs of the mean of their last {last:.0%} of evaluations"
    _print_table(title, headers, rows, f"{MARK}the highest score of its environment" if first else None)


def print_aggregates(estimates, tasks: int) -> None:
    """Print the statistics over all environments: a row for each algorithm, a column for each statistic."""
    statistics = list(dict.fromkeys(one.statistic for one in estimates))
    rows = [[algorithm, *(f"{one.value:z.3f} {_interval(one.low, one.high, '.3f')}" for one in estimates
                          if one.algorithm == algorithm)]
            for algorithm in dict.fromkeys(one.algorithm for one in estimates)]
    if len(rows) > 1:                                   # the highest IQM stands first
        rows[0][0] = MARK + rows[0][0]
    _print_table(f"normalised scores over {tasks} environment{'s' * (tasks > 1)}", ["algorithm", *statistics], rows,
                 f"{MARK}the highest IQM" if len(rows) > 1 else None)


def _interval(low: float, high: float, form: str) -> str:
    return "-" if math.isnan(low) else f"[{low:{form}}, {high:{form}}]"


def _print_table(title: str, headers: Sequence[str], rows: Iterable[Sequence[str]],
                 caption: str | None = None) -> None:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    from utils.display import console
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=SIMPLE)
    for header in headers:
        table.add_column(header, justify="left" if header in ("environment", "algorithm") else "right")
    for row in rows:
        best = any(cell.startswith(MARK) for cell in row[:2])
        table.add_row(*map(Text, row), style="bold" if best else None)      # Text: a name may look like markup
    console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    sys.exit(main())
