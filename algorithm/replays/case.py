"""A reference case: arrays and `meta`, read without pickle, and what its programs have in common."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils import cases
from utils.errors import ConfigError

SAMPLED = 2048                  # elements of a variable that a case stores, at most


class CaseError(ConfigError):
    """A file that is no case, or none that can be replayed."""


class Refused(ValueError):
    """A figure that is refused on purpose."""


@dataclass(frozen=True)
class Case:
    """One case, and how it is to be computed."""

    path: str
    meta: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    dtype: torch.dtype
    device: torch.device

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def array(self, name: str) -> np.ndarray:
        """An array by its name.

        Raises:
            CaseError: the case has none of this name.
        """
        if name not in self.arrays:
            raise CaseError(f"{self.path}: {name}: missing, expected an array of this name")
        return self.arrays[name]

    def tensor(self, name: str) -> Tensor:
        """An array as a tensor on the device; numbers of floating point in the case's precision."""
        value = torch.from_numpy(np.array(self.array(name)))
        return value.to(self.device, self.dtype if value.is_floating_point() else None)

    def value(self, *names: str) -> Any:
        """A value of `meta`, by the names that lead to it.

        Raises:
            CaseError: it is not there.
        """
        found: Any = self.meta
        for name in names:
            if not isinstance(found, Mapping) or name not in found:
                raise CaseError(f"{self.path}: meta.{'.'.join(names)}: missing")
            found = found[name]
        return found


def read_case(path: str, dtype: str = "float32", device: str = "cpu") -> Case:
    """Read a case; see `utils.cases.read_case`.

    Raises:
        ConfigError: the file is no case, or there is no such device.
    """
    from utils.torch_utils import resolve_device
    found = cases.read_case(path)
    try:
        where = resolve_device(device)
    except RuntimeError:                                # a device that PyTorch does not know
        raise CaseError(f"device: got {device!r}, expected cpu or cuda") from None
    return Case(path, found.meta, found.arrays, getattr(torch, dtype), where)


def as_array(value: Any) -> np.ndarray:
    """A tensor, on any device, or an array."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def drawn_weights(name: str, shape: tuple[int, ...], seed: int, scale: float = 1.0) -> np.ndarray:
    """The first value of a variable: uniform in +-sqrt(6 / (last two sizes)), one dimension in +-0.1; times `scale`."""
    random = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    limit = np.sqrt(6 / (shape[-1] + shape[-2])) if len(shape) >= 2 else 0.1
    return (random.uniform(-limit, limit, size=shape) * scale).astype(np.float32)


def summary(stage: str, variables: Mapping[str, Tensor], sampled: int = SAMPLED) -> dict[str, np.ndarray]:
    """`<stage>/norms/<name>`, the sum and the l2 norm in double precision, and `<stage>/sample/<name>`.

    sampled: elements of a variable that a case stores, at most.
    """
    found = {}
    for name, tensor in variables.items():
        flat = as_array(tensor).reshape(-1)
        double = flat.astype(np.float64)
        found[f"{stage}/norms/{name}"] = np.array([double.sum(), np.sqrt(np.square(double).sum())])
        found[f"{stage}/sample/{name}"] = flat[::max(1, -(-flat.size // sampled))].copy()
    return found
