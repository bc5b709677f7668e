"""A model as a file of its own: `MODEL.pt`, with its settings, and `MODEL_normalization.json`, its statistics.

`MODEL.pt` is what `torch.save` writes of names, texts and tensors, and is read with `weights_only`, so that it runs
nothing. The statistics are numbers by the names `obs_mean`, `obs_var`, `obs_count`, `ret_mean`, `ret_var`, `ret_count`;
an agent that does not normalise observations has none.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from algorithm.create import create_agent
from utils.checkpoint import check_same
from utils.errors import CheckpointError, ConfigError
from utils.files import read_file, write_file
from utils.settings.fields import Config
from utils.settings.json_files import read_object
from utils.settings.resolve import effective, resolve
from utils.settings.sizes import with_sizes
from utils.text import one_line

SUFFIX = ".pt"
FORMAT = "return-decomposition/model-1"
MOST_BYTES = 2**31                                      # of a file, and of the tensors in it
NORMALIZER = "normalizer."                              # where the networks' names say that they are statistics
# Widths that may be (), no hidden layer, which no flag can say.
WIDTHS = ("hidden_sizes", "critic_hidden_sizes", "shared_sizes")
SIZES = ("obs_dims", "acts_dims", "obs_scale", "acts_discrete", "obs_parts")


@dataclass(frozen=True)
class Model:
    """A model that was read: its settings, its sizes by `SIZES`, its weights, and its statistics or none."""

    path: Path
    settings: Mapping[str, Any]
    sizes: Mapping[str, Any]
    nets: Mapping[str, Tensor]
    stats: Mapping[str, Any] | None

    def config(self, device: str = "cpu") -> Config:
        """Return the resolved settings, with the sizes.

        Raises:
            CheckpointError: one of them is wrong.
        """
        try:
            config = settings_with(dict(self.settings) | {"device": device, "buffer_device": "cpu"})
            return with_sizes(config, *(self.sizes.get(name) for name in SIZES))
        except (ConfigError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{self.path}: {one_line(error)}") from None

    def agent(self, device: str = "cpu") -> Any:
        """Build the agent.

        Raises:
            CheckpointError: the settings, the weights or the statistics are damaged.
        """
        agent = create_agent(self.config(device))
        self.load_into(agent)
        return agent

    def load_into(self, agent: Any) -> None:
        """Give an agent the weights and the statistics.

        Raises:
            CheckpointError: they are of another agent; nothing was changed.
        """
        own = {name: tensor for name, tensor in agent.nets.state_dict().items() if not name.startswith(NORMALIZER)}
        try:
            check_same(self.nets, own, "nets")
            if agent.normalizer is not None:
                agent.normalizer.set_normalization_stats(self.stats or {})
        except ValueError as error:
            raise CheckpointError(f"{self.path}: {error}") from None
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(self.nets[name])


def settings_with(given: Mapping[str, Any]) -> Config:
    """Resolve settings, of which the widths may be empty."""
    empty = {name: () for name in WIDTHS if name in given and not given[name] and given[name] is not None}
    others = {name: value for name, value in given.items() if name not in empty}
    return dataclasses.replace(resolve(effective(others)), **empty)


def stats_path(path: Path) -> Path:
    """Return the path of a model's statistics."""
    return path.with_name(f"{path.stem}_normalization.json")


# Writing ------------------------------------------------------------------------------------------------------------

def write_model(path: Path, agent: Any, stats: Mapping[str, Any] | None = None) -> None:
    """Write an agent's weights, settings and statistics.

    Args:
        stats: the statistics; None: what `stats_of` says.
    Raises:
        SaveError: a file could not be written.
    """
    stats = stats_of(agent) if stats is None else stats
    nets = {name: tensor.detach().cpu() for name, tensor in agent.nets.state_dict().items()
            if not name.startswith(NORMALIZER)}
    config, data = agent.config, io.BytesIO()
    texts = {"settings": config.settings(), "sizes": {name: getattr(config, name) for name in SIZES}}
    torch.save({"format": FORMAT, **{name: json.dumps(value) for name, value in texts.items()}, "nets": nets}, data)
    if stats:
        write_file(stats_path(path), (json.dumps(dict(stats), indent=1) + "\n").encode())
    write_file(path, data.getvalue())


def stats_of(agent: Any) -> dict[str, Any]:
    """Return the statistics of an agent's observations and of the returns by which it scales rewards, if it does."""
    if agent.normalizer is None:
        return {}
    found = agent.normalizer.normalization_stats()
    mean, var, count = 0.0, 1.0, 0.0
    if "reward_scale" in agent.nets:
        scale = agent.nets["reward_scale"]
        mean, var, count = map(float, (scale.mean, scale.var, scale.count))
    return found | {"ret_mean": [mean], "ret_var": [var], "ret_count": count}


# Reading ------------------------------------------------------------------------------------------------------------

def load_model(path: str | Path, device: str = "cpu") -> Any:
    """Build the agent of a model's file.

    Raises:
        CheckpointError: it is missing, damaged, or no model; or its statistics are.
    """
    return read_model(path).agent(device)


def read_model(path: str | Path) -> Model:
    """Read a model's file, and its statistics.

    Raises:
        CheckpointError: it is missing, damaged, or no model; or its statistics are.
    """
    path = Path(path)
    found = read_tensors(file_bytes(path), str(path))
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        got = found.get("format") if isinstance(found, dict) else type(found).__name__
        raise CheckpointError(f"{path}: got format {got!r}, expected {FORMAT!r}, which `python -m "
                              "adapters.convert_sb3` writes")
    try:
        settings, sizes = (json.loads(found[name]) for name in ("settings", "sizes"))
        nets = {str(name): check_tensor(name, value) for name, value in found["nets"].items()}
        normalizes = settings.get("obs_normalization")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged ({type(error).__name__}: {one_line(error)})") from None
    return Model(path, settings, sizes, nets, read_stats(stats_path(path)) if normalizes else None)


def read_stats(path: Path) -> dict[str, Any]:
    """Read the JSON of statistics.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        return read_object(path)
    except ConfigError as error:
        raise CheckpointError(f"{path}: expected the statistics of the model beside it: {one_line(error)}") from None


def file_bytes(path: Path) -> bytes:
    """Return the bytes of a file of unknown origin.

    Raises:
        CheckpointError: it cannot be read, or is too large.
    """
    try:
        return read_file(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else one_line(error)
        raise CheckpointError(f"{path}: {reason}") from None


def read_tensors(data: bytes, what: str) -> Any:
    """Return what `torch.save` wrote; nothing runs, because only tensors and plain values are read.

    Args:
        what: the file, for the message.
    Raises:
        CheckpointError: it is damaged, too large, or holds something else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
                raise CheckpointError(f"{what}: holds more than {MOST_BYTES} bytes")
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)      # noqa: TID251 (runs nothing)
    except CheckpointError:
        raise
    except Exception as error:                          # damaged bytes make torch raise any kind
        raise CheckpointError(f"{what}: got no file of weights alone, expected what torch.save writes of tensors; "
                              f"nothing was run ({type(error).__name__})") from None


def check_tensor(name: Any, value: Any) -> Tensor:
    """Return a tensor of numbers as it is, if it has as many as it has memory.

    Raises:
        CheckpointError: it is no such tensor.
    """
    plain = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu" \
        and not value.is_quantized and not value.is_complex()
    if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise CheckpointError(f"{str(name)[:100]}: got {type(value).__name__}, expected a tensor of numbers")
    return value.detach()
