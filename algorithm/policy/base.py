"""What every policy of an on-policy agent is: an actor and a value function over prepared observations.

Observations are prepared as networks read them: normalised, pixels in [0, 1]. Actions are those that were drawn: a
Gaussian's before they are clipped to [-1, 1], which the environment gets; indices of discrete ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from utils.seeding import stream_seed
from utils.settings.fields import Config

Drawn = tuple[Tensor, Tensor, Tensor]           # action (N, A) or indices (N,), log_prob (N,), value (N,)


def weights_generator(config: Config) -> torch.Generator:
    """The generator of an agent's first weights, on the CPU."""
    return torch.Generator().manual_seed(stream_seed(config.seed, "weights"))


class Policy(nn.Module, ABC):
    """A policy without memory; see `RecurrentPolicy` for one that has some.

    Attributes:
        generator: what `get_action` draws from, on the policy's device; the agent sets it. None: PyTorch's own.
        weights_generator: what the first weights were drawn from; a decomposition's follow from it.
    """

    generator: torch.Generator | None = None
    weights_generator: torch.Generator | None = None

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.parameters()).device

    @device.setter
    def device(self, device: torch.device) -> None:
        """Ignore what a subclass sets: its parameters say where it is."""

    @abstractmethod
    def get_action(self, obs: Tensor, deterministic: bool = False) -> Drawn:
        """Draw actions, or choose the most probable ones; without gradient.

        Args:
            obs: prepared, (N, ...).
        Returns:
            action (N, A), or indices (N,); its log_prob (N,); the value of the observation (N,).
        """

    @abstractmethod
    def get_value(self, obs: Tensor) -> Tensor:
        """Return the value of prepared observations, (N, ...) -> (N,); without gradient."""

    @abstractmethod
    def evaluate_actions(self, obs: Tensor, actions: Tensor) -> Drawn:
        """Return log_prob, entropy and value, (...) each, of prepared observations (..., O) and actions (..., A)."""

    def identity(self) -> dict[str, str]:
        """Return what must agree between a checkpoint and the policy that loads it, beside the shapes."""
        return {}


class RecurrentPolicy(Policy):
    """A policy that carries a state along an episode, `state_size` numbers in each environment, 0 at its start."""

    state_size = 0

    def get_action(self, obs: Tensor, deterministic: bool = False) -> Drawn:
        """Act on the first observation of an episode; see `step`."""
        return self.step(obs, self.initial_state(len(obs)), deterministic)[:3]

    def get_value(self, obs: Tensor) -> Tensor:
        """Return the value of the first observation of an episode; see `value_after`."""
        return self.value_after(obs, self.initial_state(len(obs)))

    def initial_state(self, rows: int) -> Tensor:
        """Return the state at the start of an episode, zeros (N, S)."""
        first = next(self.parameters())
        return torch.zeros(rows, self.state_size, dtype=first.dtype, device=first.device)

    @abstractmethod
    def step(self, obs: Tensor, state: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what `get_action` does, and the next state: obs (N, ...), state (N, S); without gradient."""

    @abstractmethod
    def value_after(self, obs: Tensor, state: Tensor) -> Tensor:
        """Return the value (N,) of observations (N, ...) that follow on a state (N, S); without gradient."""

    @abstractmethod
    def evaluate_sequences(self, obs: Tensor, actions: Tensor, starts: Tensor, state: Tensor) -> Drawn:
        """Return log_prob, entropy and value of sequences, (L, B) each.

        Args:
            obs, actions: (L, B, ...), the time first.
            starts: whether an episode starts with the step, where the state is zeroed first, (L, B).
            state: before the first step, (B, S).
        """

    def evaluate_actions(self, obs: Tensor, actions: Tensor) -> Drawn:
        """Evaluate actions on first observations of episodes, (B, ...)."""
        starts = torch.ones(1, len(obs), device=obs.device)
        found = self.evaluate_sequences(obs[None], actions[None], starts, self.initial_state(len(obs)))
        return found[0][0], found[1][0], found[2][0]
