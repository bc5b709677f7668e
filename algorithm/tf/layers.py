"""Layers of the TensorFlow reference: networks, the normaliser, the Gaussian.

All state is plain variables under the original's names, so a checkpoint of the original loads as it is.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch

from algorithm.tf.importing import import_tensorflow
from utils.seeding import stream_seed

tf = import_tensorflow()

Variables = dict[str, tf.Variable]


class Random:
    """The PyTorch backend's streams on a CPU: from one seed, both backends draw the same weights and noise."""

    def __init__(self, seed: int):
        self.weights = torch.Generator().manual_seed(stream_seed(seed, "weights"))
        self.noise = torch.Generator().manual_seed(stream_seed(seed, "agent"))

    def kernel(self, shape: tuple[int, ...]) -> np.ndarray:
        """Xavier-uniform: [in, out] of a dense layer, [height, width, in, out] of a convolution."""
        *window, fan_in, fan_out = shape
        weight = torch.nn.init.xavier_uniform_(torch.empty(fan_out, fan_in, *window), generator=self.weights)
        return weight.numpy().transpose(*range(2, len(shape)), 1, 0)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return torch.randn(shape, generator=self.noise).numpy()

    def uniform(self, size: int) -> np.ndarray:
        return torch.rand(size, generator=self.noise).numpy()

    def integers(self, count: int, size: int) -> np.ndarray:
        return torch.randint(count, (size,), generator=self.noise).numpy()


class Network:
    """Layers by name: variables `<scope>/net/<layer>/kernel` (Xavier-uniform) and `/bias` (zero)."""

    def __init__(self, scope: str, kernels: dict[str, tuple[int, ...]], random: Random):
        """kernels: layers and the shapes of their kernels."""
        self.scope = scope
        self.variables: Variables = {}
        for layer, shape in kernels.items():
            self.variables[self.name(layer, "kernel")] = tf.Variable(random.kernel(shape), name="kernel")
            self.variables[self.name(layer, "bias")] = tf.Variable(tf.zeros(shape[-1:]), name="bias")

    def name(self, layer: str, part: str) -> str:
        return f"{self.scope}/net/{layer}/{part}"

    def target(self) -> Network:
        """A copy of the network under `target/` instead of `main/`."""
        twin = copy.copy(self)
        twin.scope = self.scope.replace("main/", "target/", 1)
        twin.variables = {name.replace("main/", "target/", 1): tf.Variable(variable, trainable=False)
                          for name, variable in self.variables.items()}
        return twin

    def dense(self, layer: str, x: tf.Tensor) -> tf.Tensor:
        """(..., in) -> (..., out)."""
        return tf.tensordot(x, self.variables[self.name(layer, "kernel")], 1) + self.variables[self.name(layer, "bias")]

    def conv(self, layer: str, x: tf.Tensor, stride: int) -> tf.Tensor:
        """(B, H, W, in) -> (B, ceil(H / stride), ceil(W / stride), out)."""
        kernel, bias = (self.variables[self.name(layer, part)] for part in ("kernel", "bias"))
        return tf.nn.conv2d(x, kernel, stride, "SAME") + bias

    def conv_features(self, prefix: str, x: tf.Tensor) -> tf.Tensor:
        """The three convolutions of `conv_kernels`, flattened: (B, H, W, C) -> (B, F)."""
        x = tf.nn.relu(self.conv(f"{prefix}_conv1", x, 4))
        x = tf.nn.relu(self.conv(f"{prefix}_conv2", x, 2))
        x = tf.nn.relu(self.conv(f"{prefix}_conv3", x, 1))
        return tf.reshape(x, [-1, math.prod(x.shape[1:])])


def conv_kernels(prefix: str, obs_dims: tuple[int, int, int], heads: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Three convolutions on (H, W, C), and on them for each head `<prefix>_dense_<head>` of 512 and `<prefix>_<head>`.

    heads: the number of outputs of each head.
    """
    height, width, channels = obs_dims
    features = 64 * -(-height // 8) * -(-width // 8)
    kernels = {f"{prefix}_conv1": (8, 8, channels, 32), f"{prefix}_conv2": (4, 4, 32, 64),
               f"{prefix}_conv3": (3, 3, 64, 64)}
    for head, size in heads.items():
        kernels |= {f"{prefix}_dense_{head}": (features, 512), f"{prefix}_{head}": (512, size)}
    return kernels


def get_vars(variables: Variables, scope: str) -> list[tf.Variable]:
    """The variables whose name starts with `scope`.

    Raises:
        ValueError: there are none.
    """
    found = [variable for name, variable in variables.items() if name.startswith(scope)]
    if not found:
        raise ValueError(f"scope: got {scope!r}, expected the beginning of one of {list(variables)}")
    return found


class RandomNormal:
    """A diagonal Gaussian, (..., A); its std is floored at 1e-2, while log_p uses the unfloored log std."""

    def __init__(self, mean: tf.Tensor, logstd: tf.Tensor):
        self.mean, self.logstd = mean, logstd
        self.std = tf.maximum(tf.exp(logstd), 1e-2)

    def log_p(self, x: tf.Tensor) -> tf.Tensor:
        """sum_A(-0.5 log 2 pi - log std - 0.5 ((x - mean) / std)^2): (..., A) -> (..., 1)."""
        log_p = -0.5 * np.log(2 * np.pi) - self.logstd - 0.5 * tf.square((x - self.mean) / self.std)
        return tf.reduce_sum(log_p, axis=-1, keepdims=True)


class Normalizer:
    """clip((x - mean) / std, -5, 5), std = max(1e-2, .); as in PyTorch the identity until its first update."""

    def __init__(self, shape: tuple[int, ...], eps_std: float = 1e-2, norm_clip: float = 5.0):
        self.eps_std, self.norm_clip = eps_std, norm_clip
        self.sum, self.sum_sqr, self.cnt, self.mean, self.std = (
            tf.Variable(tf.zeros(size), trainable=False) for size in (shape, shape, (1,), shape, shape))
        self.variables: Variables = {f"normalizer/normalizer_variables/{name}": getattr(self, name)
                                     for name in ("sum", "sum_sqr", "cnt", "mean", "std")}

    def normalize(self, x: tf.Tensor) -> tf.Tensor:
        """(..., O) -> (..., O)."""
        scaled = tf.clip_by_value((x - self.mean) / self.std, -self.norm_clip, self.norm_clip)
        return tf.where(self.std > 0, scaled, x)        # std is 0 as long as nothing was counted

    @tf.function
    def update(self, x: tf.Tensor) -> None:
        """Count a batch of vectors, (B, O)."""
        self.sum.assign_add(tf.reduce_sum(x, axis=0))
        self.sum_sqr.assign_add(tf.reduce_sum(tf.square(x), axis=0))
        self.cnt.assign_add([tf.cast(tf.shape(x)[0], tf.float32)])
        self.mean.assign(self.sum / self.cnt)
        variance = self.sum_sqr / self.cnt - tf.square(self.mean)
        self.std.assign(tf.maximum(self.eps_std, tf.sqrt(tf.maximum(variance, 0.0))))
