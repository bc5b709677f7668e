"""Spaces of Gymnasium that agents can use: what is flattened, encoded or rescaled, and what helps where nothing is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from utils.errors import ConfigError
from utils.settings.algorithms import any_of, bases
from utils.settings.fields import Config
from utils.settings.sizes import expected_discrete


def is_image(space: gym.Space) -> bool:
    """Whether observations are pictures, uint8 (H, W, C)."""
    return isinstance(space, Box) and len(space.shape) == 3 and space.dtype == np.uint8


def is_flattenable(space: gym.Space) -> bool:
    """Whether Gymnasium makes a vector of one size of an observation."""
    try:
        return bool(space.is_np_flattenable)
    except NotImplementedError:                         # a kind of space of the user's
        return False


def flat(space: gym.Space, obs: Any) -> np.ndarray:
    """An observation as a vector, (O,) float32, a copy: some environments reuse their array.

    Categories are one-hot. The parts of a tuple are concatenated, those of a dict in alphabetical order of their names.
    """
    if isinstance(space, Box):
        return np.array(obs, np.float32).reshape(-1)
    if isinstance(space, (Dict, Tuple)):
        return np.concatenate([flat(part, obs[key]) for key, part in _parts(space)])
    return np.array(gym.spaces.flatten(space, obs), np.float32).reshape(-1)


def flat_space(space: gym.Space) -> Box:
    """The space of what `flat` returns."""
    if isinstance(space, (Dict, Tuple)):
        parts = [flat_space(part) for _, part in _parts(space)]
        low, high = (np.concatenate([getattr(part, bound) for part in parts]) for bound in ("low", "high"))
        return Box(low, high, dtype=np.float32)
    space = space if isinstance(space, Box) else gym.spaces.flatten_space(space)
    low, high = (np.asarray(bound, np.float32).reshape(-1) for bound in (space.low, space.high))
    return Box(low, high, dtype=np.float32)


def parts_of(space: gym.Space) -> tuple[tuple[str, tuple[int, ...]], ...] | None:
    """Return (name, shape) of each part of a dict of observations, in the order of `flat`; None of another space.

    The shape of a picture is (H, W, C); all else is a vector, (O,), as `flat` makes it.
    """
    if not isinstance(space, Dict):
        return None
    return tuple((str(name), part.shape if is_image(part) else flat_space(part).shape) for name, part in _parts(space))


def _parts(space: Dict | Tuple) -> list[tuple[Any, gym.Space]]:
    return sorted(space.spaces.items()) if isinstance(space, Dict) else list(enumerate(space.spaces))


def fits(space: gym.Space, value: Any) -> bool:
    """Whether an observation has the form that its space says: its parts, their shapes, numbers, known categories.

    Bounds of numbers are not checked: many environments leave them.
    """
    if isinstance(space, Dict):
        return isinstance(value, Mapping) and all(name in value and fits(part, value[name])
                                                  for name, part in space.spaces.items())
    if isinstance(space, Tuple):
        return (isinstance(value, Sequence) and len(value) == len(space.spaces)
                and all(map(fits, space.spaces, value)))
    if isinstance(space, Box):
        array = as_array(value)
        return array is not None and array.shape == space.shape and array.dtype.kind in "fiub"
    if isinstance(space, (Discrete, MultiDiscrete, MultiBinary)):
        array = as_array(value)
        return array is not None and array.dtype.kind in "iub" and array.shape == space.shape and space.contains(
            array.astype(space.dtype))
    return space.contains(value)


def as_array(value: Any) -> np.ndarray | None:
    """The value as an array; None if it is none, such as rows of unequal length or a tensor with gradients."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        return None


