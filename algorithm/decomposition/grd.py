"""Generative return decomposition (Zhang et al., NeurIPS 2023, arXiv 2305.18427): which dimensions cause the reward.

Edges s -> r, a -> r, s -> s' and a -> s' are drawn, straight through, from learned logits. RD learns a reward of what
is left of (s, a), a mixture of Gaussians the dynamics, and sparsity removes edges. As published, the dynamics are NaN
from the first update on and the policy is never masked; here the losses are those of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from algorithm.batch import Array, Spec, transition_spec
from algorithm.decomposition.base import Decomposition, Info
from algorithm.decomposition.whole import Episodes, episodes_of, episodes_spec
from algorithm.networks import MLP, shape_of
from utils.errors import ConfigError
from utils.optimizers import reward_adam
from utils.settings.fields import Config

COMPONENTS = 3                  # of the mixture
EDGES = ("s_r", "a_r", "s_s", "a_s")


class GRD(Decomposition):
    """Masks of edges, a reward network and a model of the dynamics on masked (s, a); of vectors alone."""

    reads = ("r_lr", "fit_episodes", "mask_temperature", "sparse_s_r", "sparse_a_r", "sparse_s_s",
             "sparse_s_s_diagonal", "sparse_a_s")
    metrics = ("R_loss", "R_dynamics", "R_sparsity")

    def __init__(self, config: Config, generator: torch.Generator | None = None):
        """Build the logits, both networks and their optimiser; see `Decomposition`.

        Raises:
            ConfigError: observations are pictures.
        """
        super().__init__(config, generator)
        if len(self.obs_dims) == 3:
            raise ConfigError(f"alg: got {config.alg!r} over pictures, expected observations that are vectors, whose "
                              "dimensions it masks; or another decomposition, such as rrd")
        draws, (obs,), acts = self.weights_generator, self.obs_dims, self.act_dim
        shapes = {"s_r": (obs, 2), "a_r": (acts, 2), "s_s": (obs, obs, 2), "a_s": (acts, obs, 2)}
        self.logits = nn.ParameterDict({name: nn.Parameter(nn.init.xavier_uniform_(torch.empty(shape), generator=draws))
                                        for name, shape in shapes.items()})             # (.., 2), index 0: an edge
        hidden, activation = shape_of(config, "reward", (256, 256))
        self.reward = MLP("r", (obs + acts, *hidden, 1), activation, generator=draws)
        self.dynamics = MLP("d", (obs + acts, *hidden, 3 * COMPONENTS), activation, generator=draws)
        self.to(self.device)
        self.opts = [reward_adam(self.parameters(), config.r_lr)]

    def loss_spec(self) -> Spec:
        """Return the fields of whole episodes and of transitions."""
        step = transition_spec(self.obs_dims, self.acts_shape)
        return episodes_spec(self.config, bags=False) | {name: step[name] for name in ("obs", "acts", "obs_next")}

    def draw(self, episodes: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """Draw whole episodes; their steps are the transitions."""
        batch = super().draw(episodes)
        return batch | {name: batch[f"ep_{name}"][batch["ep_inside"] > 0] for name in ("obs", "acts", "obs_next")}

    # Masks ----------------------------------------------------------------------------------------------------

    def greedy(self, name: str) -> Tensor:
        """Return the mask of the edges that are more likely than not, 0 or 1."""
        logits = self.logits[name]
        return (logits[..., 0] > logits[..., 1]).to(logits.dtype)

    def drawn(self, name: str, uniform: Tensor) -> Tensor:
        """Return a drawn mask: 0 or 1 in value, y_0 of softmax((logits + g) / temperature) in its gradient.

        g = -log(-log u) for uniform u, of the logits' shape.
        """
        noise = -(-uniform.log()).log()
        soft = ((self.logits[name] + noise) / self.config.mask_temperature).softmax(-1)[..., 0]
        return (soft > 0.5).to(soft.dtype) + soft - soft.detach()

    def masks(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return one drawn mask of each kind, by uniform numbers of the batch, `mask_s_r`, ..., or drawn ones."""
        return {name: self.drawn(name, batch[f"mask_{name}"] if f"mask_{name}" in batch else
                                 self.rand(*self.logits[name].shape)) for name in EDGES}

    def policy_mask(self) -> Tensor:
        """Return which dimensions of the state lead to the reward through greedy edges, 0 or 1, (O,)."""
        cause, edges = self.greedy("s_r"), self.greedy("s_s")           # edges[j, i]: from s_j to s_i
        paths = torch.maximum(edges, torch.eye(len(edges), dtype=edges.dtype, device=edges.device))
        for _ in range(len(edges).bit_length()):                        # each time of twice as many edges
            paths = (paths @ paths).clamp_max(1)
        return (paths @ cause).clamp_max(1)

    # Rewards and losses ---------------------------------------------------------------------------------------

    def predict(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """Return the reward of what the greedy masks leave, (..., 1); see `Decomposition.predict`."""
        return self.masked_reward(obs, self.encode_acts(acts), self.greedy("s_r"), self.greedy("a_r"))

    def masked_reward(self, obs: Tensor, acts: Tensor, of_obs: Tensor, of_acts: Tensor) -> Tensor:
        """Return the reward of s and a times their masks, (..., O), (..., A), (O,), (A,) -> (..., 1)."""
        return self.reward(torch.cat([obs * of_obs, acts * of_acts], dim=-1))

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """Return the sum of `losses_of`; R_sparsity is that of the last two."""
        reward, dynamics, of_reward, of_dynamics = self.losses_of(batch).values()
        sparsity = of_reward + of_dynamics
        return reward + dynamics + sparsity, {"R_loss": reward, "R_dynamics": dynamics, "R_sparsity": sparsity}

    def losses_of(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return R_loss = mean_N ((sum r - R) / T)^2, that of the dynamics, and the sparsity of either's edges."""
        masks, episodes = self.masks(batch), episodes_of(batch)
        error = (self.drawn_rewards(episodes, masks).sum(1) - batch["ep_return"][:, 0]) / episodes.lengths
        return {"R_loss": error.square().mean(), "dynamics": self.dynamics_loss(batch, masks),
                "sparsity_reward": self.sparsity("s_r").mean() * self.config.sparse_s_r
                + self.sparsity("a_r").mean() * self.config.sparse_a_r, "sparsity_dynamics": self.dynamics_sparsity()}

    def drawn_rewards(self, episodes: Episodes, masks: dict[str, Tensor]) -> Tensor:
        """Return the rewards of whole episodes by drawn masks, (N, L)."""
        acts = self.encode_acts(episodes.acts)
        return episodes.within(self.masked_reward(episodes.obs, acts, masks["s_r"], masks["a_r"])[..., 0])

    def dynamics_loss(self, batch: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        """Return the mean over transitions and dimensions i of -log p(s'_i | s * s_s[:, i], a * a_s[:, i]), ()."""
        obs, acts = batch["obs"][:, None], self.encode_acts(batch["acts"])[:, None]
        x = torch.cat([obs * masks["s_s"].t(), acts * masks["a_s"].t()], dim=-1)                    # (B, O, O + A)
        weight, mean, log_std = self.dynamics(x).chunk(3, dim=-1)                                   # (B, O, 3) each
        normal = torch.distributions.Normal(mean, log_std.exp(), validate_args=False)
        return -(weight.log_softmax(-1) + normal.log_prob(batch["obs_next"][..., None])).logsumexp(-1).mean()

    def sparsity(self, name: str) -> Tensor:
        """Return the cross-entropy of each edge to no edge, (...)."""
        return -self.logits[name].log_softmax(-1)[..., 1]

    def dynamics_sparsity(self) -> Tensor:
        """Return the weighted sparsity of s_s beside and on its diagonal, and of a_s, ()."""
        config, cost = self.config, self.sparsity("s_s")
        same = torch.eye(len(cost), dtype=torch.bool, device=cost.device)
        beside = cost[~same].mean() if len(cost) > 1 else cost.new_zeros(())
        return (config.sparse_s_s * beside + config.sparse_s_s_diagonal * cost[same].mean()
                + config.sparse_a_s * self.sparsity("a_s").mean())
