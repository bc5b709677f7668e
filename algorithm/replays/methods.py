"""Cases of return decompositions: what each model computes at given weights, episodes and noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from algorithm.decomposition.features import OwnFeatures
from algorithm.decomposition.networks import FeatureRewardNet
from algorithm.decomposition.vib_rd import divergence
from algorithm.decomposition.whole import bags_of, episodes_of
from algorithm.networks import default_hidden, shape_of
from algorithm.replays.case import Case, CaseError
from algorithm.replays.method_case import (
    Names,
    batch_of,
    build,
    credit_of,
    gradients,
    hidden,
    inside_of,
    of_dense,
    of_mlp,
    of_norm,
    rewards_of,
    sampled_gradients,
    set_weights,
)
from algorithm.replays.training import settings_of

Found = dict[str, Any]


def method_case(case: Case) -> Found:
    """`loss/*`, `grad_*`, `reward/*`, `pred/*` and `mask/*` of the method that the case names.

    Raises:
        CaseError: the method is unknown, or the case does not fit it.
    """
    method = case.value("method")
    if method not in METHODS:
        raise CaseError(f"{case.path}: meta.method: got {method!r}, expected one of {', '.join(METHODS)}")
    return METHODS[method](case)


def rd_case(case: Case) -> Found:
    """Least squares over whole episodes, or over bags."""
    batch, found = batch_of(case), {}
    for target in ("mean", "return"):
        model = build(case, "rd", {"target": target, **hidden(case, "reward")})
        names = of_mlp("reward", model.reward)
        set_weights(case, names)
        loss, _ = model.loss(batch)
        found |= {f"loss/{target}": loss} | gradients(target, loss, names)
    step = rewards_of(model, batch)
    return found | {"reward/step": step, "reward/bag_sums": bags_of(batch).sums(step)}


def vib_case(case: Case) -> Found:
    """RRD through a code, with the variance term and without."""
    batch, found = batch_of(case), {}
    index, noise = case.tensor("batch/index"), case.tensor("noise/latent")
    row = torch.arange(len(index), device=case.device)[:, None]
    whole, size = episodes_of(batch), int(case.value("K"))
    drawn = {f"rrd_{name}": getattr(whole, name)[row, index] for name in ("obs", "acts", "obs_next")}
    drawn |= {"rrd_rews": batch["ep_return"] / whole.lengths[:, None], "latent_noise": noise[row, index],
              "rrd_var_coef": case.tensor("batch/var_coef")[:, None]}
    given = {"latent_size": int(case.value("latent")), "kl_weight": case.value("beta"), "rrd_sample_size": size,
             "rrd_batch_size": size * len(index), **hidden(case, "encoder")}
    for name, corrected in (("total", False), ("total_bias_correction", True)):
        model = build(case, "vib_rd", given | {"rrd_bias_correction": corrected})
        names = of_mlp("encoder", model.encoder.mlp) | of_mlp("reward", model.reward)
        set_weights(case, names)
        loss, info = model.loss(drawn)
        found |= {f"loss/{name}": loss} | gradients(name, loss, names)
        found |= {f"loss/{theirs}": info[ours] for theirs, ours in
                  (("R_loss", "R_loss"), ("R_var", "R_var"), ("kl", "R_kl")) if ours in info}
    mean, log_var = model.encode(whole.obs, whole.acts, whole.obs_next)
    noisy = torch.where(whole.inside[..., None], mean + noise * (log_var / 2).exp(), 0.0)
    return found | {"loss/kl_all_steps": divergence(mean, log_var)[whole.inside].mean(),
                    "reward/step": rewards_of(model, batch),
                    "reward/step_with_noise": whole.within(model.reward(noisy)[..., 0])}


def lrr_case(case: Case) -> Found:
    """The mean and std of steps, with all gradients of the means and with their own alone."""
    batch, found = batch_of(case), {}
    given = {"sigma_floor": case.value("sigma_floor"), **hidden(case, "reward")}
    for name, more in (("joint", {}), ("detached", {"detach": True}), ("sum_over_steps", {"target": "return"})):
        model = build(case, "lrr", given | more)
        names = of_mlp("reward", model.reward.mlp)
        set_weights(case, names)
        loss, _ = model.loss(batch)
        found |= {f"loss/{name}": loss} | gradients(name, loss, names)
    episodes = episodes_of(batch)
    _, log_sigma = model.gaussian(episodes.obs, episodes.acts, episodes.obs_next)
    return found | {"reward/step": rewards_of(model, batch), "reward/sigma": episodes.within(log_sigma.exp()),
                    "reward/residual": model.terms(episodes, bags_of(batch))[1]}


def gp_case(case: Case) -> Found:
    """The Gaussian process, with all gradients of the targets and with the targets held constant."""
    batch, found = batch_of(case), {}
    given = {"kernel": case.value("kernel"), "return_scale": 1.0, **hidden(case, "mean")}
    for name, detach in (("total", False), ("detached", True)):
        model = build(case, "gp_lrr", given | {"detach": detach})
        names = of_mlp("mean", model.mean.mlp) | {key: (value, False) for key, value in model.hyper.items()}
        set_weights(case, names, case.value("hyper"))
        losses, _ = model.likelihoods(batch)
        found |= gradients(name, losses.mean(), names)
    return found | {"loss/total": losses.mean(), "loss/episodes": losses, "reward/step": rewards_of(model, batch)}


def rudder_case(case: Case) -> Found:
    """The published recurrent cell: predictions of the return, and their differences."""
    batch, shapes = batch_of(case), case.value("shapes")
    model = build(case, "rudder", {"cell": "rudder", "cell_size": int(shapes["lstm/w_ig"][0]), "quality_floor": 0.0,
                                   "return_scale": case.value("scale"), "aux_weight": case.value("aux")})
    names = {f"lstm/{kind}_{end}": (getattr(layer, part), kind == "w") for end, layer in
             (("ci", model.cell.feed), ("ig", model.cell.gate)) for kind, part in (("w", "weight"), ("b", "bias"))}
    names |= of_dense("out", model.out)
    set_weights(case, names)
    loss, info = model.loss(batch)
    episodes = episodes_of(batch)
    return gradients("total", loss, names) | {
        "loss/total": loss, "loss/main": info["R_loss"], "loss/aux": info["R_aux"],
        "pred/g": episodes.within(model.predictions(episodes)), "reward/differences": model.differences(episodes),
        "reward/step": credit_of(model, batch, case.dtype)}


def diaster_case(case: Case) -> Found:
    """Cuts of episodes, the increments of the beginning's reward, and the reward of steps that learns them."""
    batch = batch_of(case) | {f"{name}_noise": case.tensor(f"noise/{name}") for name in ("first", "second", "whole")}
    batch |= {"step_rows": case.tensor("batch/step_rows")}
    size = int(case.value("shapes")["gru/w_hh"][0])
    model = build(case, "diaster", {"cell_size": size, "return_scale": case.value("scale"), **hidden(case, "step")})
    rnn = model.gru.rnn
    names = {f"gru/{kind}_{end}h": (getattr(rnn, f"{part}_{end}h_l0"), kind == "w")
             for end in "ih" for kind, part in (("w", "weight"), ("b", "bias"))}
    names |= of_dense("out", model.out) | of_mlp("step", model.step.mlp)
    bounds: Names = {name: (getattr(model, name), False) for name in ("max_logvar", "min_logvar")}
    set_weights(case, names | bounds, {name: case.value(name) for name in bounds})
    episodes, y, found = episodes_of(batch), batch["ep_return"][:, 0] / case.value("scale"), {}
    for i, cut in enumerate(case.value("cuts")):
        pred = model.cut_rewards(batch, episodes, cut)
        loss = (pred - y).square().mean()
        found |= {f"loss/cut_{cut}": loss, f"pred/cut_{cut}": pred}
        found |= gradients("cut", loss, names | bounds) if i == 0 else {}
    step = model.step_loss(batch, episodes)
    silent = {name: torch.zeros_like(value) if name == "whole_noise" else value for name, value in batch.items()}
    return found | gradients("step", step, names) | {
        "loss/step": step, "reward/target": model.targets(batch, episodes),
        "reward/target_mean": model.targets(silent, episodes),
        "reward/step": rewards_of(model, batch) / case.value("scale")}


