"""Networks that predict a reward for one step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.torch_utils import ConvTrunk, dense


class MLPRewardNet(nn.Module):
    """A reward for one step: [s, a, s - s']-256-256-1, ReLU."""

    def __init__(self, obs_dim: int, act_dim: int, generator: torch.Generator | None = None):
        super().__init__()
        self.r_dense1 = dense(2 * obs_dim + act_dim, 256, generator)
        self.r_dense2 = dense(256, 256, generator)
        self.r = dense(256, 1, generator)

    def forward(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """(..., O), (..., A), (..., O) -> (..., 1), for any leading dimensions."""
        h = F.relu(self.r_dense1(torch.cat([obs, acts, obs - obs_next], dim=-1)))
        return self.r(F.relu(self.r_dense2(h)))


class ConvRewardNet(ConvTrunk):
    """A reward for one step: DQN's convolutions on [s, s - s'], 512, A, of which the action's is taken."""

    def __init__(self, obs_dims: tuple[int, int, int], acts: int, generator: torch.Generator | None = None):
        self.pair_dims = (*obs_dims[:2], 2 * obs_dims[2])
        super().__init__("r", self.pair_dims, generator)
        self.r_dense_act = dense(self.features, 512, generator)
        self.r_act = dense(512, acts, generator)

    def forward(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """(..., H, W, C), one-hot (..., A), (..., H, W, C) -> (..., 1), for any leading dimensions."""
        pairs = torch.cat([obs, obs - obs_next], dim=-1).reshape(-1, *self.pair_dims)
        rewards = self.r_act(F.relu(self.r_dense_act(self.trunk(pairs)))).reshape(acts.shape)
        return (rewards * acts).sum(-1, keepdim=True)
