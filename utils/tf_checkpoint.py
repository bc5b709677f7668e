"""Checkpoints of the original TensorFlow 1 program: read, written, brought over to PyTorch, and back.

    python -m utils.tf_checkpoint model.ckpt --alg rrd --basis_alg sac --out DIR
    python -m utils.tf_checkpoint model.safetensors --alg rrd --basis_alg sac --out DIR --to-tf

The first writes DIR/model.safetensors, which the PyTorch agent's `load_model` takes; the second DIR/model.ckpt, which
the TensorFlow reference's takes, and the original's. TensorFlow reads and writes its own format (extra `tensorflow`).
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import re
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils import tf_index
from utils.cli import Parser
from utils.config import ALGORITHMS, DECOMPOSITIONS, ConfigError, did_you_mean
from utils.files import read_file

Arrays = dict[str, np.ndarray]
PARTS = (".index", ".data-00000-of-00001", ".meta")     # the files of one checkpoint, `<prefix>.index` and so on


def import_tensorflow():
    """TensorFlow, without its greetings on standard error.

    Raises:
        ConfigError: it is not installed, or cannot be imported here.
    """
    if "tensorflow" in sys.modules and sys.modules["tensorflow"] is not None:
        return sys.modules["tensorflow"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with no_standard_error():                       # some of its messages obey no setting (its issue 100442)
            import tensorflow
    except Exception as error:                          # a broken installation raises anything
        absent = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "tensorflow"
        why = "is not installed" if absent else f"cannot be imported here ({error})"
        raise ConfigError(f"tensorflow: {why}; pip install 'return-decomposition[tensorflow]' brings it, in a clone "
                          "pip install -e '.[tensorflow]'") from None
    return tensorflow


@contextlib.contextmanager
def no_standard_error() -> Iterator[None]:
    """Silence what native code writes to standard error, which Python's `sys.stderr` does not see."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


# Files --------------------------------------------------------------------------------------------------------------

def read_checkpoint(path: str | Path) -> Arrays:
    """Every variable of a name-based checkpoint, which TensorFlow 1's `tf.train.Saver` wrote.

    Args:
        path: its prefix, such as DIR/model.ckpt; the path of one of its files will do.
    Raises:
        CheckpointError: it is not there, damaged, or of another kind.
    """
    from utils.checkpoint import CheckpointError
    tensorflow = import_tensorflow()
    plain = prefix = _prefix(str(path))
    try:
        index = read_file(f"{prefix}{PARTS[0]}", tf_index.MOST_BYTES)
        entries = tf_index.parse(index, os.path.getsize(f"{prefix}{PARTS[1]}"))
        if "_CHECKPOINTABLE_OBJECT_GRAPH" in entries:
            raise CheckpointError(f"{path}: a TensorFlow 2 (object-based) checkpoint, wants one with the "
                                  "original's names, which tf.train.Saver wrote")
        if text := [name for name, entry in entries.items() if entry.dtype == tf_index.STRING]:
            raise CheckpointError(f"{path}: {text[0]}: got dtype string, wants float32")
        with _safe_copy(prefix, entries) as plain:
            reader = tensorflow.train.load_checkpoint(plain)
            return {name: np.asarray(reader.get_tensor(name)) for name in sorted(entries)}
    except CheckpointError:
        raise
    except Exception as error:                          # what a damaged file makes TensorFlow raise is anything
        reason = _one_line(error).replace(plain, prefix)
        raise CheckpointError(f"{path}: damaged, or not a checkpoint ({reason})") from None


