"""The command line of the published Arena program in our settings: `train.py --algo ppo_torch --style 2`.

`--algo` or `--style` says that a command line is one of these. Our own flags may stand beside them, and win.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from utils.cores import count_cores
from utils.errors import ConfigError
from utils.text import did_you_mean

_NORMALIZED = dict(obs_normalization=True, obs_clip=10.0, obs_eps=1e-8, activation="silu")
_ROLLOUTS = _NORMALIZED | dict(alg="ppo", normalize_rewards=True, learning_rate=1e-4, gamma=0.99, ent_coef=0.05,
                               max_grad_norm=0.5)
_PPO = _ROLLOUTS | dict(rollout_steps=4096, batch_size=64, n_epochs=10, gae_lambda=0.95, clip_coef=0.1, vf_coef=1.0,
                        target_kl=0.03, vf_clip_max=False, hidden_sizes="256,128,64")
# The settings of each algorithm; --algo ppo_torch halves the squared error of the value.
ALGOS: dict[str, dict[str, Any]] = {
    "ppo": _PPO,
    "ppo_dict": _PPO,
    "ppo_torch": _PPO | dict(shared_sizes="256,128", hidden_sizes="64", vf_coef=0.5, kl_stop="epoch",
                             normalize_advantages="rollout", actor_gain=2 ** 0.5, critic_gain=2 ** 0.5),
    "ppo_lstm": _PPO | dict(policy="recurrent", lstm_size=128, hidden_sizes="128,64", rollout_steps=512, batch_size=32,
                            n_epochs=5, gae_lambda=0.98, clip_coef=0.2),
    "a2c": _ROLLOUTS | dict(alg="a2c", rollout_steps=128, learning_rate=2.5e-4, gae_lambda=1.0, vf_coef=0.5,
                            normalize_advantages="rollout", optimizer="rmsprop", RMSProp_eps=1e-5,
                            hidden_sizes="384,256,256,128,64", critic_hidden_sizes="256,128,128,64"),
    "dqn": _NORMALIZED | dict(alg="dqn", q_lr=3e-4, gamma=0.99, buffer_size=100_000, batch_size=64, warmup=1000,
                              timesteps=4, train_batches=1, train_target=250, iterations=2500, eps_l=1.0, eps_r=0.05,
                              hidden_sizes="256,128,64"),
}
# What differs on a GPU.
ON_GPU: dict[str, dict[str, Any]] = {
    "ppo_lstm": dict(batch_size=64), "a2c": dict(rollout_steps=256),
    "dqn": dict(buffer_size=200_000, batch_size=256, warmup=2000, train_batches=2, train_target=500),
    **{name: {"batch_size": 256} for name in ("ppo", "ppo_dict", "ppo_torch")}}
ELSEWHERE = "; --alg names an algorithm of this package, and --env its task"


def split(argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return (the settings of the published words, the other words); none, if the line is not one of these.

    Raises:
        ConfigError: a value is wrong.
    """
    if not any(word.partition("=")[0] in ("--algo", "--style") for word in argv):
        return {}, list(argv)
    try:
        given, others = _parser().parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ConfigError(str(error).removeprefix("argument ")) from None
    return _settings(given), others


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name, default in (("algo", "ppo"), ("style", "1"), ("lr", None), ("batch", None), ("device", "auto")):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--steps", "--total-timesteps", "--total_timesteps", default="100000")
    for name in ("no-render", "tensorboard", "reset-timesteps"):        # there is no rendering; the log is always kept
        parser.add_argument(f"--{name}", action="store_true")
    return parser


def _settings(given: argparse.Namespace) -> dict[str, Any]:
    if given.algo not in ALGOS:
        raise ConfigError(f"algo: got {given.algo!r}{did_you_mean(given.algo, ALGOS)}, expected one of "
                          f"{', '.join(ALGOS)}, which the published Arena program has{ELSEWHERE}")
    if given.style not in ("1", "2"):
        raise ConfigError(f"style: got {given.style!r}, expected 1 or 2{ELSEWHERE}")
    found = dict(ALGOS[given.algo])
    if given.device.startswith(("cuda", "mps")):
        found |= ON_GPU[given.algo]
    if given.algo == "dqn":
        found |= {"eps_decay": _half(given.steps)}
    else:
        found |= {"num_envs": count_cores()}
    changes = {"q_lr" if given.algo == "dqn" else "learning_rate": given.lr, "batch_size": given.batch}
    found |= {name: value for name, value in changes.items() if value is not None}
    kwargs = {"style": int(given.style)} | ({"observation": "dict"} if given.algo == "ppo_dict" else {})
    return found | {"env": "Arena-v0", "env_kwargs": kwargs, "env_type": "normal", "test_timesteps": 3000,
                    "total_timesteps": given.steps, "device": given.device}


def _half(steps: str) -> int:
    """Half of the run, in which epsilon falls."""
    try:
        return max(1, int(steps) // 2)
    except ValueError:
        raise ConfigError(f"steps: got {steps!r}, expected an integer") from None
