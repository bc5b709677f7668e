"""The settings of a run: one typed dataclass, its defaults by algorithm, and their checks.

Nothing here imports torch, so that `train.py --help` and every complaint about a setting are instant.
Precedence: defaults < `--config file.json` < flags.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from utils.files import read_file


class ConfigError(ValueError):
    """A setting is wrong. The message is one line: the field, what it got, what it wants."""

    def __init__(self, message: str):
        super().__init__(printable(message))


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or not one of this agent's or run's; told in one line, whatever it holds."""

    def __init__(self, message: str):
        super().__init__(printable(message[:2000]))


class NotFiniteError(ArithmeticError):
    """A NaN or an infinity where a number must be; one line that names what, and when."""


def printable(text: str) -> str:
    """The text in one line that no terminal obeys: control characters are spelt out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(told: object) -> str:
    """What an error, or anything else, says, with its line breaks and indents as single spaces."""
    return " ".join(str(told).split())


def setting(default, help, *, low=None, high=None, above=None, choices=None, section="run"):
    """A dataclass field that knows its help text and its range: low <= value <= high, or value > above."""
    metadata = dict(help=help, low=low, high=high, above=above, choices=choices, section=section)
    return dataclasses.field(default=default, metadata=metadata)


of_env = functools.partial(setting, section="environment and evaluation")
of_atari = functools.partial(setting, None, section="Atari")
of_learning = functools.partial(setting, section="learning")
# The default depends on the algorithm (see ALGORITHMS); None where it is not read.
of_algorithm = functools.partial(setting, None, section="algorithm (defaults depend on --alg and --basis_alg)")
of_policy = functools.partial(setting, None, section="policy and critics (defaults depend on --alg and --basis_alg)")


@dataclass
class Config:
    """Every setting, by the original's names. None: not read by the chosen algorithm."""

    tag: str = setting("", "name of the run, the first part of its directory")
    alg: str = setting("rrd", "algorithm; see --help's last lines")
    basis_alg: str | None = setting(None, "basis of rrd, ircr and uniform (default: sac; dqn on games)")
    seed: int = setting(0, "seed of every random generator", low=0, high=2**63 - 1)
    seeds: tuple[int, ...] | None = setting(
        None, "instead of --seed: several, such as 0,1,2 or 0-4, each with the record of its single run; on CPUs as "
        "many at a time as there are cores, with a thread each, on CUDA in one captured update, if they can share it")
    device: str = setting("auto", "cpu, cuda, cuda:1, ... or auto (cuda where it works)")
    engine: str = setting("auto", "how updates are computed: eager (autograd), manual (gradients by hand, two "
                          "threads), compile (torch.compile), cudagraph (captured, on CUDA), or auto, which tells",
                          choices=("auto", "eager", "manual", "compile", "cudagraph"))
    precision: str = setting("fp32", "of matrix products: fp32, tf32 (CUDA), or bf16 (autocast); only fp32 is the "
                             "original's numbers", choices=("fp32", "tf32", "bf16"))
    buffer_device: str = setting("auto", "where the replay lies: cpu, cuda, cuda:1, ... or auto (where the agent is, "
                                 "if it fits there)")
    total_timesteps: int | None = setting(
        None, "environment steps of the run (default: epochs * cycles * iterations * timesteps)", low=1)
    epochs: int = setting(3, "epochs; not read with --total_timesteps", low=1)
    cycles: int = setting(100, "cycles per epoch", low=1)
    iterations: int = setting(100, "iterations per cycle", low=1)
    timesteps: int = setting(100, "environment steps per iteration", low=1)
    checkpoint_every: int = setting(1, "cycles between checkpoints that the run can be resumed from; 0: only at its "
                                    "end and when it is stopped", low=0)
    on_existing: str = setting("new", "where outputs/ has a run of the same tag, algorithm and environment: new "
                               "(beside it), resume (go on with the last one) or overwrite (remove the last one)",
                               choices=("new", "resume", "overwrite"))
    num_envs: int = setting(1, "environments that are stepped at once, if several each in a process of its own", low=1)
    worker_restarts: int = setting(3, "how often in a run a process of --num_envs that died or hangs is started "
                                   "anew, without its unfinished episode", low=0)
    worker_timeout: float = setting(60.0, "seconds without an answer after which a process of --num_envs is taken "
                                    "to hang", above=0, high=86_400)
    track: bool = setting(False, "log to Weights & Biases as well, offline where nobody has logged in (wants the extra "
                          "`track`)")

    env: str = of_env("Ant-v2", "Gymnasium id; MuJoCo's -v2 and -v3 run as -v4")
    env_type: str = of_env("ep_rews", "ep_rews: the return at the episode's end; normal: reward per step",
                           choices=("ep_rews", "normal"))
    test_rollouts: int = of_env(10, "greedy episodes after each cycle; 0 turns evaluation off", low=0)
    test_timesteps: int = of_env(1000, "longest episode, in training too", low=1)
    diagnose_every: int = of_env(0, "cycles between diagnoses of the learned reward (of rrd, ircr, uniform and "
                                 "decompositions of your own that can be), on episodes of their own; 0: none", low=0)
    save_rews: bool = of_env(True, "write evaluation returns as rews/<env>.npz")
    sticky: bool | None = of_atari("repeat the last action with probability 0.25")
    noop: int | None = of_atari("no-ops at an episode's start: a random number up to this", low=0, high=1000)
    frames: int | None = of_atari("frames that are stacked to one observation", low=1, high=100)
    test_eps: float | None = of_atari("share of random actions in evaluation", low=0, high=1)
    rews_scale: float | None = of_atari("clip of the reward of a step, for --env_type=normal", above=0)

    buffer_size: int = of_learning(1_000_000, "environment steps kept in replay", low=1)
    batch_size: int = of_learning(256, "transitions per update", low=1, high=1_000_000)
    warmup: int = of_learning(10_000, "stored environment steps before the first update", low=0)
    gamma: float = of_learning(0.99, "discount factor", low=0, high=1)

    train_batches: int | None = of_algorithm("updates per iteration", low=1)
    train_target: int | None = of_algorithm("updates per target update", low=1)
    pi_lr: float | None = of_policy("learning rate of the policy", above=0)
    q_lr: float | None = of_policy("learning rate of the critics", above=0)
    polyak: float | None = of_policy("share of the old target kept by a target update", low=0, high=1)
    obs_normalization: bool | None = of_policy("normalise observations by their running mean and std")
    std_act: float | None = of_policy("std of the exploration noise", low=0)
    q_reg: float | None = of_policy("L2 weight of the critic", low=0)
    pi_t_std: float | None = of_policy("std of the target policy's smoothing noise", low=0)
    pi_t_clip: float | None = of_policy("clip of the target policy's smoothing noise", low=0)
    pi_delay_freq: int | None = of_policy("critic updates per policy update", low=1)
    alpha_lr: float | None = of_policy("learning rate of the temperature; 0 keeps it at alpha_init", low=0)
    alpha_init: float | None = of_policy("initial temperature", above=0)
    optimizer: str | None = of_policy("optimiser of the Q-network", choices=("adam", "rmsprop"))
    Adam_eps: float | None = of_policy("epsilon of the Q-network's Adam", above=0)
    RMSProp_decay: float | None = of_policy("decay of the Q-network's RMSProp", low=0, high=1)
    RMSProp_eps: float | None = of_policy("epsilon of the Q-network's RMSProp", above=0)
    double: bool | None = of_policy("double Q-learning: the online network chooses the target's action")
    dueling: bool | None = of_policy("dueling heads on the convolutions: state value and advantages")
    eps_l: float | None = of_policy("share of random actions at the start", low=0, high=1)
    eps_r: float | None = of_policy("share of random actions at the end", low=0, high=1)
    eps_decay: int | None = of_policy("environment steps from eps_l to eps_r", low=1)
    r_lr: float | None = of_algorithm("learning rate of the reward network", above=0)
    rrd_batch_size: int | None = of_algorithm("steps per update of the reward network", low=1, high=1_000_000)
    rrd_sample_size: int | None = of_algorithm("steps drawn from one episode (K)", low=1, high=1_000_000)
    rrd_bias_correction: bool | None = of_algorithm("subtract the variance term: RRD-L(RD)")

    resume: str | None = None           # --resume: the directory of the run that is gone on with
    imports: tuple[str, ...] = ()       # --import: modules, which no file of settings may name

    # Not flags: known once the environment is, or given to create_agent.
    obs_dims: tuple[int, ...] | None = None
    acts_dims: tuple[int, ...] | None = None
    obs_scale: float | None = None      # what DQN's `step` divides raw observations by: 255 for pixels, 1 for vectors

    @property
    def discrete(self) -> bool:
        """Whether actions are indices."""
        return self.alg in DISCRETE or self.basis_alg in DISCRETE

    @property
    def run_length(self) -> int:
        """Environment steps of the whole run."""
        return self.total_timesteps or self.epochs * self.cycles * self.iterations * self.timesteps

    def settings(self) -> dict[str, Any]:
        """The settings that the chosen algorithm reads; `resolve` on them gives this object again."""
        values = {name: getattr(self, name) for name in FIELDS}
        return {name: value for name, value in values.items() if value is not None}


