"""Algorithms written for EmbodiChain's trainer: they gather their own rollouts and make their own updates.

`register_algo` makes such a class an algorithm of `--alg`; `Published` is the agent around it.
"""

from __future__ import annotations

import abc
import importlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.on_policy_torch import OnPolicy
from algorithm.batch import Batch, Spec, observations
from algorithm.collecting import OnStep, joined
from algorithm.policy.base import Policy
from algorithm.registry import load, register_algorithm
from algorithm.replay_buffer.rollout import RolloutBuffer
from utils.autoreset import AutoReset
from utils.errors import ConfigError
from utils.settings.algorithms import ALGORITHMS, bases
from utils.settings.fields import Config
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes
from utils.text import did_you_mean


class BaseAlgorithm(abc.ABC):
    """An algorithm that is built as `(cfg, policy)`, with the settings of ppo as attributes of `cfg`.

    Attributes:
        train_info: the names of the metrics of `update` that are columns of the record.
    """

    train_info: ClassVar[tuple[str, ...]] = ()

    def initialize_buffer(self, num_steps: int, num_envs: int, obs_dim: int, action_dim: int) -> None:  # noqa: B027
        """Make the memory of a rollout; called once, before the first one."""

    @abc.abstractmethod
    def collect_rollout(self, env: Any, policy: Policy, obs: Tensor, num_steps: int,
                        on_step_callback: Callable | None = None) -> dict[str, Any]:
        """Take `num_steps` steps of all environments.

        Args:
            env: a `ResettingEnv`; `env.step(actions)` returns obs, reward, terminated, truncated and info.
            obs: what the environments observe now, (N, O).
            on_step_callback: to be called as (obs, actions, reward, done, info, next_obs) after each step.
        """

    @abc.abstractmethod
    def update(self) -> dict[str, float]:
        """Make all updates that are due on the rollout; return metrics."""


class ResettingEnv(AutoReset):
    """A run's environment as an algorithm of a user's own sees it: it counts the steps, and prepares observations."""

    def __init__(self, agent: OnPolicy, env: Any, buffer: RolloutBuffer, on_step: OnStep):
        """`buffer` gets the steps, for the record; `on_step` is called after each."""
        super().__init__(env)
        self.agent, self.buffer, self.on_step = agent, buffer, on_step

    def seen(self, obs: Any) -> Tensor:
        """Return observations as the policy reads them, (N, O)."""
        return self.agent.prepare("obs", joined(obs))

    def acting(self, action: Tensor) -> Tensor:
        """Return actions clipped to [-1, 1], or indices."""
        return self.agent.for_env(action)

    def took(self, obs: Any, action: Tensor, step: tuple) -> None:
        """Count a step."""
        obs_next, rews, terminated, truncated, info = step
        obs, obs_next, over = joined(obs), joined(obs_next), terminated | truncated
        self.buffer.add({"obs": obs, "acts": action.detach(), "rews": rews, "terminated": terminated,
                         "truncated": truncated & ~terminated, "obs_next": obs_next})
        self.on_step(obs, self.acting(action), rews, over, info, obs_next)

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Tensor, dict]:
        """Begin new episodes, by the run's seed; see `AutoReset.reset`."""
        return super().reset(None, options)


