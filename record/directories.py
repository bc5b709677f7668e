"""Choose the directory of a run: a new one, or that of the run that it resumes."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import re
import shutil
import time
from pathlib import Path
from typing import Any

from utils.errors import ConfigError
from utils.settings.fields import Config, all_settings
from utils.settings.json_files import read_json, read_object
from utils.settings.kernels import AUTO
from utils.settings.resolve import algorithm_defaults, effective

# Settings that a resumed run may change: its length, and what is written when.
MAY_CHANGE = ("epochs", "total_timesteps", "save_rews", "checkpoint_every", "on_existing", "worker_restarts",
              "worker_timeout", "track", "run_dir", "on_nan")
TIME = r"_\d{8}-\d{6}(\.\d+)?"


def choose_directory(config: Config, root: Path, which: str = "") -> tuple[Path, bool]:
    """Return the directory of a run, and whether it is new.

    Args:
        root: the directory of all runs.
        which: distinguishes runs of the same settings, such as `seed0`.
    Raises:
        ConfigError: it cannot be created, holds no run, or its run has other settings that may not change.
        CheckpointError: the run to be overwritten is in use.
    """
    if config.resume:
        directory = Path(config.resume)
        check_settings(directory, config)
        return directory, False
    found = newest_run(config, root, which) if config.on_existing != "new" else None
    if found is None:
        return make_directory(config, root, which), True
    if config.on_existing == "resume":
        check_settings(found, config)
        return found, False
    from record.store import Store  # imports PyTorch, which plots do not need
    with contextlib.closing(Store(found / "checkpoints" / "resume")) as store:
        store.open()                                    # raises if another process writes it
    try:
        shutil.rmtree(found)
    except OSError as error:
        raise ConfigError(f"on_existing: cannot remove {str(found)!r}: {error.strerror}") from None
    return make_directory(config, root, which), True


def check_settings(directory: Path, config: Config) -> None:
    """Raise a ConfigError if the run in the directory has other settings that may not change; it lists them all."""
    compare(read_json(directory / "config.json"), config, directory)


def check_same_backend(directory: Path, backend: str | None) -> None:
    """Raise a ConfigError if the run in the directory used the other backend."""
    try:
        theirs = read_object(directory / "run.json").get("backend")
    except ConfigError:                                 # run.json is not needed to resume
        return
    if theirs not in (None, backend):
        raise ConfigError(f"resume: {str(directory)!r} was run by {theirs}, expected {backend}, or a new run")


def compare(theirs: dict[str, Any], config: Config, directory: Path) -> None:
    """Raise a ConfigError that lists all differences between two runs' settings, except those that may change."""
    ours = config.settings()
    names = dict.fromkeys([*theirs, *ours])
    defaults, theirs = _defaults(theirs), _effective(theirs)
    theirs = {name: theirs.get(name, defaults[name]) for name in names}             # older records lack newer settings
    different = [f"{name} {_shown(theirs[name])} -> {_shown(ours.get(name))}" for name in names
                 if name not in MAY_CHANGE and not _is_equal(name, theirs[name], ours.get(name))]
    if different:
        field, way = ("resume", "without --resume") if config.resume else ("on_existing", "by --on_existing=new")
        *some, last = (name for name in MAY_CHANGE if name != "on_existing")
        raise ConfigError(f"{field}: {str(directory)!r} was run with other settings: {', '.join(different)}; expected "
                          f"the same ones, or a new run {way} (only {', '.join(some)} and {last} may change)")


def _effective(theirs: dict[str, Any]) -> dict[str, Any]:
    """Return a record's settings, less those that have no effect, which older records may have."""
    with contextlib.suppress(ConfigError):              # of an algorithm that is not registered
        return effective(theirs)
    return theirs


def _defaults(theirs: dict[str, Any]) -> dict[str, Any]:
    """Return the default of each setting, of those of the record's algorithm its own."""
    found = {name: setting.default for name, setting in all_settings().items()}
    with contextlib.suppress(ConfigError):              # of an algorithm that is not registered
        found |= algorithm_defaults(theirs)
    return found


def _is_equal(name: str, theirs: Any, ours: Any) -> bool:
    """Whether a setting's values mean the same: `module:id`, for an environment, means what `id` means."""
    if name == "kernels" and AUTO in (theirs, ours):    # the record has what auto has chosen
        return True
    if name == "env" and isinstance(theirs, str) and (":" in theirs) != (":" in ours):
        return theirs.rpartition(":")[2] == ours.rpartition(":")[2]
    return _plain(theirs) == _plain(ours)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return "(none)" if value is None else str(value)