FIELDS = {f.name: f for f in dataclasses.fields(Config) if f.metadata}

_ACTOR_CRITIC = dict(train_batches=100, train_target=2, pi_lr=3e-4, q_lr=3e-4, polyak=0.995, obs_normalization=False)

# Basis algorithms: the settings that each one reads beyond the common ones, with its defaults. These tables, and the
# lists below, grow by `algorithm.register_algorithm` and `register_decomposition`.
ALGORITHMS: dict[str, dict[str, Any]] = {
    "ddpg": _ACTOR_CRITIC | dict(pi_lr=1e-4, q_lr=1e-3, polyak=0.999, obs_normalization=True, std_act=0.1, q_reg=1e-2),
    "td3": _ACTOR_CRITIC | dict(std_act=0.1, pi_t_std=0.2, pi_t_clip=0.5, pi_delay_freq=2),
    "sac": _ACTOR_CRITIC | dict(train_target=1, alpha_lr=3e-4, alpha_init=1.0),
    "dqn": dict(batch_size=32, train_batches=25, train_target=8000, obs_normalization=False, double=False,
                dueling=False, eps_l=1.0, eps_r=0.01, eps_decay=250_000, optimizer="adam"),
}
DISCRETE = ["dqn"]                  # those of discrete actions
# What DQN reads beyond that, by its optimiser.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": dict(q_lr=0.625e-4, Adam_eps=1.5e-4),
    "rmsprop": dict(q_lr=2.5e-4, RMSProp_decay=0.95, RMSProp_eps=1e-2),
}
# Decompositions: the same, on top of the basis.
DECOMPOSITIONS: dict[str, dict[str, Any]] = {
    "rrd": dict(r_lr=3e-4, rrd_batch_size=256, rrd_sample_size=64, rrd_bias_correction=False),
    "ircr": dict(buffer_size=300_000, polyak=0.999, batch_size=512),
    "uniform": {},
}
# Over DQN these are other ones.
OVER_DQN: dict[str, dict[str, Any]] = {
    "rrd": DECOMPOSITIONS["rrd"] | dict(rrd_batch_size=32, rrd_sample_size=32),
    "ircr": {},
}
DIAGNOSED = ["rrd", "ircr", "uniform"]          # which say what they take the reward of each step to be
IRCR_BATCH = "batch_size: got 1, wants at least 2 for ircr over vectors (half recent, half best episodes)"