def grd_case(case: Case) -> Found:
    """Masks, rewards and dynamics of masked states and actions, and what sparsity costs."""
    logits = {"s_r": "causal/s_r", "a_r": "causal/a_r", "s_s": "dyn/s_s", "a_s": "dyn/a_s"}
    batch = batch_of(case) | {name: case.tensor(f"transitions/{name}") for name in ("obs", "acts", "obs_next")}
    batch |= {f"mask_{ours}": case.tensor(f"noise/uniform/{theirs}") for ours, theirs in logits.items()}
    given = {f"sparse_{name}": value for name, value in case.value("coef").items()}
    model = build(case, "grd", given | {"mask_temperature": case.value("temperature"), **hidden(case, "reward")})
    names = {theirs: (model.logits[ours], False) for ours, theirs in logits.items()}
    names |= of_mlp("reward", model.reward) | of_mlp("dynamics", model.dynamics)
    set_weights(case, names)
    losses = model.losses_of(batch)
    total = sum(losses.values())
    return gradients("total", total, names) | gradients("R_loss", losses["R_loss"], names) | {
        **{f"loss/{name}": value for name, value in losses.items()}, "reward/step": rewards_of(model, batch),
        "reward/step_with_noise": model.drawn_rewards(episodes_of(batch), model.masks(batch)),
        **{f"mask/{name}": model.greedy(name) for name in logits}, "mask/policy": model.policy_mask()}


