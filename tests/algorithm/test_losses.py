"""The equations of the losses, against numbers that are computed in another way; and mistakes that ports have made."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from agents import BASES, IDS, PAIRS, A, B, O, make_agent, make_batch, parameters
from engines import float64

from algorithm.decomposition.agent import Decomposed
from algorithm.decomposition.rrd import RRD
from algorithm.draws import variance_coefficient


def rrd_over_all_draws(steps: int, drawn: int, draws: list[tuple[int, ...]], bias_correction: bool = True):
    """(average loss over the draws, squared error of the whole episode), in float64."""
    agent = make_agent("rrd", "sac", rrd_bias_correction=bias_correction, rrd_sample_size=drawn, rrd_batch_size=drawn)
    agent.decomposition.reward.double()
    g = torch.Generator().manual_seed(steps)
    obs, acts, obs_next = (torch.randn(steps, width, generator=g, dtype=torch.float64) for width in (O, A, O))
    mean_reward = torch.tensor(0.7, dtype=torch.float64)
    index = torch.tensor(draws)
    coefficient = variance_coefficient(drawn, torch.tensor([steps]))
    batch = {"rrd_obs": obs[index], "rrd_acts": acts[index], "rrd_obs_next": obs_next[index],
             "rrd_rews": mean_reward.expand(len(draws), 1), "rrd_var_coef": coefficient.expand(len(draws), 1)}
    whole = (agent.decomposition.reward(obs, acts, obs_next).mean() - mean_reward).square()
    return float(agent.decomposition.loss(batch)[0].detach()), float(whole.detach())


@pytest.mark.parametrize(("steps", "drawn"), [(6, 2), (6, 3), (7, 5), (4, 4), (2, 2)])
def test_bias_corrected_loss_averages_to_the_loss_of_the_whole_episode(steps, drawn):
    average, whole = rrd_over_all_draws(steps, drawn, list(itertools.combinations(range(steps), drawn)))
    assert average == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(("steps", "drawn"), [(2, 3), (3, 4), (1, 2)])
def test_bias_corrected_loss_is_exact_with_replacement_too(steps, drawn):
    average, whole = rrd_over_all_draws(steps, drawn, list(itertools.product(range(steps), repeat=drawn)))
    assert average == pytest.approx(whole, rel=1e-12)


def test_without_the_correction_the_average_is_too_large():
    average, whole = rrd_over_all_draws(6, 3, list(itertools.combinations(range(6), 3)), bias_correction=False)
    assert average > whole + 1e-4


def test_r_loss_is_on_the_scale_of_one_step_and_r_var_is_the_variance_of_a_mean():
    agent, batch = make_agent("rrd", "sac", rrd_bias_correction=True), make_batch()
    pred = agent.rewards(batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"]).numpy()[..., 0]
    loss, info = agent.decomposition.loss(batch)
    target, c = batch["rrd_rews"].numpy()[:, 0], batch["rrd_var_coef"].numpy()[:, 0]
    assert float(info["R_loss"].detach()) == pytest.approx(np.mean((pred.mean(1) - target) ** 2), rel=1e-5)
    assert float(info["R_var"].detach()) == pytest.approx(np.mean(c * pred.var(1, ddof=1) / pred.shape[1]), rel=1e-5)
    assert float(loss.detach()) == pytest.approx(float(info["R_loss"].detach() - info["R_var"].detach()), rel=1e-6)


@pytest.mark.parametrize("basis", BASES)
def test_the_basis_learns_from_the_predicted_reward_held_constant(basis):
    agent, batch = make_agent("rrd", basis), make_batch()
    rews = agent.rewards(batch["obs"], batch["acts"], batch["obs_next"])
    plain = agent.basis.q_loss(agent.checked(batch | {"rews": rews}, agent.basis.q_spec()))[0]
    ours, info = agent.losses(agent.checked(batch, agent.q_spec()), policy=False)
    assert float((ours - info["R_loss"]).detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
    gradients = torch.autograd.grad(ours - info["R_loss"], list(agent.decomposition.reward.parameters()))
    assert not any(gradient.any() for gradient in gradients)


def test_a_users_reward_model_is_trained_and_used():
    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.r = torch.nn.Linear(O + A, 1)

        def forward(self, obs, acts, obs_next):
            return self.r(torch.cat([obs, acts], dim=-1))
    config = make_agent("rrd", "sac").config
    agent, batch = Decomposed(make_agent("sac"), RRD(config, None, Linear())), make_batch()
    before = agent.rewards(batch["obs"], batch["acts"], batch["obs_next"])
    losses = [float(agent.train(batch)["R_loss"]) for _ in range(50)]
    assert losses[-1] < losses[0]
    assert not torch.equal(before, agent.rewards(batch["obs"], batch["acts"], batch["obs_next"]))
    assert "rrd/net/r/kernel" in agent.tf_variables()


@pytest.mark.parametrize(("rews", "done"), [(0.5, 0.0), (0.5, 1.0), (-2.0, 0.0), (-2.0, 1.0)])
@pytest.mark.parametrize("alg", BASES)
def test_targets_by_a_truth_table(alg, rews, done):
    """y = r + gamma (1 - done) Q'(s', a'): with constant critics everything is known."""
    agent = make_agent(alg, gamma=0.9, q_reg=0.0) if alg == "ddpg" else make_agent(alg, gamma=0.9)
    main, target = agent.nets["main"], agent.nets["target"]
    for networks, values in ((main, (3.0, 3.0)), (target, (7.0, 5.0))):
        critics = [network for name, network in networks.items() if "value" in name]
        for critic, value in zip(critics, values, strict=False):
            torch.nn.init.zeros_(critic.q.weight)
            torch.nn.init.constant_(critic.q.bias, value)
    batch = make_batch(rews=torch.full((B, 1), rews), done=torch.full((B, 1), done))
    q_next = 7.0 if alg == "ddpg" else 5.0                     # the lesser of the two
    entropy = torch.zeros(B, 1)
    if alg == "sac":
        entropy = -agent.alpha() * agent.policy.act(batch["obs_next"], batch["pi_next_noise"])[1].detach()
    y = rews + 0.9 * (1 - done) * (q_next + entropy)
    expected = (1 if alg == "ddpg" else 2) * (3.0 - y).square().mean()
    assert float(agent.train_q(batch)["Q_loss"]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("alg", "basis"), PAIRS, ids=IDS)
