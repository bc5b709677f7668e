"""The TensorFlow reference of SAC with a learned temperature (Haarnoja et al., 2018, arXiv 1812.05905)."""

from __future__ import annotations

import math

from algorithm.tf.base import Base, Fields, Info, Losses
from algorithm.tf.importing import import_tensorflow
from algorithm.tf.layers import Network, Random, RandomNormal
from algorithm.tf.optimizers import Adam
from utils.settings.fields import Config

tf = import_tensorflow()


class MLPStochasticPolicy(Network):
    """A Gaussian before a tanh: O-256-256-2A, ReLU; mean, and log std clipped to [-20, 2]."""

    def __init__(self, scope: str, obs_dim: int, act_dim: int, random: Random):
        kernels = {"pi_dense1": (obs_dim, 256), "pi_dense2": (256, 256), "pi": (256, 2 * act_dim)}
        super().__init__(scope, kernels, random)

    def __call__(self, obs: tf.Tensor) -> RandomNormal:
        h = tf.nn.relu(self.dense("pi_dense1", obs))
        mean, logstd = tf.split(self.dense("pi", tf.nn.relu(self.dense("pi_dense2", h))), 2, axis=-1)
        return RandomNormal(mean, tf.clip_by_value(logstd, -20.0, 2.0))

    def act(self, obs: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, RandomNormal]:
        """a = tanh(x), x = mean + std noise; log pi(a) = log p(x) - sum log(1 - a^2 + 1e-6)."""
        pi = self(obs)
        x = pi.mean + noise * pi.std
        acts = tf.tanh(x)
        one_minus_square = (1 - acts) * (1 + acts)          # 1 - a^2, with less cancellation near |a| = 1
        log_p = pi.log_p(x) - tf.reduce_sum(tf.math.log(one_minus_square + 1e-6), axis=-1, keepdims=True)
        return acts, log_p, pi


class MLPQValueSAC(Network):
    """SAC's and TD3's critic: [s, a]-256-256-1, ReLU."""

    def __init__(self, scope: str, obs_dim: int, act_dim: int, random: Random):
        super().__init__(scope, {"q_dense1": (obs_dim + act_dim, 256), "q_dense2": (256, 256), "q": (256, 1)}, random)

    def __call__(self, obs: tf.Tensor, acts: tf.Tensor) -> tf.Tensor:
        h = tf.nn.relu(self.dense("q_dense1", tf.concat([obs, acts], axis=-1)))
        return self.dense("q", tf.nn.relu(self.dense("q_dense2", h)))


class Temperature:
    """alpha = exp(log_alpha), the weight of the entropy."""

    def __init__(self, alpha_init: float):
        self.log_alpha = tf.Variable(math.log(alpha_init), dtype=tf.float32)
        self.variables = {"main/alpha/log_alpha": self.log_alpha}

    def __call__(self) -> tf.Tensor:
        return tf.exp(self.log_alpha)


class SAC(Base):
    train_info = ("Pi_loss", "Q_loss")
    step_info = ("Q_average", "Pi_step_std")
    q_noise, pi_noise = ("pi_next_noise",), ("pi_noise",)

    def __init__(self, config: Config):
        super().__init__(config)
        (obs_dim,) = self.obs_dims
        self.alpha = Temperature(config.alpha_init)
        self.policy = MLPStochasticPolicy("main/policy", obs_dim, self.act_dim, self.random)
        self.critics = [MLPQValueSAC(f"main/q_value_{i}", obs_dim, self.act_dim, self.random) for i in (1, 2)]
        self.critics_target = [critic.target() for critic in self.critics]
        self.networks = [self.alpha, self.policy, *self.critics, *self.critics_target]
        self.optimizers = {"policy": Adam(self.policy.variables, config.pi_lr)}
        if config.alpha_lr > 0:
            self.optimizers["alpha"] = Adam(self.alpha.variables, config.alpha_lr)
        self.optimizers["critic"] = Adam(self.critics[0].variables | self.critics[1].variables, config.q_lr)

    def target_pairs(self) -> list[tuple[Network, Network]]:
        return list(zip(self.critics, self.critics_target, strict=True))

    def critic_losses(self, batch: Fields) -> tuple[Losses, Info]:
        """y = r + gamma (1 - done) (min_i Q'_i(s', a') - alpha log pi(a'|s')), a' ~ pi; sum_i mean (Q_i - y)^2."""
        acts, log_p, _ = self.policy.act(batch["obs_next"], batch["pi_next_noise"])
        q_next = tf.minimum(*(critic(batch["obs_next"], acts) for critic in self.critics_target)) - self.alpha() * log_p
        y = tf.stop_gradient(batch["rews"] + self.config.gamma * (1 - batch["done"]) * q_next)
        loss = tf.add_n([tf.reduce_mean(tf.square(critic(batch["obs"], batch["acts"]) - y)) for critic in self.critics])
        return {"critic": loss}, {"Q_loss": loss}

    def policy_losses(self, batch: Fields) -> tuple[Losses, Info]:
        """mean(alpha log pi(a|s) - min_i Q_i(s, a)), a ~ pi; and -log alpha (mean log pi - A)."""
        acts, log_p, _ = self.policy.act(batch["obs"], batch["pi_noise"])
        q = tf.minimum(*(critic(batch["obs"], acts) for critic in self.critics))
        losses = {"policy": tf.reduce_mean(self.alpha() * log_p - q)}
        if "alpha" in self.optimizers:
            losses["alpha"] = -self.alpha.log_alpha * tf.stop_gradient(tf.reduce_mean(log_p) - self.act_dim)
        return losses, {"Pi_loss": losses["policy"]}

    def act(self, obs: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, Info]:
        """Q_average = min_i Q_i(s, a) - alpha log pi(a|s)."""
        acts, log_p, pi = self.policy.act(obs, noise)
        q = tf.minimum(*(critic(obs, acts) for critic in self.critics)) - self.alpha() * log_p
        return acts, {"Q_average": q[:, 0], "Pi_step_std": pi.std}
