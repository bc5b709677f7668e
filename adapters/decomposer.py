"""A decomposition beside another library's agent: the episodes that it learns from, and when it learns."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapters.flattening import Form
from algorithm.create import create_decomposition_for_spaces
from algorithm.decomposition import diagnosis
from algorithm.decomposition.agent import burst_due, burst_number
from algorithm.decomposition.base import Decomposition
from algorithm.decomposition.crediting import credit
from algorithm.decomposition.fitting import burst
from algorithm.decomposition.paid import IRCR
from algorithm.payments import scaled_return
from algorithm.registry import load_replay_class
from utils.errors import ConfigError

Columns = dict[str, np.ndarray]
BURST = 100                 # updates of a burst, unless fit_updates says how many
JUDGED = 20                 # episodes that the numbers of `judge` are of


class EpisodeModel:
    """A decomposition, and a replay of whole episodes that it learns from.

    Attributes:
        model: the decomposition; its observations are raw, its actions in [-1, 1] or indices.
        config: its settings, with the replay's size.
        replay: the whole episodes, as this package's agents learn from them.
        updates: how many updates the model has made.
    """

    def __init__(self, model: Decomposition, steps: int):
        """steps: of whole episodes that the replay holds, at most."""
        self.model, self.updates = model, 0
        self.config = dataclasses.replace(model.config, buffer_size=steps)
        self.replay = load_replay_class(self.config.alg)(self.config)

    @property
    def ready(self) -> bool:
        """Whether an episode has ended: before it nothing can be learned, and no return is known."""
        return bool(self.replay.episodes)

    def redistribute(self, episode: Mapping[str, Any]) -> Tensor:
        """Return what each step of a whole episode is paid now, (T,)."""
        known = {name: value for name, value in self.replay.episode_fields().items() if name in self.model.of_replay}
        return self.model.redistribute({**episode, **known})

    def learn(self, count: int) -> Iterator[dict[str, Tensor]]:
        """Yield the metrics of so many steps of the model's optimisers, of none before an episode has ended."""
        if self.model.opts and self.ready:
            for info in burst(self.model, self.replay, count, None):
                self.updates += 1
                yield info


class Decomposer(EpisodeModel):
    """A decomposition that learns when an agent of another library does, and is judged by episodes as they end."""

    def __init__(self, decomposition: str | Decomposition, form: Form, device: str, steps: int,
                 settings: Mapping[str, Any]):
        """Build the model, or take one that is built.

        Args:
            steps: of whole episodes that the replay holds, at most.
            settings: of a decomposition that is given by name.
        Raises:
            ConfigError: a setting is wrong, or the model is one of other spaces.
        """
        super().__init__(model_of(decomposition, form, device, settings), steps)
        self.bursts = self.burst_number = self.credited = 0
        self.sums: dict[str, Tensor] = {}               # of the metrics, since `metrics` was called
        self.counted = 0
        self.judged: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=JUDGED)    # payments and rewards of episodes

    # Episodes -------------------------------------------------------------------------------------------------

    def observe(self, episode: Mapping[str, Any], true: np.ndarray | None = None) -> int:
        """Store a whole episode, as `store_episode` takes it; return its number, from 0.

        Args:
            true: the true reward of each step, (T,), if it is known; for `judge` alone.
        Raises:
            ValueError: a field is missing or misshapen, or the episode is longer than the replay.
        """
        if self.updates and self.model.unit == "reward":
            self.judged.append(compared(self.paid(episode), np.asarray(episode["rews"], np.float64), true))
        self.model.observe([episode])
        self.replay.store_episode(episode)
        return self.replay.episodes_stored - 1

    def paid(self, episode: Mapping[str, Any]) -> np.ndarray:
        """Return what each step of an episode is paid now, (T,) float64."""
        return self.redistribute(episode).double().cpu().numpy()

    def judge(self) -> dict[str, float]:
        """Return how good the payments of the newest episodes were, each paid before the model learned from it.

        Returns:
            the numbers of `algorithm.decomposition.diagnosis.diagnose` that are defined; those of single steps only
            where the true rewards were given.
        """
        found = diagnosis.diagnose([paid for paid, _ in self.judged], [true for _, true in self.judged])
        return {name: value for name, value in found.items() if value is not None}

    # Learning -------------------------------------------------------------------------------------------------

    def burst(self) -> list[int]:
        """Learn in a burst if one is due, and pay the episodes that are due; return the numbers of those."""
        due = self.ready and burst_due(self.model, self.replay, self.burst_number if self.bursts else None)
        if due:
            self.burst_number = burst_number(self.model, self.replay)
            self.update(self.config.fit_updates or BURST)
            self.bursts += 1
        return self._credit(self.config.credit_steps if due else 0)

    def _credit(self, budget: int) -> list[int]:
        """Pay episodes anew, of so many steps at most, and all new ones; return their numbers."""
        if not getattr(self.replay, "keeps_credit", False) or not (
                budget or self.replay.episodes_stored > self.credited):
            return []
        self.credited = self.replay.episodes_stored
        replay, first = self.replay, self.replay.first_slot
        numbers = [replay.first_episode + (slot - first) % replay.capacity for slot in replay.due(self.bursts, budget)]
        credit(self.model, replay, self.bursts, budget)
        return numbers

    def payments(self, number: int) -> np.ndarray:
        """Return what the steps of an episode in the replay were paid last, (T,) float32."""
        rows, _ = self.replay.held_episode(number - self.replay.first_episode)
        return self.replay.credit[rows].cpu().numpy()

    def update(self, count: int = 1) -> None:
        """Take so many steps of the model's optimisers on the episodes of the replay, fewer once it is satisfied."""
        for info in self.learn(count):
            for name, value in info.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.counted += 1

    def metrics(self) -> dict[str, float]:
        """Return the means of the model's metrics over the updates since the last call."""
        found = {name: float(value) / self.counted for name, value in self.sums.items()}
        self.sums, self.counted = {}, 0
        return found

    # Paying ---------------------------------------------------------------------------------------------------

    def rewards(self, obs: Tensor | np.ndarray, acts: Tensor | np.ndarray, obs_next: Tensor | np.ndarray) -> Tensor:
        """Return the rewards of steps of a Markov model, (B, 1), 0 as long as no episode has ended."""
        if not self.ready:
            return torch.zeros(len(acts), 1, device=self.model.device)
        return self.model.rewards(obs, acts, obs_next)

    def of_returns(self, returns: np.ndarray) -> Tensor:
        """Return what IRCR pays for steps by the returns of their episodes, (B,) float64 -> (B, 1)."""
        low, high = self.replay.range
        return scaled_return(torch.as_tensor(returns, device=low.device), low, high).float()[:, None]

    @property
    def by_return(self) -> bool:
        """Whether the return of its episode pays a step, by the range of those in the replay."""
        return isinstance(self.model, IRCR)


