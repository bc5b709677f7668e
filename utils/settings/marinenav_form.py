"""Files of settings in the form of the published MarineNav trainer: what each of their keys means here.

Such a file is recognised by the keys in `MARKS`. docs/marinenav.md has the table for users. A value that is a list, but
for the two schedules, is an axis of a grid of trials.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from utils.errors import ConfigError
from utils.settings.algorithms import is_discrete
from utils.settings.fields import Config, all_settings
from utils.settings.setting import Setting
from utils.text import did_you_mean, shown

AGENT_TYPES = {"AC-IQN": "ac_iqn", "IQN": "iqn", "DDPG": "marinenav_ddpg", "DQN": "marinenav_dqn",
               "SAC": "marinenav_sac", "Rainbow": "rainbow"}
SCHEDULES = ("training_schedule", "eval_schedule")
MARKS = ("agent_type", *SCHEDULES)
WORLD = ("num_robots", "num_cores", "num_obstacles", "min_start_goal_dis")
COLUMNS = {"training_schedule": ("timesteps", *WORLD), "eval_schedule": ("num_episodes", *WORLD)}
# Keys with one meaning: the published one -> our setting.
SAME = {"seed": "seed", "total_timesteps": "total_timesteps", "load_model": "load_model", "env_batch_size": "num_envs",
        "train_batch_size_total": "batch_size", "grad_accum_steps": "grad_accum_steps"}
AMP = "amp_enabled"             # bfloat16 in the products of an update, which needs no scaling of gradients
BLOCKS = ("runtime", "trainer", "policy", "algorithm", "gym_config")        # of the other forms
KNOWN = (*SAME, *MARKS, "eval_freq", "save_dir", "imitation_learning", AMP)
# The program's own values of what a file leaves out.
DEFAULTS: dict[str, Any] = {"seed": 0, "agent_type": "AC-IQN", "total_timesteps": 6_000_000, "eval_freq": 60_000}
UPDATE_EVERY, LEARNING_STARTS, TARGET_EVERY, EXPLORATION_FRACTION, ROBOTS = 4, 2000, 10_000, 0.25, 6
LONGEST = 1001                  # actions of an episode
# The program's constants, as our settings; test_rollouts matters where no schedule of evaluation says a number.
FIXED: dict[str, Any] = {
    "env": "MarineNav-v0", "env_type": "normal", "encoder": "objects", "test_timesteps": LONGEST, "test_rollouts": 10,
    "timesteps": UPDATE_EVERY, "train_batches": 1, "train_target": TARGET_EVERY // UPDATE_EVERY,
    "warmup": LEARNING_STARTS, "random_warmup": False, "eps_l": 0.6, "eps_r": 0.05}


def is_published(data: Mapping[str, Any]) -> bool:
    """Return whether the object of a file is in the published trainer's form."""
    return any(mark in data for mark in MARKS)


