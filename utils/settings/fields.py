"""The settings of a run: one frozen, typed dataclass.

Nothing here imports PyTorch, so that `train.py --help` and an error in a setting are instant.
Precedence: defaults < `--config file.json` < flags.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

from utils.settings.algorithms import ALGORITHMS, is_discrete
from utils.settings.setting import Setting


def setting(default, help, *, low=None, high=None, above=None, choices=None, belongs="run", form="", beside=None):
    """A field of `Config` that is a setting; see `utils.settings.setting.Setting`."""
    metadata = dict(help=help, low=low, high=high, above=above, choices=choices, belongs=belongs, form=form,
                    beside=beside)
    return dataclasses.field(default=default, metadata=metadata)


of_choice = functools.partial(setting, belongs="choice")
of_compute = functools.partial(setting, belongs="compute")
of_env = functools.partial(setting, belongs="env")
of_atari = functools.partial(setting, None, belongs="atari")
of_learning = functools.partial(setting, belongs="learning")
# The default depends on the algorithm (see `utils.settings.algorithms.ALGORITHMS`); None where it is not read.
of_algorithm = functools.partial(setting, None, belongs="algorithm")
of_policy = functools.partial(setting, None, belongs="policy")
of_networks = functools.partial(setting, None, belongs="networks")
of_widths = functools.partial(of_networks, low=1, high=1_000_000)

ACTIVATIONS = ("relu", "tanh", "silu", "elu", "gelu")
# The settings that each schedule of the learning rates reads, with their defaults.
SCHEDULES: dict[str, dict[str, float]] = {
    "constant": {},
    "linear": dict(lr_end=0.0, lr_warmup=0.0),
    "cosine": dict(lr_end=0.0, lr_warmup=0.0),
    "exponential": dict(lr_end=0.01),
}


@dataclass(frozen=True)
class Config:
    """Every setting, by the original's names. None: not read by the chosen algorithm."""

    tag: str = setting("", "name of the run, the first part of its directory")
    alg: str = of_choice("rrd", "algorithm; the last lines of --help list them")
    basis_alg: str | None = of_choice(None, "basis of a decomposition (default: sac; dqn on games)")
    seed: int = of_compute(0, "seed of every random generator", low=0, high=2**63 - 1)
    seeds: tuple[int, ...] | None = setting(
        None, "instead of --seed: several, such as 0,1,2 or 0-4, each with the record of its single run; on CPUs as "
        "many at a time as there are cores, with a thread each, on CUDA in one captured update, if they can share it",
        form="seeds")
    device: str = of_compute("auto", "cpu, cuda, cuda:1, ..., mps (Apple's GPUs, eager and in fp32; "
                             "never tested) or auto (cuda where it works)", form="device")
    engine: str = of_compute("auto", "how updates are computed: eager (autograd), manual (gradients by hand, two "
                             "threads), compile (torch.compile), cudagraph (captured, on CUDA), or auto (the fastest "
                             "that fits; the run prints which)",
                             choices=("auto", "eager", "manual", "compile", "cudagraph"))
    precision: str = of_compute("fp32", "of matrix products: fp32, tf32 (CUDA), or bf16 (autocast); only fp32 gives "
                                "the original's numbers", choices=("fp32", "tf32", "bf16"))
    buffer_device: str = of_compute(
        "auto", "where the replay is kept: cpu, cuda, cuda:1, ... or auto (where the agent is, if it fits there; not "
        "mps)",
        form="device")
    total_timesteps: int | None = setting(
        None, "environment steps of the run (default: epochs * cycles * iterations * timesteps)", low=1)
    epochs: int = setting(3, "epochs; not read with --total_timesteps", low=1)
    cycles: int = setting(100, "cycles per epoch", low=1)
    iterations: int = setting(100, "iterations per cycle", low=1)
    timesteps: int = setting(100, "environment steps per iteration", low=1)
    checkpoint_every: int = setting(1, "cycles between checkpoints that the run can be resumed from; 0: only at its "
                                    "end and when it is stopped", low=0)
    on_existing: str = setting("new", "if outputs/ has runs of the same tag, algorithm, basis, environment and "
                               "seed: new (make another one), resume (the last one, which needs the same settings) or "
                               "overwrite (remove the last one, and make a new one)",
                               choices=("new", "resume", "overwrite"))
    num_envs: int = setting(1, "environments that are stepped at once; if several, each in its own process", low=1)
    worker_restarts: int = setting(3, "how often a run restarts a process of --num_envs that died or hangs; its "
                                   "unfinished episode is lost", low=0)
    worker_timeout: float = setting(60.0, "seconds without an answer after which a process of --num_envs counts "
                                    "as hanging", above=0, high=86_400)
    track: bool = setting(False, "log to Weights & Biases as well, offline unless you are logged in (needs the extra "
                          "`track`)")

    env: str = of_env("Ant-v2", "Gymnasium id; without a version the newest one; MuJoCo's -v2 and -v3 run as -v4")
    env_type: str = of_env("ep_rews", "ep_rews: the return at the episode's end; normal: reward per step",
                           choices=("ep_rews", "normal"))
    test_rollouts: int = of_env(10, "greedy episodes after each cycle; 0 turns evaluation off", low=0)
    test_timesteps: int = of_env(1000, "longest episode, in training too", low=1)
    diagnose_every: int = of_env(0, "for decompositions: cycles between diagnoses of the learned reward, on episodes "
                                 "of their own; 0: none", low=0)
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

    hidden_sizes: tuple[int, ...] | None = of_widths(
        "widths of the hidden layers of the policy or the Q-network, and the default of the others, such as 256,256 "
        "(default: 256,256; for ddpg 400,300; for pictures 512, behind the convolutions)", beside="q_lr")
    activation: str | None = of_networks("activation of these layers, and the default of the others (default: relu)",
                                         choices=ACTIVATIONS, beside="q_lr")
    critic_hidden_sizes: tuple[int, ...] | None = of_widths(
        "widths of the critics' hidden layers (default: --hidden_sizes)", beside="pi_lr")
    critic_activation: str | None = of_networks("activation of the critics (default: --activation)",
                                                choices=ACTIVATIONS, beside="pi_lr")
    reward_hidden_sizes: tuple[int, ...] | None = of_widths(
        "widths of the reward network's hidden layers (default: --hidden_sizes; without it 256,256, for pictures 512)",
        beside="r_lr")
    reward_activation: str | None = of_networks("activation of the reward network (default: --activation)",
                                                choices=ACTIVATIONS, beside="r_lr")
    max_grad_norm: float | None = of_networks(
        "largest norm of the gradient of the policy, of the critics and of the reward network, each by itself: a "
        "longer one is scaled down to it (default: no limit)", above=0, beside="q_lr")
    lr_schedule: str | None = of_networks("how all learning rates change over the run (default: constant)",
                                          choices=tuple(SCHEDULES), beside="q_lr")
    lr_end: float | None = of_networks(
        "learning rate at the end of the run, as a fraction of the initial one (default: 0; with "
        "--lr_schedule=exponential 0.01)", low=0, high=1)
    lr_warmup: float | None = of_networks(
        "fraction of the run in which the learning rate rises from 0 (default: 0; with --lr_schedule=linear or cosine)",
        low=0, high=1)

    resume: str | None = None           # --resume: the directory of the run that is resumed
    imports: tuple[str, ...] = ()       # --import: modules, which no file of settings may name
    env_given: Any = None               # the environment as an object, see `envs.given`; `env` holds its name
    eval_given: Any = None              # the environment of evaluation, if it is another one: an object, or an id
    own: tuple[tuple[str, Any], ...] = ()       # (name, value) of the settings that registered algorithms bring

    # Not flags: known once the environment is, or given to create_agent. See `utils.settings.sizes`.
    obs_dims: tuple[int, ...] | None = None
    acts_dims: tuple[int, ...] | None = None
    obs_scale: float | None = None      # what DQN's `step` divides raw observations by: 255 for pixels, 1 for vectors

    # Whether actions are indices. A worker process, which may not have imported the algorithm, reads it as well.
    discrete: bool = dataclasses.field(init=False, compare=False, default=False)

    def __post_init__(self):
        object.__setattr__(self, "discrete", is_discrete(self.alg) or is_discrete(self.basis_alg))

    def __getattr__(self, name: str) -> Any:
        """The value of a setting that the chosen algorithm brings."""
        for own, value in self.__dict__.get("own", ()):
            if own == name:
                return value
        raise AttributeError(f"{name}: neither a setting nor brought by the chosen algorithm")

    @property
    def run_length(self) -> int:
        """Environment steps of the whole run."""
        return self.total_timesteps or self.epochs * self.cycles * self.iterations * self.timesteps

    def settings(self) -> dict[str, Any]:
        """The settings that the chosen algorithm reads; `resolve` on them gives this object again."""
        values = {name: getattr(self, name) for name in FIELDS} | dict(self.own)
        return {name: value for name, value in values.items() if value is not None}


def _kind(hint: Any) -> Any:
    """int of `int | None`, and so on."""
    return next(one for one in get_args(hint) if one is not NoneType) if isinstance(hint, UnionType) else hint


def _fields() -> dict[str, Setting]:
    hints = get_type_hints(Config)
    return {f.name: Setting(f.name, _kind(hints[f.name]), f.default, **f.metadata)
            for f in dataclasses.fields(Config) if f.metadata}


FIELDS = _fields()              # the settings that are built in, by name


def all_settings() -> dict[str, Setting]:
    """Every setting by name: those that are built in, and those that registered algorithms bring."""
    return FIELDS | {own.name: own for algorithm in ALGORITHMS.values() for own in algorithm.settings}


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
