"""Cases of the Arena's training: its own PPO, and PPO, A2C and recurrent PPO as Stable-Baselines3 computes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from algorithm.basis_alg.on_policy_torch import OnPolicy
from algorithm.policy.distributions import Categorical
from algorithm.replays.case import Case, CaseError, drawn_weights, summary
from algorithm.replays.training import Record, build, fill, settings_of
from algorithm.sb3_names import renamed, sb3_names, widths

METRICS = {"policy_loss": "Pi_loss", "value_loss": "V_loss", "entropy": "Entropy", "grad_norm": "grad_norm"}
OF_PPO = {"approx_kl": "KL", "clip_fraction": "Clip_share"}
# The beginnings of parameters' names: the program's, and ours.
ARENA = {"shared_net": "shared", "actor": "actor", "critic": "critic"}


# Names and sizes ----------------------------------------------------------------------------------------------------

def arena_names(shapes: Mapping[str, list[int]]) -> dict[str, str]:
    """Our name of each parameter of the Arena's own PPO."""
    return {name: renamed(name, ARENA) for name in shapes}


# Agents -------------------------------------------------------------------------------------------------------------

def common(case: Case, **changes: Any) -> dict[str, Any]:
    """The settings that all of the programs have, by our names."""
    cfg, (steps, rows) = case.value("hyperparameters"), case.array("rollout/rewards").shape
    names = ("learning_rate", "gamma", "gae_lambda", "ent_coef", "vf_coef", "max_grad_norm")
    return {"rollout_steps": steps, "num_envs": rows, "activation": case.meta.get("activation", "silu").lower(),
            **{name: cfg[name] for name in names}} | changes


def of_ppo(case: Case, rows: int) -> dict[str, Any]:
    """The settings of either PPO; a batch has at most as many rows as the rollout."""
    cfg = case.value("hyperparameters")
    return common(case, n_epochs=cfg["n_epochs"], batch_size=min(cfg["batch_size"], rows), clip_coef=cfg["clip_range"],
                  target_kl=cfg.get("target_kl"), vf_clip_coef=cfg.get("clip_range_vf"), optimizer="adam",
                  Adam_eps=number_in(case.meta.get("optimizer", ""), 1e-5))


def number_in(text: str, default: float) -> float:
    """The number behind "eps" in a text."""
    found = re.search(r"eps ([0-9.e+-]+)", text)
    return float(found[1]) if found else default


def make(case: Case, alg: str, given: dict[str, Any], names: Mapping[str, str]) -> OnPolicy:
    """The agent with the first weights of the case, which follow from name, shape and seed."""
    shapes, seed = case.value("shapes"), case.value("seed")
    weights = {names[name]: torch.from_numpy(drawn_weights(name, tuple(shape), seed)) for name, shape in shapes.items()}
    acts = case.array("rollout/actions")
    outputs = next((shapes[name][0] for name, ours in names.items()
                    if ours.startswith("actor.") and ours == last_bias(names.values())), None)
    if outputs is None:
        raise CaseError(f"{case.path}: meta.shapes: got no actor, expected its layers")
    config = settings_of(case, alg, given, case.array("rollout/obs").shape[-1], outputs, acts.dtype.kind in "iu")
    return build(case, config, weights)


def last_bias(names: Any) -> str:
    """The name of the bias of the actor's last layer."""
    layers = [int(match[1]) for name in names if (match := re.fullmatch(r"actor\.(\d+)\.bias", name))]
    return f"actor.{max(layers, default=0)}.bias"


# Cases --------------------------------------------------------------------------------------------------------------

