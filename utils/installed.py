"""How this project is installed and how it was started: what the programs are called, and which commands hints name.

In a clone, and in an editable install of one, the packages and programs are at the top (`utils`, `train.py`). A wheel
holds all of them in `return_decomposition`. This module imports the standard library alone, and an old Python reads it.
"""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import sys
from pathlib import Path

DISTRIBUTION = "return-decomposition"
ROOT = __name__.rpartition("utils")[0]                  # "" in a clone, "return_decomposition." in a wheel
HERE = Path(__file__).resolve().parent.parent           # the folder that holds `utils`
PROGRAMS = ("train", "evaluate", "plot", "report", "sweep", "relabel", "doctor")
COMMANDS = (*PROGRAMS, "convert", "export")                       # the subcommands of `rrd`
_COMMAND = re.compile(rf"(?<![\w./'\"-])(?:python ({'|'.join(PROGRAMS)})\.py\b|({'|'.join(PROGRAMS)})\.py(?= --))")
_CONVERTER = re.compile(r"python -m (?:return_decomposition\.)?(?:utils\.tf_checkpoint|algorithm\.tf\.convert)\b")
_UNKNOWN = "the packages that setup.py requires"
_REQUIREMENT = re.compile(r"""([^;]+?)\s*(?:;\s*extra\s*==\s*['"]([\w-]+)['"])?""")


def room_of(module: str) -> str:
    """The top folder of a module's name: "algorithm" for "algorithm.create", and for the same module in a wheel."""
    return module[len(ROOT) * module.startswith(ROOT):].partition(".")[0]


def module_of(program: str) -> str:
    """The name of a program's module: "train", or "return_decomposition.programs.train" in a wheel."""
    return f"{ROOT}programs.{program}" if ROOT else program


def started_by(program: str) -> list[str]:
    """The arguments after `python` that start a program, wherever the current directory is."""
    # -P: a module of the current directory must not come before one of the standard library.
    return ["-P", "-m", module_of(program)] if ROOT else [str(HERE / f"{program}.py")]


def is_command() -> bool:
    """Whether this process was started by the command `rrd`."""
    return Path(next(iter(sys.argv), "")).stem == "rrd"


def called(program: str) -> str:
    """The name by which the user started a program: "train.py" is "rrd train" if the command `rrd` started it."""
    name = program[:-3] if program.endswith(".py") else program
    return f"rrd {name}" if is_command() and name in COMMANDS else program


def as_called(text: str) -> str:
    """A text whose commands are those that the user can give: `python train.py --env=X` may be `rrd train --env=X`."""
    if not (ROOT or is_command()):
        return text
    return _COMMAND.sub(lambda match: f"rrd {match[1] or match[2]}", _CONVERTER.sub("rrd convert", text))


def pip_install(extra: str = "") -> str:
    """The command that installs the packages of an extra, or, without one, the packages that every run needs.

    A clone is installed with the extra. This project is on no package index, so a wheel's user installs the packages
    themselves, which the wheel's metadata lists.
    """
    if not ROOT:
        return f"pip install -e '.[{extra}]'" if extra else "pip install -e ."
    needed = shlex.join(requirements(extra))
    return f"pip install {needed or (f'the packages of the extra `{extra}`' if extra else _UNKNOWN)}"


def requirements(extra: str = "") -> list[str]:
    """The requirements of an extra in the metadata of the installed wheel; the unconditional ones without an extra."""
    try:
        listed = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:     # the package was copied instead of installed
        listed = []
    matches = filter(None, map(_REQUIREMENT.fullmatch, listed))
    return [match[1] for match in matches if (match[2] or "") == extra]
