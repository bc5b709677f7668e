"""PPO and A2C: losses against what is written out, the KL stop, masks, and Stable-Baselines3's PPO beside ours."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from rollouts import ACTS, OBS, fill, finish, make, make_config

from algorithm import create_agent
from algorithm.batch import check_batch
from algorithm.masked import mean_of, standardised
from utils.errors import CheckpointError, ConfigError


def batch_of(agent, buffer):
    return agent.checked(buffer.first_batch(), agent.spec())


# Losses ---------------------------------------------------------------------------------------------------------

def moved(agent):
    """The agent, a little after the rollout was gathered, so that ratios differ from 1."""
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return agent


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("clip", [0.01, 0.2])
def test_ppos_loss_is_the_papers(discrete, clip):
    agent, buffer = make(discrete=discrete, clip_coef=clip, ent_coef=0.1, vf_coef=0.7, batch_size=32,
                         normalize_advantages="none")
    finish(agent, fill(agent, buffer))
    moved(agent)
    batch = batch_of(agent, buffer)
    loss, info = agent.losses(batch)
    log_prob, entropy, value = agent.policy.evaluate_actions(batch["obs"], batch["acts"])
    terms = []
    for new, old, advantage in zip(log_prob.tolist(), batch["log_prob"].tolist(), batch["advantages"].tolist(),
                                   strict=True):
        ratio = np.exp(new - old)
        terms.append(min(ratio * advantage, np.clip(ratio, 1 - clip, 1 + clip) * advantage))
    errors = (value - batch["returns"]).square()
    expected = -np.mean(terms) + 0.7 * errors.mean().item() - 0.1 * entropy.mean().item()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert float(info["Clip_share"]) == pytest.approx(
        np.mean([abs(np.exp(n - o) - 1) > clip for n, o in
                 zip(log_prob.tolist(), batch["log_prob"].tolist(), strict=True)]))
    assert float(info["KL"]) > 0


@pytest.mark.parametrize(("largest", "expected"), [(True, max), (False, lambda plain, clipped: clipped)])
def test_a_clipped_value_counts_as_the_settings_say(largest, expected):
    agent, buffer = make(vf_clip_coef=0.1, vf_clip_max=largest, batch_size=32)
    finish(agent, fill(agent, buffer))
    batch = batch_of(agent, buffer)
    value = batch["values"] + torch.linspace(-1, 1, 32)
    found = agent.value_error(value, batch)
    for v, old, r, error in zip(value.tolist(), batch["values"].tolist(), batch["returns"].tolist(), found.tolist(),
                                strict=True):
        clipped = old + np.clip(v - old, -0.1, 0.1)
        assert error == pytest.approx(expected((v - r) ** 2, (clipped - r) ** 2), rel=1e-4, abs=1e-6)


def test_a2cs_loss_is_the_policy_gradient():
    agent, buffer = make("a2c", batch_size=32, vf_coef=0.5, ent_coef=0.0)
    finish(agent, fill(agent, buffer))
    batch = batch_of(agent, buffer)
    loss, _ = agent.losses(batch)
    log_prob, _, value = agent.policy.evaluate_actions(batch["obs"], batch["acts"])
    expected = -(batch["advantages"] * log_prob).mean() + 0.5 * (value - batch["returns"]).square().mean()
    torch.testing.assert_close(loss, expected)


def test_steps_that_do_not_count_change_nothing():
    agent, buffer = make(batch_size=32, ent_coef=0.1)
    finish(agent, fill(agent, buffer))
    batch = batch_of(agent, buffer)
    kept = {name: value[:20] for name, value in batch.items()}
    masked = batch | {"mask": (torch.arange(32) < 20).float()}
    masked["advantages"] = torch.where(masked["mask"] > 0, batch["advantages"], 1e6)
    masked["returns"] = torch.where(masked["mask"] > 0, batch["returns"], 1e6)
    torch.testing.assert_close(agent.losses(masked)[0], agent.losses(kept)[0])


def test_means_and_deviations_over_a_mask():
    values, mask = torch.tensor([1.0, 2.0, 4.0, 99.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert float(mean_of(values, {"mask": mask})) == pytest.approx(7 / 3)
    torch.testing.assert_close(standardised(values, mask)[:3], standardised(values[:3]))
    assert float(standardised(values, mask)[3]) == 0
    assert float(mean_of(values, {"mask": torch.zeros(4)})) == 0


@pytest.mark.parametrize("where", ["rollout", "minibatch", "none"])
def test_advantages_are_normalised_where_the_settings_say(where):
    agent, buffer = make(normalize_advantages=where, batch_size=8)
    finish(agent, fill(agent, buffer))
    std = float(buffer["advantages"].std())
    assert (std == pytest.approx(1, rel=1e-4)) == (where == "rollout")
    batch = batch_of(agent, buffer)
    shifted = batch | {"advantages": 3 * batch["advantages"] + 5}
    same = torch.allclose(agent.losses(batch)[0], agent.losses(shifted)[0], rtol=1e-4)
    assert same == (where == "minibatch")


# The KL stop ----------------------------------------------------------------------------------------------------

def passes(agent, buffer) -> int:
    """The updates made on a rollout."""
    finish(agent, fill(agent, buffer))
    before = agent.updates
    for _ in range(buffer.updates):
        agent.update(buffer.sample)
        if agent.enough():
            break
    return agent.updates - before


def test_without_a_target_no_update_is_left_out():
    agent, buffer = make(n_epochs=3, batch_size=8, learning_rate=0.1)
    assert passes(agent, buffer) == 12


@pytest.mark.parametrize(("kind", "most"), [("minibatch", 11), ("epoch", 4)])
def test_a_large_step_stops_the_passes(kind, most):
    agent, buffer = make(n_epochs=3, batch_size=8, learning_rate=0.1, target_kl=0.01, kl_stop=kind)
    made = passes(agent, buffer)
    assert made == most if kind == "epoch" else 1 <= made <= most
    assert agent.stopped


@pytest.mark.parametrize(("times", "stops"), [(1.4, False), (1.6, True)])
def test_a_minibatch_stops_beyond_one_and_a_half_times_the_target(times, stops):
    agent, buffer = make(batch_size=32, target_kl=1.0)
    finish(agent, fill(agent, buffer))
    moved(agent)
    kl = float(agent.losses(batch_of(agent, buffer))[1]["KL"])
    agent.config = dataclasses.replace(agent.config, target_kl=kl / times)
    agent.update(buffer.sample)
    assert agent.enough() == stops


@pytest.mark.parametrize(("total", "count", "stops"), [(0.03, 4, False), (0.05, 4, True), (0.05, 3, False)])
def test_an_epoch_stops_by_its_mean_divergence(total, count, stops):
    """Four minibatches a pass; within one it never stops."""
    agent, _ = make(target_kl=0.01, kl_stop="epoch")
    agent.kl_sum, agent.kl_count, agent.per_epoch = torch.tensor(total), count, 4
    assert agent.enough() == stops


def test_an_update_that_is_stopped_changes_nothing():
    agent, buffer = make(batch_size=8, target_kl=1e-12)
    finish(agent, fill(agent, buffer))
    moved(agent)
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    agent.update(buffer.sample)
    assert agent.enough()
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())


def test_the_next_rollout_begins_anew():
    agent, buffer = make(n_epochs=2, batch_size=8, learning_rate=0.1, target_kl=0.01)
    passes(agent, buffer)
    finish(agent, fill(agent, buffer, seed=1))
    assert not agent.enough()


# Optimisation ---------------------------------------------------------------------------------------------------

def test_the_gradient_of_policy_and_value_is_limited_together():
    agent, buffer = make(batch_size=32, max_grad_norm=1e-3, optimizer="rmsprop", RMSProp_decay=0.0, RMSProp_eps=1.0,
                         learning_rate=1.0)
    finish(agent, fill(agent, buffer))
    before = [parameter.detach().clone() for parameter in agent.policy.parameters()]
    agent.update(buffer.sample)                         # a step of g / (1 + |g|), about g
    steps = [was - now.detach() for was, now in zip(before, agent.policy.parameters(), strict=True)]
    norm = torch.stack([step.double().square().sum() for step in steps]).sum().sqrt()
    assert float(norm) == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize("alg", ["ppo", "a2c"])
def test_state_goes_round(alg, tmp_path):
    agent, buffer = make(alg, obs_normalization=True, normalize_rewards=True)
    finish(agent, fill(agent, buffer))
    agent.update(buffer.sample)
    agent.end_updates(buffer, skipped=3)
    agent.save_model(tmp_path / "one.safetensors")
    other, _ = make(alg, obs_normalization=True, normalize_rewards=True, seed=1)
    other.load_model(tmp_path / "one.safetensors")
    ours, theirs = agent.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert int(theirs["opt.policy.skipped"]) == 3


def test_a_checkpoint_of_another_policy_is_refused(tmp_path):
    make()[0].save_model(tmp_path / "one.safetensors")
    for settings in ({"activation": "relu"}, {"policy": "recurrent"}, {"last_activation": "tanh"},
                     {"discrete": True}, {"hidden_sizes": (7,)}):
        with pytest.raises(CheckpointError):
            make(**settings)[0].load_model(tmp_path / "one.safetensors")


def test_a_batch_that_lacks_a_field_is_named():
    agent, buffer = make()
    finish(agent, fill(agent, buffer))
    batch = buffer.first_batch()
    with pytest.raises(ValueError, match=r"batch\['advantages'\]: missing"):
        agent.train({name: value for name, value in batch.items() if name != "advantages"})
    with pytest.raises(ValueError, match=r"batch\['acts'\]: got shape"):
        agent.train(batch | {"acts": batch["acts"][:, :2]})


def test_actions_go_to_the_environment_clipped():
    agent, _ = make(log_std_init=2.0)
    acts = agent.step(np.zeros((50, OBS)), explore=True)
    assert acts.shape == (50, ACTS)
    assert np.abs(acts).max() == 1.0
    one = agent.step(np.zeros(OBS), test_info=True)
    assert one[0].shape == (ACTS,)
    assert one[1]["V_average"].shape == ()
    indices, _ = make(discrete=True)
    assert isinstance(indices.step(np.zeros(OBS)), int)
    assert set(indices.step(np.zeros((50, OBS)), explore=True)) == set(range(ACTS))


def test_the_rollout_counts_for_the_normaliser_only_after_its_updates():
    agent, buffer = make(obs_normalization=True)
    finish(agent, fill(agent, buffer))
    agent.update(buffer.sample)
    assert float(agent.normalizer.cnt) == 0
    agent.end_updates(buffer)
    assert float(agent.normalizer.cnt) == 32


# Beside Stable-Baselines3 ---------------------------------------------------------------------------------------

@pytest.fixture
def theirs():
    """Stable-Baselines3's PPO on Pendulum, after one rollout, and what its `train` is to be compared with."""
    sb3 = pytest.importorskip("stable_baselines3")
    model = sb3.PPO("MlpPolicy", "Pendulum-v1", n_steps=64, batch_size=16, n_epochs=3, gae_lambda=0.9, clip_range=0.1,
                    ent_coef=0.01, learning_rate=1e-3, seed=3, device="cpu")
    _, callback = model._setup_learn(64, None)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 64)
    return model


