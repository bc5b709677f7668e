"""Registering algorithms and decompositions, loading them, and the one place that chooses the backend."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from utils.errors import ConfigError
from utils.settings.algorithms import ALGORITHMS, TRANSITIONS, Algorithm, bases, decompositions, names, referenced
from utils.settings.fields import FIELDS
from utils.settings.own import checked_settings
from utils.settings.resolve import coerce
from utils.settings.setting import GROUPS, Setting


def register_algorithm(name: str, *, like: str = "sac", settings: Sequence[Setting] = (),
                       **defaults: Any) -> Callable[[Callable], Callable]:
    """Decorate a class or function that `create_agent` calls for `alg` (or a decomposition's `basis_alg`) `name`.

    It is called with one object that has the settings as attributes and, if `create_agent` got an object with other
    attributes, those as well. As a basis, and for train.py, it must give an `Agent`.

    Args:
        name: the name; registering it again replaces the algorithm.
        like: the algorithm whose settings and defaults it has; like dqn, it has discrete actions.
        settings: settings of its own, which are flags, JSON keys and schema entries like the built-in ones.
        defaults: the defaults that differ, or the built-in settings that it reads besides.
    Raises:
        ConfigError: names what is wrong; nothing was registered.
    """
    _check_name("register_algorithm", name, decompositions())
    if like not in bases():
        raise ConfigError(f"like: got {like!r}, expected one of {', '.join(bases())}")
    inherited = ALGORITHMS[like].defaults
    own = checked_settings(name, settings, inherited)
    defaults = _checked_defaults(defaults, inherited) | {one.name: one.default for one in own}

    def register(build: Callable) -> Callable:
        _check_callable("register_algorithm", name, build)
        ALGORITHMS[name] = dataclasses.replace(ALGORITHMS[like], entry=build, reference=None, replay=TRANSITIONS,
                                               defaults=inherited | defaults, settings=_without_default(own))
        return build
    return register


def register_decomposition(name: str, *, replay: type | None = None, settings: Sequence[Setting] = (),
                           **defaults: Any) -> Callable[[Callable], Callable]:
    """Register a return decomposition as `alg` `name`: decorate a class or a function.

    It is called as `(config, generator)`, with the settings and the generator of first weights, and returns the model:
    an `algorithm.decomposition.base.Decomposition`. `algorithm.decomposition.agent.Decomposed` joins it to the agent of
    `basis_alg`.

    Args:
        name: the name; registering it again replaces the decomposition.
        replay: the subclass of `algorithm.replay_buffer.transition.TransitionReplay` that `create_buffer` builds, as
            `replay(config)`; that class itself if None.
        settings: settings of its own, which are flags, JSON keys and schema entries like the built-in ones.
        defaults: the built-in settings that it reads besides its basis', or whose defaults differ.
    Raises:
        ConfigError: names what is wrong; nothing was registered.
    """
    _check_name("register_decomposition", name, [one for one in names() if ALGORITHMS[one].built_in or one in bases()])
    if replay is not None:
        from algorithm.replay_buffer.transition import TransitionReplay
        if not (isinstance(replay, type) and issubclass(replay, TransitionReplay)):
            raise ConfigError(f"replay: got {replay!r}, expected a subclass of "
                              "algorithm.replay_buffer.transition.TransitionReplay, or None for that class itself")
    own = checked_settings(name, settings, {})
    defaults = _checked_defaults(defaults, {}) | {one.name: one.default for one in own}

    def register(build: Callable) -> Callable:
        _check_callable("register_decomposition", name, build)
        ALGORITHMS[name] = Algorithm(build, replay=replay or TRANSITIONS, defaults=defaults, decomposition=True,
                                     labels=True, diagnosed=True, settings=_without_default(own))
        return build
    return register


def _check_name(decorator: str, name: str, taken: Iterable[str]) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name) or name in taken:
        raise ConfigError(f"name: got {name!r}, expected a word other than {', '.join(taken)}: @{decorator}(\"mine\")")


def _checked_defaults(defaults: Mapping[str, Any], inherited: Mapping[str, Any]) -> dict[str, Any]:
    """In their types and ranges; only settings that may depend on the algorithm are allowed."""
    checked = {name: coerce(name, value) for name, value in defaults.items()}
    for name in checked:
        if name not in FIELDS and name not in inherited:
            raise ConfigError(f"{name}: a setting of another algorithm; expected like= that algorithm, or a "
                              "setting of another name in settings=[...]")
        if name in FIELDS and not FIELDS[name].group.per_algorithm:
            headings = [group.heading for group in GROUPS.values() if group.per_algorithm]
            raise ConfigError(f"{name}: not a setting whose default an algorithm has; those are in --help's groups "
                              f"{', '.join(headings)}")
    return checked


def _without_default(own: Iterable[Setting]) -> tuple[Setting, ...]:
    """The settings as the table keeps them: their defaults are among those of the algorithm, which alone reads them."""
    return tuple(dataclasses.replace(one, default=None) for one in own)


def _check_callable(decorator: str, name: str, build: Any) -> None:
    if not callable(build):
        raise ConfigError(f"{name}: @{decorator} got a {type(build).__name__}, expected a class or a function")


def check_agent(field: str, name: str, agent: Any) -> None:
    """Raise a ConfigError if what was built is no agent."""
    from algorithm.basis_alg.base_torch import Agent
    if not isinstance(agent, Agent):
        raise ConfigError(f"{field}: {name!r} builds a {type(agent).__name__}, "
                          "expected a subclass of algorithm.basis_alg.base_torch.Agent")


def check_paid(name: str, agent: Any) -> None:
    """Raise a ConfigError if the steps of an agent cannot be paid by a decomposition."""
    if not getattr(agent, "pays", True) and not agent.on_policy:
        raise ConfigError(f"basis_alg: {name!r} learns from returns over several steps, and a decomposition pays "
                          "single ones; expected an agent of single steps, such as dqn or iqn")
    if not getattr(agent, "pays", True):
        raise ConfigError(f"basis_alg: {name!r} computes its advantages itself, from the environment's rewards; "
                          "expected an OnPolicy, such as a subclass of algorithm.basis_alg.ppo_torch.PPO")


def check_decomposition(name: str, model: Any) -> None:
    from algorithm.decomposition.base import Decomposition
    if not isinstance(model, Decomposition):
        raise ConfigError(f"alg: {name!r} builds a {type(model).__name__}, "
                          "expected a subclass of algorithm.decomposition.base.Decomposition")


def check_backend(args: Any = None) -> str:
    """The chosen backend, "pytorch" or "tensorflow"; it is installed.

    Raises:
        ConfigError: the choice is none of the allowed words, or TensorFlow is not installed.
    """
    if use_pytorch(args):
        return "pytorch"
    from algorithm.tf.importing import import_tensorflow
    import_tensorflow()
    return "tensorflow"


def use_pytorch(args: Any = None) -> bool:
    """Whether the backend is PyTorch: by `args.use_pytorch`, else by the variable USE_PYTORCH; PyTorch by default."""
    field, value = "use_pytorch", getattr(args, "use_pytorch", None)
    if value is None:
        field, value = "USE_PYTORCH", os.environ.get("USE_PYTORCH", "")
    words = {"": True, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if str(value).lower() not in words:
        raise ConfigError(f"{field}: got {value!r}, expected 1, true, yes (PyTorch) or 0, false, no (TensorFlow)")
    return words[str(value).lower()]


def load(field: str, name: str, backend: str) -> Callable:
    """The class or function that builds an algorithm, of this backend.

    Args:
        field: the setting that names it, for the error.
    Raises:
        ConfigError: TensorFlow has no reference of it.
    """
    algorithm = ALGORITHMS[name]
    entry = algorithm.entry if backend == "pytorch" else algorithm.reference
    if entry is None:
        raise ConfigError(f"{field}: got {name!r}, which is for PyTorch only; expected one of "
                          f"{', '.join(referenced())}, which have a TensorFlow reference, or USE_PYTORCH=1")
    return _load(entry)


def load_replay_class(name: str) -> Callable:
    """The class that builds the replay of an algorithm."""
    return _load(ALGORITHMS[name].replay)


def _load(entry: str | Callable) -> Callable:
    if not isinstance(entry, str):
        return entry
    module, _, attribute = entry.partition(":")
    return getattr(importlib.import_module(module), attribute)
