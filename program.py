"""How every program begins and ends; imports the standard library alone, and the ground of this project when asked."""

import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import python_check  # noqa: F401 (first: it exits where Python is too old)

MARK = "return-decomposition"       # utils/__init__.py holds it
ROOMS = ("utils", "algorithm", "envs", "learner", "record", "results", "sweeps", "adapters",
         "torchrl_gpu")
# The modules of setup.py's install_requires.
REQUIRED = ("torch", "numpy", "gymnasium", "mujoco", "cv2", "safetensors", "tensorboardX", "rich", "shtab")


def run_program(name: str, work: Callable[[], int], without_memory: str = "") -> int:
    """Run `work` and return its exit code; print an expected error as one line on standard error.

    Args:
        name: the program, such as "plot.py".
        work: imports what it needs of this project's packages, which are looked for first.
        without_memory: what to do when CUDA is out of memory.

    Returns: the value of `work`; 1 if a disk, a worker process or CUDA's memory fails, or a number is not finite; 2
        for a wrong setting, a damaged checkpoint or a package that is not installed; 130 after Ctrl-C.
    """
    open_descriptors()
    stranger = foreign_package()
    if stranger:
        return print_error(f"{name}: {stranger}", 2)
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
    """Run `work` and return its value; a required package that is not installed is a ConfigError."""
    from utils.errors import ConfigError
    from utils.installed import pip_install
    try:
        return work()
    except ModuleNotFoundError as error:
        if error.name not in REQUIRED:                  # a module of the user's imports it
            raise
        raise ConfigError(f"{error.name} is not installed; `{pip_install()}` installs it") from None


def open_descriptors() -> None:
    """Open the closed ones of 0, 1 and 2 (`2>&-`) on the null device; else files would get their numbers."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)            # the lowest number that is free, which is this one
            os.set_inheritable(nowhere, True)
            setattr(sys, name, open(nowhere, mode, closefd=False))


def complain(program: str, line: str, code: int = 0) -> int:
    """Print a line on standard error and return the code.

    The line begins with the program's name, and its commands are named, as the user called the program: "train.py" is
    "rrd train" if the command `rrd` started it.
    """
    from utils.installed import as_called, called
    return print_error(f"{called(program)}: {as_called(line)}", code)


def print_error(line: str, code: int) -> int:
    """Print a line on standard error and return the code."""
    with contextlib.suppress(OSError):                  # the terminal may be closed
        print(line, file=sys.stderr, flush=True)
    return code


def foreign_package(names: Sequence[str] = ROOMS) -> str | None:
    """Return one line if one of these names would import another project's package or module; import none of them.

    In a wheel all names are inside of one package, so none can be.
    """
    if __package__:
        return None
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None:
            return f"the package `{name}` is not found; run the program in its repository, or `pip install -e .` there"
        place = Path(next(iter(spec.submodule_search_locations or ()), spec.origin))
        mark = place.parent / "utils" / "__init__.py"           # ours are side by side, and utils has the mark
        if not mark.is_file() or MARK not in mark.read_text(encoding="utf-8", errors="replace"):
            return (f"the package `{name}` at {place} is not this project's and comes first on sys.path; "
                    "rename it, or run the program from another directory, without PYTHONPATH")
    return None


def leave_early() -> None:
    """Exit with the codes of `utils.stop` at a signal before a run has begun or after it has ended."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: os._exit(130 if number == signal.SIGINT else 75))
