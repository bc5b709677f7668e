"""What a decomposition takes the reward of the steps of an episode to be."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from algorithm.decomposition import diagnosis
from utils.errors import ConfigError
from utils.finite import all_finite, check_reward, is_finite

PICTURES, VECTORS = 256, 16384      # steps that are predicted at once, at most: stacks of frames are large


class LearnedReward:
    """What the agent predicts: of steps, as RRD does by its reward network, or of whole episodes."""

    same_unit = True                    # as the reward

    def __init__(self, agent: Any, replay: Any = None):
        """`replay` is None where there is none to be judged by.

        `agent` has `predict_rewards`, which is given all that `OpenEpisode.columns` gives of an episode and gives (T,);
        or else `predict_reward`, of (N, O), (N, A) or (N,), (N, O), which gives (N, 1), to which long episodes come in
        pieces.
        """
        self.agent, self.replay = agent, replay

    def rewards(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """The predicted reward of each step, (T,) float64, of what `OpenEpisode.columns` gives.

        Raises:
            ConfigError: they are no numbers, or not as many as there are steps.
        """
        if hasattr(self.agent, "predict_rewards"):
            return of_whole_episode(self.agent, columns)
        obs, obs_next = both_observations(columns)
        most = PICTURES if obs.ndim > 2 else VECTORS
        spans = [slice(start, start + most) for start in range(0, len(obs), most)]
        return np.concatenate([self._of_steps(obs[span], columns["acts"][span], obs_next[span]) for span in spans])

    def _of_steps(self, obs: np.ndarray, acts: np.ndarray, obs_next: np.ndarray) -> np.ndarray:
        found = as_numbers("predict_reward", self.agent, self.agent.predict_reward(obs, acts, obs_next))
        if found.shape != (len(obs), 1):
            raise ConfigError(f"predict_reward: of {len(obs)} steps {type(self.agent).__name__} gives shape "
                              f"{found.shape}, expected {(len(obs), 1)}")
        return found[:, 0]

    def replay_error(self) -> diagnosis.Numbers:
        """See `algorithm.decomposition.diagnosis.replay_error`.

        Raises:
            NotFiniteError: a predicted reward is not finite.
        """
        return diagnosis.replay_error(self.replay.episodes, self._error) if self.replay else {}

    def _error(self, number: int) -> float:
        columns, told = held_columns(self.replay, number)
        predicted = self.rewards(columns)
        check_predicted(predicted, f"at step {{}} of episode {number + 1} of {self.replay.episodes} in the replay")
        return abs(float(predicted.mean()) - told / len(predicted))


class PaidReward:
    """What the replay would pay for the steps of an episode, as IRCR's does."""

    def __init__(self, replay: Any):
        """`replay` has `predict_rewards` and `same_unit`; see `algorithm.replay_buffer.ircr.IRCRReplay`."""
        self.replay, self.same_unit = replay, replay.same_unit

    def rewards(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """(T,) float64, of what `OpenEpisode.columns` gives.

        Raises:
            ConfigError: they are no numbers, or not as many as there are steps.
        """
        return of_whole_episode(self.replay, columns)

    def replay_error(self) -> diagnosis.Numbers:
        """Nothing is learned of which there could be an error."""
        return {}


def of_whole_episode(whose: Any, columns: dict[str, np.ndarray]) -> np.ndarray:
    """What `whose.predict_rewards` gives for the T steps of an episode, (T,) float64.

    Raises:
        ConfigError: they are no numbers, or not as many as there are steps.
    """
    found, length = as_numbers("predict_rewards", whose, whose.predict_rewards(columns)), len(columns["rews"])
    if found.shape != (length,):
        raise ConfigError(f"predict_rewards: of an episode of {length} steps {type(whose).__name__} gives shape "
                          f"{found.shape}, expected one number for each step")
    return found


def as_numbers(name: str, whose: Any, found: Any) -> np.ndarray:
    """A tensor, on any device and with or without a history, or an array or a list, as float64.

    Args:
        name: the method of `whose` that gave it, as a complaint calls it.
    Raises:
        ConfigError: it is something else.
    """
    try:
        return np.asarray(found.detach().cpu().double() if isinstance(found, Tensor) else found, np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: {type(whose).__name__} gives a {type(found).__name__} that holds other things than "
                          "numbers, expected a tensor or an array of one number for each step") from None


def held_columns(replay: Any, number: int) -> tuple[dict[str, np.ndarray], float]:
    """What `OpenEpisode.columns` gave of one of the episodes held, from 0, the oldest; and its return."""
    rows, told = replay.held_episode(number)
    fields = replay.storage.read_episode(rows)
    return {name: value.cpu().numpy() for name, value in (fields | {"done": fields["done"].float()}).items()}, told


def predicts(agent: Any) -> bool:
    """Whether the agent tells what it takes the rewards to be."""
    return hasattr(agent, "predict_reward") or hasattr(agent, "predict_rewards")


def create_judge(agent: Any, replay: Any = None) -> LearnedReward | PaidReward | None:
    """What predicts the rewards of this agent; None where nothing does, or only a replay that holds nothing yet."""
    if predicts(agent):
        return LearnedReward(agent, replay)
    return PaidReward(replay) if hasattr(replay, "predict_rewards") and replay.episodes else None


def check_predicted(rewards: np.ndarray, where: str) -> None:
    """Raises NotFiniteError for the first of the predicted rewards (T,) that is not finite, as for a true one.

    Args:
        where: which step {} it is, as the message tells it.
    """
    if not all_finite(rewards):
        step = next(t for t, reward in enumerate(rewards) if not is_finite(reward))
        check_reward(rewards[step], where.format(step + 1), "predicted reward")


def both_observations(columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """`obs` and `obs_next`, (T, O); of frames (T + C, H, W) the stacks (T, H, W, C), views."""
    if "frames" not in columns:
        return columns["obs"], columns["obs_next"]
    frames = columns["frames"]
    stacks = np.lib.stride_tricks.sliding_window_view(frames, len(frames) - len(columns["rews"]), axis=0)
    return stacks[:-1], stacks[1:]
