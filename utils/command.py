"""How a command ends."""

from __future__ import annotations

import sys
from collections.abc import Callable

from utils.errors import ConfigError
from utils.text import one_line


def run_command(name: str, work: Callable[[], object]) -> int:
    """Run a command and return its exit code; print an expected error as one line.

    Returns: 0; 1 if a file cannot be written; 2 for a wrong argument or file; 130 after Ctrl-C.
    """
    try:
        work()
    except (ConfigError, OSError) as error:
        print(f"{name}: {ConfigError(one_line(error))}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    return 0
