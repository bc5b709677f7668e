"""TorchRL's batches as whole episodes of this package: its keys, its actions, and where episodes end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, OneHot, TensorSpec

from envs.spaces import unscaled
from utils.errors import ConfigError

TRAJECTORY, MASK = ("collector", "traj_ids"), ("collector", "mask")
Fields = dict[str, Tensor]


class Form:
    """What an environment observes and how it acts.

    Attributes:
        obs_dims: of one observation.
        actions: the width of an action, or the number of discrete ones.
        discrete: whether actions are indices for this package: TorchRL's are one-hot, or indices with a last dimension.
    """

    def __init__(self, env: Any, observation: str = "observation", action: str = "action"):
        """
        Args:
            env: a TorchRL environment, whose specs are read.
            observation, action: the keys.
        Raises:
            ConfigError: there is no such key, or the action is none of a bounded vector, one-hot and an index.
        """
        self.observation, self.action = observation, action
        batch = len(env.batch_size)
        spec = of_key(env.observation_spec, observation, "observation")
        self.obs_dims = tuple(spec.shape[batch:])
        acts = of_key(env.full_action_spec, action, "action")
        self.one_hot, self.discrete = isinstance(acts, OneHot), isinstance(acts, OneHot | Categorical)
        self.box: Box | None = None                     # of continuous actions, as the environment gets them
        if self.discrete:
            self.actions = int(acts.space.n)
        elif isinstance(acts, Bounded) and len(acts.shape) == batch + 1:
            self.actions = acts.shape[-1]
            self.box = box_of(acts)
        else:
            raise ConfigError(f"action: got {type(acts).__name__} of shape {tuple(acts.shape)}, expected Bounded of "
                              "one dimension, OneHot or Categorical")

    def acts(self, rows: TensorDictBase) -> Tensor:
        """Return actions as models read them: (..., A) in [-1, 1], or indices (...)."""
        acts = rows.get(self.action)
        if self.discrete:
            acts = acts.float().argmax(-1) if self.one_hot else acts
            return acts.reshape(rows.batch_size).long()
        return unscaled(acts, self.box).clamp(-1, 1)

    def steps(self, rows: TensorDictBase) -> Fields:
        """Return `obs`, `acts` and `obs_next` of rows of any shape."""
        return {"obs": rows.get(self.observation), "acts": self.acts(rows),
                "obs_next": rows.get(("next", self.observation))}

    def episode(self, rows: TensorDictBase) -> Fields:
        """Return a whole episode, (T,), as `store_episode` takes it."""
        after = rows.get("next")
        return self.steps(rows) | {"rews": after.get("reward").reshape(-1, 1).float(),
                                   "done": after.get("terminated").reshape(-1, 1).float()}


def box_of(acts: Bounded) -> Box:
    """Return the bounds of one action, (A,), which all environments of a batch have.

    Raises:
        ConfigError: one of them is infinite.
    """
    bounds = (bound.reshape(-1, acts.shape[-1])[0].cpu().numpy() for bound in (acts.space.low, acts.space.high))
    box = Box(*bounds, dtype=np.float32)
    if not np.isfinite([box.low, box.high]).all():
        raise ConfigError(f"action: got {box}, expected finite bounds, by which actions are scaled")
    return box


def of_key(spec: TensorSpec, name: str, what: str) -> TensorSpec:
    """Return the spec of a key.

    Raises:
        ConfigError: there is none.
    """
    known = list(spec.keys(True, True)) if isinstance(spec, Composite) else []
    if name not in known:
        raise ConfigError(f"{what}: got {name!r}, expected one of {', '.join(map(str, known))}")
    return spec[name]


class Cutter:
    """Cuts the batches of a collector into whole episodes; an episode may take any number of batches."""

    def __init__(self):
        self.open: dict[int, list[TensorDictBase]] = {}         # by trajectory, or by the row of the batch

    def add(self, batch: TensorDictBase) -> list[tuple[TensorDictBase, Tensor]]:
        """Add a batch [T], or [E, T] with time last; return the episodes that end in it, in order.

        Rows with a mask, as `trajs_per_batch` gives them, are whole episodes each. Else a trajectory goes on in the
        next batch, in the same place, or under its number in `("collector", "traj_ids")`.

        Returns:
            for each its rows (L,), and the numbers of those that are in this batch, flat, (K,): its last K rows.
        """
        rows = batch.unsqueeze(0) if batch.ndim == 1 else batch
        numbers = torch.arange(rows.numel(), device=rows.device).view(rows.shape)
        if (mask := rows.get(MASK, None)) is not None:
            return [(rows[e][mask[e]], numbers[e][mask[e]]) for e in range(len(rows))]
        return [found for e in range(len(rows)) for found in self._row(e, rows[e], numbers[e])]

    def _row(self, e: int, row: TensorDictBase, numbers: Tensor) -> Iterator[tuple[TensorDictBase, Tensor]]:
        """Yield the episodes that end in one row, (T,)."""
        done = row.get(("next", "done")).reshape(len(row), -1).any(1).tolist()
        ids = row.get(TRAJECTORY, None)
        names = [e] * len(row) if ids is None else ids.reshape(-1).tolist()
        start = 0
        for t, over in enumerate(done):
            if not over and t + 1 < len(row) and names[t + 1] == names[t]:
                continue
            pieces = [*self.open.pop(names[t], []), row[start:t + 1]]
            if over:
                yield torch.cat(pieces), numbers[start:t + 1]
            else:
                self.open[names[t]] = [*pieces[:-1], pieces[-1].clone()]
            start = t + 1
