"""Files of settings in the form of EmbodiChain's trainer: what each of their keys means here.

Such a file has the blocks `runtime` (or `trainer`), `env`, `policy` and `algorithm`; instead of `env` it may name a
second file, `trainer.gym_config`. It is recognised by the keys in `MARKS`. docs/embodichain.md has the table for users.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from utils.errors import ConfigError
from utils.settings.algorithms import names
from utils.settings.fields import ACTIVATIONS, all_settings
from utils.settings.forms_values import (
    as_best,
    as_device,
    as_gains,
    as_schedule,
    check_fixed,
    check_mlp,
    number,
    whole,
)
from utils.settings.policies import POLICIES
from utils.text import did_you_mean, shown

Read = Callable[[str], dict[str, Any]]
Found = dict[str, Any]              # place in the file -> value

MARKS = ("trainer", "gym_config", "env.id", "policy.name", "policy.actor", "algorithm.name", "algorithm.cfg")

# Keys with one meaning: place -> our setting.
SAME = {
    "runtime.exp_name": "tag", "runtime.seed": "seed", "runtime.num_envs": "num_envs",
    "runtime.rollout_steps": "rollout_steps", "runtime.total_timesteps": "total_timesteps",
    "runtime.num_eval_episodes": "test_rollouts", "runtime.use_wandb": "track",
    "env.id": "env", "env.cfg.num_envs": "num_envs", "env.cfg.max_episode_steps": "test_timesteps",
    "policy.name": "policy", "policy.initial_log_std": "log_std_init",
    "policy.actor.hidden_sizes": "hidden_sizes", "policy.actor.activation": "activation",
    "policy.actor.last_activation": "last_activation", "policy.critic.hidden_sizes": "critic_hidden_sizes",
    "policy.critic.activation": "critic_activation", "algorithm.name": "alg"}
# Keys that several settings follow from; see `_converted`.
CONVERTED = (
    "runtime.cuda", "runtime.device", "runtime.iterations", "runtime.eval_freq", "runtime.save_freq",
    "runtime.enable_eval", "runtime.best_eval_metric", "runtime.best_eval_mode", "runtime.learning_env",
    "policy.actor.type", "policy.critic.type", "policy.actor.orthogonal_init", "policy.critic.orthogonal_init",
    "policy.actor.use_layernorm", "policy.critic.use_layernorm", "policy.actor.dropout_p", "policy.critic.dropout_p",
    "algorithm.cfg.optimizer", "algorithm.cfg.lr_scheduler")
# Keys of a simulator, of cameras and of other parts that do not exist here.
UNUSED = (
    "runtime.headless", "runtime.enable_rt", "runtime.gpu_id", "runtime.wandb_project_name", "runtime.events",
    "runtime.num_eval_envs", "runtime.eval_seed", "runtime.distributed", "runtime.renderer", "policy.cfg",
    "policy.action_dim", "policy.critic.last_activation",
    *(f"env.cfg.{name}" for name in ("actions", "events", "observations", "rewards", "dataset", "sim_cfg", "robot",
                                     "sensor", "light", "background", "rigid_object", "rigid_object_group",
                                     "articulation", "control_parts", "headless", "device", "seed", "max_episodes")))
ALIASES = {"runtime.buffer_size": "runtime.rollout_steps", "runtime.gym_config": "gym_config"}
KNOWN = ("gym_config", *SAME, *CONVERTED, *UNUSED, *ALIASES)
BLOCKS = {place.rpartition(".")[0] for place in KNOWN} - {""} | {"algorithm.cfg", "env.cfg.extensions"}
# The trainer's defaults, where ours differ.
DEFAULTS = {
    "runtime.exp_name": "generic_exp", "runtime.seed": 1, "runtime.num_envs": 1, "runtime.iterations": 250,
    "runtime.rollout_steps": 2048, "runtime.eval_freq": 10_000, "runtime.save_freq": 50_000, "runtime.device": "cpu",
    "runtime.num_eval_episodes": 5, "policy.name": "actor_critic", "algorithm.name": "ppo"}
OWN_DEFAULTS = {"ppo": {"ent_coef": 0.01, "Adam_eps": 1e-8, "normalize_advantages": "rollout"},
                "grpo": {"Adam_eps": 1e-8}}
ACTIVATION = "elu"                  # of a network without `activation`


def is_published(data: Mapping[str, Any]) -> bool:
    """Return whether the object of a file is in the trainer's form."""
    return any(_has(data, mark) for mark in MARKS)


def _has(data: Mapping[str, Any], mark: str) -> bool:
    block, _, key = mark.partition(".")
    return block in data if not key else isinstance(data.get(block), Mapping) and key in data[block]


