"""Read runs, compare them, and compute the numbers that plot.py draws and report.py shows."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose runs and how they are compared."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the directory of a run, a directory above several "
                        "runs, or rews/*.npz of the original program; NAME=RUN names the algorithm")
    parser.add_argument("--by", choices=["algorithm", "tag"], default="algorithm", help="which runs share a curve: "
                        "those of one algorithm, or those whose tags differ only in the seed, as in a suite (default: "
                        "algorithm)")
    parser.add_argument("--metric", metavar="NAME", default="", help="a column of metrics.csv instead of the "
                        "evaluation returns, such as train/return")
    parser.add_argument("--last", metavar="FRACTION", type=_fraction, default=0.1, help="the final score of a run is "
                        "the mean of this last share of its evaluations, of at least one (default: 0.1)")
    parser.add_argument("--smooth", metavar="N", type=positive, default=1, help="draw the mean of each evaluation "
                        "and the N - 1 before it (default: 1)")
    parser.add_argument("--normalize", metavar="FILE", help="JSON: for each environment the returns that are scores 0 "
                        "and 1 (default: SAC with episodic and with dense rewards, where the runs include both)")
    parser.add_argument("--resamples", metavar="N", type=positive, default=2000, help="resamples of the "
                        "bootstrap (default: 2000)")


def _fraction(text: str) -> float:
    number = float(text) if text.replace(".", "", 1).isdecimal() else math.nan
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number above 0 and at most 1")
    return number


def positive(text: str) -> int:
    """A number of at least 1, for argparse."""
    if not (text.isdecimal() and 0 < int(text) < 10**6):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of at least 1")
    return int(text)


@dataclass(frozen=True)
class Study:
    """Runs by environment and algorithm, and their statistics; see `results.scores` and `results.curves`."""

    records: list                       # of the runs, in the order of reading
    groups: dict                        # environment -> algorithm -> its runs
    lines: dict                         # environment -> lines of returns
    rewards: dict                       # environment -> metric of a diagnosis -> algorithm -> its runs
    reward_lines: dict                  # environment -> metric of a diagnosis -> lines
    scores: list                        # a row for each algorithm on each environment
    estimates: list                     # this and the next three: over all environments that have anchors; may be empty
    profiles: list
    improvements: list
    tasks: int                          # the number of environments that have anchors
    notes: list[str]                    # warnings about the comparison
    unread: list[str]                   # a line for each run that cannot be read, with the reason
    metric: str = ""                    # what was read, if not evaluation returns

    @property
    def algorithms(self) -> list[str]:
        """The names of all algorithms, in the order of reading."""
        return list(dict.fromkeys(name for algorithms in self.groups.values() for name in algorithms))


def read_study(options: argparse.Namespace, complain: Callable[[str], object]) -> Study:
    """Read and compare the runs that `options` names.

    Args:
        options: of a parser with `add_arguments`.
        complain: called with a line for each run that cannot be read.
    Raises:
        ConfigError: no run can be read, or the file of anchors is invalid.
    """
    from results import curves, scores
    from results.records import read_record, reward_curves
    from results.variants import tell_apart

    given = scores.read_anchors(options.normalize) if options.normalize else {}
    found, unread = _read(options, complain)
    found, splits = tell_apart(found)
    records, groups = [read_record(curve) for curve in found], curves.group(found)
    rewards = {env: {name: curves.group(runs)[env] for name, runs in numbers.items()}
               for env, numbers in reward_curves(records).items()}
    return Study(
        records=records, groups=groups, rewards=rewards, unread=unread, metric=options.metric,
        lines={env: _lines(algorithms, options) for env, algorithms in groups.items()},
        reward_lines={env: {name: _lines(runs, options) for name, runs in numbers.items()}
                      for env, numbers in rewards.items()},
        **_statistics(groups, given, options, splits))


def _read(options: argparse.Namespace, complain: Callable[[str], object]) -> tuple[list, list[str]]:
    """The curves of the runs, and a line for each run that cannot be read."""
    from results.reading import read_curves
    from utils.errors import ConfigError
    unread: list[str] = []

    def miss(line: str) -> None:
        unread.append(line)
        complain(line)
    found = read_curves(options.runs, miss, options.by, options.metric)
    if not found:
        raise ConfigError("no run could be read")
    return found, unread


def _statistics(groups: dict, given: dict, options: argparse.Namespace, splits: list[str]) -> dict[str, Any]:
    """The fields of a study that are scores, and the notes on them.

    Args:
        given: the anchors of a file.
        splits: notes on runs that were told apart.
    """
    from results import curves, scores
    notes = [*splits, *curves.notes(groups)]
    anchors = scores.anchors_of_runs(groups, options.last, notes.append) | given
    finals = scores.final_scores(groups, options.last)
    notes += _on_anchors(finals, given, anchors)
    normalized = scores.normalized(finals, anchors, notes.append)
    notes += scores.weak_points(normalized)
    return dict(
        scores=scores.score_table(finals, anchors, options.resamples),
        estimates=scores.estimates(normalized, options.resamples),
        profiles=scores.profiles(normalized, options.resamples) if normalized else [],
        improvements=scores.improvements(normalized, options.resamples),
        tasks=len(next(iter(normalized.values()), ())), notes=notes)


def _on_anchors(finals: dict, given: dict, anchors: dict) -> Iterator[str]:
    """Notes on anchors without runs and runs without anchors."""
    if strangers := [env for env in given if env not in finals]:
        yield f"--normalize: no run is of {', '.join(strangers)}; there are {', '.join(finals)}"
    if raw := [env for env in finals if env not in anchors]:
        yield (f"raw returns only for {', '.join(raw)}; for normalised scores give --normalize, or runs of --alg=sac "
               "with --env_type=ep_rews and with =normal")


def _lines(algorithms: dict, options: argparse.Namespace) -> list:
    from results import curves
    return [line for algorithm, runs in algorithms.items()
            for line in curves.lines(algorithm, runs, options.smooth, options.resamples)]
