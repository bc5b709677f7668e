"""Values of the trainer's form of a file that are not ours as they stand; see `utils.settings.forms`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from utils.errors import ConfigError
from utils.settings.setting import Setting
from utils.text import shown

HIDDEN_GAIN, CLOSE = 1.414, 0.01        # of hidden layers, here; and how far another one may be from it
FIXED = {"eps": 1e-8, "truncate_at_first_done": True, "reset_every_rollout": True}     # of GRPO
METRICS = {"eval/avg_reward": "Rewards", "eval/success_rate": "eval/metrics/success"}


def whole(name: str, value: Any, low: int) -> int:
    """Return an integer of at least `low`; a ConfigError names the key."""
    return Setting(name, int, low=low).checked(value)


def number(name: str, value: Any) -> Any:
    """Return a positive integer; a ConfigError names the key."""
    return whole(name, value, 1)


def as_device(given: Mapping[str, Any]) -> str:
    """Return the device that `cuda`, true or false, or `device`, a text, names; cpu by default."""
    cuda, device = given.get("runtime.cuda"), given.get("runtime.device")
    if cuda is not None and device is not None:
        raise ConfigError("runtime.cuda: got 2 values, with device; expected one of the two")
    if cuda is not None and not isinstance(cuda, bool):
        raise ConfigError(f"runtime.cuda: got {cuda!r}, expected true or false")
    return ("cuda" if cuda else "cpu") if device is None else device


def as_best(found: Mapping[str, Any]) -> str | None:
    """Return the column of the record that `best_eval_metric` and `best_eval_mode` name; None if neither is given."""
    metric, mode = found.get("runtime.best_eval_metric"), found.get("runtime.best_eval_mode", "max")
    if metric is None and mode == "max":
        return None
    metric = "eval/avg_reward" if metric is None else metric
    column = METRICS.get(metric, str(metric))
    if mode not in ("max", "min") or not (column == "Rewards" or column.startswith("eval/metrics/")):
        raise ConfigError(f"runtime.best_eval_metric: got {metric!r} with mode {mode!r}, expected "
                          f"{', '.join(METRICS)} or eval/metrics/NAME, and max or min")
    return f"-{column}" if mode == "min" else column


def as_gains(found: Mapping[str, Any], networks: Iterable[str], note: Callable[[str], Any]) -> dict[str, Any]:
    """Return whether layers of these networks are initialised orthogonally, and the gains of their last layers.

    Gains of hidden layers that differ from ours are a note.
    """
    given = {one: found[f"policy.{one}.orthogonal_init"] for one in networks
             if f"policy.{one}.orthogonal_init" in found}
    settings: dict[str, Any] = {"orthogonal": bool(given)}
    for one, gains in given.items():
        listed = list(gains) if isinstance(gains, (list, tuple)) else [gains]
        if not listed or not all(isinstance(gain, (int, float)) for gain in listed) or isinstance(gains, bool):
            raise ConfigError(f"policy.{one}.orthogonal_init: got {gains!r}, expected a gain, or one for each layer")
        *hidden, settings[f"{one}_gain"] = map(float, listed)
        if any(abs(gain - HIDDEN_GAIN) > CLOSE for gain in hidden or listed):
            note(f"note: policy.{one}.orthogonal_init: got gains {listed}, here {HIDDEN_GAIN} for hidden layers")
    return settings


def check_mlp(one: str, network: Mapping[str, Any]) -> None:
    """Raise a ConfigError if a network is of a kind that does not exist here."""
    if (kind := network.get("type", "mlp")) != "mlp":
        raise ConfigError(f"policy.{one}.type: got {kind!r}, expected mlp; for another network register a policy")
    for name in ("use_layernorm", "dropout_p"):
        if network.get(name):
            raise ConfigError(f"policy.{one}.{name}: got {network[name]!r}, expected none; for another network "
                              "register a policy")


def check_fixed(cfg: dict[str, Any]) -> None:
    """Take the keys of GRPO's cfg that have one value here; a ConfigError if a value is another one."""
    for name in FIXED.keys() & cfg.keys():
        if (value := cfg.pop(name)) != FIXED[name]:
            raise ConfigError(f"algorithm.cfg.{name}: got {value!r}, expected {FIXED[name]!r}, the only one here")


def as_schedule(optimizer: Any, scheduler: Any, rate: Any, iterations: int) -> dict[str, Any]:
    """Return our settings for `optimizer` and `lr_scheduler`.

    Args:
        rate: the learning rate that the file gives beside `optimizer`.
        iterations: the rollouts of the run, at each of which the scheduler makes a step.
    """
    ours = {} if optimizer is None else _optimizer(optimizer)
    if scheduler is None:
        return ours
    name, kwargs = _block("lr_scheduler", scheduler)
    rate = ours.get("learning_rate", rate)
    if name == "linear" and kwargs.get("start_factor", 1) == 1:
        return ours | {"lr_schedule": "linear", "lr_end": kwargs.get("end_factor", 1.0)}
    if name == "cosine":
        return ours | {"lr_schedule": "cosine", "lr_end": kwargs.get("eta_min", 0.0) / rate}
    if name == "exponential" and "gamma" in kwargs:
        return ours | {"lr_schedule": "exponential", "lr_end": kwargs["gamma"] ** iterations}
    raise ConfigError(f"algorithm.cfg.lr_scheduler: got {name!r} with {kwargs}, expected linear (start_factor 1), "
                      "cosine or exponential (gamma)")


def _optimizer(block: Any) -> dict[str, Any]:
    name, kwargs = _block("optimizer", block)
    rates = {"learning_rate": block["learning_rate"]} if "learning_rate" in block else {}
    names = {"adam": {"eps": "Adam_eps"}, "rmsprop": {"eps": "RMSProp_eps", "alpha": "RMSProp_decay"}}.get(name)
    if names is None or not set(kwargs) <= set(names):
        raise ConfigError(f"algorithm.cfg.optimizer: got {name!r} with {', '.join(map(shown, kwargs)) or 'no kwargs'}, "
                          "expected adam (eps) or rmsprop (eps, alpha)")
    return {"optimizer": name} | rates | {names[key]: value for key, value in kwargs.items()}


def _block(place: str, block: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the name and the arguments in `{"name": ..., "kwargs": {...}}`."""
    known = ("name", "kwargs", "learning_rate")
    fits = isinstance(block, Mapping) and set(block) <= set(known)
    if not fits or not isinstance(block.get("kwargs", {}), Mapping):
        raise ConfigError(f"algorithm.cfg.{place}: got {block!r}, expected an object of {', '.join(known)}")
    return str(block.get("name", "adam")).lower(), block.get("kwargs", {})
