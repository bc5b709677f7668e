"""Cases of the trainer: advantages, the actor-critic's densities and gradients, the updates of PPO and GRPO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from algorithm.basis_alg.grpo_torch import first_episode
from algorithm.gae import gae
from algorithm.replay_buffer.rollout import RolloutBuffer
from algorithm.replays.case import Case
from algorithm.replays.training import Record, build, fill, settings_of

METRICS = {"actor_loss": "Pi_loss", "value_loss": "V_loss", "entropy": "Entropy", "grad_norm": "grad_norm",
           "clip_fraction": "Clip_share", "approx_kl": "KL"}
GROUP_METRICS = {name: ours for name, ours in METRICS.items() if ours != "V_loss"} | {"approx_ref_kl": "Reference_KL"}


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
    record, found = trained(case, agent, buffer, METRICS)
    return {"advantages": advantages, "returns": returns, "minibatch/loss": record.total()} | found


def trained(case: Case, agent: Any, buffer: RolloutBuffer, metrics: Mapping[str, str]) -> tuple[Record, dict[str, Any]]:
    """Make all updates on a finished rollout, and return their record and `minibatch/`, `grad_1/`, `after_/`.

    Args:
        metrics: the case's name of a metric -> the agent's.
    """
    agent.begin_updates(buffer, case.tensor("permutations"))
    record = Record(agent, lambda name: name)
    after = record.train(buffer, buffer.updates)
    stages = {"grad_1": record.first, "after_1": after, "after_T": record.parameters()}
    return record, {**{f"minibatch/{name}": record.column(ours) for name, ours in metrics.items()},
                    **{f"{stage}/{name}": value for stage, own in stages.items() for name, value in own.items()}}


def grpo_case(case: Case) -> dict[str, Any]:
    """Returns, advantages within groups, and the updates of GRPO on a rollout that is given."""
    cfg, rollout = case.value("cfg"), stored(case, "rollout/")
    steps, rows = rollout["rewards"].shape
    given = {name: value for name, value in network(case).items() if not name.startswith("critic_")} | {
        "rollout_steps": steps, "num_envs": rows, "optimizer": "adam", "Adam_eps": cfg.get("adam_eps", 1e-8),
        **{name: cfg[name] for name in ("learning_rate", "n_epochs", "batch_size", "gamma", "clip_coef", "ent_coef",
                                        "kl_coef", "group_size", "max_grad_norm")}}
    agent = build(case, settings_of(case, "grpo", given, case.value("obs_dim"), case.value("act_dim"), False),
                  stored(case, "init/"))
    names = {"obs": "obs", "acts": "acts", "rews": "rewards", "log_prob": "log_probs", "terminated": "done"}
    ended = torch.zeros_like(rollout["done"])
    buffer = fill(agent.config, {ours: rollout[name] for ours, name in names.items()} | {"truncated": ended})
    whole = not cfg.get("truncate_at_first_done", True)
    returns = agent.set_group_advantages(buffer, rollout["rewards"],
                                         torch.ones_like(ended) if whole else first_episode(rollout["done"]))
    _, found = trained(case, agent, buffer, GROUP_METRICS)
    return {"advantages": buffer["advantages"], "step_returns": returns, "mask": buffer["mask"]} | found
