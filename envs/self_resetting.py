"""A user's batch of environments that resets itself, as EmbodiChain's trainer has them, as a tensor environment.

Such a class is called with one object, `cfg`, and has

    reset(seed=None, options={"reset_ids": ids}) -> (obs, info)
    step(action) -> (obs, reward, terminated, truncated, info)

where all are tensors (N, ...), rows that are over begin anew inside `step`, and `obs` is what they observe then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from envs.checks import check_spaces
from envs.state import Obs, below, choose, named, unnamed
from envs.task_settings import Value
from envs.tensor import Step, TensorEnv
from utils.errors import ConfigError

KINDS = ("rewards", "metrics")


class SelfResetting(TensorEnv):
    """The rows of a user's environment, which begin anew when the caller says so.

    `info["final_obs"]`, (N, ...), holds the last observations of the episodes that end. Without it the last one is
    lost, and the one before the step stands for it; that matters where a time limit cut the episode. What is saved are
    the tensors that the user's attribute STATE names, and the generator `generator`; without STATE, open episodes are
    not restored.
    """

    source: ClassVar[Callable[[Any], Any]]              # the user's class

    @classmethod
    def checked(cls, settings: Mapping[str, Any]) -> dict[str, Value]:
        """Return the settings, which are the user's own: attributes of `cfg`."""
        return dict(settings)

    def setup(self) -> None:
        seed = self.generator.initial_seed()
        cfg = SimpleNamespace(num_envs=self.num_groups, device=str(self.device), seed=seed,
                              **{"max_episode_steps": None, **self.settings})
        self.own, self.limit = type(self).source(cfg), cfg.max_episode_steps
        if isinstance(generator := getattr(self.own, "generator", None), torch.Generator):
            self.generator = generator                  # what is seeded and saved is what the user draws from
        self.observation_space, self.action_space = self._space("observation_space"), self._space("action_space")
        check_spaces(self)
        self.steps, self.fresh = self.zeros(dtype=torch.int64), self.zeros(dtype=torch.bool)
        self.begun = self._first(self.own.reset(seed=seed), 2)      # what the user's environment observes now
        self._try()

    def _space(self, name: str) -> gym.Space | None:
        """Return the space of one row."""
        return getattr(self.own, f"single_{name}", None) or getattr(self.own, name, None)

    def _try(self) -> None:
        """Take a step, which tells the names in `info["rewards"]` and `info["metrics"]`."""
        box = isinstance(self.action_space, Box)
        acts = self.zeros(*self.action_space.shape, dtype=self.dtype if box else torch.int64)
        step = self.own.step(acts)
        self.begun = self._first(step, 5)
        for kind in KINDS:
            setattr(self, kind, tuple(step[-1].get(kind, {})))

    def _first(self, found: Any, count: int) -> Obs:
        """Return the observations in what the user's `reset` or `step` returned."""
        if not isinstance(found, tuple) or len(found) != count or not isinstance(found[-1], Mapping):
            method = "reset, expected (obs, info)" if count == 2 else ("step, expected (obs, reward, terminated, "
                                                                      "truncated, info)")
            raise ConfigError(f"env: {type(self).__name__} gives a {type(found).__name__} from {method}")
        return self._typed(found[0])

    def _typed(self, obs: Obs) -> Obs:
        """Return observations of the environment's dtype; pictures as they are."""
        if isinstance(obs, Mapping):
            return {name: self._typed(value) for name, value in obs.items()}
        return obs if not isinstance(obs, Tensor) or obs.dtype == torch.uint8 else obs.to(self.dtype)

    def reset(self, mask: Tensor | None = None) -> Obs:
        """Begin a new episode; everywhere, if `mask` is None, also where one has just begun inside `step`."""
        if mask is None:
            self.fresh = torch.zeros_like(self.fresh)
        return super().reset(mask)

    def _reset(self, rows: Tensor) -> Obs:
        """Begin anew in these rows, but for those that have done so inside `step`."""
        waiting = rows & ~self.fresh
        if waiting.any():
            found = self.own.reset(options={"reset_ids": waiting.nonzero()[:, 0]})
            self.begun = choose(waiting, self._first(found, 2), self.begun)
        self.fresh = self.fresh & ~rows
        self.steps = self.steps.masked_fill(rows, 0)
        return self.begun

    def _step(self, acts: Tensor) -> Step:
        before, found = self.obs, self.own.step(acts)
        self.begun = self._first(found, 5)
        _, rews, terminated, truncated, info = found
        terminated, truncated = (torch.as_tensor(flags, dtype=torch.bool) for flags in (terminated, truncated))
        self.fresh = terminated | truncated
        self.steps = self.steps + 1
        final = before if info.get("final_obs") is None else self._typed(info["final_obs"])
        last = choose(self.fresh, final, self.begun) if self.fresh.any() else self.begun
        if self.limit is not None:
            truncated = truncated | (self.steps >= self.limit)
        told = {kind: {name: value.to(self.dtype) for name, value in info.get(kind, {}).items()} for kind in KINDS}
        return last, torch.as_tensor(rews, dtype=self.dtype), terminated, truncated, told

    def render(self, row: int = 0) -> np.ndarray:
        return self.own.render() if hasattr(self.own, "render") else super().render(row)

    def close(self) -> None:
        if hasattr(self.own, "close"):
            self.own.close()

    # Saved state ----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        own = {name: getattr(self.own, name) for name in getattr(self.own, "STATE", ())}
        own |= named("begun", self.begun) | {"steps": self.steps, "fresh": self.fresh}
        return super().state() | {f"own/{name}": tensor.detach().to("cpu", copy=True) for name, tensor in own.items()}

    def restore(self, state: Mapping[str, Tensor]) -> Tensor:
        settings, own = self.settings, below("own", state)
        super().restore(state)
        self._take(settings)
        if not getattr(self.own, "STATE", ()):          # their open episodes are lost, and begin anew
            self.reset()
            return torch.ones_like(self.active)
        for name in self.own.STATE:
            setattr(self.own, name, own[name].to(self.device, copy=True))
        self.begun = unnamed("begun", {name: tensor.to(self.device, copy=True) for name, tensor in own.items()})
        self.steps, self.fresh = (own[name].to(self.device, copy=True) for name in ("steps", "fresh"))
        return torch.zeros_like(self.active)


def adapted(build: type) -> type[SelfResetting]:
    """Return a tensor environment's class for a user's class."""
    names = {"source": staticmethod(build), "__module__": build.__module__, "__qualname__": build.__qualname__}
    return type(build.__name__, (SelfResetting,), names)
