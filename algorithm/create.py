"""Agents and replays from settings."""

from __future__ import annotations

import dataclasses
import warnings
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from algorithm.registry import check_agent, check_backend, check_decomposition, check_paid, load, load_replay_class
from utils.errors import ConfigError
from utils.settings.algorithms import ALGORITHMS, decompositions, is_decomposition, is_on_policy, names
from utils.settings.fields import DERIVED, FIELDS, Config, all_settings
from utils.settings.near import nearly
from utils.settings.resolve import algorithm_defaults, basis_of, check_resolved, coerce, reads, resolve
from utils.settings.sizes import of_spaces, with_sizes
from utils.text import did_you_mean

NETWORKS = [name for name, one in FIELDS.items() if one.belongs == "networks"]
# The settings that the length of a run follows from, on which the schedule of the learning rates depends.
RUN_LENGTH = ("total_timesteps", "epochs", "cycles", "iterations", "timesteps")


def create_agent(args: Any) -> Any:
    """Build the agent that `args` names.

    Args:
        args: a resolved `utils.settings.fields.Config` with its sizes, which is taken as it is, or any object with
            attributes. `alg`, `obs_dims` and `acts_dims` are needed (`basis_alg` for decompositions, default sac);
            every other setting that is missing or None gets that algorithm's default; attributes that are no settings
            of it are not read, and one that is nearly a setting is a UserWarning. `device` wins over `cuda` (a bool),
            `use_pytorch` over the variable USE_PYTORCH.
    Returns:
        an agent with `step`, `train`, `train_q`, `train_pi`, `normalizer_update`, `target_update`,
        `save_model`, `load_model`.
    Raises:
        ConfigError: a ValueError that names the setting, the value given and the expected values.
    """
    backend, config = check_backend(args), fill_config(args)
    if backend == "tensorflow":
        check_reference(config)
        return _build(backend, config, args)
    from utils.torch_state import apart
    return apart(_with_rates)(lambda: _build(backend, config, args), config)


def create_decomposition(args: Any) -> Any:
    """Build the decomposition that `args.alg` names as a model of its own, with no agent.

    Args:
        args: as for `create_agent`; the settings of a basis are not read.
    Returns:
        an `algorithm.decomposition.base.Decomposition`, with `fit`, `rewards`, `redistribute` and `state_dict`.
    Raises:
        ConfigError: names the setting, the value given and the expected values.
    """
    config = fill_config(args)
    if not is_decomposition(config.alg):
        raise ConfigError(f"alg: got {config.alg!r}, expected one of {', '.join(decompositions())}")
    from utils.torch_state import apart
    return apart(_with_rates)(lambda: _build_model(config, args, None), config)


def create_decomposition_for_spaces(alg: str, *, observation_space: Any, action_space: Any, **settings: Any) -> Any:
    """Build a decomposition for Gymnasium's spaces as a model of its own, with its settings by name.

    Args:
        alg: one of the decompositions, built in or registered.
        observation_space: a Box of vectors, or over discrete actions of pictures (height, width, channels).
        action_space: a Box of one dimension, or Discrete.
        settings: the decomposition's settings, such as `r_lr=1e-3`, and `seed`, `device` and `obs_normalization`.
    Returns:
        an `algorithm.decomposition.base.Decomposition`, with `fit`, `relabel`, `rewards` and `redistribute`.
    Raises:
        ConfigError: an unknown setting (with the nearest known one), a wrong value, or a space that does not fit.
    """
    if not is_decomposition(alg):
        raise ConfigError(f"alg: got {alg!r}{did_you_mean(alg, decompositions())}, expected one of "
                          f"{', '.join(decompositions())}")
    if settings.get("device") is not None:
        settings["device"] = str(settings["device"])    # also a torch.device
    basis = {"basis_alg": "dqn"} if hasattr(action_space, "n") else {}
    return create_decomposition(of_spaces(resolve({"alg": alg} | basis | settings), observation_space, action_space))


