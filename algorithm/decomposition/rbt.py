"""Reward bag transformer (Tang et al., TMLR 2025, arXiv 2402.03771), and CoDeTr's weights (arXiv 2410.20176).

A causal transformer reads actions and states. Attention over all steps of a window gives the rewards, whose sums over
bags are fitted to their labels; a second loss predicts the next states.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from algorithm.batch import Spec
from algorithm.decomposition import outcome
from algorithm.decomposition.attention import Block, attend, weights
from algorithm.decomposition.base import Decomposition, Info
from algorithm.decomposition.features import StepInputs
from algorithm.decomposition.scale import ReturnScale
from algorithm.decomposition.whole import Episodes, bags_of, check_bags, episodes_of, episodes_spec
from utils.optimizers import reward_adam
from utils.settings.fields import Config
from utils.torch_utils import dense

TOGETHER = 64                   # windows of an episode that are read at once, at most


class RBT(Decomposition):
    """Rewards of the steps of a window, paid from the window's last steps alone: see `credit`."""

    markov = False
    reads = ("r_lr", "fit_episodes", "return_scale", "attention_size", "attention_layers", "attention_window",
             "attention_weights", "state_weight")
    metrics = ("R_loss", "R_state")

    def __init__(self, config: Config, generator: torch.Generator | None = None):
        """Build the transformer and its optimiser; see `Decomposition`."""
        super().__init__(config, generator)
        self.scale = ReturnScale(config)
        width, draws = config.attention_size, self.weights_generator
        self.inputs = StateInputs(config, draws)
        self.embed_state, self.embed_action = (dense(size, width, draws) for size in (self.inputs.size, self.act_dim))
        self.embed_time = nn.Parameter(torch.randn(config.test_timesteps + 1, width, generator=draws) * 0.02)
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, draws) for _ in range(config.attention_layers))
        self.state_out = dense(width, self.inputs.size, draws)
        self.reward_qkv = dense(width, 2 * width + 1, draws)
        self.outcome = outcome.Bias() if config.likelihood == "bernoulli" else None
        self.to(self.device)
        self.opts = [reward_adam(self.parameters(), config.r_lr)]

    def loss_spec(self) -> Spec:
        """Return the fields of whole episodes."""
        return episodes_spec(self.config)

    def check(self, batch: dict[str, Tensor]) -> None:
        """Raise a ValueError for a bag beyond its episode, or an outcome beyond [0, 1]."""
        check_bags(batch)
        if self.outcome:
            outcome.check_outcomes(bags_of(batch).labels)

    def trunk(self, episodes: Episodes, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of the action and of the state tokens, (N, L, D) each.

        The tokens are a_0 s_0 a_1 s_1 ...; a token reads itself and those before it. Times begin with 1, and those
        beyond `test_timesteps` count as that.
        """
        length, places = states.shape[1], len(self.embed_time)
        time = self.embed_time[torch.arange(1, length + 1, device=states.device).clamp_max(places - 1)]
        acts = self.embed_action(self.encode_acts(episodes.acts).to(states.dtype)) + time
        x = self.norm_in(torch.stack([acts, self.embed_state(states) + time], 2).flatten(1, 2))     # (N, 2 L, D)
        read = episodes.inside.repeat_interleave(2, dim=1)[:, None]                                 # (N, 1, 2 L)
        keys = read & torch.ones(2 * length, 2 * length, dtype=torch.bool, device=x.device).tril()
        for block in self.blocks:
            x = block(x, keys)
        x = self.norm_out(x)
        return x[:, 0::2], x[:, 1::2]

    def window_rewards(self, outputs: Tensor, inside: Tensor) -> Tensor:
        """Return the rewards of the steps of windows over `return_scale`, (N, L, D), bool (N, L) -> (N, L).

        softmax(q k') v over all steps; as CoDeTr has it, T w_t v_t, w = softmax of the mean score of a step's key.
        """
        width = self.config.attention_size
        q, k, v = self.reward_qkv(outputs).split([width, width, 1], dim=-1)
        if self.config.attention_weights == "rbt":
            return attend(q, k, v, inside, 1.0)[..., 0]
        count = inside.sum(1)
        mean = (torch.where(inside[..., None], q, 0.0).sum(1) / count[:, None])[:, None]
        return weights(mean, k, inside, width ** -0.5)[:, 0] * count[:, None] * v[..., 0]

    def losses_of(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return mean_M (sum of a bag's rewards - R / scale)^2, and the mean squared error of the next states.

        With `likelihood` bernoulli the first is the cross-entropy of the sigmoid of the sum and a learned bias. The
        next state is predicted from a token that has not seen the state before it.
        """
        episodes, bags = episodes_of(batch), bags_of(batch)
        states, following = self.inputs(episodes.obs), self.inputs(episodes.obs_next).detach()
        acts, outputs = self.trunk(episodes, states)
        rewards = episodes.within(self.window_rewards(outputs, episodes.inside))
        sums = bags.sums(rewards)
        errors = outcome.cross_entropy(sums + self.outcome.bias, bags.labels) if self.outcome else \
            (sums - bags.labels / self.scale()).square()
        squares = episodes.within((self.state_out(acts) - following).square().mean(-1))
        return bags.mean(errors), squares.sum() / episodes.inside.sum()

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """Return R_loss, of the bags, plus state_weight times R_state, of the next states; see `losses_of`."""
        loss, state = self.losses_of(batch)
        return loss + self.config.state_weight * state, {"R_loss": loss, "R_state": state}

    def credit(self, episodes: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Return each step's reward, as the last step of a window of at most `attention_window` steps, (N, L).

        So a step is paid by its past alone, though it was fitted with its future. Times begin anew in each window. With
        `likelihood` bernoulli a step is paid by how much its reward raises the probability of success.
        """
        size = min(self.config.attention_window, mask.shape[1])
        whole = Episodes(episodes["obs"], episodes["acts"], episodes["obs_next"], mask)
        outputs = self.outputs(whole, range(1))                     # of the first window, whose beginnings count too
        paid = [self.window_rewards(outputs[:, :end], mask[:, :end])[:, -1:] for end in range(1, size)]
        starts = range(mask.shape[1] - size + 1)
        for some in (starts[at:at + TOGETHER] for at in starts[::TOGETHER]):
            inside = torch.cat([mask[:, start:start + size] for start in some])
            last = self.window_rewards(self.outputs(whole, some), inside)[:, -1]
            paid.append(last.unflatten(0, (len(some), -1)).t())
        rewards = whole.within(torch.cat(paid, 1))
        return outcome.rises(rewards, self.outcome.bias) if self.outcome else rewards * self.scale()

    def outputs(self, episodes: Episodes, starts: range) -> Tensor:
        """Return the outputs of the windows that start at these steps, one after the other, (S N, W, D)."""
        size = min(self.config.attention_window, episodes.inside.shape[1])
        windows = Episodes(*(torch.cat([value[:, start:start + size] for start in starts]) for value in episodes))
        return self.trunk(windows, self.inputs(windows.obs))[1]


class StateInputs(nn.Module):
    """A state as the transformer reads it: a vector as it is, of a picture the features of the convolutions."""

    def __init__(self, config: Config, generator: torch.Generator):
        super().__init__()
        self.pictures = StepInputs(config, False, generator) if len(config.obs_dims) == 3 else None
        self.size = self.pictures.trunk.features if self.pictures else config.obs_dims[0]

    def forward(self, obs: Tensor) -> Tensor:
        """(..., O) -> (..., F)."""
        if self.pictures is None:
            return obs
        none = obs.new_zeros(*obs.shape[:-3], 0)
        return self.pictures(obs, none, obs)
