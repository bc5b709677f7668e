"""How every program begins and ends; standard library alone."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

MARK = "return-decomposition"       # utils/__init__.py bears it
REQUIRED = ("torch", "numpy", "gymnasium", "mujoco", "safetensors", "tensorboardX", "rich")     # setup.py's


def run_program(name: str, work: Callable[[], int], without_memory: str = "") -> int:
    """The exit code of `work`; what it raises is one line on standard error.

    Args:
        name: of the program, such as "plot.py".
        work: imports what it needs of this project's packages, which are looked for first.
        without_memory: what helps where CUDA has no more of it.

    Returns: what `work` does; 1 if a disk, a worker process or CUDA's memory fails, or a number is not finite; 2 for
        a wrong setting, a damaged checkpoint or a package that is not installed; 130 after Ctrl-C.
    """
    open_descriptors()
    if stranger := foreign_package():
        return complain(name, stranger, 2)
    from utils.errors import CheckpointError, ConfigError, NotFiniteError
    try:
        return with_packages(work)
    except (ConfigError, CheckpointError) as error:
        return complain(name, str(error), 2)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        return complain(name, f"CUDA is out of memory; {without_memory}", 1)
    except (OSError, NotFiniteError) as error:
        path = getattr(error, "filename", None)
        return complain(name, f"{path}: {error.strerror}" if path else str(error), 1)
    except KeyboardInterrupt:
        return complain(name, "interrupted", 130)


def with_packages(work: Callable[[], int]) -> int:
    """What `work` gives; a ConfigError where a package is not installed that this project requires."""
    from utils.errors import ConfigError
    try:
        return work()
    except ModuleNotFoundError as error:
        if error.name not in REQUIRED:                  # somebody's own code misses it
            raise
        raise ConfigError(f"{error.name} is not installed; `pip install -e .` in the repository brings it") from None


def open_descriptors() -> None:
    """Those of 0, 1 and 2 that are closed (`2>&-`) lead nowhere: else files and libraries would get their numbers."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)            # the lowest number that is free, which is this one
            os.set_inheritable(nowhere, True)
            setattr(sys, name, open(nowhere, mode, closefd=False))


def complain(program: str, line: str, code: int = 0) -> int:
    """A line on standard error, if anybody reads it; returns the code."""
    with contextlib.suppress(OSError):                  # the terminal may be closed
        print(f"{program}: {line}", file=sys.stderr, flush=True)
    return code


def foreign_package() -> str | None:
    """One line if `algorithm`, `envs`, `learner` or `utils` would be somebody else's; found without importing them."""
    for name in ("utils", "algorithm", "envs", "learner", "record", "results", "sweeps"):
        spec = importlib.util.find_spec(name)
        if spec is None:
            return f"the package `{name}` is not found; run train.py in its repository, or `pip install -e .` there"
        place = Path(next(iter(spec.submodule_search_locations or ()), spec.origin))
        mark = place.parent / "utils" / "__init__.py"           # ours stand side by side, and utils bears the mark
        if not mark.is_file() or MARK not in mark.read_text(encoding="utf-8", errors="replace"):
            return (f"the package `{name}` at {place} is not this project's and comes first on sys.path; "
                    "rename it, or run train.py from another directory, without PYTHONPATH")
    return None


def leave_early() -> None:
    """Signals before a run has begun, and after it has ended, find nothing to save, but give `utils.stop`'s codes."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: os._exit(130 if number == signal.SIGINT else 75))
