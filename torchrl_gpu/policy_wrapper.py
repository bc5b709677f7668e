"""An agent of this package as a policy of TorchRL: one forward pass for all robots of all worlds, on the device."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from algorithm.basis_alg.dqn_torch import DQN

KEYS = ("self_state", "objects_state", "objects_mask")


class PolicyWrapper(nn.Module):
    """Writes "action" into a TensorDict with the keys of `MarineNavTorchRLEnv`.

    In training mode it explores as the agent does, by draws of the agent's own generator; else it acts greedily. The
    host reads nothing.

    Attributes:
        action_low, action_high: the bounds of continuous actions, (2,), buffers.
        is_continuous: a buffer, ().
    """

    in_keys, out_keys = KEYS, ("action",)

    def __init__(self, agent: Any, max_obj_num: int = 5, epsilon: float | None = 0.0):
        """
        Args:
            agent: one of `create_agent`.
            max_obj_num: the objects that a robot sees.
            epsilon: the share of random actions in training mode; None: as the agent's settings and steps say.
        """
        super().__init__()
        self.agent, self.max_obj_num, self.discrete = agent, max_obj_num, isinstance(agent, DQN)
        ones = torch.ones(1 if self.discrete else agent.act_dim, device=agent.device)
        self.register_buffer("action_low", -ones)
        self.register_buffer("action_high", ones.clone())
        self.register_buffer("is_continuous", torch.tensor(not self.discrete, device=agent.device))
        self.set_epsilon(epsilon)

    def set_epsilon(self, epsilon: float | None) -> None:
        """Set the share of random actions; None: as the agent's settings and steps say."""
        self.agent.share = epsilon

    def set_training_mode(self, training: bool) -> None:
        """Explore, or act greedily."""
        self.train(training)

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the actions of all robots: (*B, R, 2), or indices (*B, R, 1)."""
        rows = flat(tensordict)                                                         # (*B, R, O)
        choose = self._forward_discrete_batched if self.discrete else self._forward_continuous_batched
        acts = choose(rows.flatten(0, -2))
        return tensordict.set("action", acts.view(*rows.shape[:-1], -1))

    def _forward_continuous_batched(self, rows: Tensor) -> Tensor:
        """(N, O) -> (N, 2) within the bounds."""
        acts = self.agent.act(self.agent.normalize(rows), explore=self.training)
        return acts.clamp(self.action_low, self.action_high)

    def _forward_discrete_batched(self, rows: Tensor) -> Tensor:
        """(N, O) -> indices (N,)."""
        return self.agent.choose(rows, explore=self.training, wait=False)


def flat(tensordict: TensorDictBase) -> Tensor:
    """Return observations as the package's agents and replay have them, (*B, R, 7 + 6 M)."""
    own, objects, seen = (tensordict.get(name) for name in KEYS)
    return torch.cat([own, objects.flatten(-2), seen.to(own.dtype)], -1)
