"""The memory of a rollout by the signatures of EmbodiChain's trainer, for algorithms that are written for it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import torch
from torch import Tensor

from algorithm.replay_buffer import rollout

STEP = ("obs", "actions", "rewards", "dones", "values", "logprobs")


class RolloutBuffer(rollout.RolloutBuffer):
    """A rollout of T steps of N environments; its fields are `STEP` and the extras, as attributes too.

    The step after the T-th one begins the next rollout. Minibatches are drawn by a generator of its own, which
    PyTorch's global one seeds.
    """

    def __init__(self, num_steps: int, num_envs: int, obs_dim: int, action_dim: int,
                 device: torch.device | str = "cpu"):
        """`obs_dim` and `action_dim` are the sizes of a row."""
        seed = int(torch.randint(2**62, ()))
        super().__init__(SimpleNamespace(batch_size=num_steps * num_envs, n_epochs=1, rollout_steps=num_steps,
                                         device=str(device), seed=seed))
        self.num_steps, self.num_envs = num_steps, num_envs
        self.obs_dim, self.action_dim = obs_dim, action_dim

    def add(self, obs: Tensor, action: Tensor, reward: Tensor, done: Tensor, value: Tensor, logprob: Tensor) -> None:
        """Append one step: (N, O), (N, A) or (N,) indices, and (N,) each.

        Raises:
            ValueError: one has another shape.
        """
        step = dict(zip(STEP, (obs, action, reward, done, value, logprob), strict=True))
        sizes = {"obs": [(self.obs_dim,)], "actions": [(self.action_dim,), ()]}
        for name, tensor in step.items():
            shapes = [(self.num_envs, *size) for size in sizes.get(name, [()])]
            if tuple(tensor.shape) not in shapes:
                raise ValueError(f"{name}: got shape {tuple(tensor.shape)}, expected {shapes[0]}")
        if self.length == self.num_steps:
            self.open()
        super().add({name: tensor.detach() for name, tensor in step.items()})

    def iterate_minibatches(self, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """Yield the minibatches of one pass in a random order, name -> (B, ...); the last one may be shorter."""
        return super().iterate_minibatches(batch_size, (*STEP, *sorted(self.set_names)))

    def __getattr__(self, name: str) -> Tensor:
        """Return a field of the steps taken, (T, N, ...), by its name."""
        fields = self.__dict__.get("fields", {})
        if name not in fields:
            raise AttributeError(f"{name}: no field of the rollout; expected one of {', '.join(fields) or STEP}")
        return self[name]
