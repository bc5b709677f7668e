"""The TensorFlow reference of Randomized Return Decomposition (Ren et al., 2022, arXiv 2111.13485), and of IRCR."""

from __future__ import annotations

import numpy as np

from algorithm.batch import Batch, Spec, check_sequences, check_steps, sequence_spec
from algorithm.tf.base import CPU, Base, Fields, Info, Losses
from algorithm.tf.importing import import_tensorflow
from algorithm.tf.layers import Network, Random, conv_kernels
from algorithm.tf.optimizers import Adam
from utils.settings.fields import Config

tf = import_tensorflow()


class MLPRewardNet(Network):
    """[s, a, s - s']-256-256-1, ReLU."""

    def __init__(self, obs_dim: int, act_dim: int, random: Random):
        kernels = {"r_dense1": (2 * obs_dim + act_dim, 256), "r_dense2": (256, 256), "r": (256, 1)}
        super().__init__("rrd", kernels, random)

    def __call__(self, obs: tf.Tensor, acts: tf.Tensor, obs_next: tf.Tensor) -> tf.Tensor:
        """(..., O), (..., A), (..., O) -> (..., 1)."""
        h = tf.nn.relu(self.dense("r_dense1", tf.concat([obs, acts, obs - obs_next], axis=-1)))
        return self.dense("r", tf.nn.relu(self.dense("r_dense2", h)))


class ConvRewardNet(Network):
    """DQN's convolutions on [s, s - s'], 512, A, dotted with the one-hot action."""

    def __init__(self, obs_dims: tuple[int, int, int], acts: int, random: Random):
        self.pair_dims = (*obs_dims[:2], 2 * obs_dims[2])
        super().__init__("rrd", conv_kernels("r", self.pair_dims, {"act": acts}), random)

    def __call__(self, obs: tf.Tensor, acts: tf.Tensor, obs_next: tf.Tensor) -> tf.Tensor:
        """(..., H, W, C), (..., A), (..., H, W, C) -> (..., 1)."""
        pairs = tf.reshape(tf.concat([obs, obs - obs_next], axis=-1), [-1, *self.pair_dims])
        features = tf.nn.relu(self.dense("r_dense_act", self.conv_features("r", pairs)))
        rewards = tf.reshape(self.dense("r_act", features), tf.shape(acts))
        return tf.reduce_sum(rewards * acts, axis=-1, keepdims=True)


class RRD(Base):
    """A basis agent whose batches carry the learned reward, and the reward network's own loss."""

    def __init__(self, config: Config, basis: Base):
        self.basis, self.config, self.random, self.normalizer = basis, config, basis.random, basis.normalizer
        self.obs_dims, self.act_dim, self.acts_shape = basis.obs_dims, basis.act_dim, basis.acts_shape
        self.pi_delay_freq, self.policy_batch = basis.pi_delay_freq, basis.policy_batch
        self.step_info, self.explore_info = basis.step_info, basis.explore_info
        self.q_noise, self.pi_noise, self.updates = basis.q_noise, basis.pi_noise, 0
        self.train_info = (*basis.train_info, "R_loss", *(["R_var"] if config.rrd_bias_correction else []))
        if len(self.obs_dims) == 1:
            self.reward = MLPRewardNet(self.obs_dims[0], self.act_dim, self.random)
        else:
            self.reward = ConvRewardNet(self.obs_dims, self.act_dim, self.random)
        self.networks = [*basis.networks, self.reward]
        self.optimizers = basis.optimizers | {"reward": Adam(self.reward.variables, config.r_lr)}

    def step(self, obs: np.ndarray, explore: bool = False, test_info: bool = False):
        return self.basis.step(obs, explore, test_info)

    def target_update(self) -> None:
        self.basis.target_update()

    def explore_metrics(self) -> dict[str, float]:
        return self.basis.explore_metrics()

    def draw_noise(self, name: str, rows: int) -> np.ndarray:
        return self.basis.draw_noise(name, rows)

    def encode_acts(self, acts: tf.Tensor) -> tf.Tensor:
        return self.basis.encode_acts(acts)

    def pi_spec(self) -> Spec:
        return self.basis.pi_spec()

    def policy_losses(self, batch: Fields) -> tuple[Losses, Info]:
        return self.basis.policy_losses(batch)

    def q_spec(self) -> Spec:
        basis = {name: shape for name, shape in self.basis.q_spec().items() if name != "rews"}
        return basis | sequence_spec(self.obs_dims, self.acts_shape, self.config.rrd_bias_correction)

    def feed(self, batch: Batch, critic: bool, policy: bool) -> Fields:
        fields = super().feed(batch, critic, policy)
        if self.config.rrd_bias_correction:
            check_sequences(fields)
        return fields

    def critic_losses(self, batch: Fields) -> tuple[Losses, Info]:
        """The basis' loss with r^ for its rewards; R_loss = mean_N (mean_K r^ - R/T)^2, in RRD-L(RD) less R_var."""
        rews = tf.stop_gradient(self.reward(batch["obs"], batch["acts"], batch["obs_next"]))
        losses, info = self.basis.critic_losses(batch | {"rews": rews})
        pred = self.reward(batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"])              # (N, K, 1)
        r_loss = tf.reduce_mean(tf.square(tf.reduce_mean(pred, axis=1) - batch["rrd_rews"]))
        if not self.config.rrd_bias_correction:
            return losses | {"reward": r_loss}, info | {"R_loss": r_loss}
        r_var = self.variance_term(pred, batch["rrd_var_coef"])
        return losses | {"reward": r_loss - r_var}, info | {"R_loss": r_loss, "R_var": r_var}

    def variance_term(self, pred: tf.Tensor, coefficient: tf.Tensor) -> tf.Tensor:
        """mean_N(c s^2 / K), s^2 the (K - 1)-normalised variance: (N, K, 1), (N, 1) -> ()."""
        k = pred.shape[1]
        deviation = pred - tf.reduce_mean(pred, axis=1, keepdims=True)
        variance = tf.reduce_sum(tf.square(deviation), axis=1) / (k - 1)
        return tf.reduce_mean(coefficient * variance / k)

    def rewards(self, obs: np.ndarray, acts: np.ndarray, obs_next: np.ndarray) -> np.ndarray:
        """Return the learned reward of raw steps, (..., 1)."""
        steps = check_steps({"obs": obs, "acts": acts, "obs_next": obs_next}, self.obs_dims, self.acts_shape, CPU)
        steps = {name: tf.constant(value.numpy()) for name, value in steps.items()}
        acts = self.encode_acts(steps["acts"])
        return self.reward(self.normalize(steps["obs"]), acts, self.normalize(steps["obs_next"])).numpy()
