"""The agent of this package that computes what a model of Stable-Baselines3 computes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapters.sb3_files import Saved
from algorithm.sb3_names import sb3_names, widths
from utils.errors import CheckpointError

Weights = Mapping[str, Tensor]
ROLLOUTS, RECURRENT = "stable_baselines3.common.policies", "sb3_contrib.common.recurrent.policies"
ACTIVATIONS = {"ReLU": "relu", "Tanh": "tanh", "SiLU": "silu", "ELU": "elu", "GELU": "gelu"}
EXTRACTORS = ("FlattenExtractor", "CombinedExtractor")


class Converted(NamedTuple):
    """The settings, sizes and weights of an agent, before statistics are added."""

    settings: dict[str, Any]
    obs_dim: int
    act_dim: int
    nets: dict[str, Tensor]


def convert(saved: Saved) -> Converted:
    """Return the agent of a model.

    Raises:
        CheckpointError: the model is of another algorithm, or has networks that no agent here has.
    """
    family = _policy_module(saved)
    if family not in FAMILIES:
        raise CheckpointError(f"{saved.path}: policy_class: got one of {family!r}, expected a model of PPO, A2C, "
                              "RecurrentPPO, SAC, TD3, DDPG or DQN with MlpPolicy or MultiInputPolicy")
    if saved.data.get("use_sde"):
        raise CheckpointError(f"{saved.path}: use_sde: got True, expected False: no agent here explores by states")
    build, default = FAMILIES[family]
    try:
        found = build(saved)
    except (KeyError, IndexError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{saved.path}: policy.pth: lacks or does not fit {error}") from None
    return found._replace(settings=found.settings | {"activation": _activation(saved, default)})


def _policy_module(saved: Saved) -> str:
    held = saved.data.get("policy_class")
    return str(held.get("__module__")) if isinstance(held, dict) else "no module"


def _activation(saved: Saved, default: str) -> str:
    """The activation of the hidden layers, which the settings name as the text of a class."""
    given = saved.data.get("policy_kwargs") or {}
    _check_extractor(saved, given)
    text = given.get("activation_fn")
    if text is None:
        return default
    name = re.fullmatch(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>", str(text))
    if name is None or name[1] not in ACTIVATIONS:
        raise CheckpointError(f"{saved.path}: activation_fn: got {str(text)[:100]}, expected one of "
                              f"{', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name[1]]


def _check_extractor(saved: Saved, given: Mapping[str, Any]) -> None:
    """Raise a CheckpointError if observations pass through anything before the dense layers."""
    text = given.get("features_extractor_class")
    if text is not None and not any(f".{name}'" in str(text) for name in EXTRACTORS):
        raise CheckpointError(f"{saved.path}: features_extractor_class: got {str(text)[:100]}, expected one of "
                              f"{', '.join(EXTRACTORS)}")


def _all_known(saved: Saved, rest: Mapping[str, Any]) -> None:
    """Raise a CheckpointError if weights are left over, which then belong to networks that no agent here has."""
    if rest:
        raise CheckpointError(f"{saved.path}: policy.pth: got {', '.join(list(rest)[:4])}, which no agent here has; "
                              "expected dense layers, or an LSTM for actor and critic each, or one for both")


# Algorithms that learn from rollouts --------------------------------------------------------------------------------

def _rollouts(saved: Saved) -> Converted:
    """PPO or A2C; which of them, its settings tell."""
    return _actor_critic(saved, {"alg": "ppo" if "n_epochs" in saved.data else "a2c"})


def _recurrent(saved: Saved) -> Converted:
    """Recurrent PPO: an LSTM for actor and critic each, or one for both."""
    hidden = saved.weights["lstm_actor.weight_hh_l0"].shape[1]
    layers = sum(bool(re.fullmatch(r"lstm_actor\.weight_hh_l\d+", name)) for name in saved.weights)
    shared = not any(name.startswith("lstm_critic") for name in saved.weights)
    return _actor_critic(saved, {"alg": "ppo", "policy": "recurrent", "lstm_size": hidden, "lstm_layers": layers,
                                 "shared_encoder": shared}, "lstm_actor.weight_ih_l0")


def _actor_critic(saved: Saved, settings: dict[str, Any], first: str | None = None) -> Converted:
    """A policy of rollouts; `first` is the name of the weights that read observations, if the networks do not."""
    shapes = {name: tuple(value.shape) for name, value in saved.weights.items()}
    names = sb3_names(shapes)
    known = r"(shared|actor|critic)\.\d+\.(weight|bias)|lstm_(actor|critic)\.(weight|bias)_[ih]h_l\d+|log_std"
    _all_known(saved, {name: ours for name, ours in names.items() if not re.fullmatch(known, ours)})
    shared, actor, critic = (widths(shapes, f"mlp_extractor.{part}_net") for part in ("shared", "policy", "value"))
    nets = {f"policy.{ours}": saved.weights[name] for name, ours in names.items()}
    before = next(f"{name}.0.weight" for name in ("shared", "actor") if f"policy.{name}.0.weight" in nets)
    obs_dim = (saved.weights[first] if first else nets[f"policy.{before}"]).shape[1]
    act_dim = shapes["action_net.weight"][0]
    if saved.actions is None:
        nets |= _in_unit_box(saved, nets, f"policy.actor.{2 * len(actor)}")
    elif saved.actions != act_dim:
        raise CheckpointError(f"{saved.path}: action_net: got {act_dim} outputs, expected {saved.actions}")
    sizes = {"shared_sizes": shared, "hidden_sizes": actor, "critic_hidden_sizes": critic}
    return Converted(settings | sizes, obs_dim, act_dim, nets)


def _in_unit_box(saved: Saved, nets: Mapping[str, Tensor], last: str) -> dict[str, Tensor]:
    """The last layer and log std for actions in [-1, 1] instead of [low, high].

    a' = (a - m) / h with the middle m and the half width h: W' = W / h, b' = (b - m) / h, log std' = log std - log h.
    """
    half, middle = (saved.high - saved.low) / 2, (saved.high + saved.low) / 2
    weight, bias, log_std = (nets[name].double().numpy() for name in (f"{last}.weight", f"{last}.bias",
                                                                      "policy.log_std"))
    changed = {f"{last}.weight": weight / half[:, None], f"{last}.bias": (bias - middle) / half,
               "policy.log_std": log_std - np.log(half)}
    return {name: torch.from_numpy(value).to(nets[name].dtype) for name, value in changed.items()}


# Algorithms that learn from a replay --------------------------------------------------------------------------------

class Layers:
    """The dense layers of a model, taken one network after another."""

    def __init__(self, saved: Saved):
        self.saved, self.left = saved, dict(saved.weights)

    def take(self, theirs: str, ours: str) -> dict[str, Tensor]:
        """Remove a network, whose layers follow each other under one name; return it by our names."""
        found = sorted({int(match[1]) for name in self.left
                        if (match := re.fullmatch(rf"{re.escape(theirs)}\.(\d+)\.weight", name))})
        return self.named([f"{theirs}.{at}" for at in found], ours)

    def named(self, layers: list[str], ours: str) -> dict[str, Tensor]:
        """Remove these layers; return them by our names, `ours`_dense1, ... and the last one `ours`."""
        if len(layers) < 2:
            raise CheckpointError(f"{self.saved.path}: policy.pth: got {len(layers)} layers of "
                                  f"{ours.rpartition('.')[0]}, expected a hidden layer and an output")
        names = [f"{ours}_dense{i}" for i in range(1, len(layers))] + [ours]
        return {f"{name}.{what}": self.left.pop(f"{layer}.{what}")
                for layer, name in zip(layers, names, strict=True) for what in ("weight", "bias")}


def hidden(nets: Weights, ours: str) -> tuple[int, ...]:
    """Return the widths of the hidden layers of a network by our names."""
    count = sum(bool(re.fullmatch(rf"{re.escape(ours)}_dense\d+\.weight", name)) for name in nets)
    return tuple(len(nets[f"{ours}_dense{i}.weight"]) for i in range(1, count + 1))


def _dqn(saved: Saved) -> Converted:
    layers, ours = Layers(saved), "main.value.q"
    nets = layers.take("q_net.q_net", ours) | layers.take("q_net_target.q_net", "target.value.q")
    _all_known(saved, layers.left)
    return Converted({"alg": "dqn", "hidden_sizes": hidden(nets, ours)}, nets[f"{ours}_dense1.weight"].shape[1],
                     len(nets[f"{ours}.weight"]), nets)


def _sac(saved: Saved) -> Converted:
    """SAC; its mean and log std are two layers there, and the halves of one here."""
    layers, ours = Layers(saved), "main.policy.pi"
    heads = [{what: layers.left.pop(f"actor.{head}.{what}") for what in ("weight", "bias")}
             for head in ("mu", "log_std")]
    layers.left |= {f"actor.latent_pi.9999.{what}": torch.cat([head[what] for head in heads])
                    for what in ("weight", "bias")}
    nets = layers.take("actor.latent_pi", ours) | _critics(layers, "q_value")
    _all_known(saved, layers.left)
    alpha, fixed = saved.variables.get("log_ent_coef"), saved.variables.get("ent_coef_tensor")
    log_alpha = torch.zeros(()) if alpha is None and fixed is None else (fixed.log() if alpha is None else alpha)
    nets["main.alpha.log_alpha"] = log_alpha.reshape(()).float()
    settings = {"alg": "sac", **({} if alpha is not None else {"alpha_lr": 0.0})}
    return _continuous(saved, settings, nets, len(heads[0]["bias"]))


def _td3(saved: Saved) -> Converted:
    """TD3; or DDPG, which there is TD3 with one critic, undelayed and without target noise: here two equal ones."""
    layers, settings = Layers(saved), {"alg": "td3"}
    if not any(name.startswith("critic.qf1.") for name in layers.left):
        settings |= {"pi_delay_freq": 1, "pi_t_std": 0.0}
        layers.left |= {name.replace(".qf0.", ".qf1."): value.clone() for name, value in saved.weights.items()
                        if ".qf0." in name}
    nets = layers.take("actor.mu", "main.policy.pi") | layers.take("actor_target.mu", "target.policy.pi")
    nets |= _critics(layers, "value")
    _all_known(saved, layers.left)
    return _continuous(saved, settings, nets, len(nets["main.policy.pi.bias"]))


def _critics(layers: Layers, ours: str) -> dict[str, Tensor]:
    """The two critics and their targets."""
    found: dict[str, Tensor] = {}
    for theirs, place in (("critic", "main"), ("critic_target", "target")):
        for i in (0, 1):
            found |= layers.take(f"{theirs}.qf{i}", f"{place}.{ours}_{i + 1}.q")
    return found


def _continuous(saved: Saved, settings: dict[str, Any], nets: dict[str, Tensor], act_dim: int) -> Converted:
    """What SAC and TD3 have in common; their actions are in [-1, 1] there, too."""
    critic = next(name.removesuffix("_dense1.weight") for name in nets if ".q_dense1." in name)
    settings |= {"hidden_sizes": hidden(nets, "main.policy.pi"), "critic_hidden_sizes": hidden(nets, critic)}
    if saved.low is None or len(saved.low) != act_dim:
        raise CheckpointError(f"{saved.path}: action_space: does not fit the {act_dim} outputs of the actor")
    return Converted(settings, nets["main.policy.pi_dense1.weight"].shape[1], act_dim, nets)


FAMILIES: dict[str, tuple[Callable[[Saved], Converted], str]] = {
    ROLLOUTS: (_rollouts, "tanh"), RECURRENT: (_recurrent, "tanh"),
    "stable_baselines3.dqn.policies": (_dqn, "relu"), "stable_baselines3.sac.policies": (_sac, "relu"),
    "stable_baselines3.td3.policies": (_td3, "relu")}
