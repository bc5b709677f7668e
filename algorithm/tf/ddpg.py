"""The TensorFlow reference of DDPG (Lillicrap et al., 2016, arXiv 1509.02971), with an L2 term on the critic."""

from __future__ import annotations

from algorithm.tf.base import Base, Fields, Info, Losses
from algorithm.tf.importing import import_tensorflow
from algorithm.tf.layers import Network, Random
from algorithm.tf.optimizers import Adam
from utils.settings.fields import Config

tf = import_tensorflow()


class MLPPolicy(Network):
    """O-h1-h2-A, ReLU, tanh at the end."""

    def __init__(self, scope: str, obs_dim: int, act_dim: int, random: Random, hidden: tuple[int, int] = (400, 300)):
        super().__init__(scope, {"pi_dense1": (obs_dim, hidden[0]), "pi_dense2": hidden, "pi": (hidden[1], act_dim)},
                         random)

    def __call__(self, obs: tf.Tensor) -> tf.Tensor:
        h = tf.nn.relu(self.dense("pi_dense1", obs))
        return tf.tanh(self.dense("pi", tf.nn.relu(self.dense("pi_dense2", h))))


class MLPQValue(Network):
    """O-400, [h, a]-300-1, ReLU."""

    def __init__(self, scope: str, obs_dim: int, act_dim: int, random: Random):
        super().__init__(scope, {"q_dense1": (obs_dim, 400), "q_dense2": (400 + act_dim, 300), "q": (300, 1)}, random)

    def __call__(self, obs: tf.Tensor, acts: tf.Tensor) -> tf.Tensor:
        h = tf.nn.relu(self.dense("q_dense1", obs))
        return self.dense("q", tf.nn.relu(self.dense("q_dense2", tf.concat([h, acts], axis=-1))))


class DDPG(Base):
    train_info = ("Pi_loss", "Q_loss", "Q_reg_loss")
    step_info = ("Q_average",)

    def __init__(self, config: Config):
        super().__init__(config)
        (obs_dim,) = self.obs_dims
        self.policy = MLPPolicy("main/policy", obs_dim, self.act_dim, self.random)
        self.critic = MLPQValue("main/value", obs_dim, self.act_dim, self.random)
        self.policy_target, self.critic_target = self.policy.target(), self.critic.target()
        self.networks = [self.policy, self.critic, self.policy_target, self.critic_target]
        self.optimizers = {"policy": Adam(self.policy.variables, config.pi_lr),
                           "critic": Adam(self.critic.variables, config.q_lr)}

    def target_pairs(self) -> list[tuple[Network, Network]]:
        return [(self.policy, self.policy_target), (self.critic, self.critic_target)]

    def critic_losses(self, batch: Fields) -> tuple[Losses, Info]:
        """y = r + gamma (1 - done) Q'(s', pi'(s')); mean (Q - y)^2 + the mean over tensors of q_reg |w|^2 / 2."""
        q_next = self.critic_target(batch["obs_next"], self.policy_target(batch["obs_next"]))
        y = tf.stop_gradient(batch["rews"] + self.config.gamma * (1 - batch["done"]) * q_next)
        loss = tf.reduce_mean(tf.square(self.critic(batch["obs"], batch["acts"]) - y))
        squares = [self.config.q_reg * tf.nn.l2_loss(w) for w in self.critic.variables.values()]
        reg = tf.reduce_mean(squares)
        return {"critic": loss + reg}, {"Q_loss": loss, "Q_reg_loss": reg}

    def policy_losses(self, batch: Fields) -> tuple[Losses, Info]:
        """-mean Q(s, pi(s))."""
        loss = -tf.reduce_mean(self.critic(batch["obs"], self.policy(batch["obs"])))
        return {"policy": loss}, {"Pi_loss": loss}

    def act(self, obs: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, Info]:
        """clip(pi(s) + std_act * noise, -1, 1)."""
        acts = self.policy(obs)
        return (tf.clip_by_value(acts + self.config.std_act * noise, -1, 1),
                {"Q_average": self.critic(obs, acts)[:, 0]})
