"""Restore an environment in the middle of an episode from its state before the reset and the actions since.

Playing the actions again is exact. A copy of the physics is not: MuJoCo's reward reads arrays that positions and
velocities do not determine, and a pickled environment loses them silently.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from envs.atari import import_atari
from utils import global_draws
from utils.seeding import stream_seed

State = dict[str, Any]              # JSON values


def random_state(env: gym.Env) -> State:
    """The state of the environment's random generators, and for a game its whole state, which includes its generator.

    A layer (the environment or a wrapper) with another generator may define `random_state()`, which returns JSON
    values, and `set_random_state(state)`.
    """
    state: State = {}
    if (draws := global_draws.drawn()) is not None:
        state["0 global"] = draws
    for i, space in enumerate(_spaces(env)):
        if _has_generator(space):
            state[f"{i} space"] = space.np_random.bit_generator.state
    for i, layer in enumerate(layers(env)):
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
    parts, spaces = layers(env), _spaces(env)
    for name, value in state.items():
        number, kind = name.split()
        if kind == "global":
            global_draws.set_state(value)
            continue
        layer = spaces[int(number)] if kind == "space" else parts[int(number)]
        if kind == "own":
            layer.set_random_state(value)
        elif kind in ("numpy", "space"):
            layer.np_random.bit_generator.state = value
        else:
            ale_py, _ = import_atari()
            layer.ale.restoreState(ale_py.ALEState(bytes.fromhex(value)))


def seed_spaces(env: gym.Env, seed: int) -> None:
    """Seed the spaces of an environment, from which some draw by `sample()`; `reset(seed=...)` does not.

    A space of the environment's class, which other environments share, becomes a copy of its own.
    """
    for name in ("observation_space", "action_space"):
        if isinstance(getattr(type(env.unwrapped), name, None), gym.Space) and name not in vars(env.unwrapped):
            setattr(env.unwrapped, name, copy.deepcopy(getattr(env.unwrapped, name)))
    for i, space in enumerate(_own_spaces(env)):
        space.seed(stream_seed(seed, f"space {i}"))


class OwnDraws:
    """What an environment draws from and may share with the one that trains: global generators, spaces of its class."""

    def __init__(self, env: gym.Env, seed: int):
        self.env, self.globals = env, global_draws.Own(seed)
        outer = _space_states(env)
        seed_spaces(env, seed)
        self.spaces = _space_states(env)
        _set_space_states(env, outer)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Draw from its own streams inside the block."""
        outer = _space_states(self.env)
        _set_space_states(self.env, self.spaces)
        try:
            with self.globals.active():
                yield
        finally:
            self.spaces = _space_states(self.env)
            _set_space_states(self.env, outer)


def _space_states(env: gym.Env) -> list[State | None]:
    return [copy.deepcopy(space.np_random.bit_generator.state) if _has_generator(space) else None
            for space in _spaces(env)]


def _set_space_states(env: gym.Env, states: list[State | None]) -> None:
    for space, state in zip(_spaces(env), states, strict=True):
        if state is not None:                           # a space that nobody had seeded stays as it is
            space.np_random.bit_generator.state = state


def _own_spaces(env: gym.Env) -> list[gym.Space]:
    spaces = (getattr(env.unwrapped, name, None) for name in ("observation_space", "action_space"))
    return [space for space in spaces if isinstance(space, gym.Space)]


def _spaces(env: gym.Env) -> list[gym.Space]:
    """The spaces of an environment, and the spaces in them."""
    found, pending = [], _own_spaces(env)
    while pending:
        space = pending.pop(0)
        parts = getattr(space, "spaces", ())
        pending += parts.values() if isinstance(parts, Mapping) else parts
        found.append(space)
    return found


def _has_generator(space: gym.Space) -> bool:
    return getattr(space, "_np_random", None) is not None


def layers(env: gym.Env) -> list[gym.Env]:
    """The wrappers, the outermost first, then the environment."""
    found = [env]
    while isinstance(found[-1], gym.Wrapper):
        found.append(found[-1].env)
    return found


class Origin:
    """Resets an environment and keeps the seed and the state from which the episode began."""

    def __init__(self, env: gym.Env, seed: int):
        self.env, self.seed = env, seed
        self.episodes = 0
        self.before: State | None = None            # None: the first episode, which begins from the seed
        self.start: State | None = None             # of the global generators, before the first episode

    def reset(self):
        """Begin the next episode; returns the first observation and `info`."""
        self.before = random_state(self.env) if self.episodes else None
        if self.before is None:
            self.start = global_draws.state()
        self.episodes += 1
        return self._reset_by_seed() if self.before is None else self.env.reset()

    def _reset_by_seed(self):
        seed_spaces(self.env, self.seed)
        return self.env.reset(seed=self.seed)

    def again(self, before: State | None):
        """Begin the episode that began from `before` again, in an environment that was just made."""
        self.episodes, self.before = 1, before
        if self.start is not None:
            global_draws.set_state(self.start)
        first = self._reset_by_seed()               # parts that an environment builds once depend on its seed
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