# Settings that only the Atari games read, and their defaults of common ones; the original's.
ATARI: dict[str, Any] = dict(sticky=False, noop=30, frames=4, test_eps=0.001, epochs=10, cycles=20, iterations=500,
                             test_rollouts=5, test_timesteps=27000, warmup=30000)
REWS_SCALE = 1.0


GAMES = (
    "Adventure", "AirRaid", "Alien", "Amidar", "Assault", "Asterix", "Asteroids", "Atlantis", "BankHeist",
    "BattleZone", "BeamRider", "Berzerk", "Bowling", "Boxing", "Breakout", "Carnival", "Centipede",
    "ChopperCommand", "CrazyClimber", "Defender", "DemonAttack", "DoubleDunk", "ElevatorAction", "Enduro",
    "FishingDerby", "Freeway", "Frostbite", "Gopher", "Gravitar", "Hero", "IceHockey", "Jamesbond",
    "JourneyEscape", "Kangaroo", "Krull", "KungFuMaster", "MontezumaRevenge", "MsPacman", "NameThisGame",
    "Phoenix", "Pitfall", "Pong", "Pooyan", "PrivateEye", "Qbert", "Riverraid", "RoadRunner", "Robotank",
    "Seaquest", "Skiing", "Solaris", "SpaceInvaders", "StarGunner", "Tennis", "TimePilot", "Tutankham", "UpNDown",
    "Venture", "VideoPinball", "WizardOfWor", "YarsRevenge", "Zaxxon",
)


