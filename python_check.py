"""Exit with one line where Python is too old. Every Python since 3.6 reads this file.

What a user can start imports this module first: the rest needs the syntax and the packages of a newer Python.
"""

import os
import sys

OLDEST = (3, 11)


def check_python():
    """Exit with code 2, after one line on standard error, if this Python is older than `OLDEST`."""
    if tuple(sys.version_info[:2]) >= OLDEST:
        return
    program = os.path.basename(sys.argv[0]) if sys.argv else ""
    name = program if program.endswith(".py") or program == "rrd" else "return_decomposition"       # else `python -m`
    found, oldest = (".".join(map(str, version)) for version in (sys.version_info[:3], OLDEST))
    sys.stderr.write(f"{name}: Python {found} at {sys.executable}, expected {oldest} or newer: "
                     "`make PYTHON=python3.12` makes .venv with one\n")
    sys.exit(2)


check_python()
