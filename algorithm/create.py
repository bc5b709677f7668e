"""Agents and replays from settings."""

from __future__ import annotations

import operator
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from algorithm.registry import (
    _REGISTRY,
    _REPLAYS,
    _TENSORFLOW,
    _TRANSITIONS,
    _check_agent,
    _check_decomposition,
    _load,
    check_backend,
)
from utils.errors import ConfigError
from utils.settings.fields import DECOMPOSITIONS, FIELDS, LEARNED, Config
from utils.settings.resolve import algorithm_defaults, coerce, resolve


def create_agent(args: Any):
    """Build the agent that `args` names.

    Args:
        args: any object with attributes. `alg`, `obs_dims` and `acts_dims` are needed (`basis_alg` for
            decompositions, default sac); every other setting of `utils.settings.fields.Config` that is missing or
            None gets that algorithm's default; attributes that are no settings of it are not read. `device` wins over
            `cuda` (a bool), `use_pytorch` over the variable USE_PYTORCH.
    Returns:
        an agent with `step`, `train`, `train_q`, `train_pi`, `normalizer_update`, `target_update`,
        `save_model`, `load_model`.
    Raises:
        ValueError: names the setting, what it got and what is expected.
    """
    registry = _REGISTRY if check_backend(args) == "pytorch" else _TENSORFLOW
    config = fill_config(args)
    if config.alg not in DECOMPOSITIONS:
        return _load(registry, config.alg)(_view(config.alg, config, args))
    basis = _load(registry, config.basis_alg)(_view(config.basis_alg, config, args))
    if registry is not _REGISTRY:
        return _load(registry, config.alg)(config, basis)
    _check_agent("basis_alg", config.basis_alg, basis)
    from algorithm.decomposition.agent import Decomposed
    return Decomposed(basis, _create_model(config, args, basis.weights_generator))


def create_decomposition(args: Any):
    """Build the decomposition that `args.alg` names as a model of its own, with no agent.

    Args:
        args: as for `create_agent`; the settings of a basis are not read.
    Returns:
        an `algorithm.decomposition.base.Decomposition`, with `fit`, `rewards`, `redistribute` and `state_dict`.
    Raises:
        ValueError: names the setting, what it got and what is expected.
    """
    config = fill_config(args)
    if config.alg not in DECOMPOSITIONS:
        raise ConfigError(f"alg: got {config.alg!r}, expected one of {', '.join(DECOMPOSITIONS)}")
    return _create_model(config, args, None)


def _create_model(config: Config, args: Any, generator: Any) -> Any:
    model = _load(_REGISTRY, config.alg)(_view(config.alg, config, args), generator)
    _check_decomposition(config.alg, model)
    return model


def create_twin(agent: Any, device: str) -> Any:
    """Another agent of the same settings, on this device."""
    return create_agent(_Filled(Namespace(device=device), agent.config))


# What an agent and its replay read; the rest (tags, epochs, ...) is the business of whoever owns the loop.
_READ = ["alg", "basis_alg", "seed", "device", "engine", "precision", "buffer_device",
         *(name for name, field in FIELDS.items() if field.metadata["section"].startswith(LEARNED))]


def fill_config(args: Any) -> Config:
    """The checked settings that `args` stands for, with that algorithm's defaults; see `create_agent`."""
    if isinstance(args, Mapping):
        raise ConfigError("args: got a mapping, expected an object with attributes, such as argparse.Namespace(**args)")
    given = {name: getattr(args, name, None) for name in (FIELDS if isinstance(args, Config) else _READ)}
    if given["alg"] is None:
        raise ConfigError(f"alg: missing, expected one of {', '.join(_REGISTRY)}")
    if given["device"] is None and getattr(args, "cuda", None) is not None:
        given["device"] = "cuda" if args.cuda else "cpu"
    if given["device"] is not None:
        given["device"] = str(given["device"])          # a torch.device will do
    if isinstance(getattr(args, "env", None), str):
        given["env"] = args.env                         # a default of IRCR depends on it
    chosen = {name: coerce(name, given[name]) for name in ("alg", "basis_alg", "env") if given.get(name) is not None}
    reads = algorithm_defaults(chosen)
    if "optimizer" in reads and given["optimizer"] is not None:         # on which DQN's other defaults depend
        reads = algorithm_defaults(chosen | {"optimizer": coerce("optimizer", given["optimizer"])})
    config = resolve({name: given[name] for name in given if FIELDS[name].default is not None or name in reads})
    config.obs_dims = _dims(args, "obs_dims", images=config.discrete)
    config.acts_dims = _dims(args, "acts_dims")
    if config.dueling and len(config.obs_dims) == 1:
        raise ConfigError(f"dueling: got True over vectors {config.obs_dims}, expected images (height, width, "
                          "channels): its heads stand on the convolutions")
    config.obs_scale = _obs_scale(getattr(args, "obs_scale", None), config.obs_dims)
    return config


def create_replay(config: Config, args: Any) -> Any:
    """The replay of the algorithm, for `algorithm.replay_buffer.create_buffer`."""
    return _load(_REPLAYS, config.alg, _TRANSITIONS)(_view(config.alg, config, args))


def _dims(args: Any, name: str, images: bool = False) -> tuple[int, ...]:
    """A vector's width or, where `images` can be, (height, width, channels), as a tuple."""
    expected = "the width of a vector, such as 27 or (27,)" + ", or an image's (height, width, channels)" * images
    value = getattr(args, name, None)
    if value is None:
        raise ConfigError(f"{name}: missing, expected {expected}")
    sizes = list(value) if hasattr(value, "__len__") else [value]
    try:
        dims = tuple(operator.index(size) for size in sizes if not isinstance(size, bool))
    except TypeError:
        dims = ()
    if len(dims) != len(sizes) or len(dims) not in (1, 3 if images else 1) or not all(0 < d < 2**31 for d in dims):
        raise ConfigError(f"{name}: got {value!r}, expected {expected}")
    return dims


def _obs_scale(value: Any, obs_dims: tuple[int, ...]) -> float:
    """As given, or what raw observations exceed a batch's by: a batch holds pixels / 255, and vectors as they come."""
    if value is None:
        return 255.0 if len(obs_dims) == 3 else 1.0
    try:
        scale = float(value)
    except (TypeError, ValueError):
        scale = 0.0
    if not 0 < scale < float("inf"):
        raise ConfigError(f"obs_scale: got {value!r}, expected a finite number above 0")
    return scale


def _view(name: str, config: Config, args: Any) -> Any:
    """Built-in agents get the typed settings; a user's agent sees its own attributes as well, where there are any."""
    return config if isinstance(_REGISTRY[name], str) or isinstance(args, Config) else _Filled(args, config)


class _Filled:
    """The attributes of `args`, and those of `config` where `args` has none."""

    def __init__(self, args: Any, config: Config):
        self._args, self._config = args, config

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):                       # copying and pickling look for these before __init__
            raise AttributeError(name)
        value = getattr(self._args, name, None)
        return value if value is not None and name not in ("obs_dims", "acts_dims") else getattr(self._config, name)
