"""Stable-Baselines3 or SBX in a process of its own: `python benchmarks/stable_baselines.py MODULE DEVICE`.

`benchmarks.peers` starts it and asks it for the turns of its contestants. SBX is made by the same people for JAX, and
has the same interface.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.child import serve
from benchmarks.task import BATCH, ENV, EPISODE, OBS, WIDTHS, Spaces, make_bare
from benchmarks.timing import fixed_turn, median_seconds, rate_turn


class Model:
    """An agent with networks of our widths."""

    def __init__(self, library: ModuleType, basis: str, env: gym.Env, device: str, **kwargs: Any):
        noise = importlib.import_module("stable_baselines3.common.noise")
        logger = importlib.import_module("stable_baselines3.common.logger")
        if basis != "sac":                              # which explores by its own policy
            width = env.action_space.shape[0]
            kwargs["action_noise"] = noise.NormalActionNoise(np.zeros(width), np.full(width, 0.1))
        self.model = getattr(library, basis.upper())("MlpPolicy", env, batch_size=BATCH, device=device, seed=0,
                                                     policy_kwargs=dict(net_arch=WIDTHS[basis]), **kwargs)
        self.model.set_logger(logger.Logger(None, []))

    @classmethod
    def filled(cls, library: ModuleType, basis: str, steps: int, device: str) -> Model:
        """Make the model and fill its replay with random steps, as ours is filled."""
        self, random = cls(library, basis, Spaces(), device, buffer_size=steps), np.random.default_rng(0)
        replay = self.model.replay_buffer
        for array in (replay.observations, replay.next_observations, replay.actions, replay.rewards):
            block = random.standard_normal((min(EPISODE, steps), *array.shape[1:])).astype(np.float32)
            array[:] = np.resize(np.tanh(block) if array is replay.actions else block, array.shape)
        replay.full = True
        return self

    @property
    def replay_bytes(self) -> int:
        """The bytes of the replay's arrays."""
        return sum(array.nbytes for array in vars(self.model.replay_buffer).values() if isinstance(array, np.ndarray))

    def update(self, count: int) -> None:
        self.model.train(gradient_steps=count, batch_size=BATCH)

    def sample(self) -> None:
        self.model.replay_buffer.sample(BATCH)

    def step(self, obs: np.ndarray) -> np.ndarray:
        """Act once, exploring."""
        action, noise = self.model.predict(obs, deterministic=False)[0], self.model.action_noise
        return action if noise is None else np.clip(action + noise(), -1, 1)

    def run(self, steps: int) -> None:
        """Make `steps` more steps in the environment, with as many updates."""
        self.model.learn(steps, reset_num_timesteps=False, log_interval=None)


class Answers:
    """What this process is asked for; it holds the contestants of one measurement at a time."""

    def __init__(self, library: ModuleType, device: str):
        self.library, self.device = library, device
        self.turns: dict[str, Callable[[], float]] = {}

    def algorithm(self, basis: str, steps: int, count: int, seconds: float, calls: int) -> list[str]:
        """Get ready to be measured at updating, sampling and acting; return the names of the turns.

        The first updates, which compile, are made here. See `timing` for `count`, `seconds` and `calls`.
        """
        self.turns = {}
        model = Model.filled(self.library, basis, steps, self.device)
        obs = np.random.default_rng(0).standard_normal(OBS).astype(np.float32)
        self.turns = {"update": rate_turn(model.update, count, seconds),
                      "sample": functools.partial(median_seconds, model.sample, calls, 3),
                      "step": functools.partial(median_seconds, lambda: model.step(obs), calls, 3)}
        return [*self.turns]

    def run(self, longest: int, every: int, steps: int) -> list[str]:
        """Get ready to be measured at a run of SAC, in turns of `steps`; return the names of the turns.

        It begins with an episode of `longest` steps; then it alternates `every` steps and as many updates.
        """
        self.turns = {}
        model = Model(self.library, "sac", make_bare(ENV, longest), self.device, buffer_size=100_000,
                      learning_starts=longest, train_freq=(every, "step"), gradient_steps=-1)
        for part in (longest, every):                   # the first updates compile
            model.run(part)
        self.turns = {"run": fixed_turn(model.run, steps)}
        return [*self.turns]

    def turn(self, name: str) -> float:
        """Take a turn; return its seconds per update, sample or step."""
        return self.turns[name]()

    def replay_bytes(self, steps: int) -> int:
        """The bytes of a replay of `steps`."""
        return Model.filled(self.library, "sac", steps, self.device).replay_bytes


def main(module: str, device: str) -> None:
    """Answer until the input ends."""
    answers = Answers(importlib.import_module(module), device)
    serve({name: getattr(answers, name) for name in ("algorithm", "run", "turn", "replay_bytes")})


if __name__ == "__main__":
    main(*sys.argv[1:])
