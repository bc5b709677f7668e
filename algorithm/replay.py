"""Replay reference cases through the classes that training uses, and write what they compute by the case's names.

    python -m algorithm.replay CASE.npz --out OUT.npz [--dtype float32|float64] [--device cpu|cuda]

A case is an `.npz` file without pickle: arrays, and `meta`, JSON that says what it is. Exit code 0; 2 with one line for
a file that is no case; 3 with one line for a figure that is refused on purpose; 1 if a file cannot be written.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from algorithm.replays.case import Case, CaseError, Refused, as_array, read_case
from utils.cases import write_case
from utils.errors import ConfigError
from utils.settings.cli import Parser
from utils.text import one_line

PROGRAM = "python -m algorithm.replay"
# What replays a case: "module:function", (Case) -> {name: array}. The key is a field of `meta` and its value, the field
# alone for any value, or names of arrays that a case without such a field holds.
ADAPTERS: dict[str, str] = {
    "kind=gae": "algorithm.replays.on_policy:gae_case",
    "kind=actor_critic": "algorithm.replays.on_policy:actor_critic_case",
    "kind=trainer_ppo": "algorithm.replays.on_policy:trainer_case",
    "kind=grpo": "algorithm.replays.on_policy:grpo_case",
    "kind=ppo": "algorithm.replays.arena:ppo_case",
    "kind=sb3_ppo": "algorithm.replays.arena:sb3_ppo_case",
    "kind=a2c": "algorithm.replays.arena:a2c_case",
    "kind=recurrent_ppo": "algorithm.replays.arena:recurrent_case",
    "agent_type": "algorithm.replays.marinenav:agent_case",
    "stream/reward per/loss": "algorithm.replays.marinenav:memory_case",
    "kind=schedules": "algorithm.replays.schedules:schedules_case",
    "method": "algorithm.replays.methods:method_case",
    "kind=convert": "adapters.replay_sb3:convert_case",
}


def find_adapter(case: Case) -> Callable[[Case], dict]:
    """The function that replays a case.

    Raises:
        CaseError: there is none.
    """
    for key, entry in ADAPTERS.items():
        field, _, value = key.partition("=")
        if field in case.meta and value in ("", case.meta[field]):
            return load(entry)
    for key, entry in ADAPTERS.items():
        if "=" not in key and all(name in case.arrays for name in key.split()):
            return load(entry)
    what = next((f"{field} {case.meta[field]!r}" for field in ("kind", "method", "agent_type") if field in case.meta),
                "a file that names no kind")
    raise CaseError(f"{case.path}: got {what}, expected one of {', '.join(ADAPTERS)}")


def load(entry: str) -> Callable[[Case], dict]:
    """The function at "module:function"."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    try:
        args = _parse(argv)
        found = replay(read_case(args.case, args.dtype, args.device))
        write_case(Path(args.out), {name: as_array(value) for name, value in found.items()})
    except (ConfigError, Refused, OSError) as error:
        print(f"{PROGRAM}: {one_line(error)}", file=sys.stderr)
        return 3 if isinstance(error, Refused) else 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog=PROGRAM, allow_abbrev=False, description=__doc__.partition("\n")[0])
    parser.add_argument("case", metavar="CASE.npz", help=f"a case of {', '.join(ADAPTERS)}")
    parser.add_argument("--out", required=True, metavar="OUT.npz", help="the file to write")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")
    parser.add_argument("--device", default="cpu", metavar="cpu|cuda", help="default: cpu")
    return parser.parse_args(argv)


def replay(case: Case) -> dict:
    """What a case is to be compared with, name -> tensor or array.

    Raises:
        CaseError: no adapter knows it, or it lacks what its kind needs.
        Refused: it is refused on purpose.
    """
    adapter = find_adapter(case)
    try:
        return adapter(case)
    except (CaseError, Refused):
        raise
    except (LookupError, TypeError, ValueError, RuntimeError) as error:     # its arrays do not fit together
        raise CaseError(f"{case.path}: the case lacks what its kind needs: {type(error).__name__}: "
                        f"{' '.join(str(error).split())}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
