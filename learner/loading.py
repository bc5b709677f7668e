"""Trained agents and their replays, read back from the directory of a run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from algorithm import check_backend, create_agent
from algorithm.marinenav_files import is_published, read_published
from algorithm.model_file import SUFFIX, Model, read_model
from algorithm.networks import OPTIONAL_NAMES
from algorithm.replay_buffer import create_buffer
from record.store import Store, fitting
from utils.checkpoint import check_same, read_checkpoint, read_identity
from utils.errors import CheckpointError, ConfigError
from utils.normalizer import upgraded
from utils.settings.fields import Config
from utils.settings.json_files import read_json, read_object
from utils.settings.resolve import effective, resolve
from utils.settings.sizes import with_sizes
from utils.torch_state import apart


def find_run(place: str | Path, checkpoint: str | Path = "") -> tuple[Path, Path]:
    """Find a run's directory and the checkpoint to load.

    Args:
        place: a run's directory, a .safetensors file in one or in its `checkpoints`, a model's file, MODEL.pt, or a
            directory of the published MarineNav program's files.
        checkpoint: which checkpoint of a directory: `best`, `last`, or a file; by default `best`, or `last` if the run
            has no best one, because it was not evaluated.
    Raises:
        ConfigError: there is no run, or the file is not inside a run.
    """
    path, place = Path(place), str(place)
    if tensorflow := _tensorflow_prefix(path):
        raise ConfigError(f"{place!r}: a checkpoint of TensorFlow; {converted_by(tensorflow)}")
    if path.suffix in (".safetensors", SUFFIX):
        if checkpoint:
            raise ConfigError(f"checkpoint: got {str(checkpoint)!r}, but {place!r} is one already; give one of the two")
        if path.suffix == SUFFIX:
            return path.absolute().parent, path
        runs = [one for one in list(path.absolute().parents)[:2] if (one / "config.json").is_file()]
        if not runs:
            raise ConfigError(f"{place!r}: expected a checkpoint inside a run's directory, which has its config.json")
        return runs[0], path
    if not (path / "config.json").is_file() and is_published(path):
        return path.absolute(), path
    if not (path / "config.json").is_file():
        raise ConfigError(f"{place!r}: expected a run's directory, such as outputs/RUN, a .safetensors file in one, or "
                          "a model's file, MODEL.pt")
    name = str(checkpoint) or default_checkpoint(path)
    return path, path / "checkpoints" / f"{name}.safetensors" if name in ("best", "last") else Path(name)


def model_at(path: Path) -> Model | None:
    """Read the model that is no checkpoint of a run: a file MODEL.pt, or a directory; None if it is another file.

    Raises:
        CheckpointError: it is damaged.
    """
    if path.is_dir():
        return read_published(path)
    return read_model(path) if path.suffix == SUFFIX else None


def default_checkpoint(run: Path) -> str:
    """`best`, or `last` of a run that evaluated nothing and so has no best one."""
    evaluates = read_object(run / "config.json").get("test_rollouts") != 0
    return "best" if evaluates or (run / "checkpoints" / "best.safetensors").is_file() else "last"


@apart
def load_agent(place: str | Path, checkpoint: str | Path = "", device: str = "cpu") -> Any:
    """Build the agent of a run and load a checkpoint into it. No environment is made.

    Args:
        place, checkpoint: as for `find_run`.
        device: cpu, cuda, cuda:1, ..., mps or auto.
    Raises:
        ConfigError: there is no such run, or its settings are wrong.
        CheckpointError: the checkpoint is missing, damaged, or of another agent.
    """
    return load_found(*find_run(place, checkpoint), device)


def load_found(run: Path, path: Path, device: str = "cpu") -> Any:
    """Build the agent of a run and load a checkpoint into it, both as `find_run` returns them; see `load_agent`."""
    check_pytorch(run, path)
    if (model := model_at(path)) is not None:
        return model.agent(device)
    obs_dims, acts_dims, scale = sizes_of(existing(path))
    known = (obs_dims, acts_dims, scale, scale is not None, parts_of(path))
    settings = read_json(run / "config.json") | {"device": device, "buffer_device": "cpu"}
    agent = create_agent(with_sizes(resolve(effective(settings)), *known))
    agent.load_model(path)
    return agent


def load_weights(agent: Any, place: str) -> None:
    """Give an agent the weights of a model, to begin with; optimisers and counters stay new.

    Args:
        place: as for `find_run`.
    Raises:
        ConfigError: there is no such model.
        CheckpointError: it is damaged, or of another agent.
    """
    run, path = find_run(place)
    check_pytorch(run, path)
    if (model := model_at(path)) is not None:
        model.load_into(agent)
        return
    state = agent.state_dict()
    own = {name: tensor for name, tensor in state.items() if name.startswith("nets.")}
    found = upgraded(read_checkpoint(existing(path), agent.identity(), OPTIONAL_NAMES))
    found = {name: tensor for name, tensor in found.items() if name.startswith("nets.")}
    try:
        check_same(found, own, "load_model")
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    agent.load_state_dict(state | found)


def check_pytorch(run: Path, checkpoint: Path) -> None:
    """Raise ConfigError unless PyTorch is chosen and the checkpoint is PyTorch's; name the converter otherwise."""
    if check_backend() != "pytorch":
        raise ConfigError("USE_PYTORCH: only PyTorch's checkpoints can be loaded; expected 1, or unset it")
    if prefix := _tensorflow_prefix(checkpoint):
        raise ConfigError(f"{str(checkpoint)!r}: a checkpoint of TensorFlow; {converted_by(prefix)}")
    if checkpoint.suffix == SUFFIX or checkpoint.is_dir():
        return
    try:
        backend = read_object(run / "run.json").get("backend")
    except ConfigError:                                 # run.json is information; the checkpoint decides
        return
    if backend == "tensorflow" and not checkpoint.is_file():        # a file may be a converted one
        raise ConfigError(f"{str(run)!r} is a run of the TensorFlow reference; "
                          f"{converted_by(checkpoint.with_suffix('.ckpt'))}")