def _with_rates(build: Callable[[], Any], config: Config) -> Any:
    """Build an agent or a decomposition, and give its optimisers what the settings say of learning rates."""
    from algorithm.learning_rates import apply_settings
    made = build()
    apply_settings(made, config)
    return made


def check_reference(config: Config) -> None:
    """Raise ConfigError for a setting that the TensorFlow reference, which has the original's networks, lacks."""
    if config.return_scale not in (None, 1):
        raise ConfigError(f"return_scale: got {config.return_scale:g}, not read by the TensorFlow reference "
                          "(USE_PYTORCH=0), which fits returns as they are; expected 1")
    for name in NETWORKS:
        if (value := getattr(config, name)) is not None:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            raise ConfigError(f"{name}: got {shown}, not read by the TensorFlow reference (USE_PYTORCH=0), which has "
                              f"the original's networks and optimisers; expected no {name}")


def _build(backend: str, config: Config, args: Any) -> Any:
    """Build the agent that the settings name, of this backend."""
    if not is_decomposition(config.alg):
        return _build_basis("alg", config, args, backend)
    basis = _build_basis("basis_alg", config, args, backend)
    if backend == "tensorflow":
        return load("alg", config.alg, backend)(config, basis)
    check_agent("basis_alg", config.basis_alg, basis)
    check_paid(config.basis_alg, basis)
    model = _build_model(config, args, basis.weights_generator)
    if config.on_policy:
        from algorithm.decomposition.on_policy import DecomposedOnPolicy
        return DecomposedOnPolicy(basis, model)
    from algorithm.decomposition.agent import Decomposed
    return Decomposed(basis, model)


def _build_basis(field: str, config: Config, args: Any, backend: str) -> Any:
    """Build the agent that the setting `field` names; on policy, over the policy that `config.policy` names."""
    name = getattr(config, field)
    build, view = load(field, name, backend), _view(name, config, args)
    if not is_on_policy(name):
        return build(view)
    if config.device == "mps":
        raise ConfigError(f"device: got 'mps' with --{field}={name}, expected cpu, cuda or auto: it has no float64, "
                          "which the returns of rollouts are")
    from algorithm.policy import create_policy
    return build(view, create_policy(view))


def _build_model(config: Config, args: Any, generator: Any) -> Any:
    """Build the decomposition that the settings name; its first weights are drawn from the generator."""
    model = load("alg", config.alg, "pytorch")(_view(config.alg, config, args), generator)
    check_decomposition(config.alg, model)
    return model


def create_agent_for_spaces(*, alg: str, observation_space: Any, action_space: Any, **settings: Any) -> Any:
    """Build an agent for Gymnasium's spaces, with its settings by name.

    The agent acts in [-1, 1]; scale its actions to another Box.

    Args:
        alg: one of the algorithms, built in or registered.
        observation_space: a Box of vectors, or over discrete actions of images (height, width, channels).
        action_space: a Box of one dimension or, for algorithms of discrete actions, Discrete.
        settings: the algorithm's settings, such as `basis_alg="td3"` or `pi_lr=1e-4`.
    Returns:
        an agent, as `create_agent` does; its `config` builds its replay: `create_buffer(agent.config)`.
    Raises:
        ConfigError: an unknown setting (with the nearest known one), a wrong value, a setting that the algorithm does
            not read, or a space that does not fit it.
    """
    if settings.get("device") is not None:
        settings["device"] = str(settings["device"])    # also a torch.device
    return create_agent(of_spaces(resolve({"alg": alg} | settings), observation_space, action_space))


def create_twin(agent: Any, device: str) -> Any:
    """Build another agent of the same settings, on this device."""
    if isinstance(agent.config, Config):
        return create_agent(dataclasses.replace(agent.config, device=device))
    return create_agent(_Filled(Namespace(device=device), agent.config))


