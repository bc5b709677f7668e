"""Optimisers as TensorFlow 1 computes them, over plain variables."""

from __future__ import annotations

from collections.abc import Iterable

from algorithm.tf.importing import import_tensorflow
from algorithm.tf.layers import Variables

tf = import_tensorflow()


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
