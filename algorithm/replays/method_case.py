"""What the cases of return decompositions have in common: a model at given weights, a batch of episodes, gradients."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from algorithm.decomposition.base import Decomposition
from algorithm.decomposition.whole import episodes_of
from algorithm.networks import MLP
from algorithm.registry import load
from algorithm.replays.case import Case, CaseError, summary
from algorithm.replays.training import settings_of

SAMPLED = 512                   # elements of a gradient that a case stores, at most
# The case's name of a parameter -> the parameter, and whether it is the transpose of the case's.
Names = dict[str, tuple[nn.Parameter, bool]]


def build(case: Case, alg: str, given: Mapping[str, Any], *more: Any) -> Decomposition:
    """Build the model of a decomposition for the sizes of a case, in its precision.

    Args:
        more: what the model's class takes beside settings and generator.
    """
    obs, acts = case.array("batch/obs").shape[-1], case.array("batch/acts").shape[-1]
    config = settings_of(case, alg, given, obs, acts, False)
    return load("alg", alg, "pytorch")(config, None, *more).to(case.dtype)


def hidden(case: Case, prefix: str) -> dict[str, tuple[int, ...]]:
    """Return the setting of the widths of a perceptron of a case."""
    shapes = case.value("shapes")
    count = sum(name.startswith(f"{prefix}/dense") and name.endswith("/kernel") for name in shapes)
    return {"reward_hidden_sizes": tuple(int(shapes[f"{prefix}/dense{i}/kernel"][1]) for i in range(1, count))}


# Parameters by name -----------------------------------------------------------------------------------------------

def of_dense(prefix: str, layer: nn.Linear) -> Names:
    """Return the names of a dense layer."""
    return {f"{prefix}/kernel": (layer.weight, True), f"{prefix}/bias": (layer.bias, False)}


def of_mlp(prefix: str, mlp: MLP) -> Names:
    """Return the names of a perceptron."""
    return {name: found for i, layer in enumerate(mlp.layers, 1)
            for name, found in of_dense(f"{prefix}/dense{i}", layer).items()}


def of_norm(prefix: str, norm: nn.LayerNorm) -> Names:
    """Return the names of a layer norm."""
    return {f"{prefix}/scale": (norm.weight, False), f"{prefix}/bias": (norm.bias, False)}


@torch.no_grad()
def set_weights(case: Case, names: Names, given: Mapping[str, float] | None = None) -> None:
    """Set the parameters by the recipe of the cases.

    Args:
        given: numbers by the names of parameters that are not drawn; rounded to float32, as all first values.
    Raises:
        CaseError: a shape of the case is not the parameter's, or the model has no such parameter.
    """
    shapes = {name: tuple(shape) for name, shape in case.value("shapes").items()}
    for name in (name for name in shapes if name not in names):
        raise CaseError(f"{case.path}: meta.shapes: got {name}, expected one of {', '.join(names)}")
    for name, (parameter, transposed) in names.items():
        if name in (given or {}):
            parameter.fill_(float(np.float32(given[name])))
            continue
        if name not in shapes:
            raise CaseError(f"{case.path}: meta.shapes: {name}: missing")
        value = torch.from_numpy(first_value(case, name, shapes[name]))
        value = value.t() if transposed else value
        if value.shape != parameter.shape:
            raise CaseError(f"{case.path}: meta.shapes: {name}: got {shapes[name]}, expected "
                            f"{tuple(parameter.shape[::-1] if transposed else parameter.shape)}")
        parameter.copy_(value)


def first_value(case: Case, name: str, shape: Sequence[int]) -> np.ndarray:
    """Return the first value of a parameter: stored in the case, or drawn by its name, float32."""
    if f"init/{name}" in case:
        return np.array(case.array(f"init/{name}"), np.float32)
    random = np.random.RandomState((zlib.crc32(name.encode()) + case.value("seed")) % 2**32)
    limit = math.sqrt(6 / ((shape[-2] + shape[-1]) * math.prod(shape[:-2]))) if len(shape) >= 2 else 0.1
    value = random.uniform(-limit, limit, shape).astype(np.float32)
    if name.endswith("/scale"):
        return np.float32(1) + value
    return value + np.float32(case.value("b_ig_offset")) if name == "lstm/b_ig" else value


def gradients(stage: str, loss: Tensor, names: Names) -> dict[str, np.ndarray]:
    """Return `grad_<stage>/norms/<name>` and `grad_<stage>/sample/<name>` of a loss, by the case's names and layout."""
    return sampled_gradients(stage, loss, names, SAMPLED)


def sampled_gradients(stage: str, loss: Tensor, names: Names, sampled: int) -> dict[str, np.ndarray]:
    """Return what `gradients` does, at most so many elements of each."""
    found = torch.autograd.grad(loss, [parameter for parameter, _ in names.values()], allow_unused=True,
                                retain_graph=True)
    values = {name: torch.zeros_like(parameter) if gradient is None else gradient
              for (name, (parameter, _)), gradient in zip(names.items(), found, strict=True)}
    return summary(f"grad_{stage}", {name: value.t() if names[name][1] else value for name, value in values.items()},
                   sampled)


# Batches ----------------------------------------------------------------------------------------------------------

def inside_of(case: Case) -> Tensor:
    """Return whether a step belongs to its episode, bool, (N, L)."""
    length = case.tensor("batch/length")
    return torch.arange(case.array("batch/mask").shape[1], device=case.device) < length[:, None]


def batch_of(case: Case) -> dict[str, Tensor]:
    """Return a case's batch as losses read it; without bags an episode is one."""
    inside, lengths = inside_of(case), case.tensor("batch/length")
    batch = {f"ep_{name}": case.tensor(f"batch/{name}") for name in ("obs", "acts", "obs_next")}
    batch["ep_inside"] = inside.to(case.dtype)
    if "batch/return" in case:
        batch["ep_return"] = case.tensor("batch/return")[:, None]
    if "batch/bags" in case:
        return batch | {"ep_bags": case.tensor("batch/bags"), "ep_bag_return": case.tensor("batch/bag_return")[:, None]}
    number = torch.arange(len(lengths), device=case.device)
    bags = torch.stack([number, torch.zeros_like(number), lengths], 1)
    return batch | {"ep_bags": bags, "ep_bag_return": batch["ep_return"]}


def credit_of(model: Decomposition, batch: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    """Return what the model pays the steps of whole episodes, (N, L), zero beyond their ends."""
    episodes = episodes_of(batch)
    rews = torch.zeros(*episodes.inside.shape, 1, dtype=dtype, device=episodes.inside.device)
    if "ep_return" in batch:
        rews[:, 0] = batch["ep_return"]
    fields = {"obs": episodes.obs, "acts": episodes.acts, "obs_next": episodes.obs_next, "rews": rews}
    with torch.no_grad():
        return episodes.within(model.credit(fields, episodes.inside))


def rewards_of(model: Decomposition, batch: dict[str, Tensor]) -> Tensor:
    """Return what a Markov model pays the steps of whole episodes, (N, L), zero beyond their ends."""
    episodes = episodes_of(batch)
    with torch.no_grad():
        return episodes.within(model.predict(episodes.obs, episodes.acts, episodes.obs_next)[..., 0])