SB3 = {"mlp_extractor.policy_net": "actor", "mlp_extractor.value_net": "critic", "action_net": "actor.4",
       "value_net": "critic.4"}


def ours_like(model):
    config = make_config(rollout_steps=64, num_envs=1, batch_size=16, n_epochs=3, gae_lambda=0.9, clip_coef=0.1,
                         ent_coef=0.01, learning_rate=1e-3, obs_dims=3)
    agent = create_agent(dataclasses.replace(config, acts_dims=(1,)))
    state = {}
    for name, value in model.policy.state_dict().items():
        prefix = next((theirs for theirs in SB3 if name.startswith(f"{theirs}.")), None)
        state[name if prefix is None else SB3[prefix] + name.removeprefix(prefix)] = value
    agent.policy.load_state_dict(state)
    return agent


def test_one_rollout_and_one_train_are_stable_baselines3s(theirs, monkeypatch):
    agent, held = ours_like(theirs), theirs.rollout_buffer
    from algorithm.replay_buffer.rollout import RolloutBuffer
    buffer = RolloutBuffer(agent.config)
    buffer.open()
    starts = np.append(held.episode_starts[1:], theirs._last_episode_starts[None], 0)
    for t in range(64):
        buffer.add({"obs": torch.as_tensor(held.observations[t]), "acts": torch.as_tensor(held.actions[t]),
                    "log_prob": torch.as_tensor(held.log_probs[t]), "values": torch.as_tensor(held.values[t]),
                    "rews": torch.as_tensor(held.rewards[t]), "terminated": torch.as_tensor(starts[t] > 0),
                    "truncated": torch.zeros(1, dtype=torch.bool)})
    last = agent.policy.get_value(torch.as_tensor(theirs._last_obs))
    advantages, _ = agent.set_advantages(buffer, buffer["rews"], last, torch.zeros(64, 1))
    np.testing.assert_allclose(advantages.numpy(), held.advantages, rtol=1e-4, atol=1e-5)
    orders = [np.random.default_rng(i).permutation(64) for i in range(3)]
    given = iter(orders)
    monkeypatch.setattr(np.random, "permutation", lambda count: next(given))
    theirs.train()
    agent.begin_updates(buffer, torch.as_tensor(np.array(orders)))
    infos = [agent.update(buffer.sample) for _ in range(buffer.updates)]
    logs = theirs.logger.name_to_value
    for name, mine, sign in (("train/policy_gradient_loss", "Pi_loss", 1), ("train/value_loss", "V_loss", 1),
                             ("train/entropy_loss", "Entropy", -1), ("train/clip_fraction", "Clip_share", 1)):
        assert np.mean([float(info[mine]) for info in infos]) * sign == pytest.approx(logs[name], rel=1e-4, abs=1e-6)
    reference = ours_like(theirs).policy.state_dict()
    for name, value in agent.policy.state_dict().items():
        torch.testing.assert_close(value, reference[name], rtol=0, atol=1e-6, msg=name)


