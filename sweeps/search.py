"""A search over ranges of settings with Optuna: `python sweep.py SUITE --search=50`.

A suite of one environment and one run has ranges beside them:

    "search": {"r_lr": {"low": 1e-5, "high": 1e-2, "log": true}, "rrd_sample_size": [16, 32, 64]}

Each trial of the study is a run of train.py. The study is an SQLite file beside the best settings so far; the same
command resumes it, and the runs that were open. A trial whose learning curve is below the median of the others at the
same step is stopped.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sweeps.suite import RESERVED, Trial, complete
from utils.errors import ConfigError
from utils.files import write_json
from utils.installed import pip_install
from utils.settings.json_files import read_object
from utils.settings.resolve import coerce, find_setting
from utils.text import printable

SEARCH = "search"               # the part of a suite that holds the ranges
FOLDER = Path("outputs") / "search"
LAST = 3                        # evaluations whose mean is the value of a trial
START = 5                       # trials that end before any is stopped early
RANGE = '{"low": 1e-5, "high": 1e-2, "log": true} or a list of values'


class Range(NamedTuple):
    """The values of one setting: some, or all between two numbers."""

    name: str
    choices: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    def suggest(self, trial: Any) -> Any:
        """Return the value that a trial of Optuna proposes."""
        if self.choices is not None:
            return trial.suggest_categorical(self.name, self.choices)
        suggest = trial.suggest_int if find_setting(self.name).type is int else trial.suggest_float
        return suggest(self.name, self.low, self.high, log=self.log)


def read_ranges(path: Path) -> list[Range]:
    """Read the ranges of a suite.

    Raises:
        ConfigError: there are none, one is wrong, or the suite has more than one run.
    """
    suite = read_object(path)
    ranges = suite.get(SEARCH)
    if not isinstance(ranges, dict) or not ranges:
        raise ConfigError(f"search: got no ranges in {str(path)!r}, expected such as \"search\": "
                          f'{{"r_lr": {{"low": 1e-5, "high": 1e-2, "log": true}}}}')
    for part, what in (("env", "environment"), ("runs", "run")):
        if len(suite[part]) != 1:
            raise ConfigError(f"{part}: got {some_of(suite[part])} with --search, expected one {what}; search each in "
                              "a suite of its own")
    (run,) = suite["runs"].values()
    for name in (name for name in ranges if name in run):
        raise ConfigError(f"search: {name}: also a setting of the run; expected it in one place")
    return [range_of(name, given) for name, given in ranges.items()]


def some_of(names: Collection[str], most: int = 5) -> str:
    """Return how many there are, and the first names: `2 (SAC, TD3)`."""
    shown = [printable(name) for name in list(names)[:most]] + ["..."] * (len(names) > most)
    return f"{len(names)} ({', '.join(shown)})"


def range_of(name: str, given: Any) -> Range:
    """Return the range that JSON describes; a ConfigError names what is wrong."""
    if name in RESERVED:
        raise ConfigError(f"search: {printable(name)}: not searched: {RESERVED[name]}")
    if isinstance(given, list) and given:
        return Range(name, tuple(plain(coerce(name, value)) for value in given))
    setting = find_setting(name)
    if not isinstance(given, dict) or not {"low", "high"} <= given.keys() <= {"low", "high", "log"}:
        raise ConfigError(f"search: {name}: got {str(given)[:60]}, expected {RANGE}")
    if setting.type not in (int, float):
        raise ConfigError(f"search: {name}: got a range, expected a list of values: it is no number")
    low, high, log = coerce(name, given["low"]), coerce(name, given["high"]), given.get("log", False)
    if not low < high or not isinstance(log, bool) or (log and low <= 0):
        raise ConfigError(f"search: {name}: got {str(given)[:60]}, expected low below high, and above 0 with log")
    return Range(name, None, low, high, log)


def plain(value: Any) -> Any:
    """Return a value as a database holds it: of several numbers the text of the flag."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


