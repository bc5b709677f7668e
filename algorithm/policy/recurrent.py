"""A policy with a memory: LSTMs on the observation, and dense layers behind them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from algorithm.policy.actor_critic import ActorCritic
from algorithm.policy.base import Drawn, RecurrentPolicy
from algorithm.policy.layers import run_lstm


class RecurrentActorCritic(RecurrentPolicy, ActorCritic):
    """Actor and critic behind an LSTM each, or behind one of both with `shared_encoder`."""

    def add_encoders(self) -> tuple[int, int]:
        """Add the LSTMs."""
        self._expect(len(self.obs_dims) == 1, "vectors")
        size, layers = self.config.lstm_size, self.config.lstm_layers
        names = ("lstm_actor",) if self.config.shared_encoder else ("lstm_actor", "lstm_critic")
        self.lstms = [self.init.lstm(nn.LSTM(self.obs_dims[0], size, layers, dtype=torch.float32)) for _ in names]
        for name, lstm in zip(names, self.lstms, strict=True):
            self.add_module(name, lstm)
        self.state_shape = (len(names), 2, layers, size)
        self.state_size = 2 * len(names) * layers * size
        return size, size

    def run(self, obs: Tensor, starts: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features of actor and critic, (L, B, H) each, and the last state (B, S); see `run_lstm`."""
        parts = state.unflatten(1, self.state_shape).permute(1, 2, 3, 0, 4)                 # (M, 2, layers, B, H)
        found = [run_lstm(lstm, obs, starts, part) for lstm, part in zip(self.lstms, parts, strict=True)]
        last = torch.stack([end for _, end in found]).permute(3, 0, 1, 2, 4).flatten(1)
        return found[0][0], found[-1][0], last

    def _run_one(self, obs: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features (B, H) of one more step, and the state after it."""
        actor, critic, state = self.run(obs[None], torch.zeros(1, len(obs), device=obs.device), state)
        return actor[0], critic[0], state

    @torch.no_grad()
    def step(self, obs: Tensor, state: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        actor, critic, state = self._run_one(obs, state)
        return (*self.draw(actor, critic, deterministic), state)

    @torch.no_grad()
    def value_after(self, obs: Tensor, state: Tensor) -> Tensor:
        return self.value(self._run_one(obs, state)[1])

    def evaluate_sequences(self, obs: Tensor, actions: Tensor, starts: Tensor, state: Tensor) -> Drawn:
        return self.judge(*self.run(obs, starts, state)[:2], actions)
