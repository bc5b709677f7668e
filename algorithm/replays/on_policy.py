"""Cases of the trainer: advantages, the actor-critic's densities and gradients, PPO's updates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from algorithm.gae import gae
from algorithm.replays.case import Case
from algorithm.replays.training import Record, build, fill, settings_of

METRICS = {"actor_loss": "Pi_loss", "value_loss": "V_loss", "entropy": "Entropy", "grad_norm": "grad_norm",
           "clip_fraction": "Clip_share", "approx_kl": "KL"}


def gae_case(case: Case) -> dict[str, Any]:
    """`correct/advantages`, `correct/returns`; in float64 `correct64/advantages` as well."""
    names = ("rewards", "values", "last_values", "terminated", "truncated", "final_values")
    advantages, returns = gae(*(case.tensor(name) for name in names), case.value("gamma"), case.value("gae_lambda"))
    double = {"correct64/advantages": advantages} if case.dtype == torch.float64 else {}
    return {"correct/advantages": advantages, "correct/returns": returns} | double


def network(case: Case) -> dict[str, Any]:
    """The settings of the networks of a case."""
    meta = case.meta
    return {"hidden_sizes": tuple(case.value("hidden_sizes")), "activation": case.value("activation"),
            "last_activation": meta.get("last_activation"),
            "critic_hidden_sizes": tuple(meta["critic_hidden_sizes"]) if meta.get("critic_hidden_sizes") else None,
            "critic_activation": meta.get("critic_activation")}


def stored(case: Case, prefix: str) -> dict[str, Tensor]:
    """The arrays whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): case.tensor(name) for name in case.arrays if name.startswith(prefix)}


def actor_critic_case(case: Case) -> dict[str, Any]:
    """`inside/...` at the first parameters, and `beyond/...` with `beyond/log_std`."""
    config = settings_of(case, "ppo", network(case), case.value("obs_dim"), case.value("act_dim"), False)
    policy = build(case, config, stored(case, "init/")).policy
    obs, acts, found = case.tensor("obs"), case.tensor("acts"), {"beyond/log_std": case.tensor("beyond/log_std")}
    for where in ("inside", "beyond"):
        if where == "beyond":
            policy.log_std.data.copy_(case.tensor("beyond/log_std"))
        policy.zero_grad()
        results = policy.evaluate_actions(obs, acts)
        sum(value.mean() for value in results).backward()
        greedy = policy.get_action(obs, deterministic=True)
        values = dict(zip(("log_prob", "entropy", "value"), results, strict=True))
        values |= {"greedy_action": greedy[0], "greedy_log_prob": greedy[1], "get_value": policy.get_value(obs)}
        values |= {f"grad/{name}": parameter.grad for name, parameter in policy.named_parameters()}
        found |= {f"{where}/{name}": value.detach().clone() for name, value in values.items()}
    return found


def trainer_case(case: Case) -> dict[str, Any]:
    """Advantages, and the updates of PPO on a rollout that is given."""
    cfg = case.value("cfg")
    rollout = stored(case, "rollout/")
    steps, rows = rollout["rewards"].shape
    mode = case.meta.get("normalize_advantage", "rollout")
    mode = {True: "rollout", False: "none", None: "none"}.get(mode, mode)
    given = network(case) | {
        "rollout_steps": steps, "num_envs": rows, "optimizer": "adam", "Adam_eps": cfg.get("eps", 1e-8),
        "normalize_advantages": mode, "target_kl": cfg.get("target_kl"), "vf_clip_coef": cfg.get("clip_range_vf"),
        **{name: cfg[name] for name in ("learning_rate", "n_epochs", "batch_size", "gamma", "gae_lambda", "clip_coef",
                                        "ent_coef", "vf_coef", "max_grad_norm")}}
    agent = build(case, settings_of(case, "ppo", given, case.value("obs_dim"), case.value("act_dim"), False),
                  stored(case, "init/"))
    return updates(case, agent, rollout)


def updates(case: Case, agent: Any, rollout: dict[str, Tensor]) -> dict[str, Any]:
    """Train the agent on the rollout, by the case's permutations."""
    truncated = rollout["truncated"] & ~rollout["terminated"]
    names = {"obs": "obs", "acts": "acts", "rews": "rewards", "values": "values", "log_prob": "log_probs",
             "terminated": "terminated"}
    buffer = fill(agent.config, {ours: rollout[name] for ours, name in names.items()} | {"truncated": truncated})
    advantages, returns = agent.set_advantages(buffer, rollout["rewards"], rollout["last_values"],
                                               rollout["final_values"])
    agent.begin_updates(buffer, case.tensor("permutations"))
    record = Record(agent, lambda name: name)
    after = record.train(buffer, buffer.updates)
    columns = {ours: record.column(name) for ours, name in METRICS.items()} | {"loss": record.total()}
    stages = {"grad_1": record.first, "after_1": after, "after_T": record.parameters()}
    return {"advantages": advantages, "returns": returns,
            **{f"minibatch/{name}": values for name, values in columns.items()},
            **{f"{stage}/{name}": value for stage, own in stages.items() for name, value in own.items()}}