def ppo_case(case: Case) -> dict[str, Any]:
    """The Arena's own PPO: half of the squared error of the value, a KL stop after an epoch."""
    shapes, names = case.value("shapes"), arena_names(case.value("shapes"))
    given = of_ppo(case, case.array("rollout/rewards").size)
    normalized = case.value("hyperparameters").get("normalize_advantage", True)
    given |= {"shared_sizes": widths(shapes, "shared_net"), "hidden_sizes": widths(shapes, "actor")[:-1],
              "critic_hidden_sizes": widths(shapes, "critic")[:-1], "vf_coef": 0.5 * given["vf_coef"],
              "kl_stop": "epoch", "normalize_advantages": "rollout" if normalized else "none"}
    return replay(case, make(case, "ppo", given, names), names, OF_PPO, value_scale=0.5)


def sb3_ppo_case(case: Case) -> dict[str, Any]:
    """Stable-Baselines3's PPO, of vectors or of a dict that is one vector in alphabetical order."""
    names, given = sb3_names(case.value("shapes")), of_ppo(case, case.array("rollout/rewards").size)
    given |= sb3_network(case) | sb3_normalized(case, "minibatch") | {"kl_stop": "minibatch", "vf_clip_max": False}
    return replay(case, make(case, "ppo", given, names), names, OF_PPO)


def a2c_case(case: Case) -> dict[str, Any]:
    """Stable-Baselines3's A2C: the whole rollout in each of some updates."""
    cfg, names = case.value("hyperparameters"), sb3_names(case.value("shapes"))
    optimizer = {"optimizer": "adam", "Adam_eps": 1e-5}
    if cfg.get("use_rms_prop", True):
        optimizer = {"optimizer": "rmsprop", "RMSProp_eps": cfg.get("rms_prop_eps", 1e-5), "RMSProp_decay": 0.99}
    given = common(case, n_epochs=case.value("updates")) | sb3_network(case) | optimizer
    given |= sb3_normalized(case, "rollout", default=False)
    return replay(case, make(case, "a2c", given, names), names, {})


def recurrent_case(case: Case) -> dict[str, Any]:
    """sb3-contrib's recurrent PPO: every sequence of the rollout in one update."""
    names, size = sb3_names(case.value("shapes")), case.array("rollout/rewards").size
    given = of_ppo(case, size) | sb3_network(case) | sb3_normalized(case, "minibatch")
    given |= {"policy": "recurrent", "batch_size": size, "n_epochs": case.value("updates"), "kl_stop": "minibatch",
              "lstm_size": case.value("lstm_hidden_size"), "lstm_layers": case.meta.get("n_lstm_layers", 1),
              "shared_encoder": not any(name.startswith("lstm_critic") for name in names), "vf_clip_max": False}
    return replay(case, make(case, "ppo", given, names), names, OF_PPO)


def sb3_network(case: Case) -> dict[str, Any]:
    """The widths of the two networks."""
    shapes = case.value("shapes")
    return {"hidden_sizes": widths(shapes, "mlp_extractor.policy_net"),
            "critic_hidden_sizes": widths(shapes, "mlp_extractor.value_net")}


def sb3_normalized(case: Case, where: str, default: bool = True) -> dict[str, Any]:
    """Over what advantages are normalised, if they are."""
    given = case.value("hyperparameters").get("normalize_advantage", default)
    return {"normalize_advantages": where if given else "none"}


# Replaying ----------------------------------------------------------------------------------------------------------

def replay(case: Case, agent: OnPolicy, names: Mapping[str, str], of_alg: Mapping[str, str],
           value_scale: float = 1.0) -> dict[str, Any]:
    """Train the agent on the rollout of the case; the loss of the value is reported times `value_scale`."""
    rollout = {name: case.tensor(f"rollout/{name}") for name in
               ("obs", "actions", "rewards", "dones", "values", "log_probs", "next_values")}
    forward, more = (memory_forward if agent.recurrent else plain_forward)(case, agent, rollout)
    buffer = fill(agent.config, {
        "obs": order(case, rollout["obs"]), "acts": rollout["actions"], "rews": rollout["rewards"],
        "values": rollout["values"], "log_prob": rollout["log_probs"], "terminated": rollout["dones"],
        "truncated": torch.zeros_like(rollout["dones"])} | more)
    advantages, returns = agent.set_advantages(buffer, rollout["rewards"], rollout["next_values"],
                                               torch.zeros_like(rollout["values"]))
    agent.begin_updates(buffer, permutations(case, agent, buffer.length * buffer.rows))
    theirs = {ours: name for name, ours in names.items()}
    record = Record(agent, theirs.__getitem__)
    found = summary("init", record.parameters())
    after = record.train(buffer, buffer.updates)
    found |= summary("grad_1", record.first) | summary("after_1", after) | summary("after_last", record.parameters())
    columns = {name: record.column(own) for name, own in (METRICS | of_alg).items()}
    columns["value_loss"] = [value_scale * value for value in columns["value_loss"]]
    return found | forward | {"gae/advantages": advantages, "gae/returns": returns,
                              **{f"minibatch/{name}": values for name, values in columns.items()},
                              "minibatch/total_loss": record.total()}