@contextlib.contextmanager
def _safe_copy(prefix: str, entries: dict[str, tf_index.Entry]) -> Iterator[str]:
    """The same checkpoint with an index of our own, which no file can make end the process.

    Its name has no [ or backslash, which TensorFlow would take for a pattern.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = os.path.join(folder, "model")
        Path(f"{plain}{PARTS[0]}").write_bytes(tf_index.build(entries))
        os.symlink(os.path.abspath(f"{prefix}{PARTS[1]}"), f"{plain}{PARTS[1]}")
        yield plain


def _prefix(path: str) -> str:
    from utils.checkpoint import CheckpointError
    prefix = next((path.removesuffix(part) for part in PARTS if path.endswith(part)), path)
    if os.path.isdir(prefix):
        found = sorted(file.name.removesuffix(".index") for file in Path(prefix).glob("*.index"))
        hint = f", such as {os.path.join(prefix, found[0])}" if found else f"; {prefix} holds no checkpoint"
        raise CheckpointError(f"{path}: a directory, wants the prefix of a checkpoint's files{hint}")
    for part in PARTS[:2]:
        if not os.path.isfile(prefix + part):
            what = "no such checkpoint" if not os.path.isfile(prefix) else \
                "is a single file, not a checkpoint's prefix (is it PyTorch's, for --to-tf?)"
            raise CheckpointError(f"{path}: {what}; {prefix + part} is not there")
    return prefix


def write_checkpoint(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as a checkpoint with the prefix `path`; the original's `load_model` reads it too."""
    tensorflow = import_tensorflow()
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    names = list(arrays)
    try:
        with no_standard_error():                       # the first operation starts TensorFlow, which greets again
            tensorflow.raw_ops.SaveV2(prefix=str(temporary), tensor_names=names, shape_and_slices=[""] * len(names),
                                      tensors=[tensorflow.constant(arrays[name]) for name in names])
        for part in reversed(PARTS[:2]):                # the index last: without it there is no checkpoint
            os.replace(f"{temporary}{part}", f"{path}{part}")
    except tensorflow.errors.OpError as error:
        raise OSError(errno.EIO, _one_line(error), str(path)) from None
    finally:
        for part in PARTS:
            Path(f"{temporary}{part}").unlink(missing_ok=True)


def load_variables(own: Mapping[str, Any], arrays: Mapping[str, np.ndarray], known: Mapping | None = None) -> None:
    """Assign arrays to the TensorFlow variables of the same names; `known` are all names, if `own` is a part.

    Raises:
        ValueError: names what is missing, unknown, misshapen or no number; nothing was changed.
    """
    from utils.checkpoint import check_same
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    check_same(arrays, own, "variables", known)
    for name, variable in own.items():
        variable.assign(arrays[name].astype(np.float32))


def _one_line(error: Exception) -> str:
    text = " ".join(str(getattr(error, "message", None) or error).split())
    return re.sub(r"\{\{.*?\}\} ?| \[Op:\w+\]", "", text)[:300]         # the names of TensorFlow's own nodes


# Coming over --------------------------------------------------------------------------------------------------------

def to_pytorch(arrays: Arrays, alg: str, basis_alg: str | None):
    """The PyTorch agent that goes on where the original stopped, Adam's moments and step counts included.

    Args:
        arrays: what the original's `save_model` wrote, by name; sizes, normaliser and optimisers are told from it.
    Raises:
        ValueError: it is another algorithm's, or something is missing, unknown or misshapen.
    """
    from algorithm import create_agent
    from utils.checkpoint import check_same
    settings = infer_settings(arrays, alg, basis_alg)
    agent = create_agent(Namespace(use_pytorch=True, device="cpu", **settings))
    check_same(arrays, agent.tf_variables(optimizer=True), "checkpoint")
    if wrong := [f"{name}: got dtype {array.dtype}" for name, array in arrays.items() if array.dtype != np.float32]:
        raise ValueError(f"checkpoint: {'; '.join(wrong[:8])}; wants float32")
    agent.load_tf_variables(arrays)
    return agent


def infer_settings(arrays: Arrays, alg: str, basis_alg: str | None) -> dict[str, Any]:
    """The settings of the agent whose variables these are, as far as they show: sizes, networks, optimisers.

    Raises:
        ValueError: they are another algorithm's, or the sizes cannot be told.
    """
    basis = (basis_alg or "sac") if alg in DECOMPOSITIONS else alg
    held, rewards = held_algorithm(arrays), any(name.startswith("rrd/") for name in arrays)
    if held is None:
        raise ValueError("checkpoint: holds the networks of none of sac, td3, ddpg, dqn; its variables are "
                         f"{', '.join(list(arrays)[:5]) or 'none'}, ...")
    if held != basis or rewards != (alg == "rrd"):
        wants = f"--alg rrd --basis_alg {held}" if rewards else f"--alg {held} (or ircr or uniform over it)"
        got = f"{alg} over {basis}" if alg in DECOMPOSITIONS else alg
        raise ValueError(f"checkpoint: holds {held}{' with' if rewards else ' without'} a reward network, "
                         f"which {got} is not; wants {wants}")
    settings = {"alg": alg, "obs_normalization": any(name.startswith("normalizer/") for name in arrays)}
    try:
        return settings | ({"basis_alg": basis} if alg != basis else {}) | _SIZES[basis](arrays)
    except (KeyError, IndexError) as error:
        raise ValueError(f"checkpoint: cannot tell the sizes of {basis} without {error}") from None


