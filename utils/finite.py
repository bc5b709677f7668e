"""Checks for numbers that are not finite; such a number stops a run."""

from __future__ import annotations

import numpy as np

from utils.errors import EpisodeNotFiniteError, NotFiniteError  # noqa: F401 (imported from here)

LARGEST = float(np.finfo(np.float32).max)           # that replay can hold


def all_finite(values: np.ndarray) -> bool:
    """Return whether all values are finite as float32; integers (pictures) always are."""
    return values.dtype.kind != "f" or bool((np.abs(values) <= LARGEST).all())


def is_finite(value: float) -> bool:
    """Return whether a number is finite as float32."""
    return abs(value) <= LARGEST                        # False for NaN


def check_observation(obs: np.ndarray, where: str) -> None:
    """Check one observation, (O,) or a picture of any type.

    Args:
        where: the step, and the environment if there are several, for the message.
    Raises:
        NotFiniteError: a component is not finite.
    """
    if all_finite(obs):
        return
    places = np.argwhere(~(np.abs(obs) <= LARGEST))
    first = tuple(map(int, places[0]))
    more = f" ({len(places)} of {obs.size} components are not finite)" if len(places) > 1 else ""
    raise EpisodeNotFiniteError(f"observation[{', '.join(map(str, first))}]: got {obs[first]} {where}{more}; expected "
                                "finite numbers")


def check_reward(reward: float, where: str, name: str = "reward") -> None:
    """Check the reward of a step, which replay holds as float32.

    Args:
        where: the step, for the message.
        name: the kind of reward, for the message.
    Raises:
        NotFiniteError: it is not finite.
    """
    if not is_finite(reward):
        raise EpisodeNotFiniteError(f"{name}: got {float(reward)} {where}; expected a finite float32")


def place(steps: int, step: int) -> str:
    """Return the place for a message: steps of the run so far, and step of the episode, 0 for its first observation."""
    return f"at step {steps}, {f'step {step}' if step else 'the start'} of its episode"
