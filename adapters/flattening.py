"""Observations and actions of another library, in batches, as a decomposition reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple

from envs.spaces import flat, flat_space, is_flattenable, unscaled
from utils.errors import ConfigError


class Form:
    """What a decomposition reads of the observations and actions of an environment.

    Attributes:
        observation_space: a Box of vectors, or of pictures (height, width, channels).
        action_space: Discrete, or a Box from -1 to 1 of one dimension.
    """

    def __init__(self, observation_space: Space, action_space: Space):
        """Take the spaces of one environment; pictures are uint8, their channels first or last.

        Raises:
            ConfigError: no decomposition can read one of them.
        """
        if not is_flattenable(observation_space):
            raise ConfigError(f"observation_space: got {observation_space}, expected a Box, Discrete, MultiDiscrete, "
                              "MultiBinary or a Dict of those")
        self.theirs, self.actions = observation_space, action_space
        self.pictures = isinstance(observation_space, Box) and len(observation_space.shape) == 3 \
            and observation_space.dtype == np.uint8
        self.channels_first = self.pictures and observation_space.shape[0] == min(observation_space.shape)
        self.observation_space = self._pictures() if self.pictures else flat_space(observation_space)
        self.discrete = isinstance(action_space, Discrete)
        self.action_space = action_space if self.discrete else scaled_space(action_space)

    def _pictures(self) -> Box:
        shape = self.theirs.shape
        return Box(0, 255, (*shape[1:], shape[0]) if self.channels_first else shape, np.uint8)

    def obs(self, values: Any) -> np.ndarray:
        """Observations of N steps, an array or a dict of arrays -> (N, O) float32, or pictures (N, H, W, C) uint8."""
        if not self.pictures:
            return flat_rows(self.theirs, values)
        return np.moveaxis(values, 1, -1) if self.channels_first else np.asarray(values)

    def scaled(self, acts: np.ndarray) -> np.ndarray:
        """Actions of N steps that are in [-1, 1] already, or indices -> (N, A) float32, or (N,) int64."""
        if self.discrete:
            return np.asarray(acts).reshape(-1).astype(np.int64)
        return np.asarray(acts, np.float32).reshape(-1, *self.action_space.shape)

    def acts(self, acts: np.ndarray) -> np.ndarray:
        """Actions of N steps as the environment gets them -> (N, A) float32 in [-1, 1], or indices (N,) int64."""
        return self.scaled(acts if self.discrete else unscaled(acts, self.actions))


def scaled_space(space: Space) -> Box:
    """Return the Box from -1 to 1 that a bounded Box of floats is scaled to, of one dimension.

    Raises:
        ConfigError: it is another space, or has no bounds.
    """
    if not isinstance(space, Box) or space.dtype.kind != "f":
        raise ConfigError(f"action_space: got {space}, expected Discrete, or a Box of floats")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise ConfigError(f"action_space: got {space}, expected finite bounds, by which actions are scaled")
    return Box(-1.0, 1.0, (int(np.prod(space.shape)),), np.float32)


def flat_rows(space: Space, values: Any) -> np.ndarray:
    """Return what `envs.spaces.flat` makes of each of N observations, (N, O) float32.

    Args:
        values: (N, ...), or of a Dict or Tuple such arrays by their names or places.
    """
    if isinstance(space, (Dict, Tuple)):
        parts = sorted(space.spaces.items()) if isinstance(space, Dict) else enumerate(space.spaces)
        return np.concatenate([flat_rows(part, values[name]) for name, part in parts], axis=1)
    if not isinstance(space, (Box, Discrete, MultiBinary, MultiDiscrete)):
        return np.stack([flat(space, one) for one in values])
    values = np.asarray(values)
    if isinstance(space, Discrete):
        return _one_hot(values.reshape(-1) - space.start, int(space.n))
    rows = values.reshape(len(values), -1)
    if isinstance(space, MultiDiscrete):
        starts, counts = space.start.reshape(-1), space.nvec.reshape(-1)
        return np.concatenate([_one_hot(column - start, int(count)) for column, start, count
                               in zip(rows.T, starts, counts, strict=True)], axis=1)
    return rows.astype(np.float32)


def _one_hot(indices: np.ndarray, count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[indices.astype(np.int64)]
