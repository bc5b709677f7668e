"""Files of Stable-Baselines3, read without running anything: a model's zip, and the pickle of a VecNormalize."""

from __future__ import annotations

import base64
import binascii
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from adapters.inert_pickle import Inert, as_array, read_pickle
from algorithm.model_file import check_tensor, file_bytes, read_tensors
from utils.errors import CheckpointError

MOST_BYTES = 2**30                                      # of a member of the zip
MOST_JSON = 2**26
# What pickles of spaces and of VecNormalize name; a space that has drawn holds its generator, which nothing here reads.
SPACES = frozenset({
    "collections.OrderedDict",
    *(f"{package}.spaces.{kind.lower()}.{kind}" for package in ("gym", "gymnasium") for kind in ("Box", "Discrete",
                                                                                                "Dict")),
    "numpy.random._pickle.__generator_ctor", "numpy.random._pickle.__bit_generator_ctor",
    "numpy.random._pickle.__randomstate_ctor", "numpy.random._pcg64.PCG64", "numpy.random._mt19937.MT19937",
    "numpy.random.bit_generator.SeedSequence", "numpy.random.bit_generator.__pyx_unpickle_SeedSequence"})
VEC_NORMALIZE = "stable_baselines3.common.vec_env.vec_normalize.VecNormalize"
MEAN_STD = "stable_baselines3.common.running_mean_std.RunningMeanStd"


