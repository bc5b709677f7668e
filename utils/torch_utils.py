"""PyTorch pieces that every agent uses: dense layers, the normaliser, the Gaussian."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.errors import ConfigError
from utils.normalizer import Normalizer  # noqa: F401 (a name that stays)


def resolve_device(name: str, field: str = "device") -> torch.device:
    """`auto` is CUDA where it works; a device that is not there is a ConfigError that names the field."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"{field}: got {name!r}, but this PyTorch sees {torch.cuda.device_count()} CUDA devices; "
                          "expected cpu, auto, or one of those")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"{field}: got 'mps', but this PyTorch finds no GPU of Apple's (MPS) here; expected cpu, "
                          "cuda or auto")
    return device


def joined(obs: Tensor | Mapping[str, Tensor]) -> Tensor:
    """Return observations (N, ...) as they are; of a dict, its parts in alphabetical order, floats (N, O).

    Bytes of pictures in a dict keep their values, 0 to 255, so that they do not depend on the other parts.
    """
    if isinstance(obs, Tensor):
        return obs
    vector = torch.cat([obs[name].flatten(1) for name in sorted(obs)], dim=1)
    return vector if vector.is_floating_point() else vector.float()


def dense(fan_in: int, fan_out: int, generator: torch.Generator | None = None) -> nn.Linear:
    """A linear layer as tf.layers.dense makes it: Xavier-uniform weights, zero bias."""
    layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: n -> ceil(n / stride), the odd pixel of padding after the image.

    PyTorch's own `padding="same"` knows no stride.
    """

    def __init__(self, channels: int, filters: int, kernel: int, stride: int, generator: torch.Generator | None = None):
        super().__init__(channels, filters, kernel, stride)
        nn.init.xavier_uniform_(self.weight, generator=generator)
        nn.init.zeros_(self.bias)

    def reset_parameters(self) -> None:
        """Nothing, for PyTorch's constructor to call: it would draw from the generator of the whole program."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, filters, ceil(H / stride), ceil(W / stride))."""
        (top, bottom), (left, right) = (self._padding(size) for size in x.shape[-2:])
        if (top, left) == (bottom, right):
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left))
        return F.conv2d(F.pad(x, (left, right, top, bottom)), self.weight, self.bias, self.stride)

    def _padding(self, size: int) -> tuple[int, int]:
        stride, kernel = self.stride[0], self.kernel_size[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


class ConvTrunk(nn.Module):
    """DQN's convolutions: 32 8x8/4, 64 4x4/2, 64 3x3/1, ReLU; flattened by row, column, channel, as TensorFlow does."""

    def __init__(self, prefix: str, obs_dims: tuple[int, int, int], generator: torch.Generator | None = None):
        """The layers are called `<prefix>_conv1` and so on."""
        super().__init__()
        height, width, channels = obs_dims
        self.features = 64 * -(-height // 8) * -(-width // 8)
        self.convs = [SameConv2d(channels, 32, 8, 4, generator), SameConv2d(32, 64, 4, 2, generator),
                      SameConv2d(64, 64, 3, 1, generator)]
        for i, conv in enumerate(self.convs, 1):
            self.add_module(f"{prefix}_conv{i}", conv)
        self.to(memory_format=torch.channels_last)      # faster on CPUs, and flattening by channel last is free

    def trunk(self, images: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, features)."""
        x = images.permute(0, 3, 1, 2)
        for conv in self.convs:
            x = F.relu(conv(x))
        return x.permute(0, 2, 3, 1).flatten(1)


def get_vars(module: nn.Module, prefix: str = "") -> list[nn.Parameter]:
    """The parameters whose dotted name starts with `prefix`, as TensorFlow's get_vars(scope) listed variables.

    Raises:
        ValueError: no parameter has that prefix.
    """
    found = [parameter for name, parameter in module.named_parameters() if name.startswith(prefix)]
    if not found:
        raise ValueError(f"prefix: got {prefix!r}, expected the beginning of one of "
                         f"{[name for name, _ in module.named_parameters()]}")
    return found


def clipped(x: Tensor, low: float, high: float) -> Tensor:
    """Return x between two limits. A gradient passes to an x that is a limit, as in TensorFlow.

    That of `clamp` does not any more from PyTorch 2.14 on.
    """
    return torch.where(x < low, low, torch.where(x > high, high, x))


def frozen(module: nn.Module, *inputs: Tensor) -> Tensor:
    """`module(*inputs)`, whose gradients pass through its parameters but not to them."""
    return torch.func.functional_call(module, {name: p.detach() for name, p in module.named_parameters()}, inputs)


LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0       # between which a policy's log std is clipped
STD_FLOOR = 1e-2                            # the least std that a Gaussian policy samples with
LOG_PROB_EPS = 1e-6                         # in log(1 - a^2 + eps), the likelihood of a squashed action


class RandomNormal:
    """A diagonal Gaussian with the original's floor: std = max(exp(logstd), STD_FLOOR).

    The likelihood keeps the *unfloored* logstd in its -log std term, as the original does.
    """

    def __init__(self, mean: Tensor, logstd: Tensor):
        """mean (..., A); logstd (..., A) or anything that broadcasts to it."""
        self.mean = mean
        self.logstd = logstd.expand_as(mean)
        self.std = self.logstd.exp().clamp_min(STD_FLOOR)

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


