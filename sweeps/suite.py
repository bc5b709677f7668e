"""The trials of a suite; each is a run of train.py."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs.names import check_registered, resolve_env, with_version, without_module
from record.directories import file_name, finished
from utils.errors import ConfigError
from utils.settings.cli import parse_args
from utils.settings.fields import Config, all_settings
from utils.settings.imports import import_modules
from utils.settings.json_files import SCHEMA, SECTIONS, flatten, read_object
from utils.settings.resolve import coerce
from utils.settings.values import as_text
from utils.text import printable

PARTS = {"common": (dict, "an object of settings"), "env": (list, "a list of environments, at least one"),
         "runs": (dict, "an object of runs by name, at least one"),
         "search": (dict, "an object of ranges by setting, see sweeps/search.py")}
# Settings that a suite sets by itself, or only a flag of sweep.py may set.
RESERVED = {"env": "env belongs beside runs", "seed": "--seeds chooses", "seeds": "--seeds chooses",
            "tag": "the run's name is the tag", "on_existing": "the same command always resumes"}
LONGEST = 60            # characters of a run's name; the name of its directory is longer, and is cut


@dataclass
class Trial:
    """One run of train.py and its state."""

    name: str
    settings: dict[str, Any]
    modules: list[str] = field(default_factory=list)            # imported first
    state: str = "waiting"              # then running, then done, failed, stopped, pruned or elsewhere (run by another
    #                                     process)
    tries: int = 0
    error: str = ""                     # why it failed
    trace: list[str] = field(default_factory=list)              # the log from the traceback on
    may_recover: bool = False           # another try may succeed
    stopping: bool = False              # it was asked to stop
    pruned: bool = False                # because a search has better ones
    fields: dict[str, str] = field(default_factory=dict)        # the last line of its record
    curve: list[tuple[int, float]] = field(default_factory=list)        # (steps, return) of its evaluations in this try
    read: int = 0                       # bytes of the log that older tries wrote, or that were read
    config: Config | None = None        # its settings, resolved
    began: tuple[float, int] | None = None          # (time, steps) at the beginning of this try
    last: tuple[float, int] | None = None           # (time, steps) at the last line of the record in this try

    @property
    def steps(self) -> int:
        """The environment steps at the last line of its record."""
        return int(float(self.fields.get("Timesteps", 0)))

    @property
    def length(self) -> int:
        """The environment steps of the whole run."""
        return self.config.run_length if self.config else 0

    @property
    def speed(self) -> float:
        """Environment steps per second in this try, evaluation included; 0 before the first line of its record."""
        if self.began is None or self.last is None or self.last[0] <= self.began[0]:
            return 0.0
        return (self.last[1] - self.began[1]) / (self.last[0] - self.began[0])

    def expected(self, now: float) -> float:
        """The steps that it has probably made by now."""
        since = self.speed * (now - self.last[0]) if self.state == "running" and self.last else 0.0
        return min(self.length, self.steps + since)

    def left(self, now: float) -> float | None:
        """An estimate of the seconds until a running trial ends; None if its speed is unknown."""
        if self.state != "running" or not self.speed:
            return None
        return (self.length - self.expected(now)) / self.speed

    def skip_if_finished(self) -> None:
        """Take the result of a trial that an earlier sweep has finished; it needs no process."""
        row = finished(self.config, Path("outputs")) if self.config else None
        if row is not None:
            self.state, self.fields = "done", row

    @property
    def flags(self) -> list[str]:
        """The command line of train.py."""
        imports = [f"--import={module}" for module in self.modules]
        settings = [f"--{name}={as_text(value)}" for name, value in self.settings.items()]
        return [*imports, *settings, "--on_existing=resume"]

    @property
    def log(self) -> Path:
        """The file of train.py's output."""
        name = file_name(self.name, 200)
        if name != file_name(self.name, 1000):          # two long names may differ only in the part that was cut
            name = f"{file_name(self.name, 180)}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"
        return Path("outputs") / "sweep" / f"{name}.log"

    def new_lines(self) -> list[str]:
        """The whole lines that this try has written since the last call."""
        try:
            with open(self.log, "rb") as file:
                file.seek(self.read)
                data = file.read()
        except OSError:
            return []
        self.read += (whole := data.rfind(b"\n") + 1)
        return data[:whole].decode(errors="replace").splitlines()


