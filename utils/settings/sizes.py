"""The sizes of observations and actions, with which a Config is complete."""

from __future__ import annotations

import dataclasses
import operator
from typing import Any

from utils.errors import ConfigError
from utils.settings.algorithms import ALGORITHMS, any_of, bases, decompositions
from utils.settings.fields import Config


def with_sizes(config: Config, obs_dims: Any, acts_dims: Any, obs_scale: Any = None,
               acts_discrete: bool | None = None, obs_parts: Any = None) -> Config:
    """The Config with the sizes of its task.

    Args:
        obs_dims: the width of a vector, as a number or a sequence of one; over discrete actions also (height, width,
            channels) of images.
        acts_dims: the width of an action, or the number of discrete actions.
        acts_discrete: on policy, whether actions are indices; None: they are not.
        obs_parts: on policy, (name, shape) of each part of a dict of observations, in alphabetical order.
        obs_scale: what DQN's `step` divides raw observations by; None: 255 for images, 1 for vectors.
    Raises:
        ConfigError: a size is missing or wrong, or the networks do not fit it.
    """
    if config.on_policy:
        discrete = config.acts_discrete if acts_discrete is None else bool(acts_discrete)
        config = dataclasses.replace(config, acts_discrete=bool(discrete), obs_parts=obs_parts or config.obs_parts)
    obs_dims = _dims("obs_dims", obs_dims, images=config.discrete or config.on_policy)
    if config.dueling and len(obs_dims) == 1:
        raise ConfigError(f"dueling: got True over vectors {obs_dims}, expected images (height, width, channels): "
                          "its heads follow the convolutions")
    return dataclasses.replace(config, obs_dims=obs_dims, acts_dims=_dims("acts_dims", acts_dims),
                               obs_scale=_obs_scale(obs_scale, obs_dims))


def of_spaces(config: Config, observation_space: Any, action_space: Any) -> Config:
    """The Config with the sizes of Gymnasium's spaces: a Box of numbers, and a Box of one dimension or Discrete.

    Raises:
        ConfigError: a space is of another kind, or does not fit the algorithm.
    """
    if config.on_policy:
        config = dataclasses.replace(config, acts_discrete=hasattr(action_space, "n"))
    acts = _discrete_actions(action_space) if config.discrete else _continuous_actions(action_space)
    shape, images = getattr(observation_space, "shape", None), config.discrete or config.on_policy
    if len(shape or ()) not in (1, 3 if images else 1):
        expected = "a Box of one dimension" + ", or of images (height, width, channels)" * images
        raise ConfigError(f"observation_space: got {observation_space}, expected {expected}")
    return with_sizes(config, shape, acts)


def expected_discrete() -> str:
    """The choices for discrete actions, for an error."""
    some = bases(discrete=True)
    paid = [f"--basis_alg={name}" for name in some if ALGORITHMS[name].paid]
    return f"expected {any_of([f'--alg={name}' for name in some])}, or {any_of(paid)} with {any_of(decompositions())}"


def _discrete_actions(space: Any) -> int:
    count = getattr(space, "n", None)
    if count is None or getattr(space, "start", 0) != 0:
        raise ConfigError(f"action_space: got {space}, expected Discrete actions, from 0, for "
                          f"{any_of(bases(discrete=True))}")
    return int(count)


def _continuous_actions(space: Any) -> tuple[int, ...]:
    if hasattr(space, "n"):
        raise ConfigError(f"action_space: got {space}, {expected_discrete()}")
    if len(getattr(space, "shape", None) or ()) != 1:
        raise ConfigError(f"action_space: got {space}, expected a Box of one dimension")
    return space.shape


def _dims(name: str, value: Any, images: bool = False) -> tuple[int, ...]:
    """A vector's width or, where `images` are allowed, (height, width, channels), as a tuple."""
    expected = "the width of a vector, such as 27 or (27,)" + ", or an image's (height, width, channels)" * images
    if value is None:
        raise ConfigError(f"{name}: missing, expected {expected}")
    sizes = list(value) if hasattr(value, "__len__") else [value]
    try:
        dims = tuple(operator.index(size) for size in sizes if not isinstance(size, bool))
    except TypeError:
        dims = ()
    if len(dims) != len(sizes) or len(dims) not in (1, 3 if images else 1) or not all(0 < d < 2**31 for d in dims):
        raise ConfigError(f"{name}: got {value!r}, expected {expected}")
    return dims


def _obs_scale(value: Any, obs_dims: tuple[int, ...]) -> float:
    """As given; by default 255 for images, since a batch holds pixels / 255, and 1 for vectors."""
    if value is None:
        return 255.0 if len(obs_dims) == 3 else 1.0
    try:
        scale = float(value)
    except (TypeError, ValueError):
        scale = 0.0
    if not 0 < scale < float("inf"):
        raise ConfigError(f"obs_scale: got {value!r}, expected a finite number above 0")
    return scale
