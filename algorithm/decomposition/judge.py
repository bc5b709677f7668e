"""The payments of an agent's decomposition for the steps of an episode, checked for a diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from algorithm.decomposition import diagnosis
from utils.errors import ConfigError
from utils.finite import all_finite, check_reward, is_finite


class Judge:
    """Asks a decomposition for its payments, of any episode or of those in `replay`, which may be None."""

    def __init__(self, decomposition: Any, replay: Any = None):
        """`decomposition` has `redistribute` and `unit`; see `algorithm.decomposition.base.Decomposition`."""
        self.decomposition, self.replay, self.unit = decomposition, replay, decomposition.unit

    def redistribute(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return what each step of an episode is paid, (T,) float64.

        Args:
            columns: the episode, as `OpenEpisode.columns` gives it.
        Raises:
            ConfigError: the payments are not numbers, or not one for each step.
        """
        known = self.replay.episode_fields() if self.replay is not None else {}
        known = {name: known[name] for name in self.decomposition.of_replay if name in known}
        found = as_numbers(self.decomposition, self.decomposition.redistribute({**columns, **known}))
        length = len(columns["rews"])
        if found.shape != (length,):
            raise ConfigError(f"redistribute: got shape {found.shape} from {type(self.decomposition).__name__} for an "
                              f"episode of {length} steps, expected one number for each step")
        return found

    def replay_error(self) -> diagnosis.Numbers:
        """Return `algorithm.decomposition.diagnosis.replay_error`; {} with no replay or nothing learned.

        Raises:
            NotFiniteError: a predicted reward is not finite.
        """
        if self.replay is None or not self.decomposition.opts:
            return {}
        return diagnosis.replay_error(self.replay.episodes, self._error)

    def _error(self, number: int) -> float:
        columns, episode_return = held_columns(self.replay, number)
        predicted = self.redistribute(columns)
        check_predicted(predicted, f"at step {{}} of episode {number + 1} of {self.replay.episodes} in the replay")
        return abs(float(predicted.mean()) - episode_return / len(predicted))


def create_judge(agent: Any, replay: Any = None) -> Judge | None:
    """Return the judge of this agent's payments; None without a decomposition, or if it needs a filled replay."""
    decomposition = getattr(agent, "decomposition", None)
    if decomposition is None or (decomposition.of_replay and not (replay is not None and replay.episodes)):
        return None
    return Judge(decomposition, replay)


def as_numbers(whose: Any, found: Any) -> np.ndarray:
    """Return a tensor, on any device and with or without a history, or an array or a list, as float64.

    Args:
        whose: the decomposition that gave it, for the error.
    Raises:
        ConfigError: it is anything else.
    """
    try:
        return np.asarray(found.detach().cpu().double() if isinstance(found, Tensor) else found, np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"redistribute: got a {type(found).__name__} that does not hold numbers from "
                          f"{type(whose).__name__}, expected a tensor or array of one number for each step") from None


def held_columns(replay: Any, number: int) -> tuple[dict[str, np.ndarray], float]:
    """Return the columns and the return of one of the episodes held, from 0, the oldest; see `OpenEpisode.columns`."""
    rows, episode_return = replay.held_episode(number)
    fields = replay.storage.read_episode(rows)
    fields = fields | {"done": fields["done"].float()}
    return {name: value.cpu().numpy() for name, value in fields.items()}, episode_return


def check_predicted(rewards: np.ndarray, where: str) -> None:
    """Raise NotFiniteError for the first of the predicted rewards (T,) that is not finite, as for a true one.

    Args:
        where: the place of a step, with {} for its number; the message contains it.
    """
    if not all_finite(rewards):
        step = next(t for t, reward in enumerate(rewards) if not is_finite(reward))
        check_reward(rewards[step], where.format(step + 1), "predicted reward")