def newest_run(config: Config, root: Path, which: str = "") -> Path | None:
    """Return the last run in `root` of the same tag, algorithm, basis, environment and seed; None if there is none.

    With `run_dir` it is the run there, or the last one of the same settings in a directory `training_<time>` beside.
    """
    if config.run_dir:
        return _newest_beside(config)
    stems = (_stem(config, which), _stem(config, which, with_basis=False))          # older names lack the basis
    pattern = re.compile(f"({'|'.join(map(re.escape, stems))}){TIME}")
    found = [path for path in root.iterdir() if pattern.fullmatch(path.name)] if root.is_dir() else []
    found = [path for path in found if (path / "config.json").is_file() and _is_same(path, config)]
    return max(found, key=_by_time, default=None)


def _newest_beside(config: Config) -> Path | None:
    own = _own_directory(config)
    if (own / "config.json").is_file():
        return own
    beside = own.parent.parent.glob("training_*/*") if own.parent.name.startswith("training_") else ()
    same_name = re.compile(re.escape(own.name) + r"(\.\d+)?")
    found = [path for path in beside if same_name.fullmatch(path.name) and _fits(path, config)]
    return max(found, key=lambda path: (path.parent.name, _by_time(path)), default=None)


def _own_directory(config: Config) -> Path:
    """The directory that `run_dir` names."""
    return Path(config.run_dir.replace("{seed}", str(config.seed)))


def _fits(directory: Path, config: Config) -> bool:
    """Whether a directory holds a run of the same settings."""
    try:
        _compare_on_their_device(directory, config)
    except ConfigError:
        return False
    return True


def _compare_on_their_device(directory: Path, config: Config) -> None:
    """`compare` with the record there; a device `auto` means what the record has."""
    theirs = read_json(directory / "config.json")
    device = theirs.get("device", config.device) if config.device == "auto" else config.device
    compare(theirs, dataclasses.replace(config, device=device), directory)


def recorded(config: Config, name: str, root: Path) -> Any:
    """Return a setting of the run that `on_existing=resume` finds; None if there is none, or it does not say it."""
    if config.on_existing != "resume":
        return None
    directory = newest_run(config, root) or newest_run(config, root, f"seed{config.seed}")
    try:
        return read_json(directory / "config.json").get(name) if directory else None
    except ConfigError:                                 # reported when the run is opened
        return None


def finished(config: Config, root: Path) -> dict[str, str] | None:
    """Return the last row of the metrics of the run that `on_existing=resume` finds, if nothing is left of it to do.

    None if there is no such run, or it has other settings, has failed or is not done: then train.py says more.
    """
    directory = newest_run(config, root)
    if directory is None or (directory / "error.txt").exists():
        return None
    try:
        _compare_on_their_device(directory, config)
        with open(directory / "metrics.csv", newline="", encoding="utf-8") as file:
            row = list(csv.DictReader(file))[-1]
        done = float(row["Timesteps"]) >= config.run_length
    except (ConfigError, OSError, ValueError, KeyError, IndexError, TypeError, csv.Error):
        return None
    return {name: value for name, value in row.items() if value} if done else None


def _is_same(directory: Path, config: Config) -> bool:
    """Return whether the run there has the same tag, seed and basis, which its name does not say or cuts short."""
    try:
        theirs = read_object(directory / "config.json")
    except ConfigError:
        return True                                     # the caller reports the error
    return all(theirs.get(name) == getattr(config, name) for name in ("tag", "seed", "basis_alg"))


def _by_time(path: Path) -> tuple[str, int]:
    name, _, suffix = path.name.rpartition("_")[2].partition(".")
    return name, int(suffix or 1)


def make_directory(config: Config, root: Path, which: str = "") -> Path:
    """Create the directory of a new run.

    Raises:
        ConfigError: it cannot be created.
    """
    name = _stem(config, which) + time.strftime("_%Y%m%d-%H%M%S")
    field, path = ("run_dir", _own_directory(config)) if config.run_dir else ("outputs", root / name)
    try:
        for suffix in ["", *(f".{i}" for i in range(2, 1000))]:
            try:
                path.with_name(path.name + suffix).mkdir(parents=True)
                return path.with_name(path.name + suffix)
            except FileExistsError:                    # another run of the same second
                if not path.parent.is_dir():
                    raise
    except (OSError, ValueError) as error:              # ValueError: no name, or a null character in it
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{field}: cannot create {str(path)!r}: {reason}") from None
    raise ConfigError(f"{field}: {str(path)!r} exists 999 times over")


def _stem(config: Config, which: str, with_basis: bool = True) -> str:
    basis = config.basis_alg if with_basis and config.basis_alg else ""
    parts = [file_name(part) for part in (config.tag, config.alg, basis, config.env)]
    return "-".join(filter(None, parts)) + f"_{which}" * bool(which)


def file_name(text: str, most: int = 100) -> str:
    """Return a name that is safe in shells and file systems, of at most `most` bytes."""
    safe = re.sub(r"[^\w.()+=-]+", "_", text).lstrip(".-")
    return safe.encode()[:most].decode(errors="ignore")          # file systems count bytes, up to 255
