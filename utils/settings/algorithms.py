"""The table of algorithms: the only place that defines them.

It holds text only, so that `--help` and the check of a setting need no PyTorch. `algorithm.registry.register_algorithm`
and `register_decomposition` add rows. Every list of algorithms, in an error, in help, in a schema, comes from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from utils.settings.setting import Setting

TRANSITIONS = "algorithm.replay_buffer.transition:TransitionReplay"


@dataclass(frozen=True)
class Override:
    """Defaults that a decomposition has over one basis on one task, such as Humanoid in all its versions."""

    basis: str
    task: str
    defaults: Mapping[str, Any]


@dataclass(frozen=True)
class Algorithm:
    """An algorithm, which learns a policy, or a decomposition, which pays the steps that an algorithm learns from.

    entry: what builds it, as "module:attribute"; the class or function itself if a user registered it.
    reference: its TensorFlow reference, as "module:attribute"; None: there is none.
    replay: what it learns from.
    defaults: the settings that it reads, beyond those that all read, or whose defaults differ; by name.
    decomposition: whether it needs a basis, which is another algorithm.
    discrete: whether its actions are indices.
    diagnosed: whether it predicts the reward of each step.
    by_optimizer: further settings that it reads, by the setting `optimizer`.
    on_policy: whether it learns from rollouts, of continuous or discrete actions, as the environment says.
    over_discrete: its defaults over a basis of discrete actions, instead of `defaults`; None: the same.
    overrides: defaults over some bases on some tasks.
    smallest_batch: the least `batch_size` over vectors.
    settings: settings of its own, which no other algorithm has.
    paid: whether a decomposition can pay its steps.
    labels: whether its loss reads labels on any intervals of an episode, which may overlap.
    """

    entry: str | Callable
    reference: str | None = None
    replay: str | type = TRANSITIONS
    defaults: Mapping[str, Any] = field(default_factory=dict)
    decomposition: bool = False
    discrete: bool = False
    on_policy: bool = False
    diagnosed: bool = False
    by_optimizer: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    over_discrete: Mapping[str, Any] | None = None
    overrides: tuple[Override, ...] = ()
    smallest_batch: int = 1
    settings: tuple[Setting, ...] = ()
    paid: bool = True
    labels: bool = False

    @property
    def built_in(self) -> bool:
        """Whether it came with the program, rather than by `register_algorithm` or `register_decomposition`."""
        return isinstance(self.entry, str)

    def defaults_with(self, optimizer: str | None) -> dict[str, Any]:
        """The settings that it reads with this optimiser, or with its default one if None; its own defaults win."""
        if not self.by_optimizer:
            return dict(self.defaults)
        chosen = self.by_optimizer.get(optimizer or self.defaults["optimizer"], {})
        unread = {name for others in self.by_optimizer.values() for name in others} - set(chosen)
        return dict(chosen) | {name: value for name, value in self.defaults.items() if name not in unread}

    def defaults_over(self, basis: str, env: str) -> dict[str, Any]:
        """The settings that a decomposition reads over this basis in this environment, beyond those of the basis."""
        discrete = ALGORITHMS[basis].discrete and self.over_discrete is not None
        found = dict(self.over_discrete if discrete else self.defaults)
        for one in self.overrides:
            if one.basis == basis and re.match(rf"{one.task}-v\d", env):
                found |= one.defaults
        return found


def _learned(entry: str, defaults: Mapping[str, Any], replay: str | None = "EpisodeReplay", labels: bool = False,
             **over_discrete: Any) -> Algorithm:
    """A decomposition that learns a model, from whole episodes or, without a replay of those, from sub-sequences."""
    return Algorithm(f"algorithm.decomposition.{entry}", replay=f"algorithm.replay_buffer.whole:{replay}" if replay else
                     "algorithm.replay_buffer.subsequence:SubsequenceReplay", defaults=defaults, decomposition=True,
                     diagnosed=True, over_discrete={**defaults, **over_discrete}, labels=labels)


_ACTOR_CRITIC = dict(train_batches=100, train_target=2, pi_lr=3e-4, q_lr=3e-4, polyak=0.995, obs_normalization=False)
# As the published MarineNav program has them: an update every 4 steps, targets copied every 10,000 steps.
_ENCODED = dict(
    warmup=2000, batch_size=64, grad_accum_steps=1, train_batches=25, train_target=2500, q_lr=1e-4, max_grad_norm=0.5,
    obs_normalization=False, eps_l=0.6, eps_r=0.05, eps_decay=250_000, encoder="plain", features=256,
    object_dims=(7, 5), object_sizes=(56, 40))
_ENCODED_ACTOR_CRITIC = _ENCODED | dict(pi_lr=1e-4, polyak=0.0)
_QUANTILES = dict(quantiles=8, act_quantiles=32, cosines=64)
_ON_POLICY = dict(
    warmup=0, learning_rate=3e-4, n_epochs=1, gae_lambda=0.95, ent_coef=0.0, vf_coef=0.5, normalize_advantages="none",
    normalize_rewards=False, obs_normalization=False, policy="actor_critic", hidden_sizes=None, activation=None,
    critic_hidden_sizes=None, critic_activation=None, shared_sizes=None, last_activation=None, shared_encoder=None,
    encoder_size=64, lstm_size=128, lstm_layers=1, orthogonal=True, actor_gain=0.01, critic_gain=1.0, log_std_init=0.0,
    max_grad_norm=0.5, lr_schedule=None)
_ON_POLICY_OPTIMIZERS = {"adam": dict(Adam_eps=1e-5), "rmsprop": dict(RMSProp_decay=0.99, RMSProp_eps=1e-5)}
_OF_VALUES = ("gae_lambda", "vf_coef", "normalize_advantages", "critic_hidden_sizes", "critic_activation",
              "critic_gain")
_FITTED = dict(r_lr=3e-4, fit_every=0, fit_updates=None, fit_episodes=4)
_CHEAP = _FITTED | dict(fit_episodes=1)         # so that an update costs at most twice RRD's where T = 1000
_BURSTS = dict(r_lr=3e-4, fit_every=1000, fit_updates=100)
_RD = _CHEAP | dict(
    estimator="all", variance_penalty=0.0, target="mean", return_scale=1.0, rrd_batch_size=256, rrd_sample_size=64,
    likelihood="gaussian", outcome_credit="reward", credit_steps=100_000, feature_fn=None)
_VIB_RD = dict(r_lr=3e-4, fit_every=0, fit_updates=None, rrd_batch_size=256, rrd_sample_size=64,
               rrd_bias_correction=False, latent_size=8, kl_weight=5e-3)
_LRR = _CHEAP | dict(return_scale=1.0, sigma_floor=1e-2, target="mean", detach=False)
_GP_LRR = _BURSTS | dict(r_lr=1e-3, fit_updates=10, fit_episodes=4, return_scale=0.0, kernel="rbf", detach=True)
_RUDDER = _BURSTS | dict(r_lr=1e-3, fit_episodes=8, credit_steps=100_000, return_scale=0.0, cell="lstm", cell_size=64,
                         aux_weight=0.5, quality_floor=0.2, likelihood="gaussian", lesson_size=0, lesson_start=0,
                         lesson_goal=0.0)
_RBT = _BURSTS | dict(fit_updates=40, fit_episodes=4, credit_steps=10_000, return_scale=0.0, attention_size=256,
                      attention_layers=3, attention_window=100, attention_weights="rbt", state_weight=1.0,
                      likelihood="gaussian")
_DIASTER = _BURSTS | dict(fit_episodes=16, return_scale=10.0, cell_size=256, cut_noise=True)
_ARES = _BURSTS | dict(fit_episodes=4, return_scale=0.0, attention_size=64, readout_size=8)
_GRD = _FITTED | dict(mask_temperature=0.01, mask_policy=False, sparse_s_r=1e-5, sparse_a_r=1e-5, sparse_s_s=1e-5,
                      sparse_s_s_diagonal=1e-6, sparse_a_s=1e-5)
_RRD = dict(r_lr=3e-4, rrd_batch_size=256, rrd_sample_size=64, rrd_bias_correction=False, return_scale=1.0)

ALGORITHMS: dict[str, Algorithm] = {
    "ddpg": Algorithm(
        "algorithm.basis_alg.ddpg_torch:DDPG", "algorithm.tf.ddpg:DDPG",
        defaults=_ACTOR_CRITIC | dict(pi_lr=1e-4, q_lr=1e-3, polyak=0.999, obs_normalization=True, std_act=0.1,
                                      q_reg=1e-2)),
    "td3": Algorithm(
        "algorithm.basis_alg.td3_torch:TD3", "algorithm.tf.td3:TD3",
        defaults=_ACTOR_CRITIC | dict(std_act=0.1, pi_t_std=0.2, pi_t_clip=0.5, pi_delay_freq=2)),
    "sac": Algorithm(
        "algorithm.basis_alg.sac_torch:SAC", "algorithm.tf.sac:SAC",
        defaults=_ACTOR_CRITIC | dict(train_target=1, alpha_lr=3e-4, alpha_init=1.0)),
    "dqn": Algorithm(
        "algorithm.basis_alg.dqn_torch:DQN", "algorithm.tf.dqn:DQN", discrete=True,
        defaults=dict(batch_size=32, train_batches=25, train_target=8000, obs_normalization=False, double=False,
                      dueling=False, eps_l=1.0, eps_r=0.01, eps_decay=250_000, optimizer="adam"),
        by_optimizer={"adam": dict(q_lr=0.625e-4, Adam_eps=1.5e-4),
                      "rmsprop": dict(q_lr=2.5e-4, RMSProp_decay=0.95, RMSProp_eps=1e-2)}),
    "iqn": Algorithm(
        "algorithm.basis_alg.iqn_torch:IQN", discrete=True,
        defaults=_ENCODED | _QUANTILES | dict(eps_l=1.0, eps_r=0.01)),
    "ac_iqn": Algorithm(
        "algorithm.basis_alg.ac_iqn_torch:ACIQN", defaults=_ENCODED_ACTOR_CRITIC | _QUANTILES),
    "rainbow": Algorithm(
        "algorithm.basis_alg.rainbow_torch:Rainbow", replay="algorithm.replay_buffer.prioritized:PrioritizedReplay",
        discrete=True, paid=False,
        # The noise of the weights explores.
        defaults=_ENCODED | dict(eps_l=0.0, eps_r=0.0, eps_decay=1, n_step=3, atoms=51, v_min=-100.0, v_max=100.0,
                                 noisy_sigma=0.05, priority_exponent=0.5, priority_beta=0.4)),
    "marinenav_ddpg": Algorithm(
        "algorithm.basis_alg.marinenav_ddpg_torch:MarineNavDDPG", defaults=_ENCODED_ACTOR_CRITIC),
    "marinenav_dqn": Algorithm(
        "algorithm.basis_alg.marinenav_dqn_torch:MarineNavDQN", discrete=True, defaults=_ENCODED),
    "marinenav_sac": Algorithm(
        "algorithm.basis_alg.marinenav_sac_torch:MarineNavSAC",
        defaults=_ENCODED_ACTOR_CRITIC | dict(alpha_init=0.078, greedy="mean")),
    "ppo": Algorithm(
        "algorithm.basis_alg.ppo_torch:PPO", on_policy=True, by_optimizer=_ON_POLICY_OPTIMIZERS,
        defaults=_ON_POLICY | dict(rollout_steps=2048, n_epochs=10, batch_size=64, clip_coef=0.2, vf_clip_coef=None,
                                   vf_clip_max=True, target_kl=None, kl_stop="minibatch",
                                   normalize_advantages="minibatch", optimizer="adam")),
    "a2c": Algorithm(
        "algorithm.basis_alg.a2c_torch:A2C", on_policy=True, by_optimizer=_ON_POLICY_OPTIMIZERS,
        defaults=_ON_POLICY | dict(rollout_steps=5, batch_size=None, learning_rate=7e-4, gae_lambda=1.0,
                                   optimizer="rmsprop")),
    "grpo": Algorithm(
        "algorithm.basis_alg.grpo_torch:GRPO", on_policy=True, paid=False, by_optimizer=_ON_POLICY_OPTIMIZERS,
        defaults={name: value for name, value in _ON_POLICY.items() if name not in _OF_VALUES} | dict(
            rollout_steps=128, n_epochs=10, batch_size=256, clip_coef=0.2, target_kl=None, kl_stop="minibatch",
            ent_coef=0.01, kl_coef=0.0, group_size=4, policy="actor_only", optimizer="adam")),
    "rrd": Algorithm(
        "algorithm.decomposition.rrd:RRD", "algorithm.tf.rrd:RRD",
        "algorithm.replay_buffer.subsequence:SubsequenceReplay",
        decomposition=True, diagnosed=True, defaults=_RRD,
        over_discrete=_RRD | dict(rrd_batch_size=32, rrd_sample_size=32)),
    "ircr": Algorithm(
        "algorithm.decomposition.paid:IRCR", "algorithm.tf.paid:paid", "algorithm.replay_buffer.ircr:IRCRReplay",
        decomposition=True, diagnosed=True, defaults=dict(buffer_size=300_000, polyak=0.999, batch_size=512),
        over_discrete={}, smallest_batch=2,
        # The original: on Humanoid, IRCR is steadier with a fixed temperature.
        overrides=(Override("sac", "Humanoid", dict(alpha_lr=0.0, alpha_init=0.1)),)),
    "uniform": Algorithm(
        "algorithm.decomposition.paid:Uniform", "algorithm.tf.paid:paid",
        "algorithm.replay_buffer.uniform:UniformReplay",
        decomposition=True, diagnosed=True),
    "rd": _learned("rrd:RRD", _RD, "rd_replay", True, rrd_batch_size=32, rrd_sample_size=32),
    "vib_rd": _learned("vib_rd:VIBRD", _VIB_RD, None, rrd_batch_size=32, rrd_sample_size=32),
    "lrr": _learned("lrr:LRR", _LRR, labels=True),
    "gp_lrr": _learned("gp_lrr:GPLRR", _GP_LRR),
    "rudder": _learned("rudder:RUDDER", _RUDDER, labels=True),
    "rbt": _learned("rbt:RBT", _RBT, labels=True),
    "ares": _learned("ares:ARES", _ARES),
    "diaster": _learned("diaster:Diaster", _DIASTER),
    "grd": _learned("grd:GRD", _GRD),
}
IRCR_BATCH = "batch_size: got 1, expected at least 2 for ircr over vectors (half recent, half best episodes)"


def names() -> list[str]:
    """Every algorithm that `--alg` takes; the decompositions come last."""
    return [*bases(), *decompositions()]


def bases(discrete: bool | None = None) -> list[str]:
    """Every algorithm that `--basis_alg` takes, or only those of discrete, or of continuous actions."""
    return [name for name, one in ALGORITHMS.items()
            if not one.decomposition and discrete in (None, one.discrete)]


def decompositions() -> list[str]:
    """Every algorithm that needs a basis."""
    return [name for name, one in ALGORITHMS.items() if one.decomposition]


def diagnosed() -> list[str]:
    """Every algorithm whose reward for each step can be judged."""
    return [name for name, one in ALGORITHMS.items() if one.diagnosed]


def referenced() -> list[str]:
    """Every algorithm that has a TensorFlow reference."""
    return [name for name in names() if ALGORITHMS[name].reference is not None]


def is_decomposition(name: str) -> bool:
    """Whether this is the name of a decomposition."""
    return name in ALGORITHMS and ALGORITHMS[name].decomposition


def is_discrete(name: str | None) -> bool:
    """Whether this is the name of an algorithm of discrete actions."""
    return name in ALGORITHMS and ALGORITHMS[name].discrete


def is_on_policy(name: str | None) -> bool:
    """Whether this is the name of an algorithm that learns from rollouts."""
    return name in ALGORITHMS and ALGORITHMS[name].on_policy


def defaults_of(setting: str) -> dict[str, Any]:
    """The default of a setting by algorithm, of those that have one of their own; None: read, but not set."""
    return {name: ALGORITHMS[name].defaults[setting] for name in names() if setting in ALGORITHMS[name].defaults}


def any_of(some: list[str]) -> str:
    """`rrd, ircr or uniform`."""
    return " or ".join(filter(None, [", ".join(some[:-1]), some[-1]]))