def held_algorithm(arrays: Arrays) -> str | None:
    """The basis whose networks a checkpoint holds."""
    marks = {"sac": "q_value_", "td3": "value_", "ddpg": "policy/", "dqn": "value/"}
    return next((basis for basis, mark in marks.items()
                 if any(name.startswith((f"main/{mark}", f"target/{mark}")) for name in arrays)), None)


def _size(arrays: Arrays, name: str, axis: int) -> int:
    """A variable's size along an axis, as most of it, its target and its optimiser's slots say.

    So if one of them is damaged, it will be that one that is complained of.
    """
    names = [scope + slot for scope in (name, name.replace("main/", "target/", 1))
             for slot in ("", "/Adam", "/Adam_1", "/RMSProp", "/RMSProp_1")]
    sizes = [arrays[name].shape[axis] for name in dict.fromkeys(names) if name in arrays and arrays[name].ndim > axis]
    if not sizes:
        raise KeyError(name)
    return max(set(sizes), key=sizes.count)


def _policy_sizes(arrays: Arrays, heads: int) -> dict[str, Any]:
    """Sizes from the policy's first and last kernel, which gives `heads` numbers an action."""
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
    # The features of an image of H x W tell only (H / 8) (W / 8); the original's games are 84 x 84.
    if (features := _size(arrays, "main/value/net/q_dense_act/kernel", 0)) != 7744:
        raise ValueError(f"checkpoint: got {features} features of images, wants 7744: it does not tell height and "
                         "width, and those of 84 x 84 are all that come over")
    return settings | {"obs_dims": (84, 84, _size(arrays, "main/value/net/q_conv1/kernel", 2)),
                       "acts_dims": _size(arrays, "main/value/net/q_act/kernel", 1)}


_SIZES = {"sac": _sac_sizes, "td3": lambda arrays: _policy_sizes(arrays, 1),
          "ddpg": lambda arrays: _policy_sizes(arrays, 1), "dqn": _dqn_sizes}


# The command --------------------------------------------------------------------------------------------------------

def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 if a disk fails, 2 for anything wrong with what was given."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")       # a path may hold what the terminal cannot show
    try:
        args = _parse(argv)
        target = _target(args)
        (_from_pytorch if args.to_tf else _from_tensorflow)(args, target)
    except (ConfigError, ValueError) as error:          # CheckpointError is one
        print(f"tf_checkpoint: {ConfigError(str(error))}", file=sys.stderr)      # on one line, whatever names hold
        return 2
    except OSError as error:
        print(f"tf_checkpoint: {ConfigError(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tf_checkpoint: interrupted", file=sys.stderr)
        return 130
    return 0


def _parse(argv: Sequence[str] | None) -> Namespace:
    parser = Parser(prog="python -m utils.tf_checkpoint", allow_abbrev=False, epilog=__doc__.partition("\n\n")[2],
                    formatter_class=argparse.RawDescriptionHelpFormatter,
                    description="Bring a checkpoint of the TensorFlow 1 program over to PyTorch, or back.")
    parser.add_argument("checkpoint", help="prefix of the TensorFlow checkpoint, such as model.ckpt; with --to-tf a "
                                           "PyTorch checkpoint")
    parser.add_argument("--alg", default="rrd", help=f"{', '.join([*ALGORITHMS, *DECOMPOSITIONS])} (default: rrd)")
    parser.add_argument("--basis_alg", "--basis-alg", help="basis of rrd, ircr and uniform (default: sac)")
    parser.add_argument("--out", required=True, metavar="DIR", help="where to write; made if it is not there")
    parser.add_argument("--to-tf", "--to_tf", action="store_true", help="the other way")
    args = parser.parse_args(argv)
    for field in ("checkpoint", "out"):
        if not getattr(args, field):
            raise ConfigError(f"{field}: got '', wants a path")
    for field, value, known in (("alg", args.alg, [*ALGORITHMS, *DECOMPOSITIONS]),
                                ("basis_alg", args.basis_alg, list(ALGORITHMS))):
        if value is not None and value not in known:
            raise ConfigError(f"{field}: got {value!r}{did_you_mean(value, known)}, wants one of {', '.join(known)}")
    if args.basis_alg is not None and args.alg not in (*DECOMPOSITIONS, args.basis_alg):
        raise ConfigError(f"basis_alg: got {args.basis_alg!r}, but {args.alg} has no basis")
    return args


