"""DQN as the published MarineNav program has it."""

from __future__ import annotations

from torch import Tensor, nn

from algorithm.basis_alg.dqn_torch import DQN
from algorithm.encoders import OutputLayers, create_encoder
from algorithm.policy.layers import Init
from utils.settings.fields import Config
from utils.torch_optimizers import Adam


class EncodedQNetwork(OutputLayers):
    """The value of each action, over an encoder."""

    def forward(self, obs: Tensor) -> Tensor:
        """(B, O) -> (B, A)."""
        return self.output_layer(self.hidden(self.encoder(obs)))


class MarineNavDQN(DQN):
    """DQN over an encoder, with PyTorch's Adam."""

    default_sizes = (128, 128)

    def _create_networks(self, config: Config) -> nn.Module:
        init = Init(False, self.weights_generator)
        return EncodedQNetwork(create_encoder(config, init), self.shape("policy"), self.act_dim, init)

    def _make_optimizer(self) -> Adam:
        return Adam([dict(name="critic", role="critic", params=self.value.parameters(), lr=self.config.q_lr)])
