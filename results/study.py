"""What runs show together: read, compared, and brought to the numbers that plot.py draws and report.py tells."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which runs, and how they are compared."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's directory, one above several, or the "
                        "original's rews/*.npz; NAME=RUN names the algorithm")
    parser.add_argument("--by", choices=["algorithm", "tag"], default="algorithm", help="what the runs of one curve "
                        "have in common: their algorithm, or their tag without its seed, by which a suite names its "
                        "runs (default: algorithm)")
    parser.add_argument("--last", metavar="FRACTION", type=_fraction, default=0.1, help="a run's final score is the "
                        "mean of this last share of its evaluations, and at least of one (default: 0.1)")
    parser.add_argument("--smooth", metavar="N", type=positive, default=1, help="draw the mean of N evaluations: each "
                        "and those before it (default: 1)")
    parser.add_argument("--normalize", metavar="FILE", help="JSON: the two returns per environment that count as 0 and "
                        "1 (default: SAC with episodic and with dense rewards, where both are among the runs)")
    parser.add_argument("--resamples", metavar="N", type=positive, default=2000, help="of the bootstrap (default: "
                        "2000)")


def _fraction(text: str) -> float:
    number = float(text) if text.replace(".", "", 1).isdecimal() else math.nan
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number above 0 and at most 1")
    return number


def positive(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 10**6):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of at least 1")
    return int(text)


@dataclass(frozen=True)
class Study:
    """Runs, by environment and algorithm, and their statistics;
    see `results.scores` and `results.curves` for the parts."""

    records: list                       # of the runs, in the order in which they were found
    groups: dict                        # environment -> algorithm -> its runs
    lines: dict                         # environment -> what is drawn of their returns
    rewards: dict                       # environment -> number of a diagnosis -> algorithm -> the runs that have it
    reward_lines: dict                  # environment -> number of a diagnosis -> what is drawn of it
    scores: list                        # a row for each algorithm on each environment
    estimates: list                     # the rest is over all environments that have anchors, empty without any
    profiles: list
    improvements: list
    tasks: int                          # how many these are
    notes: list[str]                    # what a reader should know
    unread: list[str]                   # a line for each run that could not be read, and why

    @property
    def algorithms(self) -> list[str]:
        """In the order in which they come."""
        return list(dict.fromkeys(name for algorithms in self.groups.values() for name in algorithms))


def read_study(options: argparse.Namespace, complain: Callable[[str], object]) -> Study:
    """The runs that `options` name (see `add_arguments`) and what follows from them.

    Args:
        complain: is given a line for each run that cannot be read.
    Raises:
        ConfigError: no run can be read, or the file of anchors is wrong.
    """
    from results import curves, reading, scores
    from results.records import read_record, reward_curves
    from utils.errors import ConfigError

    given = scores.read_anchors(options.normalize) if options.normalize else {}
    unread: list[str] = []

    def miss(line: str) -> None:
        unread.append(line)
        complain(line)
    found = reading.read_curves(options.runs, miss, options.by)
    if not found:
        raise ConfigError("no run could be read")
    records, groups = [read_record(curve) for curve in found], curves.group(found)
    rewards = {env: {name: curves.group(runs)[env] for name, runs in numbers.items()}
               for env, numbers in reward_curves(records).items()}
    notes = list(curves.notes(groups))
    anchors = scores.anchors_of_runs(groups, options.last, notes.append) | given
    finals = scores.final_scores(groups, options.last)
    if strangers := [env for env in given if env not in finals]:
        notes.append(f"--normalize: no run is of {', '.join(strangers)}; there are {', '.join(finals)}")
    if raw := [env for env in finals if env not in anchors]:
        notes.append(f"raw returns only for {', '.join(raw)}; a normalised score wants --normalize, or runs of "
                     "--alg=sac with --env_type=ep_rews and with =normal")
    normalized = scores.normalized(finals, anchors, notes.append)
    notes += scores.weak_points(normalized)
    return Study(
        records=records, groups=groups,
        lines={env: _lines(algorithms, options) for env, algorithms in groups.items()},
        rewards=rewards, reward_lines={env: {name: _lines(runs, options) for name, runs in numbers.items()}
                                       for env, numbers in rewards.items()},
        scores=scores.score_table(finals, anchors, options.resamples),
        estimates=scores.estimates(normalized, options.resamples),
        profiles=scores.profiles(normalized, options.resamples) if normalized else [],
        improvements=scores.improvements(normalized, options.resamples),
        tasks=len(next(iter(normalized.values()), ())), notes=notes, unread=unread)


def _lines(algorithms: dict, options: argparse.Namespace) -> list:
    from results import curves
    return [line for algorithm, runs in algorithms.items()
            for line in curves.lines(algorithm, runs, options.smooth, options.resamples)]