def is_atari(env: str) -> bool:
    """Whether an environment's name is a game's: `Assault`, as the original called it, or `ALE/Assault-v5`."""
    return env.startswith("ALE/") or env in GAMES


def resolve(given: dict[str, Any]) -> Config:
    """Check the given settings, fill in the algorithm's defaults, and check what only makes sense together.

    Args:
        given: settings by name, as parsed from JSON or flags. None counts as not given.
    Raises:
        ConfigError: an unknown name (with the nearest known one), a wrong type or range, a setting that
            the chosen algorithm does not read, or a combination that cannot work.
    """
    values = {name: coerce(name, value) for name, value in given.items() if value is not None}
    defaults = environment_defaults(values) | algorithm_defaults(values)
    for name in values:
        if FIELDS[name].default is None and name not in ("total_timesteps", "seeds", *defaults):
            raise ConfigError(f"{name}: not a setting of {_algorithm_name(values)}; it belongs to {_readers(name)}")
    config = Config(**(defaults | values))
    _check_together(config)
    return config


def environment_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The defaults of the kind of environment that `values` chooses."""
    if not is_atari(values.get("env", Config.env)):
        return {}
    return ATARI | (dict(rews_scale=REWS_SCALE) if values.get("env_type") == "normal" else {})


def algorithm_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The defaults of the algorithm that `values` chooses, by the original's rules."""
    alg = values.get("alg", Config.alg)
    if alg not in DECOMPOSITIONS:
        return _basis_defaults("alg", alg, values, [*ALGORITHMS, *DECOMPOSITIONS])
    basis = _basis(values)
    defaults = {"basis_alg": basis} | _basis_defaults("basis_alg", basis, values, list(ALGORITHMS))
    defaults |= OVER_DQN.get(alg, DECOMPOSITIONS[alg]) if basis in DISCRETE else DECOMPOSITIONS[alg]
    if "rrd_batch_size" in defaults:                    # at least one sub-sequence, however long
        defaults["rrd_batch_size"] = max(defaults["rrd_batch_size"], values.get("rrd_sample_size", 0))
    # IRCR is steadier on Humanoid with a fixed temperature; so the original.
    if alg == "ircr" and basis == "sac" and re.match(r"Humanoid-v\d", values.get("env", Config.env)):
        defaults |= dict(alpha_lr=0.0, alpha_init=0.1)
    return defaults


def _basis(values: dict[str, Any]) -> str:
    return values.get("basis_alg", "dqn" if is_atari(values.get("env", Config.env)) else "sac")


def _basis_defaults(field: str, name: str, values: dict[str, Any], allowed: list[str]) -> dict[str, Any]:
    if name not in ALGORITHMS:
        raise ConfigError(f"{field}: got {name!r}{did_you_mean(name, allowed)}, wants one of {_names(allowed)}, or one "
                          "of your own, which --import=MODULE brings")
    defaults = ALGORITHMS[name]
    optimizer = values.get("optimizer", defaults.get("optimizer"))
    return defaults | OPTIMIZERS[optimizer] if "optimizer" in defaults else defaults