def _tensorflow_prefix(path: Path) -> Path | None:
    """The prefix of the TensorFlow checkpoint that a path names, by its prefix or by one of its files, or None."""
    prefix = path.with_name(re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", path.name))
    return prefix if path.name and prefix.with_name(f"{prefix.name}.index").is_file() else None


def converted_by(prefix: Path) -> str:
    """The commands that convert a TensorFlow checkpoint and evaluate the result, with the settings of its run."""
    run = next((one for one in (prefix.parent, prefix.parent.parent) if (one / "config.json").is_file()), None)
    settings = read_object(run / "config.json") if run else {"alg": "ALG", "basis_alg": "BASIS"}
    flags = [f"--{name}={settings[name]}" for name in ("alg", "basis_alg") if settings.get(name)]
    out = prefix.parent / "pytorch"
    convert = shlex.join(["python", "-m", "utils.tf_checkpoint", str(prefix), *flags, f"--out={out}"])
    evaluate = shlex.join(["python", "evaluate.py", str(run or "RUN"), "--checkpoint", str(out / "model.safetensors")])
    return f"convert it: `{convert}`, then `{evaluate}`"


def existing(path: Path, option: str = "checkpoint='{}'") -> Path:
    """The checkpoint's path.

    Args:
        option: how another checkpoint is chosen, for the message.
    Raises:
        CheckpointError: it does not exist; names the ones that do.
    """
    if path.is_file():
        return path
    others = sorted(one.stem for one in path.parent.glob("*.safetensors"))
    hint = f"; {option.format(others[-1])} exists" if others else "; the run has saved no checkpoint yet"
    raise CheckpointError(f"{path}: no such file{hint}")


def sizes_of(path: Path) -> tuple[tuple[int, ...], tuple[int, ...], float | None]:
    """(obs_dims, acts_dims, obs_scale or None) from a checkpoint's header.

    Raises:
        CheckpointError: it is damaged, or its header has no sizes.
    """
    identity = read_identity(path)
    dims = []
    for name in ("obs_dims", "acts_dims"):
        if not re.fullmatch(r"\((\d{1,9}, ?)*\d{1,9},?\)", identity.get(name, "")):
            raise CheckpointError(f"{path}: {name}: got {identity.get(name)!r}, expected sizes such as (17,)")
        dims.append(tuple(map(int, re.findall(r"\d+", identity[name]))))
    try:
        scale = float(identity["obs_scale"]) if "obs_scale" in identity else None
    except ValueError:
        raise CheckpointError(f"{path}: obs_scale: got {identity['obs_scale']!r}, expected a number") from None
    return dims[0], dims[1], scale


def parts_of(path: Path) -> tuple[tuple[str, tuple[int, ...]], ...] | None:
    """The parts of a dict of observations from a checkpoint's header; None if they are one array.

    Raises:
        CheckpointError: the header is damaged.
    """
    text = read_identity(path).get("obs_parts")
    if text is None:
        return None
    try:
        return tuple((str(name), tuple(map(int, shape))) for name, shape in json.loads(text))
    except (ValueError, TypeError):
        raise CheckpointError(f"{path}: obs_parts: got {text!r}, expected names and shapes") from None


@apart
def load_replay(run: Path, config: Config) -> Any:
    """Load the replay that a run has saved, on the CPU; None if it has saved none.

    Raises:
        CheckpointError: it is damaged, or of another run.
        ConfigError: it does not fit in memory.
    """
    saved = Store(run / "checkpoints" / "resume").load()
    if saved is None:
        return None
    replay = create_buffer(config)
    with fitting(saved):
        tensors = {name.removeprefix("replay/"): tensor for name, tensor in saved.tensors.items()
                   if name.startswith("replay/")}
        replay.restore(saved.values["replay"], tensors, saved.log())
    return replay
