"""DQN as the published MarineNav program has it."""

from __future__ import annotations

from torch import Tensor, nn

from algorithm.basis_alg.encoded_torch import EncodedDQN
from algorithm.encoders import OutputLayers
from algorithm.networks import Shape
from algorithm.policy.layers import Init


class EncodedQNetwork(OutputLayers):
    """The value of each action, over an encoder."""

    def forward(self, obs: Tensor) -> Tensor:
        """(B, O) -> (B, A)."""
        return self.output_layer(self.hidden(self.encoder(obs)))


class MarineNavDQN(EncodedDQN):
    """DQN over an encoder."""

    def _create_network(self, encoder: nn.Module, shape: Shape, init: Init) -> nn.Module:
        return EncodedQNetwork(encoder, shape, self.act_dim, init)