class Published(OnPolicy):
    """The agent around an algorithm of a user's own, whose state is not saved: a run of it is not resumed."""

    resumable = False
    pays = False                                    # its rollouts are not open to a decomposition

    def __init__(self, config: Config, policy: Policy, build: Callable[[Config, Policy], BaseAlgorithm]):
        """`build` is called with the settings and the policy, which is on its device."""
        super().__init__(config, policy)
        self.algorithm = build(config, self.policy)
        self.train_info = tuple(getattr(self.algorithm, "train_info", ()))
        self.opened = self.finished = False

    def spec(self) -> Spec:
        """Return the fields that are checked: observations."""
        return {"obs": observations("B", *self.obs_dims)}

    def collect_rollout(self, env: Any, buffer: RolloutBuffer, steps: int, on_step: OnStep,
                        memory: Tensor | None = None) -> None:
        """Have the algorithm take its steps, which are counted here.

        Raises:
            ConfigError: it took another number of steps.
        """
        view = ResettingEnv(self, env, buffer, on_step)
        if not self.opened:
            self.algorithm.initialize_buffer(steps, env.num_envs, self.obs_dims[0], self.act_dim)
            self.opened = True
        self.algorithm.collect_rollout(view, self.policy, view.obs, steps, _already_counted)
        if buffer.length != steps:
            raise ConfigError(f"collect_rollout: {type(self.algorithm).__name__} took {buffer.length} steps, expected "
                              f"num_steps, {steps}")

    def finish_rollout(self, buffer: RolloutBuffer, obs: Tensor, memory: Tensor | None = None) -> None:
        """Do nothing: advantages are the algorithm's own."""

    def begin_updates(self, buffer: RolloutBuffer, permutations: Tensor | None = None) -> None:
        """Begin the one call of the algorithm's `update`."""
        buffer.begin(("obs",), 1, permutations)
        self.finished = False

    def update(self, sample: Callable[[], Batch]) -> Info:
        """Have the algorithm make all updates; return the metrics in `train_info`."""
        found = self.algorithm.update()
        if not isinstance(found, Mapping):
            raise ConfigError(f"update: {type(self.algorithm).__name__} returned a {type(found).__name__}, expected a "
                              "dict of numbers")
        self.finished = True
        self.counters["updates"] += 1
        info = {name: torch.as_tensor(float(found[name])) for name in self.train_info if name in found}
        if self.inspect is not None:
            self.inspect(info)
        return info

    def enough(self) -> bool:
        """Return whether `update` was called."""
        return self.finished

    def end_updates(self, buffer: RolloutBuffer, skipped: int = 0) -> None:
        """Count the rollout's observations."""
        super().end_updates(buffer)


def _already_counted(*step: Any) -> None:
    """Ignore a step: `ResettingEnv` has counted it."""


BUILT: dict[str, Callable] = {}                     # name -> class, of those that `register_algo` has registered


def register_algo(name: str, **defaults: Any) -> Callable[[type], type]:
    """Decorate a class that is an algorithm of `--alg`, built as `(cfg, policy)`: a `BaseAlgorithm`, or an `OnPolicy`.

    Args:
        name: the name; registering it again replaces the algorithm.
        defaults: the defaults of settings that differ from ppo's.
    Raises:
        ConfigError: names what is wrong; nothing was registered.
    """
    def register(build: type) -> type:
        whole = isinstance(build, type) and issubclass(build, OnPolicy)
        make = build if whole else lambda config, policy: Published(config, policy, build)
        register_algorithm(name, like="ppo", **defaults)(make)
        BUILT[name] = build
        return build
    return register


def get_registered_algo_names() -> list[str]:
    """Return the names of the algorithms that learn from rollouts."""
    return [name for name in bases() if ALGORITHMS[name].on_policy]


def build_algo(name: str, cfg: Any, policy: Policy, device: Any = None) -> Any:
    """Build an algorithm around a policy, a `BaseAlgorithm`.

    Args:
        cfg: settings: a mapping, such as `algorithm.cfg` of a file, or an object with attributes; of a built-in
            algorithm a mapping, with a policy of `build_policy`, or a resolved Config with its sizes.
        device: where the policy is moved to; None: it stays.
    Raises:
        ConfigError: the name or a setting is unknown.
    """
    known = get_registered_algo_names()
    name = name if name in known else name.lower()
    if name not in known:
        raise ConfigError(f"algorithm: got {name!r}{did_you_mean(name, known)}, expected one of {', '.join(known)}")
    policy = policy if device is None else policy.to(device)
    config = _settings(name, cfg, policy) if isinstance(cfg, Mapping) else cfg
    built = BUILT.get(name, load("alg", name, "pytorch"))(config, policy)
    return load_driven()(built) if isinstance(built, OnPolicy) else built


def _settings(name: str, cfg: Mapping[str, Any], policy: Policy) -> Config:
    """Return resolved settings, with the sizes that the policy was built for, if it knows them."""
    steps = max(ALGORITHMS[name].defaults["rollout_steps"], int(cfg.get("batch_size") or 0))
    fitting = {"rollout_steps": steps, **({"num_envs": cfg.get("group_size", 4)} if name == "grpo" else {})}
    config = resolve({"alg": name, "device": str(policy.device), **fitting, **cfg})     # the rollout's size comes later
    sizes = getattr(policy, "config", None)
    if getattr(sizes, "obs_dims", None) is None:
        return config
    return with_sizes(config, sizes.obs_dims, sizes.acts_dims, acts_discrete=sizes.acts_discrete,
                      obs_parts=sizes.obs_parts)


def load_driven() -> Callable[[OnPolicy], BaseAlgorithm]:
    """Return the class that puts an `OnPolicy` into the trainer's loop."""
    return importlib.import_module("algorithm.basis_alg.driven_torch").Driven