def fill_config(args: Any) -> Config:
    """The checked settings of `args`, with the algorithm's defaults; see `create_agent`."""
    if isinstance(args, Config):
        check_resolved(args)
        return args
    if isinstance(args, Mapping):
        raise ConfigError("args: got a mapping, expected an object with attributes, such as argparse.Namespace(**args)")
    given = _given(args)
    read = _settings_read(given)
    _warn_of_near_misses(args, given, read)
    derived = DERIVED if is_on_policy(basis_of(given)) else ()
    length = {name: getattr(args, name, None) for name in RUN_LENGTH if "lr_end" in read and name not in derived}
    read = [name for name in read if name not in derived]
    config = resolve({name: value for name, value in given.items() if name in read} | length)
    return with_sizes(config, *(getattr(args, name, None) for name in
                                ("obs_dims", "acts_dims", "obs_scale", "acts_discrete", "obs_parts")))


def create_replay(config: Config, args: Any) -> Any:
    """The replay of the algorithm, for `algorithm.replay_buffer.create_buffer`."""
    view = _view(config.alg, config, args)
    if not config.on_policy:
        return load_replay_class(config.alg)(view)
    from algorithm.replay_buffer.rollout import RolloutBuffer
    return RolloutBuffer(config, load_replay_class(config.alg)(view) if is_decomposition(config.alg) else None)


def _given(args: Any) -> dict[str, Any]:
    """The settings that are attributes of `args`, as far as agents and replays read them; None counts as not given."""
    given = {name: getattr(args, name, None) for name, one in all_settings().items() if one.group.read_by_agent}
    if given["alg"] is None:
        raise ConfigError(f"alg: missing, expected one of {', '.join(names())}")
    if given["device"] is None and getattr(args, "cuda", None) is not None:
        given["device"] = "cuda" if args.cuda else "cpu"
    if given["device"] is not None:
        given["device"] = str(given["device"])          # also a torch.device
    if isinstance(getattr(args, "env", None), str):
        given["env"] = args.env                         # a default of IRCR depends on it
    return given


def _settings_read(given: dict[str, Any]) -> list[str]:
    """The names of the settings that the chosen algorithm reads."""
    chosen = {name: coerce(name, given[name]) for name in ("alg", "basis_alg", "env", "lr_schedule")
              if given.get(name) is not None}
    defaults = algorithm_defaults(chosen)
    if "optimizer" in defaults and given["optimizer"] is not None:         # DQN reads other settings with another one
        defaults = algorithm_defaults(chosen | {"optimizer": coerce("optimizer", given["optimizer"])})
    known = all_settings()
    return [name for name in given if known[name].default is not None or reads(name, defaults)]


def _warn_of_near_misses(args: Any, given: dict[str, Any], read: list[str]) -> None:
    missing = [name for name in read if given[name] is None]
    known = all_settings()
    for name in dir(args):
        if not name.startswith("_") and name not in known and (setting := nearly(name, missing)):
            warnings.warn(f"{name}: not a setting, and not read; did you mean {setting}?", stacklevel=4)


def _view(name: str, config: Config, args: Any) -> Any:
    """The settings that an algorithm is built from; for a user's own algorithm also all other attributes of `args`."""
    return config if ALGORITHMS[name].built_in or isinstance(args, Config) else _Filled(args, config)


class _Filled:
    """The settings of `config`; besides them the attributes of `args`, and those of `config` where `args` has none."""

    def __init__(self, args: Any, config: Config):
        self._args, self._config = args, config
        read = [name for name, one in all_settings().items() if one.group.read_by_agent]
        values = {name: getattr(config, name, None) for name in (*read, "obs_dims", "acts_dims", "obs_scale")}
        vars(self).update({name: value for name, value in values.items() if value is not None})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):                       # copying and pickling look for these before __init__
            raise AttributeError(name)
        value = getattr(self._args, name, None)
        return value if value is not None else getattr(self._config, name)
