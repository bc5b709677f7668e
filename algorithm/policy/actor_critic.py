"""The usual policy: an actor and a critic of dense layers, separate or behind layers that they share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from algorithm.policy.base import Drawn, Policy
from algorithm.policy.distributions import LOG_STD_MAX, LOG_STD_MIN, Categorical, Gaussian
from algorithm.policy.layers import Init, mlp, run
from utils.errors import ConfigError
from utils.settings.fields import Config
from utils.torch_utils import clipped


class ActorCritic(Policy):
    """A Gaussian, or a categorical over discrete actions, and a value, of vectors.

    The Gaussian is not squashed; its log std is one parameter for each action, the same in all states, clamped to
    [-5, 2].
    """

    default_sizes: tuple[int, ...] = (64, 64)
    default_activation = "tanh"

    def __init__(self, config: Config, generator: torch.Generator | None = None):
        """Build it; see `algorithm.policy.create_policy`."""
        super().__init__()
        self.config, self.obs_dims, (self.act_dim,) = config, config.obs_dims, config.acts_dims
        self.activation = config.activation or self.default_activation
        self.critic_activation = config.critic_activation or self.activation
        self.init = Init(config.orthogonal, generator)
        self.add_heads(*self.add_encoders())
        if not config.discrete:
            self.log_std = nn.Parameter(torch.full((self.act_dim,), config.log_std_init, dtype=torch.float32))

    # What a subclass says -------------------------------------------------------------------------------------

    def add_encoders(self) -> tuple[int, int]:
        """Add what comes before the heads; return how many features actor and critic get."""
        self._expect(len(self.obs_dims) == 1, "vectors; for pictures --policy=conv")
        sizes = (self.obs_dims[0], *(self.config.shared_sizes or ()))
        self.shared = mlp(sizes, self.activation, self.init)
        return sizes[-1], sizes[-1]

    def features(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of actor and critic: (..., O) -> (..., F) each."""
        shared = run(self.shared, obs)
        return shared, shared

    # Heads ----------------------------------------------------------------------------------------------------

    def add_heads(self, actor: int, critic: int) -> None:
        """Add the dense layers of actor and critic, over so many features."""
        config = self.config
        hidden = self.default_sizes if config.hidden_sizes is None else config.hidden_sizes
        critic_hidden = hidden if config.critic_hidden_sizes is None else config.critic_hidden_sizes
        self.actor = mlp((actor, *hidden, self.act_dim), self.activation, self.init, config.actor_gain,
                         config.last_activation)
        self.critic = mlp((critic, *critic_hidden, 1), self.critic_activation, self.init, config.critic_gain)

    def distribution(self, features: Tensor) -> Gaussian | Categorical:
        """Return the distribution over actions: (..., F) -> of (..., A)."""
        out = run(self.actor, features)
        if self.config.discrete:
            return Categorical(out)
        return Gaussian(out, clipped(self.log_std, LOG_STD_MIN, LOG_STD_MAX))

    def value(self, features: Tensor) -> Tensor:
        """(..., F) -> (...)."""
        return run(self.critic, features)[..., 0]

    def draw(self, actor: Tensor, critic: Tensor, deterministic: bool) -> Drawn:
        """Return action, log_prob and value of features."""
        chosen = self.distribution(actor)
        acts = chosen.mode() if deterministic else chosen.sample(self.generator)
        return acts, chosen.log_prob(acts), self.value(critic)

    def judge(self, actor: Tensor, critic: Tensor, actions: Tensor) -> Drawn:
        """Return log_prob, entropy and value of features and actions."""
        chosen = self.distribution(actor)
        return chosen.log_prob(actions), chosen.entropy(), self.value(critic)

    # Policy ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def get_action(self, obs: Tensor, deterministic: bool = False) -> Drawn:
        """Draw actions, or choose the mean or the most probable ones; see `Policy.get_action`."""
        return self.draw(*self.features(obs), deterministic)

    @torch.no_grad()
    def get_value(self, obs: Tensor) -> Tensor:
        """Return the value of observations, (N,)."""
        return self.value(self.features(obs)[1])

    def evaluate_actions(self, obs: Tensor, actions: Tensor) -> Drawn:
        """Return log_prob, entropy and value; see `Policy.evaluate_actions`."""
        return self.judge(*self.features(obs), actions)

    def identity(self) -> dict[str, str]:
        """Return the layers' activations, which the shapes do not tell."""
        return {"activation": self.activation, "critic_activation": self.critic_activation,
                "last_activation": self.config.last_activation or "none"}

    def _expect(self, fits: bool, what: str) -> None:
        """Raise a ConfigError if the policy does not take these observations."""
        if not fits:
            raise ConfigError(f"policy: {self.config.policy!r} got observations of shape {self.obs_dims}, expected "
                              f"{what}")


class ActorOnly(ActorCritic):
    """An actor without a critic, for algorithms that learn no value; its value is 0."""

    def add_heads(self, actor: int, critic: int) -> None:
        """Add the dense layers of the actor."""
        super().add_heads(actor, critic)
        del self.critic

    def value(self, features: Tensor) -> Tensor:
        """(..., F) -> zeros (...)."""
        return torch.zeros_like(features[..., 0])