@dataclass(frozen=True)
class Saved:
    """What a model's zip holds.

    Attributes:
        data: the settings, as far as they are JSON.
        weights: of the policy, by name.
        variables: further tensors, such as `log_ent_coef`.
        parts: name and size of each part of a dict of observations, in its order; None if they are no dict.
        actions: how many there are; None if they are continuous.
        low, high: of continuous actions, (A,).
    """

    path: Path
    data: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    variables: Mapping[str, Tensor]
    parts: tuple[tuple[str, int], ...] | None
    actions: int | None
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def read_zip(path: str | Path) -> Saved:
    """Read the zip of a model.

    Raises:
        CheckpointError: it is missing, damaged or no such file, or its spaces are of another kind.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(io.BytesIO(file_bytes(path))) as archive:
            data = json.loads(_member(archive, "data", MOST_JSON))
            weights = _tensors(archive, "policy.pth")
            known = "pytorch_variables.pth" in archive.namelist()
            variables = _tensors(archive, "pytorch_variables.pth") if known else {}
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, NotImplementedError, RuntimeError,
            RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise CheckpointError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
        raise CheckpointError(f"{path}: got no model of Stable-Baselines3 ({type(error).__name__}), expected a zip "
                              "with data and policy.pth, which `model.save` writes") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: data: got a {type(data).__name__}, expected an object")
    return Saved(path, data, weights, variables, _parts(path, data), *_actions(path, data))


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """The bytes of a member, at most so many."""
    with archive.open(name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise CheckpointError(f"{name}: got more than {most} bytes")
    return data


def _tensors(archive: zipfile.ZipFile, name: str) -> dict[str, Tensor]:
    """The tensors in a member; what is none of them is left out, as `pytorch_variables.pth` of some models is."""
    found = read_tensors(_member(archive, name, MOST_BYTES), name)
    pairs = found.items() if isinstance(found, Mapping) else ()
    return {str(key): check_tensor(key, value) for key, value in pairs}


# Spaces -------------------------------------------------------------------------------------------------------------

def _space(path: Path, data: Mapping[str, Any], name: str) -> Inert:
    """A space of the settings, as an object that was not made."""
    held = data.get(name)
    text = held.get(":serialized:") if isinstance(held, dict) else None
    try:
        pickled = base64.b64decode(text, validate=False)
    except (TypeError, ValueError, binascii.Error):
        raise CheckpointError(f"{path}: {name}: missing, expected a space of Gymnasium") from None
    space = read_pickle(pickled, SPACES, f"{path}: {name}")
    if not isinstance(space, Inert) or kind_of(space) not in ("Box", "Discrete", "Dict"):
        raise CheckpointError(f"{path}: {name}: got another object, expected a Box, a Discrete or a Dict")
    return space


def kind_of(space: Inert) -> str:
    """Return the class of a space, such as Box."""
    return space.name.rpartition(".")[2]


def _parts(path: Path, data: Mapping[str, Any]) -> tuple[tuple[str, int], ...] | None:
    space = _space(path, data, "observation_space")
    if kind_of(space) != "Dict":
        return None
    spaces = space.field("spaces")
    if not isinstance(spaces, dict) or not all(isinstance(one, Inert) for one in spaces.values()):
        raise CheckpointError(f"{path}: observation_space: got another Dict, expected one of Boxes")
    if list(spaces) != sorted(spaces):
        raise CheckpointError(f"{path}: observation_space: got the parts {', '.join(map(str, spaces))}, expected them "
                              "in alphabetical order, in which this package joins them")
    return tuple((name, _size(one)) for name, one in spaces.items())


def _size(space: Inert) -> int:
    """The size of a part of the observations, flattened as Gymnasium does."""
    if kind_of(space) == "Discrete":
        return int(as_array(space.field("n")))
    return int(np.prod(space.field("_shape") or (), dtype=np.int64))


def _actions(path: Path, data: Mapping[str, Any]) -> tuple[int | None, np.ndarray | None, np.ndarray | None]:
    """How many actions there are; or None, and the bounds of continuous ones."""
    space = _space(path, data, "action_space")
    if kind_of(space) == "Discrete":
        if int(as_array(space.field("start", 0))) != 0:
            raise CheckpointError(f"{path}: action_space: got actions that start at another number, expected 0")
        return int(as_array(space.field("n"))), None, None
    low, high = (as_array(space.field(name)).astype(np.float64) for name in ("low", "high"))
    if kind_of(space) != "Box" or low.ndim != 1 or low.shape != high.shape \
            or not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        raise CheckpointError(f"{path}: action_space: got {space.field('_shape')} actions, expected Discrete ones, or "
                              "a bounded Box of one dimension")
    return None, low, high


# VecNormalize -------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Statistics:
    """What a VecNormalize holds: `stats` as in the JSON of `algorithm.model_file`, and how it uses them.

    `clip` and `eps` are of observations; None if it does not normalise them.
    """

    stats: Mapping[str, Any]
    clip: float | None
    eps: float | None


def read_vecnormalize(path: str | Path, parts: tuple[tuple[str, int], ...] | None = None) -> Statistics:
    """Read the statistics in the pickle of a VecNormalize; nothing in it runs.

    Args:
        parts: of a dict of observations, in the order in which their statistics are joined.
    Raises:
        CheckpointError: it is missing, damaged, or holds something else than arrays and numbers.
    """
    path = Path(path)
    saved = read_pickle(file_bytes(path), SPACES | {VEC_NORMALIZE, MEAN_STD}, str(path))
    if not isinstance(saved, Inert) or saved.name != VEC_NORMALIZE or not isinstance(saved.state, dict):
        raise CheckpointError(f"{path}: got another object, expected a VecNormalize, which `env.save` writes")
    try:
        normalizes = saved.field("norm_obs", True)
        stats = _observed(saved, parts) if normalizes else {}
        stats |= _moments(saved.field("ret_rms"), "ret", (1,))
        limits = [float(as_array(saved.field(name))) for name in ("clip_obs", "epsilon")] if normalizes else [None] * 2
    except (CheckpointError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    return Statistics(stats, *limits)


def _observed(saved: Inert, parts: tuple[tuple[str, int], ...] | None) -> dict[str, Any]:
    """The statistics of observations; those of a dict are joined."""
    held = saved.field("obs_rms")
    if not isinstance(held, dict):
        return _moments(held, "obs", (-1,))
    missing = [name for name, _ in parts or () if name not in held]
    if parts is None or missing or len(held) != len(parts):
        raise CheckpointError(f"norm_obs_keys: got {', '.join(map(str, held))}, expected every part of the "
                              f"observations: {', '.join(name for name, _ in parts or ()) or 'one array'}")
    each = [_moments(held[name], "obs", (-1,)) for name, _ in parts]
    joined = {name: [x for one in each for x in one[name]] for name in ("obs_mean", "obs_var")}
    return joined | {"obs_count": each[0]["obs_count"]}


def _moments(held: Any, name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Mean, variance and count of a RunningMeanStd, as JSON holds them."""
    if not isinstance(held, Inert) or held.name != MEAN_STD:
        raise CheckpointError(f"{name}_rms: missing, expected running statistics")
    mean, var, count = (as_array(held.field(field)) for field in ("mean", "var", "count"))
    return {f"{name}_mean": mean.reshape(shape).tolist(), f"{name}_var": var.reshape(shape).tolist(),
            f"{name}_count": float(count)}