def expand(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the trials of a file: the product of its lists, in the order of the keys, without the schedules' own.

    Raises:
        ConfigError: a key is unknown or of our own form, a list is empty, or a value is neither a scalar nor a list.
    """
    data = {name: value for name, value in data.items() if name != "$schema" and value is not None}
    for name, value in data.items():
        _check_key(name, value)
    axes = {name: value if isinstance(value, list) and name not in SCHEDULES else [value]
            for name, value in data.items()}
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _check_key(name: str, value: Any) -> None:
    if name not in KNOWN and (name in all_settings() or name in BLOCKS):
        raise ConfigError(f"{name}: a key of another form, in a file of the form of MarineNav's trainer, which has "
                          f"{', '.join(MARKS)}; expected keys of one form, and flags for settings of this program")
    if name not in KNOWN:
        raise ConfigError(f"{shown(name)}: unknown key{did_you_mean(name, KNOWN) or '; expected ' + ', '.join(KNOWN)}")
    if name in SCHEDULES:
        _check_schedule(name, value)
        return
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(one, (str, int, float, bool)) for one in values):
        raise ConfigError(f"{name}: got {json.dumps(value)[:60]}, expected a value, or a list of some for as many "
                          "trials")


def _check_schedule(place: str, schedule: Any) -> None:
    if not isinstance(schedule, Mapping) or not schedule:
        raise ConfigError(f"{place}: got {json.dumps(schedule)[:60]}, expected an object of lists")
    known, first = COLUMNS[place], COLUMNS[place][0]
    for name, column in schedule.items():
        if name not in known:
            raise ConfigError(f"{place}.{shown(name)}: unknown key{did_you_mean(name, known)}; expected "
                              f"{', '.join(known)}")
        if not isinstance(column, list) or not column or len(column) != len(schedule.get(first, ())):
            raise ConfigError(f"{place}.{name}: got {json.dumps(column)[:60]}, expected a list as long as {first}")


def training_time() -> str:
    """Return the time as the names of directories have it."""
    return time.strftime("%Y-%m-%d-%H-%M-%S")


def translated(data: Mapping[str, Any], given: Mapping[str, Any], note: Callable[[str], Any], now: str = "",
               suffix: str = "") -> dict[str, Any]:
    """Return our settings, by name, for the object of a file in this form.

    Args:
        given: values by published names, which win over the file's.
        note: called with a line for what the file says and that is not used.
        now: `training_time`, by default that of the call.
        suffix: of the directory's name.
    Raises:
        ConfigError: a key is unknown or of our own form, a value is wrong, or the file is a grid of several trials.
    """
    trials = expand({**data, **given})
    if len(trials) > 1:
        raise ConfigError(f"config: got a grid of {len(trials)} trials, expected one; `train.py --config=FILE` runs "
                          "them all")
    trial = DEFAULTS | trials[0]
    if trial.get("imitation_learning", False) not in (False, 0):
        raise ConfigError(f"imitation_learning: got {json.dumps(trial['imitation_learning'])}, expected false: there "
                          "is no agent that imitates, in the published program neither")
    settings = FIXED | {ours: trial[name] for name, ours in SAME.items() if name in trial}
    if Setting(AMP, bool).checked(trial.get(AMP, False)):
        settings["precision"] = "bf16"
    if "save_dir" in trial:
        above = str(trial["save_dir"]).rstrip("/")
        settings["run_dir"] = f"{above}/training_{now or training_time()}/seed_{{seed}}{suffix}"
    return settings | _agent(trial) | _worlds(trial) | _length(trial, note)


def _agent(trial: Mapping[str, Any]) -> dict[str, Any]:
    kind = trial["agent_type"]
    if kind not in AGENT_TYPES:
        raise ConfigError(f"agent_type: got {kind!r}{did_you_mean(str(kind), AGENT_TYPES)}, expected one of "
                          f"{', '.join(AGENT_TYPES)}")
    return {"alg": AGENT_TYPES[kind]} | ({"greedy": "sample"} if kind == "SAC" else {})


def _worlds(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return the worlds of training and of evaluation; the most robots of any stage are the rows of a world."""
    schedule, alg = trial.get("training_schedule"), AGENT_TYPES[trial["agent_type"]]
    robots = max(Setting("training_schedule.num_robots", int, low=1).checked(one)
                 for one in (schedule or {}).get("num_robots", [ROBOTS]))
    found: dict[str, Any] = {"env_kwargs": {"num_robots": robots} | ({"discrete": True} if is_discrete(alg) else {})}
    found |= {"curriculum": json.dumps(schedule)} if schedule else {}
    return found | ({"eval_worlds": trial["eval_schedule"]} if "eval_schedule" in trial else {})


def _length(trial: Mapping[str, Any], note: Callable[[str], Any]) -> dict[str, Any]:
    """Return how often the run is evaluated, and how long it explores."""
    total, every = (Setting(name, int, low=1).checked(trial[name]) for name in ("total_timesteps", "eval_freq"))
    cycle = max(1, round(every / UPDATE_EVERY))
    if cycle * UPDATE_EVERY != every:
        note(f"note: eval_freq: got {every}, evaluated every {cycle * UPDATE_EVERY} steps, a multiple of "
             f"{UPDATE_EVERY}")
    return {"iterations": cycle, "eps_decay": max(1, round(EXPLORATION_FRACTION * total))}


def trial_of(config: Config, training_time: str) -> dict[str, Any]:
    """Return the published keys of a run's settings, as `trial_config.json` has them."""
    kinds = {alg: kind for kind, alg in AGENT_TYPES.items()}
    schedule = json.loads(config.curriculum) if config.curriculum.lstrip().startswith("{") else None
    save_dir = "outputs" if not config.run_dir else config.run_dir.rpartition("/training_")[0] or "."
    return {"seed": config.seed, "total_timesteps": config.run_length,
            "eval_freq": config.iterations * config.timesteps, "imitation_learning": False,
            "agent_type": kinds.get(config.alg, config.alg), "save_dir": save_dir,
            **({"load_model": config.load_model} if config.load_model else {}), "env_batch_size": config.num_envs,
            **({"grad_accum_steps": config.grad_accum_steps} if (config.grad_accum_steps or 1) > 1 else {}),
            **({AMP: True} if config.precision == "bf16" else {}),
            "training_time": training_time, "training_schedule": schedule, "eval_schedule": config.eval_worlds}
