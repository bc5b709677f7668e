"""Attention over the steps of episodes: softmax(q k' / sqrt(d)) v, with a mask of the keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.torch_utils import dense

MASKED = -1e4                   # the score of a key that is not read, as published


def attend(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Return softmax(q k' scale) v: (N, Q, D), (N, K, D), (N, K, V) -> (N, Q, V).

    keys: whether a key is read, bool, (N, K) or (N, Q, K).
    """
    return weights(q, k, keys, scale) @ v


def weights(q: Tensor, k: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Return softmax(q k' scale) over the keys, (N, Q, K); see `attend`."""
    keys = keys[:, None] if keys.ndim == 2 else keys
    return (q @ k.transpose(1, 2) * scale).masked_fill(~keys, MASKED).softmax(-1)


class Block(nn.Module):
    """A pre-norm block of causal attention of one head, then a perceptron four times as wide, ReLU."""

    def __init__(self, width: int, generator: torch.Generator):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = dense(width, 3 * width, generator), dense(width, width, generator)
        self.mlp1, self.mlp2 = dense(width, 4 * width, generator), dense(4 * width, width, generator)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """(N, J, D), bool (N, J, J) -> (N, J, D)."""
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.proj(attend(q, k, v, keys, q.shape[-1] ** -0.5))
        return x + self.mlp2(F.relu(self.mlp1(self.norm2(x))))
