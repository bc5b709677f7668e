"""What learns: agents by name, and the one place that chooses the backend.

Importing this package imports neither PyTorch nor TensorFlow; `create_agent` imports what it was asked for.
"""

from __future__ import annotations

import importlib
import operator
import os
import re
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from utils.config import (
    ALGORITHMS,
    DECOMPOSITIONS,
    DIAGNOSED,
    DISCRETE,
    FIELDS,
    Config,
    ConfigError,
    algorithm_defaults,
    coerce,
    resolve,
)

__all__ = ["check_backend", "create_agent", "create_twin", "fill_config", "register_algorithm",
           "register_decomposition", "use_pytorch"]

_REGISTRY: dict[str, str | Callable] = {
    "ddpg": "algorithm.basis_alg.ddpg_torch:DDPG",
    "td3": "algorithm.basis_alg.td3_torch:TD3",
    "sac": "algorithm.basis_alg.sac_torch:SAC",
    "dqn": "algorithm.basis_alg.dqn_torch:DQN",
    "rrd": "algorithm.rrd_torch:RRD",
    "ircr": "algorithm.ircr_torch:ircr",
    "uniform": "algorithm.uniform:uniform",
}
_TENSORFLOW: dict[str, str | Callable] = {
    name: entry.replace("_torch:", ":") for name, entry in _REGISTRY.items() if isinstance(entry, str)
}
# The replays of decompositions; all else learns from plain transitions.
_REPLAYS: dict[str, str | type] = {
    "rrd": "algorithm.replay_buffer.subsequence:SubsequenceReplay",
    "ircr": "algorithm.replay_buffer.ircr:IRCRReplay",
    "uniform": "algorithm.replay_buffer.uniform:UniformReplay",
}
_TRANSITIONS = "algorithm.replay_buffer.transition:TransitionReplay"


def create_agent(args: Any):
    """Build the agent that `args` names.

    Args:
        args: any object with attributes. `alg`, `obs_dims` and `acts_dims` are needed (`basis_alg` for
            decompositions, default sac); every other setting of `utils.config.Config` that is missing or None gets that
            algorithm's default; attributes that are no settings of it are not read. `device` wins over `cuda`
            (a bool), `use_pytorch` over the variable USE_PYTORCH.
    Returns:
        an agent with `step`, `train`, `train_q`, `train_pi`, `normalizer_update`, `target_update`,
        `save_model`, `load_model`.
    Raises:
        ValueError: names the setting, what it got and what it wants.
    """
    registry = _REGISTRY if check_backend(args) == "pytorch" else _TENSORFLOW
    config = fill_config(args)
    if config.alg not in DECOMPOSITIONS:
        return _load(registry, config.alg)(_view(config.alg, config, args))
    basis = _load(registry, config.basis_alg)(_view(config.basis_alg, config, args))
    if registry is not _REGISTRY:
        return _load(registry, config.alg)(config, basis)
    _check_agent("basis_alg", config.basis_alg, basis)
    agent = _load(registry, config.alg)(_view(config.alg, config, args), basis)
    _check_agent("alg", config.alg, agent)
    return agent


def create_twin(agent: Any, device: str) -> Any:
    """Another agent of the same settings, on this device."""
    return create_agent(_Filled(Namespace(device=device), agent.config))


# What an agent and its replay read; the rest (tags, epochs, ...) is the business of whoever owns the loop.
LEARNED = ("learning", "policy", "algorithm")           # how the sections of their settings begin
_READ = ["alg", "basis_alg", "seed", "device", "engine", "precision", "buffer_device",
         *(name for name, field in FIELDS.items() if field.metadata["section"].startswith(LEARNED))]


def fill_config(args: Any) -> Config:
    """The checked settings that `args` stands for, with that algorithm's defaults; see `create_agent`."""
    if isinstance(args, Mapping):
        raise ConfigError("args: got a mapping, wants an object with attributes, such as argparse.Namespace(**args)")
    given = {name: getattr(args, name, None) for name in (FIELDS if isinstance(args, Config) else _READ)}
    if given["alg"] is None:
        raise ConfigError(f"alg: missing, wants one of {', '.join(_REGISTRY)}")
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
        raise ConfigError(f"dueling: got True over vectors {config.obs_dims}, wants images (height, width, channels): "
                          "its heads stand on the convolutions")
    config.obs_scale = _obs_scale(getattr(args, "obs_scale", None), config.obs_dims)
    return config