# Settings -------------------------------------------------------------------------------------------------------

def test_what_follows_from_other_settings_cannot_be_given():
    config = make_config(rollout_steps=10, num_envs=3, batch_size=8, n_epochs=4)
    assert (config.timesteps, config.train_batches) == (30, 16)
    assert "timesteps" not in config.settings()
    for name in ("timesteps", "train_batches"):
        with pytest.raises(ConfigError, match=f"{name}: not a setting of ppo"):
            make_config(**{name: 5})


@pytest.mark.parametrize(("settings", "message"), [
    (dict(batch_size=33), r"batch_size: got 33, expected at most rollout_steps \* num_envs \(32\)"),
    (dict(batch_size=12, engine="cudagraph"), r"batch_size: got 12 with --engine=cudagraph, expected a divisor"),
    (dict(policy="actor_critik"), "policy: got 'actor_critik'; did you mean actor_critic"),
    (dict(lr_decay=0.1, lr_schedule="linear"), "lr_decay: got 0.1 with --lr_schedule=linear"),
])
def test_settings_that_do_not_fit_are_one_line(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_config(**settings)


@pytest.mark.parametrize("setting", ["policy=recurrent", "rollout_steps=3", "clip_coef=0.1"])
def test_off_policy_reads_none_of_them(setting):
    from utils.settings.cli import parse_args
    name = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=f"{name}: not a setting of sac; it belongs to ppo"):
        parse_args(["--alg=sac", f"--{setting}"])


def test_checked_fields_have_the_precision_of_the_networks():
    agent, buffer = make()
    finish(agent, fill(agent, buffer))
    agent.policy.double()
    found = check_batch(buffer.first_batch(), agent.spec(), {}, torch.device("cpu"))
    assert found["advantages"].dtype == torch.float64
