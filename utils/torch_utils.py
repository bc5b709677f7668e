"""PyTorch pieces that every agent uses: dense layers, the normaliser, the Gaussian, the optimiser."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from utils.config import ConfigError


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA where it works; a CUDA device that is not there is a ConfigError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device: got {name!r}, but this PyTorch sees {torch.cuda.device_count()} CUDA devices; "
                          "wants cpu, auto, or one of those")
    return device


def dense(fan_in: int, fan_out: int, generator: torch.Generator | None = None) -> nn.Linear:
    """A linear layer as tf.layers.dense makes it: Xavier-uniform weights, zero bias."""
    layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def get_vars(module: nn.Module, prefix: str = "") -> list[nn.Parameter]:
    """The parameters whose dotted name starts with `prefix`, as TensorFlow's get_vars(scope) listed variables.

    Raises:
        ValueError: no parameter has that prefix.
    """
    found = [parameter for name, parameter in module.named_parameters() if name.startswith(prefix)]
    if not found:
        raise ValueError(f"prefix: got {prefix!r}, wants the beginning of one of "
                         f"{[name for name, _ in module.named_parameters()]}")
    return found


@contextlib.contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """What is computed inside passes gradients through these parameters but not to them."""
    parameters = list(parameters)
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


class RandomNormal:
    """A diagonal Gaussian with the original's floor: std = max(exp(logstd), 1e-2).

    The likelihood keeps the *unfloored* logstd in its -log std term, as the original does.
    """

    def __init__(self, mean: Tensor, logstd: Tensor):
        """mean (..., A); logstd (..., A) or anything that broadcasts to it."""
        self.mean = mean
        self.logstd = logstd.expand_as(mean)
        self.std = self.logstd.exp().clamp_min(1e-2)

    def sample(self, noise: Tensor) -> Tensor:
        """mean + std * noise, for standard normal noise (..., A)."""
        return self.mean + self.std * noise

    def log_p(self, x: Tensor) -> Tensor:
        """sum_A(-0.5 log 2pi - log std - 0.5 ((x - mean) / std)^2): (..., A) -> (..., 1)."""
        z = (x - self.mean) / self.std
        return (-0.5 * math.log(2 * math.pi) - self.logstd - 0.5 * z.square()).sum(-1, keepdim=True)

    def entropy(self) -> Tensor:
        """sum_A(log std + 0.5 log 2 pi e): (..., 1)."""
        return (self.logstd + 0.5 * math.log(2 * math.pi * math.e)).sum(-1, keepdim=True)

    def kl(self, other: RandomNormal) -> Tensor:
        """KL(self || other): (..., 1)."""
        ratio = (self.std / other.std).square()
        shift = ((self.mean - other.mean) / other.std).square()
        return (other.logstd - self.logstd + 0.5 * (ratio + shift - 1)).sum(-1, keepdim=True)


class Normalizer(nn.Module):
    """Scale vectors by their running mean and std: clip((x - mean) / std, -5, 5), std = max(1e-2, .).

    Two things differ from the original, which divides by a std of 0 before its first update and takes the root
    of a variance that rounding can make negative: here it is the identity until the first update, and the
    variance is clamped at 0.
    """

    def __init__(self, shape: int | tuple[int, ...], eps_std: float = 1e-2, norm_clip: float = 5.0):
        super().__init__()
        self.eps_std, self.norm_clip = eps_std, norm_clip
        for name in ("sum", "sum_sqr", "mean", "std"):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("cnt", torch.zeros(1))

    def normalize(self, x: Tensor) -> Tensor:
        """(..., O) -> (..., O)."""
        return self._scale(x, self.mean, self.std)

    def normalize_prefix(self, x: Tensor) -> Tensor:
        """The same for vectors that are the first part of what was counted: (..., D <= O) -> (..., D)."""
        return self._scale(x, self.mean[:x.shape[-1]], self.std[:x.shape[-1]])

    def normalize_suffix(self, x: Tensor) -> Tensor:
        """The same for vectors that are the last part of what was counted: (..., D <= O) -> (..., D)."""
        return self._scale(x, self.mean[-x.shape[-1]:], self.std[-x.shape[-1]:])

    def _scale(self, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        scaled = ((x - mean) / std).clamp(-self.norm_clip, self.norm_clip)
        return torch.where(std > 0, scaled, x)              # std is 0 as long as nothing was counted

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Count a batch of vectors, (B, O)."""
        x = torch.as_tensor(x, dtype=self.sum.dtype, device=self.sum.device)
        self.sum += x.sum(0)
        self.sum_sqr += x.square().sum(0)
        self.cnt += x.shape[0]
        self.mean.copy_(self.sum / self.cnt)
        variance = self.sum_sqr / self.cnt - self.mean.square()
        self.std.copy_(variance.clamp_min(0).sqrt().clamp_min(self.eps_std))


class TFAdam(torch.optim.Adam):
    """Adam as TensorFlow 1 computes it: step = lr sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps).

    TensorFlow adds eps to sqrt(v) *before* the bias correction, PyTorch after it. They agree when PyTorch's
    eps is eps / sqrt(1 - b2^t), which is set anew for each step. A group without gradients is left alone, and
    its t stands still.
    """

    def __init__(self, groups: list[dict]):
        """groups: dicts with `params`, `lr` and a `name`."""
        super().__init__(groups, eps=1e-8, fused=True)

    def add_param_group(self, group: dict) -> None:
        super().add_param_group(group)
        group = self.param_groups[-1]
        group["tf_eps"], group["t"] = group["eps"], 0
        for parameter in group["params"]:               # now rather than at the first step: a stable set of names
            self.state[parameter] = dict(step=torch.zeros((), device=parameter.device),
                                         exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))

    def step(self) -> None:
        for group in self.param_groups:
            if any(parameter.grad is not None for parameter in group["params"]):
                group["t"] += 1
                group["eps"] = group["tf_eps"] / math.sqrt(1 - group["betas"][1] ** group["t"])
        super().step()