def translated(data: Mapping[str, Any], read: Read, note: Callable[[str], Any]) -> dict[str, Any]:
    """Return our settings, by name, for the object of a file in the trainer's form.

    Args:
        read: returns the object in the file that `gym_config` names.
        note: called with a line for what the file says and that is not used.
    Raises:
        ConfigError: a key is unknown, is of our own form, or is given twice; or a value is wrong.
    """
    found = _places(data)
    if (path := found.pop("gym_config", None)) is not None:
        found = _of_gym_config(read(path), path) | found
    unused = sorted(place for place in found if _means_nothing(place, found[place]))
    if unused:
        note(f"note: not used here: {', '.join(unused)}")
    return _converted({place: value for place, value in found.items() if place not in UNUSED}, note)


def _means_nothing(place: str, value: Any) -> bool:
    return place in UNUSED and value not in (None, {}, [], False)


def _places(data: Mapping[str, Any]) -> Found:
    """Return the values by place: `trainer` is `runtime`, a block `network_cfg` or `extensions` is left out."""
    found: Found = {}
    for place, value in _leaves(data, ""):
        plain = _plain(place)
        if plain in found:
            raise ConfigError(f"{place}: got 2 values in the file, expected one")
        found[plain] = value
    return {place: value for place, value in found.items() if value is not None}


def _plain(place: str) -> str:
    block, dot, rest = place.partition(".")
    place = ("runtime" if block == "trainer" else block) + dot + rest
    place = place.replace(".network_cfg.", ".").replace("env.cfg.extensions.", "env.cfg.")
    return ALIASES.get(place, place)


