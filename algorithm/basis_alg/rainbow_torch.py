"""Rainbow (Hessel et al., 2018, arXiv 1710.02298): six extensions of DQN together."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.encoded_torch import EncodedDQN
from algorithm.batch import Batch, Spec
from algorithm.categorical import atoms, project
from algorithm.networks import ACTIVATIONS, Shape
from algorithm.noisy import NoisyLinear
from algorithm.policy.layers import Init
from utils.settings.fields import Config

Losses = Callable[[Tensor, Tensor], None]


class RainbowNetwork(nn.Module):
    """The distribution of each action's return: a stream of noisy layers for the value, and one for the advantages.

    logits = v + a - the mean of a over the actions, for each atom.
    """

    def __init__(self, encoder: nn.Module, shape: Shape, acts: int, count: int, sigma: float,
                 generator: torch.Generator | None):
        """count: of atoms; sigma: see `NoisyLinear`."""
        super().__init__()
        self.encoder, self.activation = encoder, ACTIVATIONS[shape.activation]
        self.streams: list[list[str]] = []
        for stream, outputs in (("v", count), ("a", acts * count)):
            sizes = (encoder.size, *shape.hidden, outputs)
            names = [f"hidden_layer_{stream}{f'_{i}' if i > 1 else ''}" for i in range(1, len(sizes) - 1)]
            self.streams.append([*names, f"output_layer_{stream}"])
            for name, fan_in, fan_out in zip(self.streams[-1], sizes[:-1], sizes[1:], strict=True):
                self.add_module(name, NoisyLinear(fan_in, fan_out, sigma, generator))
        self.count = count

    @property
    def noise_sizes(self) -> dict[str, int]:
        """How many numbers each noisy layer takes from the noise, in order."""
        return {name: sum(getattr(self, name).sizes) for stream in self.streams for name in stream}

    def forward(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B, O), standard normal (P,) or None -> logits (B, A, Z)."""
        features, sizes = self.encoder(obs), self.noise_sizes
        parts = dict.fromkeys(sizes) if noise is None else dict(zip(sizes, noise.split(list(sizes.values())),
                                                                    strict=True))
        value, advantage = (self._stream(names, features, parts) for names in self.streams)
        value, advantage = value[:, None], advantage.unflatten(1, (-1, self.count))
        return value + advantage - advantage.mean(1, keepdim=True)

    def _stream(self, names: list[str], x: Tensor, noise: dict[str, Tensor | None]) -> Tensor:
        for name in names[:-1]:
            x = self.activation(getattr(self, name)(x, noise[name]))
        return getattr(self, names[-1])(x, noise[names[-1]])


class Rainbow(EncodedDQN):
    """Double Q-learning over n-step returns from a prioritised replay, with dueling noisy categorical networks.

    Attributes:
        feed_back: called with a batch's rows (B,) and their losses (B,) after an update; the replay's priorities.
    """

    q_noise = ("noise", "next_noise")
    values_draw = True
    pays = False                                        # a decomposition's rewards are of single steps
    feed_back: Losses | None = None

    def __init__(self, config: Config):
        super().__init__(config)
        self.parts: list[Tensor] = []                   # of the last losses, one a part of the batch
        self.support = atoms(config.v_min, config.v_max, config.atoms).to(self.device)

    def _create_network(self, encoder: nn.Module, shape: Shape, init: Init) -> nn.Module:
        return RainbowNetwork(encoder, shape, self.act_dim, self.config.atoms, self.config.noisy_sigma, init.generator)

    def q_spec(self) -> Spec:
        """Return the fields of a transition over n steps: also `discount`, gamma^n or 0 at an end, and `weight`."""
        return super().q_spec() | {"discount": ("B", 1), "weight": ("B", 1)}

    def noise_spec(self) -> Spec:
        return dict.fromkeys(self.q_noise, (sum(self.value.noise_sizes.values()),))

    def draw_noise(self, rows: int) -> Tensor:
        """Draw the noise of one network, (P,), the same for all rows."""
        count = sum(self.value.noise_sizes.values())
        return torch.randn(count, device=self.device, generator=self.generator)

    def q_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """m = the projection of r + discount Z'(s', argmax_a E Z(s', a)); mean weight (-sum m log Z(s, a))."""
        rows = torch.arange(len(batch["acts"]), device=self.device)
        with torch.no_grad():
            best = self.expected(self.value(batch["obs_next"], batch["noise"])).argmax(1)
            probs = self.value_target(batch["obs_next"], batch["next_noise"])[rows, best].softmax(1)
            target = project(probs, batch["rews"], batch["discount"], self.support)                 # (B, Z)
        chosen = self.value(batch["obs"], batch["noise"])[rows, batch["acts"]]
        losses = -(target * F.log_softmax(chosen, 1)).sum(1)
        self.parts = [*self.parts, losses.detach()][-(self.config.grad_accum_steps or 1):]
        loss = (batch["weight"][:, 0] * losses).mean()
        return loss, {"Q_loss": loss}

    @property
    def last_losses(self) -> Tensor:
        """The loss of each transition of the last batch, (B,), before its weight."""
        return torch.cat(self.parts)

    def expected(self, logits: Tensor) -> Tensor:
        """Return the mean of each distribution: logits (..., Z) -> (...)."""
        return logits.softmax(-1) @ self.support

    def update(self, sample: Callable[[], Batch]) -> Info:
        """Make one update with a batch from `sample`, and tell its replay what each transition's loss was."""
        batch = sample()
        info = self.train(batch)
        if self.feed_back is not None:
            self.feed_back(batch["rows"], self.last_losses)
        return info

    def _values(self, rows: Tensor) -> Tensor:
        return self.expected(self.value(self._observed(rows)))

    def _explored_values(self, rows: Tensor) -> Tensor:
        return self.expected(self.value(self._observed(rows), self.draw_noise(len(rows))))
