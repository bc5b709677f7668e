"""How the commands of this room end."""

from __future__ import annotations

import sys
from collections.abc import Callable

from utils.errors import ConfigError
from utils.text import one_line


def run_command(name: str, work: Callable[[], object]) -> int:
    """Run a command; return 0, 1 if a file cannot be written, 2 after one line about a wrong argument or file."""
    try:
        work()
    except (ConfigError, OSError) as error:
        print(f"{name}: {ConfigError(one_line(error))}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0
