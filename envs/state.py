"""Observations and states of tensor environments: tensors by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from utils.errors import ConfigError

Obs = Tensor | dict[str, Tensor]                    # (N, ...), or names -> (N, ...)


def over(rows: Tensor, like: Tensor) -> Tensor:
    """Return `rows`, (N,), with as many dimensions as `like`, (N, ...): (N, 1, ...)."""
    return rows.view(-1, *[1] * (like.dim() - 1))


def choose(rows: Tensor, new: Obs, old: Obs) -> Obs:
    """Return the observations of `new` in these rows, (N,) bool, and of `old` in the others."""
    if isinstance(new, dict):
        return {name: choose(rows, new[name], old[name]) for name in new}
    return torch.where(over(rows, new), new, old)


def named(name: str, value: Obs | None) -> dict[str, Tensor]:
    """Return observations as tensors by name: NAME, or NAME/KEY of each key; none of None."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return {f"{name}/{key}": tensor for key, tensor in value.items()}
    return {name: value}


def unnamed(name: str, tensors: Mapping[str, Tensor]) -> Obs | None:
    """Return the observations that `named` has named."""
    if name in tensors:
        return tensors[name]
    return {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items()
            if key.startswith(f"{name}/")} or None


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose name begins with `prefix/`, without that."""
    return {name.removeprefix(f"{prefix}/"): tensor for name, tensor in tensors.items()
            if name.startswith(f"{prefix}/")}


def taken(state: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """Return a copy of a tensor of a state, on the device of `like`.

    Raises:
        ConfigError: the state has none of this name, shape and dtype; it is of another task.
    """
    found = state.get(name)
    if found is None or (found.shape, found.dtype) != (like.shape, like.dtype):
        got = "nothing" if found is None else f"{found.dtype} {tuple(found.shape)}"
        raise ConfigError(f"env: got a state with {got} as {name}, expected {like.dtype} {tuple(like.shape)}: the "
                          "state is of another task or number of rows")
    return found.to(like.device, copy=True)