def read_suite(path: Path, seeds: str, modules: list[str]) -> list[Trial]:
    """Read the trials of a suite, seed by seed, so that comparisons are complete for the seeds that are done.

    Args:
        path: the JSON file.
        seeds: such as "0-9".
        modules: imported by every trial; environments of the suite may come from them.
    Raises:
        ConfigError: a module cannot be imported, the file cannot be read, or a setting is invalid.
    """
    import_modules(modules)
    suite = read_object(path)
    _check_parts(suite, path)
    for env in suite["env"]:
        _check_env(env, modules)
    _check_each_once(suite["env"])
    runs = {name: _settings_of(name, own, suite.get("common", {})) for name, own in suite["runs"].items()}
    trials = [_trial(name, env, seed, settings, modules) for seed, env, (name, settings)
              in itertools.product(coerce("seeds", seeds), suite["env"], runs.items())]
    _check_directories(trials)
    for env in suite["env"]:
        check_registered(env)
    return trials


def _check_parts(suite: dict[str, Any], path: Path) -> None:
    suite.pop(SCHEMA, None)
    for name, value in suite.items():
        if name not in PARTS and (name in all_settings() or name in SECTIONS) and "runs" not in suite:
            command = shlex.join(["python", "train.py", "--config", str(path)])
            raise ConfigError(f"{str(path)!r} holds the settings of one run; `{command}` runs it")
        if name not in PARTS:
            raise ConfigError(f"{name}: unknown in a suite, expected {', '.join(PARTS)}")
        kind, expected = PARTS[name]
        if not isinstance(value, kind) or (not value and name != "common"):
            raise ConfigError(f"{name}: got {_json(value)}, expected {expected}")
    for name in ("env", "runs"):
        if name not in suite:
            raise ConfigError(f"{name}: missing in {str(path)!r}")


def _check_env(env: Any, modules: list[str]) -> None:
    if not isinstance(env, str) or not env:
        raise ConfigError(f"env: got {_json(env)}, expected the id of an environment")
    module, colon, _ = env.partition(":")
    if colon and module not in modules:
        raise ConfigError(f"env: {env!r} names a module to import, which only a flag may: give "
                          f"--import={shlex.quote(module)}")


def _check_each_once(envs: list[str]) -> None:
    """Check that no task occurs twice, also by another name: Hopper-v2 runs as Hopper-v4."""
    first: dict[str, str] = {}
    for env in envs:
        other = first.setdefault(str(resolve_env(without_module(env))), env)
        if envs.count(env) > 1:
            raise ConfigError(f"env: got {env!r} {envs.count(env)} times, expected each once")
        if other != env:
            raise ConfigError(f"env: got {other!r} and {env!r}, one task, {resolve_env(env)}; expected one of them")


def _settings_of(name: str, own: Any, common: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run, without sections; null means not given."""
    if name != printable(name) or not 0 < len(name.strip()) <= LONGEST:
        raise ConfigError(f"runs: got {name[:80]!r}, expected a name of 1 to {LONGEST} printable characters")
    if not isinstance(own, dict):
        raise ConfigError(f"runs: {name!r}: got {_json(own)}, expected an object of settings")
    settings = _part("common", common) | _part(f"runs: {name!r}", own)
    return {setting: value for setting, value in settings.items() if value is not None}


def _part(where: str, part: dict[str, Any]) -> dict[str, Any]:
    """The settings of one object of the suite; errors begin with its place."""
    if any(setting.partition("=")[0] == "import" for setting in part):
        raise ConfigError("import: a module to import, which only a flag may name: give --import=MODULE")
    try:
        given = flatten(part)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    for setting in (one for one in given if one in RESERVED):
        raise ConfigError(f"{where}: {setting}: not read here: {RESERVED[setting]}")
    _check_lists(given, where)
    return given


def _check_lists(given: dict[str, Any], where: str) -> None:
    """Raise a ConfigError for a list where no list is expected: as the text of a flag it may be a number."""
    try:
        for name, value in given.items():
            if isinstance(value, list):
                coerce(name, value)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _trial(name: str, env: str, seed: int, settings: dict[str, Any], modules: list[str]) -> Trial:
    trial = Trial(f"{name}, {env}, seed {seed}", settings | {"env": env, "seed": seed, "tag": f"{name} seed {seed}"},
                  modules)
    try:
        return complete(trial)
    except ConfigError as error:
        raise ConfigError(f"runs: {name!r}: {re.sub(r'^--', '', str(error))}") from None


def complete(trial: Trial) -> Trial:
    """Resolve the settings of a trial; return it.

    Raises:
        ConfigError: one is invalid.
    """
    trial.config = dataclasses.replace(parse_args(trial.flags), env=with_version(trial.settings["env"]))
    return trial


def _check_directories(trials: list[Trial]) -> None:
    """Check that no two trials share a directory: names may differ only in characters that no file's name holds."""
    seen: dict[str, Trial] = {}
    for trial in trials:
        other = seen.setdefault(str(trial.log), trial)
        if other is not trial:
            raise ConfigError(f"runs: {other.name!r} and {trial.name!r} would share a directory; expected names that "
                              "differ in more than punctuation")


def _json(value: Any) -> str:
    return json.dumps(value)[:60]