class Search:
    """The trials of a study, made when a lane is free: what `sweep.sweep` takes from, and shows what they do to."""

    def __init__(self, base: Trial, ranges: Sequence[Range], count: int, name: str):
        """Open the study `name`, or begin it; `count` trials are in it at the end.

        Raises:
            ConfigError: Optuna is not installed, or the study is one of other settings.
        """
        self.optuna = import_optuna()
        self.base, self.ranges, self.count = base, ranges, count
        self.study = self._open(name)
        self.best_file = FOLDER / f"{name}.json"
        self.trials: list[Trial] = []                   # for display
        self.open: dict[str, Any] = {}                  # Optuna's trial of each that has not ended, by name
        self.told: dict[str, int] = {}                  # how much of the trial's learning curve the study knows
        self.known: dict[int, dict[int, float]] = {}    # what it knows, also from before: return by steps, by number
        self.made = len(self.study.trials)
        self.again: deque[Trial] = deque()              # that were open when the study was left, or that failed
        states = self.optuna.trial.TrialState
        for frozen in self.study.get_trials(states=(states.RUNNING,)):
            self.known[frozen.number] = dict(frozen.intermediate_values)
            trial = self._trial(self._opened(frozen.number), frozen.params)
            trial.skip_if_finished()
            if trial.state == "waiting":
                self.again.append(trial)

    def _open(self, name: str) -> Any:
        self.optuna.logging.set_verbosity(self.optuna.logging.WARNING)
        FOLDER.mkdir(parents=True, exist_ok=True)
        self.storage = self.optuna.storages.RDBStorage(f"sqlite:///{FOLDER / name}.db")
        study = self.optuna.create_study(
            storage=self.storage, study_name=name, direction="maximize", load_if_exists=True,
            pruner=self.optuna.pruners.MedianPruner(n_startup_trials=START, n_warmup_steps=self.base.length // 5))
        with warnings.catch_warnings():                 # constant_liar is experimental before Optuna 5
            warnings.simplefilter("ignore")
            study.sampler = self.optuna.samplers.TPESampler(seed=len(study.trials), constant_liar=True)
        mine = {"settings": {key: plain(value) for key, value in self.base.settings.items()},
                "ranges": [list(map(plain, one)) for one in self.ranges]}
        if study.user_attrs and study.user_attrs != mine:
            raise ConfigError(f"search: {FOLDER / name}.db is a study of other settings or ranges; expected the same, "
                              "or another name of the suite's file")
        for key, value in mine.items():
            study.set_user_attr(key, value)
        return study

    def _opened(self, number: int) -> Any:
        """Return the trial of this number, which an earlier process has begun."""
        study = self.storage.get_study_id_from_name(self.study.study_name)
        return self.optuna.trial.Trial(self.study, self.storage.get_trial_id_from_study_id_trial_number(study, number))

    # What a sweep takes ---------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        """Whether another trial may begin."""
        return bool(self.again) or self.made < self.count

    def popleft(self) -> Trial:
        """Return the next trial: one that was open, or one with new values."""
        if self.again:
            return self.again.popleft()
        asked, self.made = self.study.ask(), self.made + 1
        return self._trial(asked, {one.name: one.suggest(asked) for one in self.ranges})

    def append(self, trial: Trial) -> None:
        """Take back a trial for another try."""
        self.again.append(trial)

    def _trial(self, asked: Any, values: dict[str, Any]) -> Trial:
        which = f"trial {asked.number}"
        settings = self.base.settings | values | {"tag": f"{self.base.settings['tag']} {which}"}
        trial = complete(Trial(f"{self.base.name}, {which}", settings, self.base.modules))
        self.trials.append(trial)
        self.open[trial.name], self.told[trial.name] = asked, 0
        return trial

    # What it tells the study ----------------------------------------------------------------------------------

    def watch(self, lanes: Any) -> None:
        """Tell the study what the learning curves say, stop the trials that it prunes, and record those that ended."""
        for trial in [one for one in self.trials if one.name in self.open]:
            if self._report(trial) and trial.state == "running" and not trial.stopping \
                    and self.open[trial.name].should_prune():
                trial.stopping = trial.pruned = True
                lanes.stop(trial)
            if trial.state in ("done", "pruned") or (trial.state == "failed" and not trial.may_recover):
                self._tell(trial)

    def _report(self, trial: Trial) -> bool:
        """Tell the study the new evaluations of a trial; return whether there were some."""
        new = trial.curve[self.told[trial.name]:]
        if not new:
            return False
        asked = self.open[trial.name]
        known = self.known.setdefault(asked.number, {})
        for steps, value in new:
            if steps not in known and math.isfinite(value):
                asked.report(value, steps)
                known[steps] = value
        self.told[trial.name] = len(trial.curve)
        return True

    def _tell(self, trial: Trial) -> None:
        """Record the result of a trial that has ended, and the best settings so far."""
        asked, states = self.open.pop(trial.name), self.optuna.trial.TrialState
        value = self._value(trial, asked.number) if trial.state == "done" else None
        if value is not None:
            self.study.tell(asked.number, value)
            self._write_best()
        else:
            self.study.tell(asked.number, state=states.PRUNED if trial.state == "pruned" else states.FAIL)

    def _value(self, trial: Trial, number: int) -> float | None:
        """Return the mean of the last evaluations; None if there was none."""
        known = self.known.get(number, {})
        found = [known[steps] for steps in sorted(known)[-LAST:]] or [float(trial.fields.get("Rewards", "nan"))]
        value = sum(found) / len(found)
        return value if math.isfinite(value) else None

    def _write_best(self) -> None:
        """Write the settings of the best trial as a file for `train.py --config`."""
        settings = {name: value for name, value in self.base.settings.items() if name not in ("tag", "seed")}
        write_json(self.best_file, settings | self.study.best_params)

    def summary(self) -> str:
        """Return one line on the best trial; "" if none has ended."""
        if not self.best_file.is_file():
            return ""
        values = ", ".join(f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
                           for name, value in self.study.best_params.items())
        return (f"best: return {self.study.best_value:.6g} with {values}; train with `python train.py --config "
                f"{self.best_file}`")


def open_search(base: list[Trial], path: Path, count: int) -> Search:
    """Return the search of a suite's file over its only trial.

    Raises:
        ConfigError: a range is wrong, or there are several environments, runs or seeds.
    """
    ranges = read_ranges(path)
    if len(base) != 1:                                  # of one run in one environment
        raise ConfigError(f"seeds: got {len(base)} with --search, expected one; run the best settings with more")
    return Search(base[0], ranges, count, path.stem)


def import_optuna() -> Any:
    """Return Optuna; a ConfigError names the extra if it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise ConfigError(f"optuna is not installed; {pip_install('optuna')} installs it") from None
    return optuna
