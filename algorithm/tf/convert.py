"""Convert checkpoints of the original TensorFlow 1 program to PyTorch, and back.

    python -m algorithm.tf.convert model.ckpt --alg rrd --basis_alg sac --out DIR
    python -m algorithm.tf.convert model.safetensors --alg rrd --basis_alg sac --out DIR --to-tf

The first command writes DIR/model.safetensors for `load_model` of the PyTorch agent. The second writes DIR/model.ckpt
for `load_model` of the TensorFlow reference and of the original. Both need TensorFlow (the extra `tensorflow`).
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from algorithm.tf.files import PARTS, Arrays, read_checkpoint, write_checkpoint
from algorithm.tf.importing import start
from utils.errors import ConfigError
from utils.installed import called, is_command
from utils.settings.algorithms import any_of, bases, decompositions, is_decomposition, referenced
from utils.settings.cli import Parser
from utils.settings.completion import add_completion
from utils.text import did_you_mean

# To PyTorch ---------------------------------------------------------------------------------------------------------

def to_pytorch(arrays: Arrays, alg: str, basis_alg: str | None):
    """The PyTorch agent that resumes where the original stopped, Adam's moments and step counts included.

    Args:
        arrays: what the original's `save_model` wrote, by name. Sizes, normaliser and optimisers follow from it.
    Raises:
        ValueError: the variables are of another algorithm, or one is missing, unknown or has a wrong shape or dtype.
    """
    from algorithm.create import create_agent
    from utils.checkpoint import check_same
    settings = infer_settings(arrays, alg, basis_alg)
    agent = create_agent(Namespace(use_pytorch=True, device="cpu", **settings))
    check_same(arrays, agent.tf_variables(optimizer=True), "checkpoint")
    if wrong := [f"{name}: got dtype {array.dtype}" for name, array in arrays.items() if array.dtype != np.float32]:
        raise ValueError(f"checkpoint: {'; '.join(wrong[:8])}; expected float32")
    agent.load_tf_variables(arrays)
    return agent


def infer_settings(arrays: Arrays, alg: str, basis_alg: str | None) -> dict[str, Any]:
    """The settings of an agent that follow from its variables: sizes, networks, optimisers.

    Raises:
        ValueError: the variables are of another algorithm, or a variable that shows a size is missing.
    """
    basis = (basis_alg or "sac") if is_decomposition(alg) else alg
    held, rewards = held_algorithm(arrays), any(name.startswith("rrd/") for name in arrays)
    if held is None:
        raise ValueError(f"checkpoint: holds the networks of none of {', '.join(_SIZES)}; its variables are "
                         f"{', '.join(list(arrays)[:5]) or 'none'}, ...")
    if held != basis or rewards != (alg == "rrd"):
        expected = f"--alg rrd --basis_alg {held}" if rewards else f"--alg {held} (or {_without_network()} over it)"
        got = f"{alg} over {basis}" if is_decomposition(alg) else alg
        raise ValueError(f"checkpoint: holds {held}{' with' if rewards else ' without'} a reward network, "
                         f"which {got} is not; expected {expected}")
    settings = {"alg": alg, "obs_normalization": any(name.startswith("normalizer/") for name in arrays)}
    try:
        return settings | ({"basis_alg": basis} if alg != basis else {}) | _SIZES[basis](arrays)
    except (KeyError, IndexError) as error:
        raise ValueError(f"checkpoint: {error} is missing, from which the sizes of {basis} follow") from None


def _without_network() -> str:
    """The decompositions that learn no reward network."""
    return any_of([name for name in referenced() if is_decomposition(name) and name != "rrd"])


def held_algorithm(arrays: Arrays) -> str | None:
    """The basis whose networks a checkpoint holds."""
    marks = {"sac": "q_value_", "td3": "value_", "ddpg": "policy/", "dqn": "value/"}
    return next((basis for basis, mark in marks.items()
                 if any(name.startswith((f"main/{mark}", f"target/{mark}")) for name in arrays)), None)


def _size(arrays: Arrays, name: str, axis: int) -> int:
    """The size of a variable along an axis: a vote of the variable, its target and its optimiser's slots.

    If one of them is damaged, the error then names that one.
    """
    names = [scope + slot for scope in (name, name.replace("main/", "target/", 1))
             for slot in ("", "/Adam", "/Adam_1", "/RMSProp", "/RMSProp_1")]
    sizes = [arrays[name].shape[axis] for name in dict.fromkeys(names) if name in arrays and arrays[name].ndim > axis]
    if not sizes:
        raise KeyError(name)
    return max(set(sizes), key=sizes.count)


def _policy_sizes(arrays: Arrays, heads: int) -> dict[str, Any]:
    """Sizes from the policy's first and last kernel; the last has `heads` outputs for each action."""
    return {"obs_dims": (_size(arrays, "main/policy/net/pi_dense1/kernel", 0),),
            "acts_dims": _size(arrays, "main/policy/net/pi/kernel", 1) // heads}


def _sac_sizes(arrays: Arrays) -> dict[str, Any]:
    learned = any(name.startswith("main/alpha/log_alpha/") for name in arrays)
    return _policy_sizes(arrays, 2) | ({} if learned else {"alpha_lr": 0})


def _dqn_sizes(arrays: Arrays) -> dict[str, Any]:
    rms = any(name.endswith("/RMSProp") for name in arrays)
    settings = {"optimizer": "rmsprop" if rms else "adam", "dueling": any("/q_base/" in name for name in arrays)}
    if any("/q_dense1/" in name for name in arrays):
        return settings | {"obs_dims": (_size(arrays, "main/value/net/q_dense1/kernel", 0),),
                           "acts_dims": _size(arrays, "main/value/net/q/kernel", 1),
                           "obs_scale": 255.0}          # the original divides vectors, too, where it acts
    # From the features of an image of H x W follows only (H / 8) (W / 8); the original's games are 84 x 84.
    if (features := _size(arrays, "main/value/net/q_dense_act/kernel", 0)) != 7744:
        raise ValueError(f"checkpoint: got {features} features of images, expected 7744: height and width do not "
                         "follow from it, so only images of 84 x 84 can be converted")
    return settings | {"obs_dims": (84, 84, _size(arrays, "main/value/net/q_conv1/kernel", 2)),
                       "acts_dims": _size(arrays, "main/value/net/q_act/kernel", 1)}


_SIZES = {"sac": _sac_sizes, "td3": lambda arrays: _policy_sizes(arrays, 1),
          "ddpg": lambda arrays: _policy_sizes(arrays, 1), "dqn": _dqn_sizes}


# The command --------------------------------------------------------------------------------------------------------

def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0, 1 for a failed disk, 2 for a wrong argument or file."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")       # a path may hold characters that the terminal lacks
    try:
        args = _parse(argv)
        target = _target(args)
        (_from_pytorch if args.to_tf else _from_tensorflow)(args, target)
    except ValueError as error:                         # ConfigError and CheckpointError are two
        return _complain(str(error), 2)
    except OSError as error:
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    return 0