def compared(paid: np.ndarray, rews: np.ndarray, true: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the payments of an episode and its true rewards, (T,) each; their sums, (1,), where only R is known."""
    return (paid, true) if true is not None else (paid.sum(keepdims=True), rews.sum(keepdims=True).reshape(1))


def model_of(decomposition: str | Decomposition, form: Form, device: str, settings: Mapping[str, Any]) -> Decomposition:
    """Return the decomposition of this name, or the one given, for the observations and actions of `form`.

    Raises:
        ConfigError: a setting is wrong, or the model is one of other spaces.
    """
    spaces = dict(observation_space=form.observation_space, action_space=form.action_space)
    if not isinstance(decomposition, Decomposition):
        return create_decomposition_for_spaces(decomposition, **spaces, **{"device": device} | dict(settings))
    for name in settings:
        raise ConfigError(f"{name}: got a setting beside a decomposition that is built, expected none: give it to "
                          "create_decomposition")
    ours, theirs = decomposition.config, (form.observation_space.shape, form.discrete)
    actions = int(form.action_space.n) if form.discrete else form.action_space.shape[0]
    if (ours.obs_dims, ours.discrete, ours.acts_dims[0]) != (*theirs, actions):
        raise ConfigError(f"decomposition: got one of observations {ours.obs_dims} and "
                          f"{ours.acts_dims[0]} {'discrete ' * ours.discrete}actions, expected {theirs[0]} and "
                          f"{actions} {'discrete ' * form.discrete}actions")
    return decomposition


class OpenEpisodes:
    """The steps of the episodes that are not over, of N environments; an episode may take any number of rollouts.

    An episode that is not continued, because the environment was reset in the middle, is dropped and counted.
    """

    def __init__(self, count: int):
        self.steps: list[list[tuple]] = [[] for _ in range(count)]
        self.dropped = 0

    def add(self, obs: np.ndarray, acts: np.ndarray, rews: np.ndarray, done: np.ndarray, obs_next: np.ndarray,
            true: Any) -> None:
        """Append one step of all environments, (N, ...) each; `true` are their true rewards, None where unknown."""
        for i, step in enumerate(zip(obs, acts, rews, done, obs_next, true, strict=True)):
            if self.steps[i] and not np.array_equal(self.steps[i][-1][4], step[0], equal_nan=step[0].dtype.kind == "f"):
                self.steps[i], self.dropped = [], self.dropped + 1
            self.steps[i].append(step)

    def close(self, row: int) -> tuple[Columns, np.ndarray | None]:
        """End the episode of an environment: return it as `store_episode` takes it, and its true rewards (T,)."""
        *columns, true = zip(*self.steps[row], strict=True)
        obs, acts, rews, done, obs_next = (np.stack(column) for column in columns)
        self.steps[row] = []
        episode = {"obs": obs, "acts": acts, "rews": np.float32(rews)[:, None], "done": np.float32(done)[:, None],
                   "obs_next": obs_next}
        return episode, None if None in true else np.asarray(true, np.float64)


def true_rewards(infos: list[dict[str, Any]]) -> list[float | None]:
    """Return `info["true_reward"]` of each environment, None where it has none."""
    return [None if (value := info.get("true_reward")) is None else float(value) for info in infos]


def truncated(infos: list[dict[str, Any]]) -> np.ndarray:
    """Return whether a time limit ended the episode with the step, (N,)."""
    return np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos])


