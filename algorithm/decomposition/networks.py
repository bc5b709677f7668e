"""Networks that predict a reward for one step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from algorithm.decomposition.features import OwnFeatures, StepInputs
from algorithm.networks import MLP, add_head, default_hidden, run_head, shape_of
from utils.settings.fields import Config
from utils.torch_utils import ConvTrunk


class MLPRewardNet(MLP):
    """The reward of one step: [s, a, s - s']-hidden-1."""

    def __init__(self, obs_dim: int, act_dim: int, generator: torch.Generator | None = None,
                 hidden: Sequence[int] = (256, 256), activation: str = "relu"):
        super().__init__("r", (2 * obs_dim + act_dim, *hidden, 1), activation, generator=generator)

    def forward(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """(..., O), (..., A), (..., O) -> (..., 1), for any leading dimensions."""
        return super().forward(torch.cat([obs, acts, obs - obs_next], dim=-1))


class ConvRewardNet(ConvTrunk):
    """The reward of one step: DQN's convolutions on [s, s - s'], hidden, A; it takes the output of the action."""

    def __init__(self, obs_dims: tuple[int, int, int], acts: int, generator: torch.Generator | None = None,
                 hidden: Sequence[int] = (512,), activation: str = "relu"):
        self.pair_dims = (*obs_dims[:2], 2 * obs_dims[2])
        super().__init__("r", self.pair_dims, generator)
        self.activation = activation
        self.act_head = add_head(self, "r", "act", (self.features, *hidden, acts), generator)

    def forward(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """(..., H, W, C), one-hot (..., A), (..., H, W, C) -> (..., 1), for any leading dimensions."""
        pairs = torch.cat([obs, obs - obs_next], dim=-1).reshape(-1, *self.pair_dims)
        rewards = run_head(self, self.act_head, self.activation, self.trunk(pairs)).reshape(acts.shape)
        return (rewards * acts).sum(-1, keepdim=True)


class FeatureRewardNet(MLP):
    """The reward of one step from features of it: phi(s, a, s')-hidden-1."""

    def __init__(self, features: OwnFeatures, generator: torch.Generator | None = None,
                 hidden: Sequence[int] = (256, 256), activation: str = "relu"):
        super().__init__("r", (features.size, *hidden, 1), activation, generator=generator)
        self.features = features

    def forward(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """(..., O), (..., A), (..., O) -> (..., 1), for any leading dimensions."""
        return super().forward(self.features(obs, acts, obs_next))


class StepNet(nn.Module):
    """A network on what is known of one step, `StepInputs`-hidden-outputs."""

    def __init__(self, config: Config, generator: torch.Generator, outputs: int = 1, difference: bool = False):
        """difference: whether it also reads s - s'."""
        super().__init__()
        self.inputs = StepInputs(config, difference, generator)
        hidden, activation = shape_of(config, "reward", default_hidden(config.obs_dims))
        self.mlp = MLP("r", (self.inputs.size, *hidden, outputs), activation, generator=generator)

    def forward(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """(..., O), encoded (..., A), (..., O) -> (..., outputs), for any leading dimensions."""
        return self.mlp(self.inputs(obs, acts, obs_next))
