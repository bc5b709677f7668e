"""Replay reference cases through the classes that training uses, and write what they compute by the case's names.

    python -m algorithm.replay CASE.npz --out OUT.npz [--dtype float32|float64] [--device cpu|cuda]

A case is an `.npz` file without pickle: arrays, and `meta`, JSON that says what it is. Exit code 0; 2 with one line for
a file that is no case; 3 with one line for a figure that is refused on purpose.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

from algorithm.replays.case import Case, CaseError, Refused, read_case, write_arrays

# What replays a case: "module:function", (Case) -> {name: array}. The key is a field of `meta` and its value, the field
# alone for any value, or names of arrays that a case without such a field holds.
ADAPTERS: dict[str, str] = {
    "kind=gae": "algorithm.replays.on_policy:gae_case",
    "kind=actor_critic": "algorithm.replays.on_policy:actor_critic_case",
    "kind=trainer_ppo": "algorithm.replays.on_policy:trainer_case",
    "kind=ppo": "algorithm.replays.arena:ppo_case",
    "kind=sb3_ppo": "algorithm.replays.arena:sb3_ppo_case",
    "kind=a2c": "algorithm.replays.arena:a2c_case",
    "kind=recurrent_ppo": "algorithm.replays.arena:recurrent_case",
    "kind=schedules": "algorithm.replays.schedules:schedules_case",
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
    parser = argparse.ArgumentParser(prog="python -m algorithm.replay", allow_abbrev=False,
                                     description="Replay a reference case through the classes of training.")
    parser.add_argument("case", metavar="CASE.npz")
    parser.add_argument("--out", required=True, metavar="OUT.npz", help="what was computed")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--device", default="cpu", metavar="cpu|cuda")
    args = parser.parse_args(argv)
    try:
        write_arrays(args.out, replay(read_case(args.case, args.dtype, args.device)))
    except (CaseError, Refused, OSError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 3 if isinstance(error, Refused) else 2
    return 0


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
