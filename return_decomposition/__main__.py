"""The command `rrd`, as `python -m return_decomposition`."""

from __future__ import annotations

import sys

from return_decomposition.cli import start

if __name__ == "__main__":
    sys.argv[0] = "rrd"                                 # the name in help and in errors
    start()