def test_one_call_takes_every_gradient_at_the_parameters_before_it(alg, basis):
    """Critics, policy and reward network change as each would alone, so their order does not matter."""
    batch = make_batch()
    settings = {"pi_delay_freq": 1} if "td3" in (alg, basis) else {}
    with float64():
        whole, only_q, only_pi, untrained = (make_agent(alg, basis, **settings) for _ in range(4))
        whole.train(batch)
        only_q.train_q(batch)
        only_pi.train_pi(batch)
    start, after = parameters(untrained), parameters(whole)
    moved_q, moved_pi = parameters(only_q), parameters(only_pi)
    for name, value in after.items():
        if name.startswith("nets"):
            alone = moved_q[name] if not torch.equal(moved_q[name], start[name]) else moved_pi[name]
            torch.testing.assert_close(value, alone, rtol=0, atol=1e-12, msg=name)
    assert any(not torch.equal(after[name], start[name]) for name in after if ".policy." in name)


@pytest.mark.parametrize(("alg", "basis"), PAIRS, ids=IDS)
def test_the_policys_loss_does_not_change_the_critics(alg, basis):
    agent = make_agent(alg, basis)
    before = parameters(agent)
    agent.train_pi(make_batch())
    after = parameters(agent)
    moved = {name for name in after if name.startswith("nets") and not torch.equal(after[name], before[name])}
    assert moved
    assert all(".policy." in name or "log_alpha" in name for name in moved)


# The mistakes of a known faulty port -------------------------------------------------------------------------------

def test_temperature_falls_while_the_policy_is_more_random_than_the_target_entropy():
    """The target is -A; with +A the temperature of an untrained policy grows without bound."""
    agent = make_agent("sac", pi_lr=1e-12)
    for seed in range(50):
        agent.train(make_batch(seed))
    assert float(agent.alpha()) < math.exp(-0.005)


def test_temperature_gradient_is_minus_the_gap_to_the_target_entropy():
    agent, batch = make_agent("sac"), make_batch()
    log_p = agent.policy.act(batch["obs"], batch["pi_noise"])[1].mean()
    agent.train_pi(batch)
    assert float(agent.alpha.log_alpha.grad) == pytest.approx(-(float(log_p.detach()) - A), rel=1e-5)


@pytest.mark.parametrize("alg", ["ddpg", "rrd"])
def test_observations_are_normalised_once(alg):
    """Training on raw observations equals training without a normaliser on normalised ones."""
    ours = make_agent(alg, None if alg == "ddpg" else "ddpg", obs_normalization=True)
    plain = make_agent(alg, None if alg == "ddpg" else "ddpg", obs_normalization=False)
    batch = make_batch()
    batch |= {name: 3 + 2 * value for name, value in batch.items() if name.endswith(("obs", "obs_next"))}
    ours.normalizer_update(batch)
    normalised = batch | {name: ours.normalize(value) for name, value in batch.items()
                          if name.endswith(("obs", "obs_next"))}
    assert not torch.allclose(normalised["obs"], ours.normalize(normalised["obs"]), atol=0.1)
    ours_info, plain_info = ours.train(batch), plain.train(normalised)
    for name, value in plain_info.items():
        torch.testing.assert_close(ours_info[name], value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.step(batch["obs"]), plain.step(normalised["obs"]), atol=1e-6)


