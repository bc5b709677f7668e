"""The TensorFlow reference of TD3 (Fujimoto et al., 2018, arXiv 1802.09477)."""

from __future__ import annotations

import numpy as np

from algorithm.tf.base import Base, Fields, Info, Losses
from algorithm.tf.ddpg import MLPPolicy
from algorithm.tf.importing import import_tensorflow
from algorithm.tf.layers import Network
from algorithm.tf.optimizers import Adam
from algorithm.tf.sac import MLPQValueSAC
from utils.settings.fields import Config

tf = import_tensorflow()


class TD3(Base):
    train_info = ("Pi_loss", "Q_loss")
    step_info = ("Q_average",)
    policy_batch = True
    q_noise = ("target_noise",)

    def __init__(self, config: Config):
        super().__init__(config)
        self.pi_delay_freq = config.pi_delay_freq
        (obs_dim,) = self.obs_dims
        self.policy = MLPPolicy("main/policy", obs_dim, self.act_dim, self.random, (256, 256))
        self.critics = [MLPQValueSAC(f"main/value_{i}", obs_dim, self.act_dim, self.random) for i in (1, 2)]
        self.policy_target, self.critics_target = self.policy.target(), [critic.target() for critic in self.critics]
        self.networks = [self.policy, *self.critics, self.policy_target, *self.critics_target]
        self.optimizers = {"policy": Adam(self.policy.variables, config.pi_lr),
                           "critic": Adam(self.critics[0].variables | self.critics[1].variables, config.q_lr)}

    def target_pairs(self) -> list[tuple[Network, Network]]:
        return [(self.policy, self.policy_target), *zip(self.critics, self.critics_target, strict=True)]

    def draw_noise(self, name: str, rows: int) -> np.ndarray:
        """clip(pi_t_std * normal, +-pi_t_clip)."""
        noise = np.float32(self.config.pi_t_std) * super().draw_noise(name, rows)
        return np.clip(noise, -self.config.pi_t_clip, self.config.pi_t_clip)

    def critic_losses(self, batch: Fields) -> tuple[Losses, Info]:
        """y = r + gamma (1 - done) min_i Q'_i(s', clip(pi'(s') + noise, -1, 1)); sum_i mean (Q_i - y)^2."""
        acts = tf.clip_by_value(self.policy_target(batch["obs_next"]) + batch["target_noise"], -1, 1)
        q_next = tf.minimum(*(critic(batch["obs_next"], acts) for critic in self.critics_target))
        y = tf.stop_gradient(batch["rews"] + self.config.gamma * (1 - batch["done"]) * q_next)
        loss = tf.add_n([tf.reduce_mean(tf.square(critic(batch["obs"], batch["acts"]) - y)) for critic in self.critics])
        return {"critic": loss}, {"Q_loss": loss}

    def policy_losses(self, batch: Fields) -> tuple[Losses, Info]:
        """-mean Q_1(s, pi(s))."""
        loss = -tf.reduce_mean(self.critics[0](batch["obs"], self.policy(batch["obs"])))
        return {"policy": loss}, {"Pi_loss": loss}

    def act(self, obs: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, Info]:
        """clip(pi(s) + std_act * noise, -1, 1)."""
        acts = self.policy(obs)
        return (tf.clip_by_value(acts + self.config.std_act * noise, -1, 1),
                {"Q_average": self.critics[0](obs, acts)[:, 0]})
