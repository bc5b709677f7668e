"""Agents over encoders, as the published MarineNav program has them, with PyTorch's Adam."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.dqn_torch import DQN
from algorithm.basis_alg.epsilon_torch import EpsilonGreedy
from algorithm.encoders import create_encoder
from algorithm.networks import Shape
from algorithm.policy.layers import Init
from utils.settings.fields import Config
from utils.torch_optimizers import Adam


class EncodedDQN(DQN):
    """A Q-network over an encoder."""

    default_sizes = (128, 128)

    def _create_networks(self, config: Config) -> nn.Module:
        init = Init(False, self.weights_generator)
        return self._create_network(create_encoder(config, init), self.shape("policy"), init)

    def _create_network(self, encoder: nn.Module, shape: Shape, init: Init) -> nn.Module:
        """Build the network over an encoder; `shape` is that of its hidden layers."""
        raise NotImplementedError

    def _make_optimizer(self) -> Adam:
        return Adam([dict(name="critic", role="critic", params=self.value.parameters(), lr=self.config.q_lr)])


class EncodedActorCritic(EpsilonGreedy):
    """A policy and critics with an encoder each; random actions explore, uniform in [-1, 1].

    The policy's loss is computed with critics that have stepped on the same batch. Policy and critics have targets.
    """

    default_sizes = (128, 128)
    critic_first = True

    def __init__(self, config: Config):
        super().__init__(config)
        self.init = Init(False, self.weights_generator)
        self.policy = self._create_policy(self.shape("policy"))
        self.critics = nn.ModuleDict(self._create_critics(self.shape("critic")))
        main = nn.ModuleDict({"policy": self.policy, **self.critics})
        self.nets.update({"main": main, "target": copy.deepcopy(main)})
        self.target = self.nets["target"]
        self.nets.to(self.device)
        groups = [dict(name="policy", role="policy", params=self.policy.parameters(), lr=config.pi_lr)]
        groups += [dict(name=name, role="critic", params=critic.parameters(), lr=config.q_lr)
                   for name, critic in self.critics.items()]
        self.opts = [Adam(groups)]

    def _create_policy(self, shape: Shape) -> nn.Module:
        raise NotImplementedError

    def _create_critics(self, shape: Shape) -> dict[str, nn.Module]:
        raise NotImplementedError

    def encoder(self) -> nn.Module:
        """Build one more encoder, as the settings say."""
        return create_encoder(self.config, self.init)

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        acts = self._choose(obs, explore)
        if not explore:
            return acts
        chances, uniform = (torch.rand(shape, device=self.device, generator=self.generator)
                            for shape in ((len(obs),), acts.shape))
        return torch.where(self.random_rows(chances)[:, None], 2 * uniform - 1, acts)

    def _choose(self, obs: Tensor, explore: bool) -> Tensor:
        """Return the policy's actions, (N, A)."""
        return self.policy(obs)

    def evaluate_step(self, obs: Tensor) -> Info:
        """Q_average = the least of the critics' values of the greedy action."""
        return {"Q_average": self.value_of(obs, self._choose(obs, explore=False))}

    def value_of(self, obs: Tensor, acts: Tensor) -> Tensor:
        """Return the least of the critics' values, (N, O), (N, A) -> (N,)."""
        return torch.stack([critic(obs, acts)[:, 0] for critic in self.critics.values()]).amin(0)