class ScaleAction(gym.ActionWrapper):
    """Takes actions in [-1, 1] and passes them to the environment in its bounds: low + (a + 1) / 2 (high - low).

    About 0 that is a * high, which is how it is computed there.
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.low, self.high = env.action_space.low, env.action_space.high
        self.symmetric = is_symmetric(env.action_space)
        self.action_space = Box(-1.0, 1.0, env.action_space.shape, np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        scaled = np.asarray(action, self.high.dtype)
        if self.symmetric:
            return scaled * self.high
        return np.clip(self.low + (scaled + 1) / 2 * (self.high - self.low), self.low, self.high)


def is_symmetric(space: Box) -> bool:
    """Whether the bounds of actions are symmetric about 0."""
    return bool(np.allclose(space.low, -space.high))


def unscaled(acts: Any, space: Box) -> Any:
    """The actions in [-1, 1], float32, that `ScaleAction` makes an environment's actions of; 0 where low is high.

    Args:
        acts: (..., A), an array, or a tensor, which stays on its device.
        space: of finite bounds, (A,).
    """
    is_tensor = hasattr(acts, "new_tensor")
    acts = acts.float() if is_tensor else np.asarray(acts, np.float32)
    convert = acts.new_tensor if is_tensor else np.float32
    low, high = convert(space.low), convert(space.high)
    fixed = low == high
    scaled = acts / (high + fixed) if is_symmetric(space) else 2 * (acts - low) / (high - low + fixed) - 1
    return scaled * ~fixed


def scaling(space: gym.Space) -> str:
    """One line that says how actions in [-1, 1] are rescaled; "" if they are only multiplied by the bound."""
    if not isinstance(space, Box) or is_symmetric(space):
        return ""
    return (f"note: actions are rescaled from [-1, 1] to the environment's bounds, {_shown(space.low)} to "
            f"{_shown(space.high)}")


def _shown(bound: np.ndarray) -> str:
    values = [f"{value:g}" for value in bound]
    if len(set(values)) == 1:
        return values[0]
    return f"[{', '.join(values[:6])}{', ...' * (len(values) > 6)}]"


TRANSFORM = "gymnasium.wrappers.TransformAction"


def check_spaces(config: Config, env: gym.Env) -> None:
    """Check that the algorithm can use the spaces of an environment that nothing has wrapped yet.

    Raises:
        ConfigError: it cannot; the message names the wrapper or the setting that helps.
    """
    name, observations, actions = config.env, env.observation_space, env.action_space
    if not is_flattenable(observations) or not _leaves(observations):
        raise ConfigError(f"env: {name!r} observes {observations}, expected a Box, Discrete, MultiDiscrete, "
                          "MultiBinary, or a Dict or Tuple of those; gymnasium.wrappers.TransformObservation makes one")
    if not all(leaf.dtype.kind in "fiub" for leaf in _leaves(observations) if isinstance(leaf, Box)):
        raise ConfigError(f"env: {name!r} observes {observations}, expected a Box of numbers; "
                          "gymnasium.wrappers.TransformObservation makes one")
    if isinstance(actions, Discrete) and not config.discrete:
        raise ConfigError(f"env: {name!r} acts in {actions}, {expected_discrete()}")
    if config.discrete:
        own = "discrete" in getattr(getattr(env.unwrapped, "task", None), "SETTINGS", ())      # of a tensor environment
        return _check_discrete(name, actions, """--env_kwargs='{"discrete": true}'""" if own else TRANSFORM)
    if is_image(observations) and not config.on_policy:
        raise ConfigError(f"env: {name!r} observes pictures, {observations.shape}, expected discrete actions and "
                          f"{any_of(bases(discrete=True))} for them, or gymnasium.wrappers.FlattenObservation, which "
                          "makes a vector of the pixels")
    _check_box(name, actions)


def _leaves(space: gym.Space) -> list[gym.Space]:
    """The spaces that a space consists of, without dicts and tuples."""
    if not isinstance(space, (Dict, Tuple)):
        return [space]
    return [leaf for _, part in _parts(space) for leaf in _leaves(part)]


def _check_discrete(name: str, actions: gym.Space, way: str) -> None:
    if not (isinstance(actions, Discrete) and actions.start == 0):
        raise ConfigError(f"env: {name!r} acts in {actions}, expected Discrete actions, from 0, for "
                          f"{any_of(bases(discrete=True))}; {way} makes them"
                          + f", or choose {any_of(bases(discrete=False))}" * isinstance(actions, Box))


def _check_box(name: str, actions: gym.Space) -> None:
    if not isinstance(actions, Box) or len(actions.shape) != 1 or actions.dtype.kind != "f":
        raise ConfigError(f"env: {name!r} acts in {actions}, expected a Box of floats with one dimension; "
                          "gymnasium.wrappers.TransformAction makes one")
    if not (np.isfinite(actions.low).all() and np.isfinite(actions.high).all()):
        raise ConfigError(f"env: {name!r} acts in {actions}, expected finite bounds, to which actions are rescaled; "
                          "gymnasium.wrappers.TransformAction gives a Box that has them")
