"""Agents, decompositions and replays by name, and the one place that chooses the backend."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from utils.errors import ConfigError
from utils.settings.fields import ALGORITHMS, DECOMPOSITIONS, DIAGNOSED, DISCRETE, FIELDS, LEARNED
from utils.settings.resolve import coerce

_REGISTRY: dict[str, str | Callable] = {
    "ddpg": "algorithm.basis_alg.ddpg_torch:DDPG",
    "td3": "algorithm.basis_alg.td3_torch:TD3",
    "sac": "algorithm.basis_alg.sac_torch:SAC",
    "dqn": "algorithm.basis_alg.dqn_torch:DQN",
    "rrd": "algorithm.decomposition.rrd:RRD",
    "ircr": "algorithm.ircr_torch:ircr",
    "uniform": "algorithm.uniform:uniform",
}
_TENSORFLOW: dict[str, str | Callable] = {
    **{name: f"algorithm.tf.{name}:{name.upper()}" for name in ("ddpg", "td3", "sac", "dqn", "rrd")},
    "ircr": "algorithm.tf.rrd:ircr",
    "uniform": "algorithm.uniform:uniform",
}
# The replays of decompositions; all else learns from plain transitions.
_REPLAYS: dict[str, str | type] = {
    "rrd": "algorithm.replay_buffer.subsequence:SubsequenceReplay",
    "ircr": "algorithm.replay_buffer.ircr:IRCRReplay",
    "uniform": "algorithm.replay_buffer.uniform:UniformReplay",
}
_TRANSITIONS = "algorithm.replay_buffer.transition:TransitionReplay"


def register_algorithm(name: str, *, like: str = "sac", **defaults: Any) -> Callable[[Callable], Callable]:
    """Decorator of a class or function: `create_agent` with `alg` (or a decomposition's `basis_alg`) `name` calls it.

    It is called with one object that has the attributes of `args` and, for what is missing there, of the filled-in
    `Config`. As a basis, and for train.py, what it gives must be an `Agent`; a decomposition then takes its losses, its
    actions, its targets and its normaliser, and does `train` and `update` itself.

    Args:
        name: the name; registering it again replaces the class.
        like: the algorithm whose settings and defaults it has; like dqn, it has discrete actions.
        defaults: those that differ, or that it reads besides, of `utils.settings.fields.Config`'s settings. Settings of
            your own are simply attributes of `args`.
    Raises:
        ConfigError: names what is wrong; nothing was registered.
    """
    _check_new("register_algorithm", name, DECOMPOSITIONS)
    if like not in ALGORITHMS:
        raise ConfigError(f"like: got {like!r}, expected one of {', '.join(ALGORITHMS)}")
    defaults = _checked_defaults(defaults)

    def register(build: Callable) -> Callable:
        _check_callable("register_algorithm", name, build)
        _REGISTRY[name] = build
        ALGORITHMS[name] = ALGORITHMS[like] | defaults
        _list(DISCRETE, name, like in DISCRETE)
        return build
    return register


def register_decomposition(name: str, *, replay: type | None = None, diagnosed: bool = False,
                           **defaults: Any) -> Callable[[Callable], Callable]:
    """Decorator of a class or function: `create_agent` with `alg` `name` calls it as `(config, basis)`.

    `basis` is the agent of `basis_alg`. What it gives is the agent that is trained: the basis itself, where the replay
    pays the steps, or an `Agent` that wraps it, such as a subclass of `algorithm.decomposition.rrd.RRD`.

    Args:
        name: the name; registering it again replaces the decomposition.
        replay: the subclass of `algorithm.replay_buffer.transition.TransitionReplay` that `create_buffer` builds, as
            `replay(config)`; that class itself if None.
        diagnosed: whether `--diagnose_every` and `evaluate.py --diagnose` judge its rewards. Then the agent has
            `predict_reward` as RRD has it, or `predict_rewards` of a whole episode, which wins; or the replay has
            `predict_rewards` as `IRCRReplay` has it.
        defaults: the settings of `utils.settings.fields.Config` that it reads besides its basis', or whose defaults
            differ.
    Raises:
        ConfigError: names what is wrong; nothing was registered.
    """
    _check_new("register_decomposition", name, ALGORITHMS | _TENSORFLOW)
    if replay is not None:
        from algorithm.replay_buffer.transition import TransitionReplay
        if not (isinstance(replay, type) and issubclass(replay, TransitionReplay)):
            raise ConfigError(f"replay: got {replay!r}, expected a subclass of "
                              "algorithm.replay_buffer.transition.TransitionReplay, or None for that class itself")
    defaults = _checked_defaults(defaults)

    def register(build: Callable) -> Callable:
        _check_callable("register_decomposition", name, build)
        _REGISTRY[name], _REPLAYS[name], DECOMPOSITIONS[name] = build, replay or _TRANSITIONS, defaults
        _list(DIAGNOSED, name, diagnosed)
        return build
    return register


def _check_new(decorator: str, name: str, taken: Mapping[str, Any]) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name) or name in taken:
        raise ConfigError(f"name: got {name!r}, expected a word other than {', '.join(taken)}: @{decorator}(\"mine\")")


def _checked_defaults(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """In their types and ranges, of settings that may depend on the algorithm."""
    checked = {setting: coerce(setting, value) for setting, value in defaults.items()}
    for setting in checked:
        if not FIELDS[setting].metadata["section"].startswith(LEARNED):
            raise ConfigError(f"{setting}: not a setting whose default an algorithm has; those are in --help's groups "
                              f"{', '.join(LEARNED)}")
    return checked


def _check_callable(decorator: str, name: str, build: Any) -> None:
    if not callable(build):
        raise ConfigError(f"{name}: @{decorator} got a {type(build).__name__}, expected a class or a function")


def _list(names: list[str], name: str, belongs: bool) -> None:
    """A name registered anew may have belonged."""
    names[:] = [one for one in names if one != name] + [name] * bool(belongs)


def _check_agent(field: str, name: str, agent: Any) -> None:
    from algorithm.basis_alg.base_torch import Agent
    if not isinstance(agent, Agent):
        raise ConfigError(f"{field}: {name!r} builds a {type(agent).__name__}, "
                          "expected a subclass of algorithm.basis_alg.base_torch.Agent")


def check_backend(args: Any = None) -> str:
    """The chosen backend, "pytorch" or "tensorflow", once it is sure to be there.

    Raises:
        ConfigError: the choice is none of the allowed words, or TensorFlow is not installed.
    """
    if use_pytorch(args):
        return "pytorch"
    from algorithm.tf.importing import import_tensorflow
    import_tensorflow()
    return "tensorflow"


def use_pytorch(args: Any = None) -> bool:
    """Which backend: `args.use_pytorch`, else the variable USE_PYTORCH, else PyTorch."""
    field, value = "use_pytorch", getattr(args, "use_pytorch", None)
    if value is None:
        field, value = "USE_PYTORCH", os.environ.get("USE_PYTORCH", "")
    words = {"": True, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if str(value).lower() not in words:
        raise ConfigError(f"{field}: got {value!r}, expected 1, true, yes (PyTorch) or 0, false, no (TensorFlow)")
    return words[str(value).lower()]


def _load(registry: Mapping[str, str | Callable], name: str, default: str | None = None) -> Callable:
    entry = registry.get(name, default)
    if entry is None:
        raise ConfigError(f"alg: {name!r} is registered for PyTorch only; TensorFlow has {', '.join(registry)}")
    if isinstance(entry, str):
        module, _, attribute = entry.partition(":")
        entry = getattr(importlib.import_module(module), attribute)
    return entry
