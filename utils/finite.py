"""What is not finite stops a run, and is named."""

from __future__ import annotations

import numpy as np

from utils.errors import NotFiniteError

LARGEST = float(np.finfo(np.float32).max)           # what replay can hold


def all_finite(values: np.ndarray) -> bool:
    """Whether all are finite as float32; integers (pictures) are not looked at."""
    return values.dtype.kind != "f" or bool((np.abs(values) <= LARGEST).all())


def is_finite(value: float) -> bool:
    """Whether it is finite as float32."""
    return abs(value) <= LARGEST                        # a NaN is not


def check_observation(obs: np.ndarray, where: str) -> None:
    """Raises NotFiniteError unless one observation (O,), or a picture of any type, is finite.

    Args:
        where: the step, and the environment if there are several, as the message tells it.
    """
    if all_finite(obs):
        return
    places = np.argwhere(~(np.abs(obs) <= LARGEST))
    first = tuple(map(int, places[0]))
    more = f" ({len(places)} of {obs.size} components are not finite)" if len(places) > 1 else ""
    raise NotFiniteError(f"observation[{', '.join(map(str, first))}]: got {obs[first]} {where}{more}; expected finite "
                         "numbers")


def check_reward(reward: float, where: str, name: str = "reward") -> None:
    """Raises NotFiniteError unless a step's reward is finite, as the float32 that replay keeps."""
    if not is_finite(reward):
        raise NotFiniteError(f"{name}: got {float(reward)} {where}; expected a finite float32")