def not_diagnosed(alg: str, otherwise: str, another: str) -> str:
    """Why the rewards of an algorithm are not diagnosed, and what helps.

    Args:
        otherwise: what helps as well, such as "0, or ".
        another: what stands before the names of algorithms that are diagnosed, such as "--alg=".
    """
    if alg in DECOMPOSITIONS:
        return (f"{alg} is registered without diagnosed=True; wants {otherwise}that in its @register_decomposition, "
                "with predict_reward or predict_rewards")
    return f"{alg} learns no reward; wants {otherwise}{another}{', '.join(DIAGNOSED[:-1])} or {DIAGNOSED[-1]}"


def _check_together(config: Config) -> None:
    if config.diagnose_every and config.alg not in DIAGNOSED:
        raise ConfigError(f"diagnose_every: got {config.diagnose_every}, but "
                          f"{not_diagnosed(config.alg, '0, or ', '--alg=')}")
    if config.rrd_bias_correction and config.rrd_sample_size == 1:
        raise ConfigError("rrd_sample_size: got 1 with rrd_bias_correction, wants at least 2 "
                          "(the variance of one step is not defined)")
    if config.rrd_sample_size and config.rrd_batch_size and config.rrd_batch_size < config.rrd_sample_size:
        raise ConfigError(f"rrd_batch_size: got {config.rrd_batch_size}, wants at least "
                          f"rrd_sample_size ({config.rrd_sample_size}): one sub-sequence")


def check_reads(config: Any, *names: str) -> None:
    """A ConfigError if one of these is no setting of the algorithm, for what it is built of, which reads them."""
    for name in (name for name in names if getattr(config, name, None) is None):
        raise ConfigError(f"{name}: not a setting of {config.alg}, but what it is built of reads it; wants it among "
                          f"the defaults that {config.alg} is registered with")


def coerce(name: str, value: Any) -> Any:
    """The value in the field's type and range, from a Python value, a JSON value or a flag's text."""
    _check_name(name)
    kind = field_type(name)
    try:
        value = _PARSERS[kind](value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name}: got {value!r}, wants {_WANTS[kind]}") from None
    limits = FIELDS[name].metadata
    if not _within(value, limits):
        raise ConfigError(f"{name}: got {value!r}, wants {_range(kind, limits)}")
    if name in ("device", "buffer_device") and not re.fullmatch(DEVICE, value):
        raise ConfigError(f"{name}: got {value!r}, wants cpu, cuda, cuda:N or auto")
    return value


def _check_name(name: str) -> None:
    if name not in FIELDS:
        raise ConfigError(f"{shown(name)}: unknown setting{did_you_mean(name, FIELDS)}")


def choices_of(name: str) -> list[str] | None:
    """The words that a setting may be, where only some are."""
    if name in ("alg", "basis_alg"):
        return [*ALGORITHMS, *(DECOMPOSITIONS if name == "alg" else ())]
    choices = FIELDS[name].metadata["choices"]
    return list(choices) if choices else None


def field_type(name: str) -> type:
    """int for `int` and for `int | None`, and so on."""
    hint = _HINTS[name]
    return next((kind for kind in get_args(hint) if kind is not type(None)), hint)


