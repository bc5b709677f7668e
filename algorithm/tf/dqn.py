"""The TensorFlow reference of DQN (Mnih et al., 2015), with double (1509.06461) and dueling (1511.06581)."""

from __future__ import annotations

import math

import numpy as np

from algorithm.batch import Indices, check_observations
from algorithm.tf.base import CPU, Base, Fields, Info, Losses
from algorithm.tf.importing import import_tensorflow
from algorithm.tf.layers import Network, Random, conv_kernels
from algorithm.tf.optimizers import Adam, RMSProp
from utils.settings.fields import Config

tf = import_tensorflow()


class MLPQNetwork(Network):
    """O-256-256-A, ReLU."""

    def __init__(self, scope: str, obs_dim: int, acts: int, random: Random):
        super().__init__(scope, {"q_dense1": (obs_dim, 256), "q_dense2": (256, 256), "q": (256, acts)}, random)

    def __call__(self, obs: tf.Tensor) -> tf.Tensor:
        """(B, O) -> the value of each action, (B, A)."""
        h = tf.nn.relu(self.dense("q_dense1", obs))
        return self.dense("q", tf.nn.relu(self.dense("q_dense2", h)))


class ConvQNetwork(Network):
    """Three convolutions, 512, A; dueling adds 512-1 and subtracts the mean advantage."""

    def __init__(self, scope: str, obs_dims: tuple[int, int, int], acts: int, dueling: bool, random: Random):
        self.dueling = dueling
        super().__init__(scope, conv_kernels("q", obs_dims, {"act": acts} | ({"base": 1} if dueling else {})), random)

    def __call__(self, obs: tf.Tensor) -> tf.Tensor:
        """(B, H, W, C) -> the value of each action, (B, A)."""
        features = self.conv_features("q", obs)
        q = self.head("act", features)
        if self.dueling:
            q = self.head("base", features) + q - tf.reduce_mean(q, axis=1, keepdims=True)
        return q

    def head(self, name: str, features: tf.Tensor) -> tf.Tensor:
        return self.dense(f"q_{name}", tf.nn.relu(self.dense(f"q_dense_{name}", features)))


class DQN(Base):
    train_info = ("Q_loss",)
    step_info = ("Q_average",)
    explore_info = ("Epsilon",)
    pi_delay_freq = math.inf                    # there is no policy to update

    def __init__(self, config: Config):
        super().__init__(config)
        self.acts_shape = Indices(("B",), self.act_dim)
        if len(self.obs_dims) == 1:
            self.value = MLPQNetwork("main/value", self.obs_dims[0], self.act_dim, self.random)
        else:
            self.value = ConvQNetwork("main/value", self.obs_dims, self.act_dim, config.dueling, self.random)
        self.value_target = self.value.target()
        self.networks = [self.value, self.value_target]
        self.optimizers = {"critic": self._optimizer()}
        self.steps = 0                          # exploring steps so far; epsilon falls with them

    def _optimizer(self) -> Adam | RMSProp:
        config = self.config
        if config.optimizer == "adam":
            return Adam(self.value.variables, config.q_lr, config.Adam_eps)
        return RMSProp(self.value.variables, config.q_lr, config.RMSProp_decay, config.RMSProp_eps)

    def pi_spec(self) -> dict:
        return {}

    def encode_acts(self, acts: tf.Tensor) -> tf.Tensor:
        """(...) -> one-hot (..., A)."""
        return tf.one_hot(acts, self.act_dim)

    def critic_losses(self, batch: Fields) -> tuple[Losses, Info]:
        """y = r + gamma (1 - done) max_a Q'(s', a), or Q'(s', argmax_a Q(s', a)); mean Huber(Q(s, a) - y), delta 1."""
        q_next = self.value_target(batch["obs_next"])
        choice = self.value(batch["obs_next"]) if self.config.double else q_next
        best = tf.one_hot(tf.argmax(choice, axis=1), self.act_dim)
        q_next = tf.reduce_sum(q_next * best, axis=1, keepdims=True)
        y = tf.stop_gradient(batch["rews"] + self.config.gamma * (1 - batch["done"]) * q_next)
        error = tf.abs(tf.reduce_sum(self.value(batch["obs"]) * batch["acts"], axis=1, keepdims=True) - y)
        loss = tf.reduce_mean(tf.where(error <= 1, 0.5 * tf.square(error), error - 0.5))
        return {"critic": loss}, {"Q_loss": loss}

    @tf.function
    def target_update(self) -> None:
        """target <- main."""
        for name, variable in self.value_target.variables.items():
            variable.assign(self.value.variables[name.replace("target/", "main/", 1)])

    @property
    def epsilon(self) -> float:
        """The share of random actions: from eps_l to eps_r over eps_decay exploring steps."""
        config = self.config
        return config.eps_l + (config.eps_r - config.eps_l) * min(self.steps / config.eps_decay, 1)

    def explore_metrics(self) -> dict[str, float]:
        return {"Epsilon": self.epsilon}

    def step(self, obs: np.ndarray, explore: bool = False, test_info: bool = False):
        """An action's index; raw observations are divided by `obs_scale`, if unset 255 for images and 1 for vectors."""
        rows, single = check_observations(obs, self.obs_dims, CPU)
        acts, info = self._act(tf.constant((rows / self.config.obs_scale).numpy()), tf.zeros(0))
        acts = self.explore(acts.numpy()) if explore else acts.numpy()
        action = int(acts[0]) if single else acts
        return (action, self.unbatched(info, single)) if test_info else action

    def explore(self, acts: np.ndarray) -> np.ndarray:
        """Random actions for all of the first `warmup` steps, and later for a share epsilon."""
        chances, choices = self.random.uniform(len(acts)), self.random.integers(self.act_dim, len(acts))
        random = (chances <= self.epsilon) | (self.steps < self.config.warmup)
        self.steps += len(acts)
        return np.where(random, choices, acts)

    def act(self, obs: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, Info]:
        """The best action; Q_average is its value."""
        q = self.value(obs)
        return tf.argmax(q, axis=1), {"Q_average": tf.reduce_max(q, axis=1)}