def _complain(error: str, code: int) -> int:
    """Print an error as one line, whatever names it holds; return the code."""
    print(f"{called('convert') if is_command() else 'tf_checkpoint'}: {ConfigError(error)}", file=sys.stderr)
    return code


def _parse(argv: Sequence[str] | None) -> Namespace:
    command, examples = "python -m algorithm.tf.convert", __doc__.partition("\n\n")[2]
    if is_command():
        command, examples = "convert", examples.replace(command, called("convert"))
    parser = Parser(prog=command, allow_abbrev=False, epilog=examples,
                    formatter_class=argparse.RawDescriptionHelpFormatter,
                    description="Convert a checkpoint of the TensorFlow 1 program to PyTorch, or back.")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="prefix of the TensorFlow checkpoint, "
                        "such as model.ckpt; with --to_tf a PyTorch checkpoint")
    known_bases = [name for name in referenced() if name in bases()]
    parser.add_argument("--alg", default="rrd", metavar="|".join(referenced()), help="algorithm (default: rrd)")
    parser.add_argument("--basis_alg", "--basis-alg", metavar="|".join(known_bases),
                        help="basis of a decomposition (default: sac)")
    parser.add_argument("--out", required=True, metavar="DIR", help="directory to write to; created if missing")
    parser.add_argument("--to_tf", "--to-tf", action="store_true", help="convert from PyTorch to TensorFlow")
    add_completion(parser)
    args = parser.parse_args(argv)
    for field in ("checkpoint", "out"):
        if not getattr(args, field):
            raise ConfigError(f"{field}: got '', expected a path")
    for field, value, known in (("alg", args.alg, referenced()), ("basis_alg", args.basis_alg, known_bases)):
        if value is not None and value not in known:
            raise ConfigError(f"{field}: got {value!r}{did_you_mean(value, known)}, expected one of {', '.join(known)}")
    if args.basis_alg is not None and args.alg not in (*decompositions(), args.basis_alg):
        raise ConfigError(f"basis_alg: got {args.basis_alg!r}, but {args.alg} has no basis")
    return args