def test_the_critics_l2_is_the_mean_over_its_six_tensors():
    agent = make_agent("ddpg", q_reg=0.3)
    squares = [0.5 * float(w.detach().square().sum()) for w in agent.critic.parameters()]
    assert len(squares) == 6
    assert float(agent.train(make_batch())["Q_reg_loss"]) == pytest.approx(0.3 * sum(squares) / 6, rel=1e-5)


@pytest.mark.parametrize(("alg", "basis"), PAIRS, ids=IDS)
def test_biases_start_at_zero_and_weights_are_xavier_uniform(alg, basis):
    layers = [m for m in make_agent(alg, basis).nets["main"].modules() if isinstance(m, torch.nn.Linear)]
    for layer in layers:
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert not layer.bias.any()
        assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound


@pytest.mark.parametrize(("alg", "basis"), PAIRS, ids=IDS)
def test_targets_start_equal_and_move_by_one_minus_polyak(alg, basis):
    agent = make_agent(alg, basis, polyak=0.9)
    before = {name: value.clone() for name, value in agent.nets["target"].state_dict().items()}
    main = agent.nets["main"].state_dict()
    assert all(torch.equal(value, main[name]) for name, value in before.items())
    for _ in range(2 if agent.pi_delay_freq > 1 else 1):
        agent.train(make_batch())
    agent.target_update()
    main = agent.nets["main"].state_dict()
    for name, value in agent.nets["target"].state_dict().items():
        torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * main[name], rtol=1e-5, atol=1e-7)
        assert not torch.equal(value, before[name])


def test_q_average_of_sac_has_the_entropy_term():
    agent, obs = make_agent("sac", alpha_init=2.0), make_batch()["obs"]
    _, info = agent.step(obs, test_info=True)
    with torch.no_grad():
        pi = agent.policy(obs)
        acts = pi.mean.tanh()
        q = torch.minimum(*(critic(obs, acts) for critic in agent.critics.values()))[:, 0]
        log_p = pi.log_p(pi.mean)[:, 0] - torch.log(1 - acts.square() + 1e-6).sum(-1)
    torch.testing.assert_close(info["Q_average"], q - 2.0 * log_p, rtol=1e-4, atol=1e-4)
    assert float((2.0 * log_p).abs().min()) > 1e-2


def test_alpha_lr_0_keeps_the_temperature():
    agent = make_agent("sac", alpha_lr=0, alpha_init=0.1)
    agent.train(make_batch())
    assert float(agent.alpha()) == pytest.approx(0.1)


def test_td3_policy_learns_every_second_call_and_from_another_batch():
    agent, seen = make_agent("td3"), []

    def sample():
        seen.append(len(seen))
        return make_batch(len(seen))
    infos = [set(agent.update(sample)) for _ in range(4)]
    assert infos == [{"Q_loss"}, {"Q_loss", "Pi_loss"}] * 2
    assert len(seen) == 6


def test_smoothing_noise_is_scaled_and_clipped():
    agent = make_agent("td3", pi_t_std=0.2, pi_t_clip=0.3)
    noise = agent.draw_noise(20000)
    assert float(noise.abs().max()) == pytest.approx(0.3)
    inside = noise[noise.abs() < 0.3]
    expected = 0.2 * math.sqrt(1 - 2 * 1.5 * math.exp(-1.125) / math.sqrt(2 * math.pi) / math.erf(1.5 / math.sqrt(2)))
    assert float(inside.std()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("alg", ["ddpg", "td3"])
def test_exploration_noise_has_std_act_and_actions_stay_in_range(alg):
    agent, obs = make_agent(alg, std_act=0.1), torch.zeros(20000, O)
    noise = agent.step(obs, explore=True) - agent.step(obs)
    assert noise.std() == pytest.approx(0.1, rel=0.03)
    assert np.abs(make_agent(alg, std_act=5.0).step(obs, explore=True)).max() == 1.0


def test_missing_noise_is_drawn_anew_and_given_noise_is_used():
    batch = make_batch()
    bare = {name: value for name, value in batch.items() if "noise" not in name}
    losses = [float(make_agent("sac").train(b)["Pi_loss"]) for b in (batch, batch, bare, bare)]
    agent = make_agent("sac", pi_lr=1e-30, q_lr=1e-30, alpha_lr=0)
    assert losses[0] == losses[1] != losses[2] == losses[3]
    assert float(agent.train(bare)["Pi_loss"]) != float(agent.train(bare)["Pi_loss"])
    assert float(agent.train(batch)["Pi_loss"]) == float(agent.train(batch)["Pi_loss"])