def rbt_case(case: Case) -> Found:
    """The transformer's rewards over bags, its next states, and what it pays by windows."""
    batch, shapes = batch_of(case), case.value("shapes")
    if case.value("heads") != 1:
        raise CaseError(f"{case.path}: meta.heads: got {case.meta['heads']}, expected 1")
    model = build(case, "rbt", {
        "attention_size": int(case.value("width")), "attention_layers": int(case.value("layers")),
        "attention_window": int(case.value("window")), "return_scale": 1.0,
        "test_timesteps": int(shapes["embed_time/embedding"][0]) - 1})
    names: Names = {"embed_time/embedding": (model.embed_time, False)}
    for name in ("embed_state", "embed_action", "state_out", "reward_qkv"):
        names |= of_dense(name, getattr(model, name))
    for i, block in enumerate(model.blocks):
        names |= of_norm(f"block{i}/norm1", block.norm1) | of_norm(f"block{i}/norm2", block.norm2)
        for name in ("qkv", "proj", "mlp1", "mlp2"):
            names |= of_dense(f"block{i}/{name}", getattr(block, name))
    names |= of_norm("norm_in", model.norm_in) | of_norm("norm_out", model.norm_out)
    set_weights(case, names)
    loss, state = model.losses_of(batch)
    episodes, bags = episodes_of(batch), bags_of(batch)
    rewards = episodes.within(model.window_rewards(model.trunk(episodes, episodes.obs)[1], episodes.inside))
    return sampled_gradients("total", loss + state, names, 128) | {
        "loss/bags": loss, "loss/state": state,
        "loss/published_bags": loss * len(bags.labels) / episodes.lengths.sum(),
        "reward/step": rewards, "reward/bag_sums": bags.sums(rewards),
        "reward/last_of_window": credit_of(model, batch, case.dtype)}


def ares_case(case: Case) -> Found:
    """The last step's attention, the return that it predicts, and the share of each step."""
    batch, shapes = batch_of(case), case.value("shapes")
    model = build(case, "ares", {"return_scale": 1.0, "attention_size": int(case.value("width")),
                                 "readout_size": int(shapes["head/kernel"][1])})
    names: Names = {}
    for name in ("embed", "q", "k", "v", "proj", "mlp1", "mlp2", "head", "out"):
        names |= of_dense(name, getattr(model, name))
    for name in ("norm1", "norm2", "norm_out"):
        names |= of_norm(name, getattr(model, name))
    set_weights(case, names)
    episodes = episodes_of(batch)
    loss = model.return_loss(batch, episodes)
    return gradients("total", loss, names) | {
        "loss/total": loss, "pred/return": model.returns(episodes), "pred/attention": model.attention(episodes)[0],
        "reward/step": model.shares(episodes)}


def outcome_case(case: Case) -> Found:
    """Rewards of features whose sum is a logit, or a number to be met; and three ways to pay by them."""
    features = case.array("batch/features")
    more = {"batch/obs": features, "batch/obs_next": features, "batch/acts": features[..., :1],
            "batch/return": case.array("batch/outcome").astype("float64")}
    case, found = dataclasses.replace(case, arrays={**case.arrays, **more}), {}
    batch = batch_of(case)
    for name, given in (("mse", {"target": "return"}), ("bce", {"likelihood": "bernoulli"})):
        model = outcome_model(case, given)
        names = of_mlp("reward", model.reward)
        names |= {"bias": (model.outcome.bias, False)} if model.outcome else {}
        set_weights(case, names, {"bias": case.value("bias")})
        loss, _ = model.loss(batch)
        found |= {f"loss/{name}": loss} | gradients(name, loss, names)
    logit = rewards_of(model, batch)
    for pay in ("probability", "residual"):
        payer = outcome_model(case, {"likelihood": "bernoulli", "outcome_credit": pay})
        payer.load_state_dict(model.state_dict())
        found |= {f"reward/{pay}": credit_of(payer, batch, case.dtype)}
    prefix = torch.where(inside_of(case), (logit.cumsum(1) + model.outcome.bias).sigmoid(), 0.0)
    return found | {"reward/logit": logit, "reward/prefix_probability": prefix}


def outcome_model(case: Case, given: dict[str, Any]) -> Any:
    """Build RD whose features are the observations."""
    given = given | hidden(case, "reward")
    sizes = case.array("batch/obs").shape[-1], case.array("batch/acts").shape[-1], False
    config = settings_of(case, "rd", given, *sizes)
    shape = shape_of(config, "reward", default_hidden(config.obs_dims))
    net = FeatureRewardNet(OwnFeatures(config, observation), None, *shape)
    return build(case, "rd", given, net)


def observation(obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
    """Return the observation as the features of a step."""
    return obs


METHODS: dict[str, Callable[[Case], Found]] = {
    "rd": rd_case, "rd_bags": rd_case, "outcome": outcome_case, "vib_rd": vib_case, "lrr": lrr_case, "gp_lrr": gp_case,
    "rudder": rudder_case, "rbt": rbt_case, "ares": ares_case, "diaster": diaster_case, "grd": grd_case,
}
