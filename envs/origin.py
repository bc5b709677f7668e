"""Restore an environment in the middle of an episode from its state before the reset and the actions since.

Playing the actions again is exact. A copy of the physics is not: MuJoCo's reward reads arrays that positions and
velocities do not determine, and a pickled environment loses them silently.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from envs.atari import import_atari

State = dict[str, Any]              # JSON values


def random_state(env: gym.Env) -> State:
    """The state of the environment's random generators, and for a game its whole state, which includes its generator.

    A layer (the environment or a wrapper) with another generator may define `random_state()`, which returns JSON
    values, and `set_random_state(state)`.
    """
    state: State = {}
    for i, layer in enumerate(_layers(env)):
        if "random_state" in dir(type(layer)):
            state[f"{i} own"] = layer.random_state()
        elif not isinstance(layer, gym.Wrapper):
            if getattr(layer, "_np_random", None) is not None:
                state[f"{i} numpy"] = layer.np_random.bit_generator.state
            if hasattr(layer, "ale"):
                state[f"{i} game"] = layer.ale.cloneState(include_rng=True).serialize().hex()
    return state


def set_random_state(env: gym.Env, state: State) -> None:
    """Restore what `random_state` returned, in an environment that was made and first reset in the same way.

    Raises:
        ValueError, TypeError, KeyError: the state belongs to another environment.
    """
    layers = _layers(env)
    for name, value in state.items():
        number, kind = name.split()
        layer = layers[int(number)]
        if kind == "own":
            layer.set_random_state(value)
        elif kind == "numpy":
            layer.np_random.bit_generator.state = value
        else:
            ale_py, _ = import_atari()
            layer.ale.restoreState(ale_py.ALEState(bytes.fromhex(value)))


def _layers(env: gym.Env) -> list[gym.Env]:
    """The wrappers, the outermost first, then the environment."""
    layers = [env]
    while isinstance(layers[-1], gym.Wrapper):
        layers.append(layers[-1].env)
    return layers


class Origin:
    """Resets an environment and keeps the seed and the state from which the episode began."""

    def __init__(self, env: gym.Env, seed: int):
        self.env, self.seed = env, seed
        self.episodes = 0
        self.before: State | None = None            # None: the first episode, which begins from the seed

    def reset(self):
        """Begin the next episode; returns the first observation and `info`."""
        self.before = random_state(self.env) if self.episodes else None
        self.episodes += 1
        return self.env.reset(seed=None if self.before else self.seed)

    def again(self, before: State | None):
        """Begin the episode that began from `before` again, in an environment that was just made."""
        self.episodes, self.before = 1, before
        first = self.env.reset(seed=self.seed)      # parts that an environment builds once depend on its seed
        if before is None:
            return first
        set_random_state(self.env, before)
        return self.env.reset()


def replay_actions(origin: Origin, before: State | None, acts: np.ndarray) -> tuple[np.ndarray, list[tuple]]:
    """Play the episode that began from `before` again.

    Args:
        acts: the actions so far, (T, A), or (T,) indices.
    Returns:
        The first observation, and (action, reward, terminated, observation) for each step; fewer steps if the episode
        ends earlier.
    """
    first, _ = origin.again(before)
    first, steps = np.array(first), []
    for action in acts:
        obs, reward, terminated, truncated, _ = origin.env.step(action)
        steps.append((action, reward, terminated, np.array(obs)))
        if terminated or truncated:
            break
    return first, steps