def _target(args: Namespace) -> Path:
    """Where to write: nothing may be there yet."""
    target = Path(args.out) / ("model.ckpt" if args.to_tf else "model.safetensors")
    for path in [target, *(Path(f"{target}{part}") for part in PARTS)]:
        if os.path.lexists(path):
            raise ConfigError(f"out: {path} is there already; wants another directory")
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
    from algorithm import create_agent
    from utils.checkpoint import read_checkpoint as read_pytorch
    from utils.checkpoint import read_identity
    import_tensorflow()                                 # before anything else is done
    from utils.tf_utils import start
    start("cpu")
    identity = {"alg": args.alg, "basis_alg": args.basis_alg or ("sac" if args.alg in DECOMPOSITIONS else args.alg)}
    names = set(read_pytorch(args.checkpoint, identity))
    stored = read_identity(args.checkpoint)
    dims = {name: _sizes(stored.get(name, ""), name) for name in ("obs_dims", "acts_dims")}
    settings = {"obs_normalization": any(name.startswith("nets.normalizer.") for name in names),
                "dueling": "nets.main.value.q_base.weight" in names,
                "optimizer": "rmsprop" if any(name.endswith(".square_avg") for name in names) else "adam",
                "alpha_lr": None if "opt.alpha.t" in names else 0, "obs_scale": stored.get("obs_scale")}
    try:
        agent = create_agent(Namespace(use_pytorch=True, device="cpu", **identity, **dims, **settings))
    except (RuntimeError, MemoryError):                 # PyTorch's word for no memory; the sizes have no checksum
        raise ValueError(f"checkpoint: got sizes {dims}, for which there is no memory") from None
    agent.load_model(args.checkpoint)
    arrays = agent.tf_variables(optimizer=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(target, arrays)
    _report(arrays, agent)
    print(f"\n{len(arrays)} variables, {_so_far(agent)} updates so far: {target}")
    if float(stored.get("obs_scale", 255)) != 255:
        print(f"note: it does not keep obs_scale={stored['obs_scale']}, by which this agent divides observations; the "
              "original divides them by 255")


def _so_far(agent) -> str:
    """The number of updates, as far as it is known."""
    from algorithm.tf_names import LAST_COUNT, places
    if "opt.critic.t" not in places(agent).values():
        return "an unknown number of"                   # RMSProp does not count
    return f"{'at least ' * (agent.updates >= LAST_COUNT)}{agent.updates}"


def _sizes(text: str, name: str) -> tuple[int, ...]:
    """'(84, 84, 4)' -> (84, 84, 4)."""
    if not re.fullmatch(r"\((\d{1,9}, ?)*(\d{1,9})?\)", text):
        raise ValueError(f"checkpoint: {name}: got {text!r}, wants sizes such as '(27,)'")
    return tuple(int(size) for size in re.findall(r"\d+", text))


def _report(arrays: Arrays, agent) -> None:
    """One line a variable: its TensorFlow name and shape, and where it stands in PyTorch's checkpoint."""
    from algorithm.tf_names import places
    width, place = max(map(len, arrays)), places(agent)
    for name, array in sorted(arrays.items()):
        shape = "x".join(map(str, array.shape)) or "scalar"
        print(f"{name:{width}}  {shape:>12}  {place.get(name, '- (the last step, which nothing reads)')}")


if __name__ == "__main__":
    sys.exit(main())
