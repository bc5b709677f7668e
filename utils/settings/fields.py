"""The settings of a run: one typed dataclass, its defaults by algorithm, and their checks.

Nothing here imports torch, so that `train.py --help` and every complaint about a setting are instant.
Precedence: defaults < `--config file.json` < flags.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any


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
    env_given: Any = None               # the environment as an object, see `envs.given`; `env` holds its name
    eval_given: Any = None              # the environment of evaluation, if it is another one: an object, or an id

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
LEARNED = ("learning", "policy", "algorithm")           # how the sections begin of what an agent and its replay read

_ACTOR_CRITIC = dict(train_batches=100, train_target=2, pi_lr=3e-4, q_lr=3e-4, polyak=0.995, obs_normalization=False)

# Basis algorithms: the settings that each one reads beyond the common ones, with its defaults. These tables, and the
# lists below, grow by `algorithm.registry.register_algorithm` and `register_decomposition`.
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
IRCR_BATCH = "batch_size: got 1, expected at least 2 for ircr over vectors (half recent, half best episodes)"


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
