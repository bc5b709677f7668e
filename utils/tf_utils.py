"""TensorFlow 2 pieces of the reference backend: named layers, the normaliser, the Gaussian, TensorFlow 1's optimisers.

Everything is a plain variable under the original's name, so that a checkpoint of the original fits as it is.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
import torch

from utils.seeding import stream_seed
from utils.tf_checkpoint import no_standard_error

Variables = dict[str, tf.Variable]


def start(device: str) -> None:
    """Start TensorFlow quietly: for `cpu` without GPUs, else taking their memory as it is needed."""
    with contextlib.suppress(RuntimeError), no_standard_error():        # RuntimeError: it has started already
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        for gpu in tf.config.get_visible_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.constant(0) + 0


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

    heads: how many numbers each head gives.
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
        raise ValueError(f"scope: got {scope!r}, wants the beginning of one of {list(variables)}")
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


class Adam:
    """tf.train.AdamOptimizer: step = lr sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps)."""

    def __init__(self, variables: Variables, lr: float, epsilon: float = 1e-8):
        self.trained, self.lr, self.epsilon = variables, lr, epsilon
        self.slots: Variables = {name + slot: tf.Variable(tf.zeros_like(variable), trainable=False)
                                 for name, variable in variables.items() for slot in ("/Adam", "/Adam_1")}
        self.powers: Variables = {"beta1_power": tf.Variable(0.9, trainable=False),     # b^(t + 1) after t steps
                                  "beta2_power": tf.Variable(0.999, trainable=False)}

    def apply(self, gradients: Iterable[tf.Tensor]) -> None:
        """One step by the gradients of `trained`, in its order."""
        beta1_power, beta2_power = self.powers.values()
        for (name, variable), gradient in zip(self.trained.items(), gradients, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=self.slots[name + "/Adam"].handle, v=self.slots[name + "/Adam_1"].handle,
                beta1_power=beta1_power, beta2_power=beta2_power, lr=self.lr, beta1=0.9, beta2=0.999,
                epsilon=self.epsilon, grad=gradient)
        beta1_power.assign(beta1_power * 0.9)
        beta2_power.assign(beta2_power * 0.999)


class RMSProp:
    """tf.train.RMSPropOptimizer: ms = decay ms + (1 - decay) g^2 from 1, step = lr g / sqrt(ms + eps)."""

    def __init__(self, variables: Variables, lr: float, decay: float, epsilon: float):
        self.trained, self.lr, self.decay, self.epsilon = variables, lr, decay, epsilon
        self.slots: Variables = {}
        for name, variable in variables.items():
            self.slots[name + "/RMSProp"] = tf.Variable(tf.ones_like(variable), trainable=False)
            self.slots[name + "/RMSProp_1"] = tf.Variable(tf.zeros_like(variable), trainable=False)     # momentum
        self.powers: Variables = {}

    def apply(self, gradients: Iterable[tf.Tensor]) -> None:
        """One step by the gradients of `trained`, in its order."""
        for (name, variable), gradient in zip(self.trained.items(), gradients, strict=True):
            tf.raw_ops.ResourceApplyRMSProp(
                var=variable.handle, ms=self.slots[name + "/RMSProp"].handle,
                mom=self.slots[name + "/RMSProp_1"].handle, lr=self.lr, rho=self.decay, momentum=0.0,
                epsilon=self.epsilon, grad=gradient)