def _parse_int(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    if hasattr(value, "__index__"):
        return value.__index__()
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+", value):
        return int(value)
    number = float(value)                       # 1e6 is a fine number of steps
    if number != int(number):
        raise ValueError
    return int(number)


def _parse_float(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError
    return float(value)


def _parse_bool(value: Any) -> bool:
    if type(value).__name__ in ("bool", "bool_"):       # bool_: NumPy's
        return bool(value)
    words = {"true": True, "yes": True, "t": True, "y": True, "1": True,
             "false": False, "no": False, "f": False, "n": False, "0": False}
    return words[value.lower()] if isinstance(value, str) and value.lower() in words else _refuse()


def _parse_str(value: Any) -> str:
    return value if isinstance(value, str) else _refuse()


def _parse_seeds(value: Any) -> tuple[int, ...]:
    if isinstance(value, str):
        seeds = [seed for part in value.split(",", MOST_SEEDS) for seed in _parse_range(part)]
    elif isinstance(value, (list, tuple)):
        seeds = [_parse_int(seed) if not isinstance(seed, str) else _refuse() for seed in value]
    else:
        _refuse()
    wrong = not seeds or len(seeds) > MOST_SEEDS or len(set(seeds)) < len(seeds)
    return _refuse() if wrong or not all(_within(seed, FIELDS["seed"].metadata) for seed in seeds) else tuple(seeds)


def _parse_range(text: str) -> range:
    """'3' or '0-4', both ends included."""
    match = re.fullmatch(r" *([0-9]+) *(?:- *([0-9]+) *)?", text) or _refuse()
    first, last = int(match[1]), int(match[2] or match[1])
    return range(first, last + 1) if first <= last < first + MOST_SEEDS else _refuse()


def _refuse():
    raise TypeError


DEVICE = r"auto|cpu|cuda(:[0-9]{1,3})?"
MOST_SEEDS = 1000
MOST_BYTES = 2**20                              # of a settings file; a real one has two thousand
_PARSERS = {int: _parse_int, float: _parse_float, bool: _parse_bool, str: _parse_str, tuple[int, ...]: _parse_seeds}
_WANTS = {int: "an integer", float: "a finite number", bool: "True or False", str: "a string",
          tuple[int, ...]: f"at most {MOST_SEEDS} seeds, each once and at least 0, such as 0,1,2 or 0-4"}
_HINTS = get_type_hints(Config)


def _within(value: Any, limits) -> bool:
    return ((limits["low"] is None or value >= limits["low"])
            and (limits["high"] is None or value <= limits["high"])
            and (not isinstance(value, int) or value < 2**63)
            and (limits["above"] is None or value > limits["above"])
            and (limits["choices"] is None or value in limits["choices"]))


def _range(kind: type, limits) -> str:
    if limits["choices"]:
        return "one of " + _names(limits["choices"])
    parts = [f"at least {limits['low']}" if limits["low"] is not None else "",
             f"above {limits['above']}" if limits["above"] is not None else "",
             f"at most {limits['high']}" if limits["high"] is not None else "below 2**63" if kind is int else ""]
    return f"{_WANTS[kind]} " + " and ".join(part for part in parts if part)


def read_json(path: str | Path) -> dict[str, Any]:
    """The settings in a JSON file by name, which may stand there in sections; see `utils.sections`."""
    from utils.sections import flatten
    settings = flatten(read_object(path))
    for name, value in settings.items():
        if value is not None:
            coerce(name, value)                 # a wrong value is wrong even where a flag wins
    return settings


def read_object(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file, which names nothing twice.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        data = read_file(path, MOST_BYTES)
    except (OSError, ValueError) as error:              # ValueError: a null character in the name
        raise ConfigError(f"config: cannot read {str(path)!r}: {getattr(error, 'strerror', None) or error}") from None
    try:
        settings = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_no_duplicates)
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:       # not UTF-8, not JSON, a number of thousands of digits
        raise ConfigError(f"config: {str(path)!r} is not JSON: {error}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"config: {str(path)!r} holds a {type(settings).__name__}, wants an object of settings")
    return settings


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, times in Counter(name for name, _ in pairs).items():
        if times > 1:
            raise ConfigError(f"{shown(name)}: stands {times} times in the config file")
    return dict(pairs)


def shown(name: str) -> str:
    """A name as it is, in quotes where that would mislead the eye."""
    return name if re.fullmatch(r"[-\w]+", name) else repr(name)


def did_you_mean(name: str, known) -> str:
    """`; did you mean X?` for the nearest known name, whatever its case, or nothing."""
    lowered = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f"; did you mean {lowered[near[0]]}?" if near else ""


def _names(names) -> str:
    return ", ".join(names)


def _readers(name: str) -> str:
    if name == "rews_scale":
        return "the Atari games with --env_type=normal"
    if name in ATARI:
        return "the Atari games"
    by_optimizer = {f"dqn with --optimizer={optimizer}": defaults for optimizer, defaults in OPTIMIZERS.items()}
    readers = [alg for alg, defaults in (ALGORITHMS | DECOMPOSITIONS | by_optimizer).items() if name in defaults]
    return _names(readers or DECOMPOSITIONS)


def _algorithm_name(values: dict[str, Any]) -> str:
    alg = values.get("alg", Config.alg)
    return f"{alg} over {_basis(values)}" if alg in DECOMPOSITIONS else alg