def order(case: Case, obs: Tensor) -> Tensor:
    """The observations as the network sees them: of a dict, its parts in alphabetical order."""
    if not case.meta.get("dict_obs"):
        return obs
    parts = case.meta.get("dict_parts", PARTS)
    return torch.cat([obs[..., slice(*parts[name])] for name in sorted(parts)], dim=-1)


# The parts of the Arena's observation as a dict: first component, and the one after the last.
PARTS = {"player_state": (0, 7), "mission_progress": (7, 10), "combat_targets": (10, 27), "spatial_awareness": (27, 31),
         "enemy_count": (31, 32)}


def permutations(case: Case, agent: OnPolicy, count: int) -> Tensor:
    """The order of rows in each epoch; as they are where the whole rollout is one batch."""
    if "permutation" in case and not agent.recurrent:
        return case.tensor("permutation")
    rows = count // agent.config.rollout_steps if agent.recurrent else count
    return torch.arange(rows, device=case.device).repeat(agent.config.n_epochs, 1)


def plain_forward(case: Case, agent: OnPolicy, rollout: Mapping[str, Tensor]) -> tuple[dict, dict]:
    """`forward/*` of the first weights; and no more fields of the rollout."""
    with torch.no_grad():
        actor, _ = agent.policy.features(order(case, rollout["obs"]))
    return outputs_of(case, agent, actor), {}


def outputs_of(case: Case, agent: OnPolicy, features: Tensor) -> dict[str, Tensor]:
    """The logits, or the means of continuous actions, and the entropy of the actor's features."""
    with torch.no_grad():
        chosen = agent.policy.distribution(features)
        logits = chosen.logits if isinstance(chosen, Categorical) else chosen.mean
        if isinstance(chosen, Categorical) and case.value("kind") != "ppo":
            logits = logits.log_softmax(-1)             # Stable-Baselines3 keeps normalised ones
        return {"forward/logits": logits, "forward/entropy": chosen.entropy()}


def memory_forward(case: Case, agent: OnPolicy, rollout: Mapping[str, Tensor]) -> tuple[dict, dict]:
    """The same of a policy with a memory, its last memory, and the fields that a rollout keeps of it."""
    policy, obs = agent.policy, rollout["obs"]
    starts, state = case.tensor("rollout/episode_starts").to(case.dtype), policy.initial_state(obs.shape[1])
    with torch.no_grad():
        actor, _, last = policy.run(obs, starts, state)
        log_probs = policy.evaluate_sequences(obs, rollout["actions"], starts, state)[0]
    parts = last.unflatten(1, policy.state_shape).permute(1, 2, 3, 0, 4)                    # (M, 2, layers, N, H)
    memory = {f"forward/last_{what}_{whose}": parts[-1 if whose == "vf" else 0][i]
              for i, what in enumerate(("hidden", "cell")) for whose in ("pi", "vf")}
    zeros = torch.zeros(*obs.shape[:2], policy.state_size, dtype=case.dtype, device=case.device)
    forward = outputs_of(case, agent, actor) | memory | {"forward/log_probs": log_probs}
    return forward, {"starts": starts, "states": zeros}