def register_algorithm(name: str, *, like: str = "sac", **defaults: Any) -> Callable[[Callable], Callable]:
    """Decorator of a class or function: `create_agent` with `alg` (or a decomposition's `basis_alg`) `name` calls it.

    It is called with one object that has the attributes of `args` and, for what is missing there, of the filled-in
    `Config`. As a basis, and for train.py, what it gives must be an `Agent`; a decomposition then takes its losses, its
    actions, its targets and its normaliser, and does `train` and `update` itself.

    Args:
        name: the name; registering it again replaces the class.
        like: the algorithm whose settings and defaults it has; like dqn, it has discrete actions.
        defaults: those that differ, or that it reads besides, of `utils.config.Config`'s settings. Settings of your
            own are simply attributes of `args`.
    Raises:
        ConfigError: names what is wrong; nothing was registered.
    """
    _check_new("register_algorithm", name, DECOMPOSITIONS)
    if like not in ALGORITHMS:
        raise ConfigError(f"like: got {like!r}, wants one of {', '.join(ALGORITHMS)}")
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
    pays the steps, or an `Agent` that wraps it, such as a subclass of `algorithm.rrd_torch.RRD`.

    Args:
        name: the name; registering it again replaces the decomposition.
        replay: the subclass of `algorithm.replay_buffer.transition.TransitionReplay` that `create_buffer` builds, as
            `replay(config)`; that class itself if None.
        diagnosed: whether `--diagnose_every` and `evaluate.py --diagnose` judge its rewards. Then the agent has
            `predict_reward` as RRD has it, or `predict_rewards` of a whole episode, which wins; or the replay has
            `predict_rewards` as `IRCRReplay` has it.
        defaults: the settings of `utils.config.Config` that it reads besides its basis', or whose defaults differ.
    Raises:
        ConfigError: names what is wrong; nothing was registered.
    """
    _check_new("register_decomposition", name, ALGORITHMS | _TENSORFLOW)
    if replay is not None:
        from algorithm.replay_buffer.transition import TransitionReplay
        if not (isinstance(replay, type) and issubclass(replay, TransitionReplay)):
            raise ConfigError(f"replay: got {replay!r}, wants a subclass of "
                              "algorithm.replay_buffer.transition.TransitionReplay, or None for that class itself")
    defaults = _checked_defaults(defaults)

    def register(build: Callable) -> Callable:
        _check_callable("register_decomposition", name, build)
        _REGISTRY[name], _REPLAYS[name], DECOMPOSITIONS[name] = build, replay or _TRANSITIONS, defaults
        _list(DIAGNOSED, name, diagnosed)
        return build
    return register


def create_replay(config: Config, args: Any) -> Any:
    """The replay of the algorithm, for `algorithm.replay_buffer.create_buffer`."""
    return _load(_REPLAYS, config.alg, _TRANSITIONS)(_view(config.alg, config, args))


def _check_new(decorator: str, name: str, taken: Mapping[str, Any]) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name) or name in taken:
        raise ConfigError(f"name: got {name!r}, wants a word other than {', '.join(taken)}: @{decorator}(\"mine\")")


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
        raise ConfigError(f"{name}: @{decorator} got a {type(build).__name__}, wants a class or a function")


def _list(names: list[str], name: str, belongs: bool) -> None:
    """A name registered anew may have belonged."""
    names[:] = [one for one in names if one != name] + [name] * bool(belongs)


def _check_agent(field: str, name: str, agent: Any) -> None:
    from algorithm.basis_alg.base_torch import Agent
    if not isinstance(agent, Agent):
        raise ConfigError(f"{field}: {name!r} builds a {type(agent).__name__}, "
                          "wants a subclass of algorithm.basis_alg.base_torch.Agent")


def check_backend(args: Any = None) -> str:
    """The chosen backend, "pytorch" or "tensorflow", once it is sure to be there.

    Raises:
        ConfigError: the choice is none of the allowed words, or TensorFlow is not installed.
    """
    if use_pytorch(args):
        return "pytorch"
    from utils.tf_checkpoint import import_tensorflow
    import_tensorflow()
    return "tensorflow"


def use_pytorch(args: Any = None) -> bool:
    """Which backend: `args.use_pytorch`, else the variable USE_PYTORCH, else PyTorch."""
    field, value = "use_pytorch", getattr(args, "use_pytorch", None)
    if value is None:
        field, value = "USE_PYTORCH", os.environ.get("USE_PYTORCH", "")
    words = {"": True, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if str(value).lower() not in words:
        raise ConfigError(f"{field}: got {value!r}, wants 1, true, yes (PyTorch) or 0, false, no (TensorFlow)")
    return words[str(value).lower()]


def _dims(args: Any, name: str, images: bool = False) -> tuple[int, ...]:
    """A vector's width or, where `images` can be, (height, width, channels), as a tuple."""
    wants = "the width of a vector, such as 27 or (27,)" + ", or an image's (height, width, channels)" * images
    value = getattr(args, name, None)
    if value is None:
        raise ConfigError(f"{name}: missing, wants {wants}")
    sizes = list(value) if hasattr(value, "__len__") else [value]
    try:
        dims = tuple(operator.index(size) for size in sizes if not isinstance(size, bool))
    except TypeError:
        dims = ()
    if len(dims) != len(sizes) or len(dims) not in (1, 3 if images else 1) or not all(0 < d < 2**31 for d in dims):
        raise ConfigError(f"{name}: got {value!r}, wants {wants}")
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
        raise ConfigError(f"obs_scale: got {value!r}, wants a finite number above 0")
    return scale


def _load(registry: Mapping[str, str | Callable], name: str, default: str | None = None) -> Callable:
    entry = registry.get(name, default)
    if entry is None:
        raise ConfigError(f"alg: {name!r} is registered for PyTorch only; TensorFlow has {', '.join(registry)}")
    if isinstance(entry, str):
        module, _, attribute = entry.partition(":")
        entry = getattr(importlib.import_module(module), attribute)
    return entry


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
