"""The settings of a run: one frozen, typed dataclass.

Nothing here imports PyTorch, so that `train.py --help` and an error in a setting are instant.
Precedence: defaults < `--config file.json` < flags.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from utils.settings.algorithms import ALGORITHMS, is_discrete, is_on_policy
from utils.settings.paying import PayingSettings
from utils.settings.setting import (
    SCHEDULES,
    Setting,
    fields_of,
    of_algorithm,
    of_atari,
    of_choice,
    of_compute,
    of_env,
    of_learning,
    of_networks,
    of_policy,
    of_widths,
    setting,
)

ACTIVATIONS = ("relu", "tanh", "silu", "elu", "gelu")


@dataclass(frozen=True)
class Config(PayingSettings):
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
    kernels: str = of_compute("auto", "of manual on a CPU, products-halves x threads, such as mm-2x1 or onednn-1x4; "
                              "auto times them at the start, autograd is the eager engine, bf16-2x1 with "
                              "--precision=bf16 is emulated where the processor lacks it", form="kernels")
    precision: str = of_compute("fp32", "of matrix products: fp32, tf32 (CUDA), or bf16 (on CPUs with AMX or "
                                "AVX512-BF16, else fp32); only fp32 gives the original's numbers",
                                choices=("fp32", "tf32", "bf16"))
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
    best: str = setting("Rewards", "column of metrics.csv by which the best checkpoint is chosen, such as "
                        "eval/metrics/success; the least value with a - before it")
    load_model: str = setting("", "start from the weights of this model: MODEL.pt, or a run's directory or checkpoint")
    on_existing: str = setting("new", "if outputs/ has runs of the same tag, algorithm, basis, environment and "
                               "seed: new (make another one), resume (the last one, which needs the same settings) or "
                               "overwrite (remove the last one, and make a new one)",
                               choices=("new", "resume", "overwrite"))
    run_dir: str = setting("", "directory of the run's record, in which {seed} stands for the seed (default: a new one "
                           "in outputs/)")
    num_envs: int = setting(1, "environments that are stepped at once; if several, each in its own process; of a "
                            "tensor environment all in one batch, and on policy Gymnasium's own in this process", low=1)
    worker_restarts: int = setting(3, "how often a run restarts a process of --num_envs that died or hangs; its "
                                   "unfinished episode is lost", low=0)
    worker_timeout: float = setting(60.0, "seconds without an answer after which a process of --num_envs counts "
                                    "as hanging", above=0, high=86_400)
    track: bool = setting(False, "log to Weights & Biases, too, offline unless you are logged in (extra `track`)")

    env: str = of_env("Ant-v2", "Gymnasium id; without a version the newest one; MuJoCo's -v2 and -v3 run as -v4")
    env_kwargs: dict | None = of_env(                                                       # noqa: RUF009
        None, 'arguments that the environment is made with, an object of JSON, such as \'{"size": 5}\'')
    eval_env_kwargs: dict | None = of_env(                                                  # noqa: RUF009
        None, "the same, instead, for evaluation, diagnosis and videos (default: --env_kwargs)")
    env_type: str = of_env("ep_rews", "ep_rews: the return at the episode's end; normal: reward per step",
                           choices=("ep_rews", "normal"))
    reward_every: int = of_env(0, "instead of --env_type: pay the sum of the rewards of each so many steps at the last "
                               "of them, and what is left at the episode's end; 0: as --env_type says", low=0)
    on_nan: str = of_env("stop", "what an observation or reward that is not finite does: stop the run, or drop its "
                         "episode and count it", choices=("stop", "drop"))
    test_rollouts: int = of_env(10, "greedy episodes after each cycle; 0: none, and no environment for them", low=0)
    test_timesteps: int = of_env(1000, "longest episode, in training too", low=1)
    diagnose_every: int = of_env(0, "for decompositions: cycles between diagnoses of the learned reward, on episodes "
                                 "of their own; 0: none", low=0)
    curriculum: str = of_env("default", "of a tensor environment: default (the task's own, if it has one), none, or a "
                             "JSON file of stages, or its text; evaluation plays the last stage")
    eval_worlds: dict | None = of_env(                                                      # noqa: RUF009
        None, 'the frozen worlds of MarineNav that evaluation plays, by stages: \'{"num_episodes": [10, 10], '
        '"num_robots": [3, 5]}\' (default: --test_rollouts worlds of the run\'s last stage)')
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

    grad_accum_steps: int | None = of_algorithm("parts of a batch whose gradients are added up before the optimisers' "
                                                "step: the numbers of the whole batch, in less memory", low=1)
    train_batches: int | None = of_algorithm("updates per iteration", low=1)
    train_target: int | None = of_algorithm("updates per target update", low=1)
    policy: str | None = of_policy("what acts on policy, by name")
    learning_rate: float | None = of_policy("learning rate of policy and value", above=0)
    orthogonal: bool | None = of_policy("initialise layers orthogonally, biases 0; False: as PyTorch does")
    actor_gain: float | None = of_policy("gain of that in the policy's last layer; in hidden ones sqrt 2", above=0)
    critic_gain: float | None = of_policy("gain of that in the value's last layer", above=0)
    log_std_init: float | None = of_policy("initial log std of continuous actions, kept within -5 and 2", low=-5,
                                           high=2)
    last_activation: str | None = of_policy("activation after the policy's last layer (default: none)",
                                            choices=ACTIVATIONS)
    shared_sizes: tuple[int, ...] | None = of_policy(
        "widths of layers that policy and value share, before their own (default: none)", low=1, high=1_000_000)
    shared_encoder: bool | None = of_policy("whether policy and value share convolutions or LSTM (default: True, for "
                                            "recurrent False)")
    encoder_size: int | None = of_policy("width of the encoder of each part, for --policy=keyed", low=1, high=1_000_000)
    lstm_size: int | None = of_policy("width of the LSTM of --policy=recurrent", low=1, high=1_000_000)
    lstm_layers: int | None = of_policy("layers of that LSTM", low=1, high=100)
    encoder: str | None = of_policy("what makes features of an observation: plain (a dense layer, for pictures DQN's "
                                    "convolutions) or objects (a boat and the objects around it, as MarineNav gives "
                                    "them)", choices=("plain", "objects"))
    features: int | None = of_policy("width of the dense layer of --encoder=plain", low=1, high=1_000_000)
    object_dims: tuple[int, ...] | None = of_policy("for --encoder=objects: numbers of the boat itself, and of each "
                                                    "object", low=1, high=1_000_000)
    object_sizes: tuple[int, ...] | None = of_policy("for --encoder=objects: widths of the layer of the boat itself, "
                                                     "and of that of each object", low=1, high=1_000_000)
    quantiles: int | None = of_policy("fractions that the loss draws for each state", low=1, high=100_000)
    act_quantiles: int | None = of_policy("fractions that an action's value is the mean over", low=1, high=100_000)
    cosines: int | None = of_policy("cosines that a fraction is encoded by", low=1, high=100_000)
    n_step: int | None = of_policy("steps of the return that a transition holds", low=1, high=1000)
    atoms: int | None = of_policy("returns that a distribution gives a probability to", low=2, high=100_000)
    v_min: float | None = of_policy("the least of them")
    v_max: float | None = of_policy("the greatest of them")
    noisy_sigma: float | None = of_policy("std of the weights' noise at the start, times sqrt(inputs)", low=0)
    priority_exponent: float | None = of_policy("power of a transition's loss that it is drawn in proportion to: 0 "
                                                "uniformly", low=0, high=10)
    priority_beta: float | None = of_policy("how much the weights undo that at the start of the run, 1 at its end: 0 "
                                            "not, 1 wholly", low=0, high=1)
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
    greedy: str | None = of_policy("the action of evaluation: the mean of the policy, or a sample",
                                   choices=("mean", "sample"))
    optimizer: str | None = of_policy("optimiser, of the Q-network in dqn", choices=("adam", "rmsprop"))
    Adam_eps: float | None = of_policy("epsilon of that Adam", above=0)
    RMSProp_decay: float | None = of_policy("decay of that RMSProp", low=0, high=1)
    RMSProp_eps: float | None = of_policy("epsilon of that RMSProp", above=0)
    double: bool | None = of_policy("double Q-learning: the online network chooses the target's action")
    dueling: bool | None = of_policy("dueling heads on the convolutions: state value and advantages")
    eps_l: float | None = of_policy("share of random actions at the start", low=0, high=1)
    eps_r: float | None = of_policy("share of random actions at the end", low=0, high=1)
    eps_decay: int | None = of_policy("environment steps from eps_l to eps_r", low=1)
    rollout_steps: int | None = of_algorithm("steps of each environment in a rollout", low=1)
    n_epochs: int | None = of_algorithm("passes over a rollout", low=1)
    gae_lambda: float | None = of_algorithm("lambda of the advantages: 0 one step, 1 the whole return", low=0, high=1)
    clip_coef: float | None = of_algorithm("how far the ratio of probabilities may leave 1 before it is clipped",
                                           above=0)
    ent_coef: float | None = of_algorithm("weight of the entropy in the loss", low=0)
    kl_coef: float | None = of_algorithm("weight of the KL divergence from the first policy in the loss", low=0)
    group_size: int | None = of_algorithm("neighbouring environments whose returns are compared; num_envs is a "
                                          "multiple of it", low=2)
    vf_coef: float | None = of_algorithm("weight of the value's squared error in the loss", low=0)
    vf_clip_coef: float | None = of_algorithm("how far a value may leave that of the rollout before it is clipped "
                                              "(default: no clip)", above=0)
    vf_clip_max: bool | None = of_algorithm("with --vf_clip_coef: take the larger of both errors; False: that of the "
                                            "clipped value")
    target_kl: float | None = of_algorithm("KL divergence at which the passes over a rollout stop (default: never)",
                                           above=0)
    kl_stop: str | None = of_algorithm(
        "what --target_kl stops: minibatch (before an update whose KL exceeds 1.5 times it) or epoch (after a pass, if "
        "the mean so far exceeds it)", choices=("minibatch", "epoch"))
    normalize_advantages: str | None = of_algorithm("over what advantages are normalised",
                                                    choices=("rollout", "minibatch", "none"))
    normalize_rewards: bool | None = of_algorithm("divide rewards by the running std of their discounted sum")
    random_warmup: bool | None = of_algorithm(
        "whether all exploring actions are random before --warmup (default: True)", beside="eps_l")

    hidden_sizes: tuple[int, ...] | None = of_widths(
        "widths of the hidden layers of the policy or the Q-network, and the default of the others, such as 256,256 "
        "(default: 256,256; for ddpg 400,300; for pictures 512, after the convolutions)", beside="q_lr")
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
    obs_clip: float | None = of_networks("what normalised observations are clipped to, +- (default: 5)", above=0,
                                         beside="obs_normalization")
    obs_eps: float | None = of_networks(
        "added to the variance that observations are normalised with, as 1e-8 by Stable-Baselines3 (default: none, but "
        "a std of at least 0.01)", low=0, beside="obs_normalization")
    lr_schedule: str | None = of_networks("how all learning rates change over the run (default: constant)",
                                          choices=tuple(SCHEDULES), beside="q_lr")
    lr_end: float | None = of_networks(
        "learning rate at the end of the run, as a fraction of the initial one (default: 0; with "
        "--lr_schedule=exponential 0.01)", low=0, high=1)
    lr_decay: float | None = of_networks(
        "with --lr_schedule=exponential: factor of the learning rate over the run, which --lr_end then bounds from "
        "below (default: --lr_end)", above=0, high=1, beside="lr_end")
    lr_start: float | None = of_networks(
        "learning rate at the start of the warm-up, as a fraction of the initial one (default: 0)", low=0, high=1,
        beside="lr_warmup")
    lr_warmup: float | None = of_networks(
        "fraction of the run in which the learning rate rises from 0 (default: 0; with --lr_schedule=linear or cosine)",
        low=0, high=1)

    resume: str | None = None           # --resume: the directory of the run that is resumed
    imports: tuple[str, ...] = ()       # --import: modules, which no file of settings may name
    notes: tuple[str, ...] = dataclasses.field(default=(), compare=False)      # about the file, for the user
    env_given: Any = None               # the environment as an object, see `envs.given`; `env` holds its name
    eval_given: Any = None              # the environment of evaluation, if it is another one: an object, or an id
    own: tuple[tuple[str, Any], ...] = ()       # (name, value) of the settings that registered algorithms bring

    # Not flags: known once the environment is, or given to create_agent. See `utils.settings.sizes`.
    obs_dims: tuple[int, ...] | None = None
    acts_dims: tuple[int, ...] | None = None
    obs_scale: float | None = None      # what DQN's `step` divides raw observations by: 255 for pixels, 1 for vectors
    rows: int = 1                       # that one environment is; a joint action of them is one environment step

    acts_discrete: bool | None = None   # on policy: whether actions are indices, as the environment says
    obs_parts: tuple[tuple[str, tuple[int, ...]], ...] | None = None    # name and shape in a dict of observations

    # Whether actions are indices. A worker process, which may not have imported the algorithm, reads it as well.
    discrete: bool = dataclasses.field(init=False, compare=False, default=False)

    def __post_init__(self):
        discrete = is_discrete(self.alg) or is_discrete(self.basis_alg)
        object.__setattr__(self, "discrete", discrete if self.acts_discrete is None else self.acts_discrete)

    def __getattr__(self, name: str) -> Any:
        """The value of a setting of the chosen algorithm's own."""
        for own, value in self.__dict__.get("own", ()):
            if own == name:
                return value
        raise AttributeError(f"{name}: neither a setting nor one of the chosen algorithm's own")

    @property
    def on_policy(self) -> bool:
        """Whether the algorithm, or the basis of a decomposition, learns from rollouts."""
        return is_on_policy(self.basis_alg or self.alg)

    @property
    def run_length(self) -> int:
        """Environment steps of the whole run."""
        return self.total_timesteps or self.epochs * self.cycles * self.iterations * self.timesteps

    def settings(self) -> dict[str, Any]:
        """The settings that the chosen algorithm reads; `resolve` on them gives this object again."""
        values = {name: getattr(self, name) for name in FIELDS} | dict(self.own)
        derived = DERIVED if self.on_policy else ()
        return {name: value for name, value in values.items() if value is not None and name not in derived}


FIELDS = fields_of(Config)       # the settings that are built in, by name


def all_settings() -> dict[str, Setting]:
    """Every setting by name: those that are built in, and those that registered algorithms bring."""
    return FIELDS | {own.name: own for algorithm in ALGORITHMS.values() for own in algorithm.settings}


# On policy, these follow from other settings.
DERIVED = ("timesteps", "train_batches")
