"""An environment in the middle of an episode, brought back: its state before the reset, and the actions since.

Playing them again is exact. A copy of the physics is not: MuJoCo's reward reads arrays that positions and velocities do
not determine, and a pickled environment loses them silently.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from envs.atari import import_atari

State = dict[str, Any]              # what JSON can say


def random_state(env: gym.Env) -> State:
    """What the environment draws from: generators, and the whole of a game, which keeps its own.

    A layer (the environment, or a wrapper) that draws from something else may offer `random_state()`, what JSON can
    say, and `set_random_state(state)`.
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
    """Take over what `random_state` gave, in an environment that was made and first reset in the same way.

    Raises:
        ValueError, TypeError, KeyError: the state is not one of such an environment.
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
    """The wrappers from the outermost on, then the environment."""
    layers = [env]
    while isinstance(layers[-1], gym.Wrapper):
        layers.append(layers[-1].env)
    return layers


class Origin:
    """Resets an environment, and remembers what its episode began with."""

    def __init__(self, env: gym.Env, seed: int):
        self.env, self.seed = env, seed
        self.episodes = 0
        self.before: State | None = None            # of the first episode: it begins with the seed

    def reset(self):
        """The first observation of the next episode, and `info`."""
        self.before = random_state(self.env) if self.episodes else None
        self.episodes += 1
        return self.env.reset(seed=None if self.before else self.seed)

    def again(self, before: State | None):
        """The same of the episode that began with `before`, in an environment that was just made."""
        self.episodes, self.before = 1, before
        first = self.env.reset(seed=self.seed)      # what an environment builds once, it builds by its seed
        if before is None:
            return first
        set_random_state(self.env, before)
        return self.env.reset()


def replay_actions(origin: Origin, before: State | None, acts: np.ndarray) -> tuple[np.ndarray, list[tuple]]:
    """The episode that began with `before`, as far as the actions lead: the first observation, and a tuple
    (action, reward, terminated, observation) for each step. It ends early if the episode does.
    """
    first, _ = origin.again(before)
    first, steps = np.array(first), []
    for action in acts:
        obs, reward, terminated, truncated, _ = origin.env.step(action)
        steps.append((action, reward, terminated, np.array(obs)))
        if terminated or truncated:
            break
    return first, steps
