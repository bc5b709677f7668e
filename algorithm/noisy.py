"""Dense layers whose weights have learned noise (Fortunato et al., 2018, arXiv 1706.10295), factorised."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NoisyLinear(nn.Module):
    """y = (mu_w + sigma_w f(out) f(in)^T) x + mu_b + sigma_b f(out), f(x) = sign(x) sqrt|x| (equations 10 and 11)."""

    def __init__(self, fan_in: int, fan_out: int, sigma: float, generator: torch.Generator | None):
        """sigma: of the weights times sqrt(fan_in), of the biases times sqrt(fan_out), at the start."""
        super().__init__()
        self.sizes, limit = (fan_in, fan_out), 1 / math.sqrt(fan_in)
        for name, shape, scale in (("weight", (fan_out, fan_in), fan_in), ("bias", (fan_out,), fan_out)):
            drawn = torch.empty(shape, dtype=torch.float32).uniform_(-limit, limit, generator=generator)
            self.register_parameter(f"{name}_mu", nn.Parameter(drawn))
            self.register_parameter(f"{name}_sigma", nn.Parameter(torch.full_like(drawn, sigma / math.sqrt(scale))))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """(..., I), standard normal (I + O,) -> (..., O); without noise the means."""
        if noise is None:
            return F.linear(x, self.weight_mu, self.bias_mu)
        given, out = (noise.sign() * noise.abs().sqrt()).split(self.sizes)
        return F.linear(x, self.weight_mu + self.weight_sigma * torch.outer(out, given),
                        self.bias_mu + self.bias_sigma * out)
