"""The command `rrd`: every program as a subcommand; `rrd --help`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from program import ROOMS, complain, foreign_package, leave_early, run_program

HELP = {
    "train": "train an agent on the return of whole episodes",
    "evaluate": "evaluate a trained agent, and diagnose its learned reward",
    "plot": "draw learning curves of runs and compute their statistics",
    "report": "write one HTML page on runs",
    "sweep": "run environments x algorithms x seeds",
    "relabel": "pay the steps of a data set of Minari by a learned reward",
    "doctor": "check what training needs, and say how to mend it",
    "convert": "convert a TensorFlow 1 checkpoint to PyTorch, or back",
    "export": "write a run's model in another program's form",
}
STOPPABLE = ("train", "evaluate", "sweep")              # they save what they have; before that they may just end


def start() -> None:
    """Run the command line of this process, and exit with its code."""
    if sys.argv[1:2] and sys.argv[1] in STOPPABLE:
        leave_early()
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand that the first argument names, with the arguments after it.

    Returns the exit code of the program; 2 for an unknown subcommand, or if another project's package or program of the
    same name would be imported instead.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    if not given or given[0] not in HELP:
        return run_program("rrd", lambda: answer(given[0] if given else "", given[1:]))
    name, *rest = given
    from utils.installed import PROGRAMS
    if stranger := foreign_package((*ROOMS, *PROGRAMS)):
        return complain("rrd", stranger, 2)
    return module_named(name).main(rest)


def module_named(name: str) -> Any:
    """Return the module of a subcommand."""
    from utils.installed import module_of
    home = {"convert": "algorithm.tf.convert", "export": "return_decomposition.exporting"}.get(name) or module_of(name)
    return importlib.import_module(home)


def answer(word: str, rest: Sequence[str] = ()) -> int:
    """Print the help, the version, or a shell's completion of all subcommands.

    Raises:
        ConfigError: the word asks for none of them, and is no subcommand.
    """
    flag, _, shell = word.partition("=")
    from utils.errors import ConfigError
    from utils.text import did_you_mean, printable
    if word in ("-h", "--help", "help"):
        print(usage())
    elif word in ("--version", "-V"):
        from return_decomposition import __version__
        print(f"rrd {__version__}")
    elif flag == "--completion":
        complete(shell or next(iter(rest), ""))
    else:
        expected = f"expected one of {', '.join(HELP)}, or --help"
        got = f"got {printable(word)!r}, {expected}{did_you_mean(word, HELP)}" if word else f"none given, {expected}"
        raise ConfigError(f"command: {got}")
    return 0


def complete(shell: str) -> None:
    """Print the script by which a shell completes every subcommand and its flags.

    Raises:
        ConfigError: the shell is unknown.
    """
    from utils.errors import ConfigError
    from utils.installed import PROGRAMS
    from utils.settings.completion import SHELLS
    if stranger := foreign_package((*ROOMS, *PROGRAMS)):
        raise ConfigError(stranger)
    if shell not in SHELLS:
        raise ConfigError(f"--completion: got {shell!r}, expected one of {', '.join(SHELLS)}")
    for name in HELP:
        try:
            if code := module_named(name).main([f"--completion={shell}"]):      # the program has said why
                sys.exit(code)
        except SystemExit as end:                       # the script is printed
            if end.code:
                raise


def usage() -> str:
    """The text of `rrd --help`."""
    lines = (f"  {name:10}{text}" for name, text in HELP.items())
    return "\n".join(["usage: rrd COMMAND [ARGUMENTS]", "", "Return decomposition: learn a reward for every step from "
                      "the return of whole episodes.", "", "commands:", *lines, "",
                      "`rrd COMMAND --help` explains a command; `rrd --version` prints the version;",
                      "`rrd --completion bash|zsh|fish` prints the script by which a shell completes all of them."])