def _target(args: Namespace) -> Path:
    """The file to write. Raises ConfigError if it exists already, or cannot exist."""
    target = Path(args.out) / ("model.ckpt" if args.to_tf else "model.safetensors")
    for path in [target, *(Path(f"{target}{part}") for part in PARTS)]:
        if os.path.lexists(path):
            raise ConfigError(f"out: {path} exists already, expected another directory")
    there = next(path for path in (target.parent, *target.parent.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ConfigError(f"out: {str(there)!r} is not a directory")
    return target


def _from_tensorflow(args: Namespace, target: Path) -> None:
    arrays = read_checkpoint(args.checkpoint)
    agent = to_pytorch(arrays, args.alg, args.basis_alg)
    target.parent.mkdir(parents=True, exist_ok=True)
    agent.save_model(target)
    _report(arrays, agent)
    settings = ", ".join(f"{name}={value!r}" for name, value in
                         infer_settings(arrays, args.alg, args.basis_alg).items())
    print(f"\n{len(arrays)} variables, {_so_far(agent)} updates so far: {target}\n"
          f"agent = create_agent(argparse.Namespace({settings}))\nagent.load_model({str(target)!r})")


def _from_pytorch(args: Namespace, target: Path) -> None:
    from algorithm.create import create_agent
    from utils.checkpoint import read_checkpoint as read_pytorch
    from utils.checkpoint import read_identity
    start("cpu")                                        # a missing TensorFlow is reported first
    identity = {"alg": args.alg, "basis_alg": args.basis_alg or ("sac" if is_decomposition(args.alg) else args.alg)}
    names = set(read_pytorch(args.checkpoint, identity))
    stored = read_identity(args.checkpoint)
    dims = {name: _sizes(stored.get(name, ""), name) for name in ("obs_dims", "acts_dims")}
    settings = {"obs_normalization": any(name.startswith("nets.normalizer.") for name in names),
                "dueling": "nets.main.value.q_base.weight" in names,
                "optimizer": "rmsprop" if any(name.endswith(".square_avg") for name in names) else "adam",
                "alpha_lr": None if "opt.alpha.t" in names else 0, "obs_scale": stored.get("obs_scale")}
    try:
        agent = create_agent(Namespace(use_pytorch=True, device="cpu", **identity, **dims, **settings))
    except (RuntimeError, MemoryError):                 # PyTorch raises RuntimeError for lack of memory
        raise ValueError(f"checkpoint: got sizes {dims}, expected sizes that fit in memory") from None
    agent.load_model(args.checkpoint)
    arrays = agent.tf_variables(optimizer=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(target, arrays)
    _report(arrays, agent)
    print(f"\n{len(arrays)} variables, {_so_far(agent)} updates so far: {target}")
    if float(stored.get("obs_scale", 255)) != 255:
        print(f"note: TensorFlow's checkpoint lacks obs_scale={stored['obs_scale']}, by which this agent divides "
              "observations; the original divides them by 255")


def _so_far(agent) -> str:
    """The number of updates, if the checkpoint says it."""
    from algorithm.tf_names import LAST_COUNT, places
    if "opt.critic.t" not in places(agent).values():
        return "an unknown number of"                   # RMSProp does not count
    return f"{'at least ' * (agent.updates >= LAST_COUNT)}{agent.updates}"


def _sizes(text: str, name: str) -> tuple[int, ...]:
    """'(84, 84, 4)' -> (84, 84, 4)."""
    if not re.fullmatch(r"\((\d{1,9}, ?)*(\d{1,9})?\)", text):
        raise ValueError(f"checkpoint: {name}: got {text!r}, expected sizes such as '(27,)'")
    return tuple(int(size) for size in re.findall(r"\d+", text))


def _report(arrays: Arrays, agent) -> None:
    """Print one line for each variable: its TensorFlow name and shape, and its name in PyTorch's checkpoint."""
    from algorithm.tf_names import places
    width, place = max(map(len, arrays)), places(agent)
    for name, array in sorted(arrays.items()):
        shape = "x".join(map(str, array.shape)) or "scalar"
        print(f"{name:{width}}  {shape:>12}  {place.get(name, '- (the last step, which nothing reads)')}")


if __name__ == "__main__":
    sys.exit(main())