def _leaves(data: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        place = f"{above}.{key}" if above else key
        if place == "$schema":
            continue
        block = _plain(f"{place}.").rstrip(".")
        if (block in BLOCKS or block.endswith(".network_cfg")) and value is not None:
            if not isinstance(value, Mapping):
                raise ConfigError(f"{place}: got {value!r}, expected an object")
            yield from _leaves(value, place)
        else:
            _check_known(place, key)
            yield place, value


def _check_known(place: str, key: str) -> None:
    """Raise a ConfigError if a key of the trainer's form is unknown; of a task's and algorithm's own, later."""
    plain = _plain(place)
    if plain in KNOWN or plain.startswith(("env.cfg.", "algorithm.cfg.")):
        return
    block = plain.rpartition(".")[0]
    beside = [name.rpartition(".")[2] for name in (*KNOWN, *sorted(BLOCKS)) if name.rpartition(".")[0] == block]
    if key in all_settings():
        raise ConfigError(f"{place}: a key of this program's own form, in a file of the trainer's form, which has "
                          "trainer, env.id, policy.actor or algorithm.name; expected keys of one form")
    raise ConfigError(f"{'.'.join(map(shown, place.split('.')))}: unknown key"
                      f"{did_you_mean(key, beside) or '; expected one of ' + ', '.join(beside)}")


def _of_gym_config(data: Mapping[str, Any], path: str) -> Found:
    """Return the second file's values by place: its `env` block is `env.cfg`, its simulator parts as well."""
    env = data.get("env", {})
    if not isinstance(data.get("id"), str) or not isinstance(env, Mapping):
        raise ConfigError(f"gym_config: {path!r} has no id and env, expected the file of a task")
    parts = {name: value for name, value in data.items() if name not in ("id", "env", "$schema")}
    for name in (name for name in parts if f"env.cfg.{name}" not in UNUSED):
        raise ConfigError(f"{shown(name)}: unknown key in {path}"
                          f"{did_you_mean(name, [one.rpartition('.')[2] for one in UNUSED])}")
    return _places({"env": {"id": data["id"], "cfg": {**parts, **env}}})


# Values -------------------------------------------------------------------------------------------------------------

def _converted(found: Found, note: Callable[[str], Any]) -> dict[str, Any]:
    """Return our settings for the values by place."""
    num_envs = found.get("runtime.num_envs", found.get("env.cfg.num_envs", DEFAULTS["runtime.num_envs"]))
    given, found = found, DEFAULTS | found | {"runtime.num_envs": num_envs}
    settings = {SAME[place]: value for place, value in found.items() if place in SAME}
    settings |= {"num_envs": num_envs, "alg": _named(found["algorithm.name"], names()),
                 "policy": _named(found["policy.name"], POLICIES)}
    settings |= _task(found) | _length(found, settings, given) | _networks(found, note)
    settings["device"] = as_device(given)
    if best := as_best(found):
        settings["best"] = best
    return settings | _algorithm(found, settings)


def _named(name: Any, known: Collection[str]) -> Any:
    """Return a name in lower case if that is known and the name as it is not."""
    return name.lower() if isinstance(name, str) and name not in known and name.lower() in known else name


def _task(found: Found) -> dict[str, Any]:
    """Return the environment, its arguments, and that each step is paid its own reward."""
    own = {place.removeprefix("env.cfg."): value for place, value in found.items()
           if place.startswith("env.cfg.") and place not in SAME}
    light = found.get("runtime.learning_env")
    name, more = (light.get("name"), light.get("cfg") or {}) if isinstance(light, Mapping) else (light, {})
    env = found.get("env.id", name)
    if not isinstance(env, str) or (name and "env.id" in found):
        raise ConfigError(f"env.id: got {env!r}, expected the id of one environment, here or in gym_config or "
                          "learning_env")
    own |= {key: value for key, value in more.items() if key != "max_episode_steps"}
    limit = {"test_timesteps": more["max_episode_steps"]} if "max_episode_steps" in more else {}
    return {"env": env, "env_type": "normal", **limit} | ({"env_kwargs": own} if own else {})


def _length(found: Found, settings: Mapping[str, Any], given: Found) -> dict[str, Any]:
    """Return how long the run is, and how often it is evaluated and saved, in whole rollouts."""
    rollout = whole("rollout_steps", settings["rollout_steps"], 1) * whole("num_envs", settings["num_envs"], 1)
    total = whole("iterations", found["runtime.iterations"], 1) * rollout
    evaluated, saved = (whole(name, found[f"runtime.{name}"], 0) for name in ("eval_freq", "save_freq"))
    cycle = max(1, round((evaluated or DEFAULTS["runtime.eval_freq"]) / rollout))
    lengths = {"iterations": cycle, "checkpoint_every": saved and max(1, round(saved / (cycle * rollout)))}
    if "runtime.total_timesteps" not in given:
        lengths["total_timesteps"] = total
    off = not evaluated or found.get("runtime.enable_eval") is False
    return lengths | ({"test_rollouts": 0} if off else {})


def _networks(found: Found, note: Callable[[str], Any]) -> dict[str, Any]:
    """Return the settings of the networks, where the file says something of them."""
    names = {"actor": "activation", "critic": "critic_activation"}
    if found.get("policy.name") == "actor_only":
        names.pop("critic")
    settings = as_gains(found, names, note)
    for one, ours in names.items():
        check_mlp(one, {place.rpartition(".")[2]: value for place, value in found.items()
                        if place.startswith(f"policy.{one}.")})
        name = found.get(f"policy.{one}.activation", ACTIVATION)
        settings[ours] = _activation(f"policy.{one}.activation", name)
    if (last := found.get("policy.actor.last_activation")) is not None:
        settings["last_activation"] = _activation("policy.actor.last_activation", last)
    return settings


def policy_settings(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return our settings for the block `policy` alone; see `translated`."""
    found = _places({"policy": block})
    settings = {SAME[place]: value for place, value in found.items() if place in SAME}
    name = found.get("policy.name", DEFAULTS["policy.name"])
    return settings | {"policy": _named(name, POLICIES)} | _networks(found, lambda line: None)


def _activation(place: str, name: Any) -> str:
    known = {name: name for name in ACTIVATIONS} | {"swish": "silu"}
    if not isinstance(name, str) or name.lower() not in known:
        raise ConfigError(f"{place}: got {name!r}, expected one of {', '.join(known)}")
    return known[name.lower()]


def _algorithm(found: Found, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the algorithm: those of PPO and GRPO with the trainer's defaults, others by their own."""
    cfg = {place.removeprefix("algorithm.cfg."): value for place, value in found.items()
           if place.startswith("algorithm.cfg.")}
    optimizer, scheduler = cfg.pop("optimizer", None), cfg.pop("lr_scheduler", None)
    if settings["alg"] == "grpo":
        check_fixed(cfg)
    for name in (name for name in cfg if not _is_of_algorithm(name)):
        raise ConfigError(f"algorithm.cfg.{shown(name)}: unknown setting"
                          f"{did_you_mean(name, filter(_is_of_algorithm, all_settings()))}")
    ours = dict(OWN_DEFAULTS.get(settings["alg"], {}))
    ours |= cfg | as_schedule(optimizer, scheduler, cfg.get("learning_rate", 3e-4),
                              whole("iterations", found["runtime.iterations"], 1))
    if ours.get("optimizer") == "rmsprop":
        ours.pop("Adam_eps", None)
    if "batch_size" in ours:                            # a batch larger than a rollout is the whole rollout
        rollout = int(settings["rollout_steps"]) * int(settings["num_envs"])
        ours["batch_size"] = min(number("batch_size", ours["batch_size"]), rollout)
    return ours


def _is_of_algorithm(name: str) -> bool:
    known = all_settings()
    return name in known and known[name].group.section in ("algorithm", "policy") and name != "alg"


def path_of(gym_config: Any, beside: str | Path) -> Path:
    """Return the path of the second file: as it is named, else beside the first one."""
    if not isinstance(gym_config, str):
        raise ConfigError(f"gym_config: got {gym_config!r}, expected the path of a file")
    path = Path(gym_config)
    near = Path(beside).parent / path.name
    return path if path.is_file() or not near.is_file() else near
