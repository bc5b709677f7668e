"""DQN (Mnih et al., 2015), with double (van Hasselt et al., 2016, arXiv 1509.06461) and dueling (1511.06581)."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.epsilon_torch import EpsilonGreedy
from algorithm.batch import Indices, Spec, check_observations, rewards
from algorithm.networks import MLP, add_head, default_hidden, run_head
from utils.optimizers import TFAdam, TFRMSProp
from utils.settings.fields import Config
from utils.torch_utils import ConvTrunk


class MLPQNetwork(MLP):
    """The value of each action: O-hidden-A."""

    def __init__(self, obs_dim: int, acts: int, generator: torch.Generator | None = None,
                 hidden: Sequence[int] = (256, 256), activation: str = "relu"):
        super().__init__("q", (obs_dim, *hidden, acts), activation, generator=generator)

    def forward(self, obs: Tensor) -> Tensor:
        """(B, O) -> (B, A)."""
        return super().forward(obs)


class ConvQNetwork(ConvTrunk):
    """The value of each action: three convolutions, hidden, A; dueling adds hidden-1 less the mean advantage."""

    def __init__(self, obs_dims: tuple[int, int, int], acts: int, dueling: bool = False,
                 generator: torch.Generator | None = None, hidden: Sequence[int] = (512,), activation: str = "relu"):
        super().__init__("q", obs_dims, generator)
        self.activation = activation
        self.act_head = add_head(self, "q", "act", (self.features, *hidden, acts), generator)
        self.base_head = add_head(self, "q", "base", (self.features, *hidden, 1), generator) if dueling else []

    def forward(self, obs: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, A)."""
        features = self.trunk(obs)
        q = run_head(self, self.act_head, self.activation, features)
        if self.base_head:
            q = run_head(self, self.base_head, self.activation, features) + q - q.mean(1, keepdim=True)
        return q


class DQN(EpsilonGreedy):
    """Q-learning over discrete actions; a share epsilon of the exploring steps is random."""

    train_info = ("Q_loss",)
    step_info = ("Q_average",)
    pi_delay_freq = math.inf                # there is no policy to update
    values_draw = False                     # whether the values of an exploring step take draws, of any row or none

    def __init__(self, config: Config):
        super().__init__(config)
        self.acts_shape = Indices(("B",), self.act_dim)
        self.value = self._create_networks(config)
        self.value_target = copy.deepcopy(self.value)
        self.nets.update({"main": nn.ModuleDict({"value": self.value}),
                          "target": nn.ModuleDict({"value": self.value_target})})
        self.nets.to(self.device)
        self.opts = [self._make_optimizer()]

    def _create_networks(self, config: Config) -> nn.Module:
        self.default_sizes = default_hidden(self.obs_dims)
        init, shape = self.weights_generator, self.shape("policy")
        if len(self.obs_dims) == 1:
            return MLPQNetwork(self.obs_dims[0], self.act_dim, init, *shape)
        return ConvQNetwork(self.obs_dims, self.act_dim, config.dueling, init, *shape)

    def _make_optimizer(self) -> TFAdam | TFRMSProp:
        config = self.config
        group = dict(name="critic", role="critic", params=self.value.parameters(), lr=config.q_lr)
        if config.optimizer == "adam":
            return TFAdam([group | dict(eps=config.Adam_eps)])
        return TFRMSProp([group], config.RMSProp_decay, config.RMSProp_eps)

    def pi_spec(self) -> Spec:
        return {}

    def pi_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        raise NotImplementedError("DQN has no policy to train; train or train_q is all")

    def q_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """y = r + gamma (1 - done) max_a Q'(s', a), or Q'(s', argmax_a Q(s', a)); mean Huber(Q(s, a) - y), delta 1."""
        with torch.no_grad():
            q_next = self.value_target(batch["obs_next"])                                           # (B, A)
            choice = self.value(batch["obs_next"]) if self.config.double else q_next
            q_next = q_next.gather(1, choice.argmax(1, keepdim=True))
            y = rewards(batch) + self.config.gamma * (1 - batch["done"]) * q_next                    # (B, 1)
        loss = F.huber_loss(self.value(batch["obs"]).gather(1, batch["acts"][:, None]), y)
        return loss, {"Q_loss": loss}

    @torch.no_grad()
    def target_update(self) -> None:
        """target <- main."""
        torch._foreach_copy_(list(self.value_target.parameters()), list(self.value.parameters()))

    @torch.inference_mode()
    def step(self, obs: np.ndarray, explore: bool = False, test_info: bool = False):
        """Choose an action's index, an int, or int64 (N,) for several observations.

        Raw observations are divided by `obs_scale`, unless given 255 for images and 1 for vectors: pixels come as they
        are, while a batch holds floats in [0, 1], or uint8; vectors are the same in both. The first `warmup` exploring
        steps are random, and later a share epsilon.
        """
        rows, single = check_observations(obs, self.obs_dims, self.device)
        if not test_info:
            acts = self.choose(rows, explore).cpu()
            return int(acts[0]) if single else acts.numpy()
        values = self._values(rows)                     # once for the action and for the metrics
        acts = (self._explore(rows) if explore else values.argmax(1)).cpu()
        average = values.amax(1)
        return int(acts[0]) if single else acts.numpy(), {"Q_average": average[0] if single else average}

    def _values(self, rows: Tensor) -> Tensor:
        """(N, O) raw observations -> the value of each action, (N, A)."""
        return self.value(self._observed(rows))

    def _observed(self, rows: Tensor) -> Tensor:
        """(N, O) raw observations -> as the network reads them."""
        return self.seen(self.normalize(rows / self.config.obs_scale))

    def _explored_values(self, rows: Tensor) -> Tensor:
        """The values that exploring steps follow where they are not random."""
        return self._values(rows)

    def choose(self, rows: Tensor, explore: bool, wait: bool = True) -> Tensor:
        """Choose the actions of raw observations (N, O), indices (N,) on the agent's device.

        Args:
            wait: whether the host may wait for the draws, to leave out values that no row reads.
        """
        return self._explore(rows, wait) if explore else self._values(rows).argmax(1)

    def _explore(self, rows: Tensor, wait: bool = True) -> Tensor:
        """Random actions for all of the first `warmup` steps, and later for a share epsilon, (N,)."""
        count, warming = len(rows), self.warming
        chances = torch.rand(count, device=self.device, generator=self.generator)
        choices = torch.randint(self.act_dim, (count,), device=self.device, generator=self.generator)
        random = self.random_rows(chances)
        if warming or (wait and not self.values_draw and random.all()):
            return choices
        return torch.where(random, choices, self._explored_values(rows).argmax(1))
