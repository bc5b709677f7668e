"""IQN, AC-IQN and the agents of MarineNav: their mathematics, and runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from resumes import FLAGS, twice
from runs import SMALL, refusal, run
from torch.nn import functional

from algorithm import create_agent
from algorithm.categorical import atoms, project
from algorithm.encoders import ObjectsEncoder, squashed
from algorithm.engine import _is_captured
from algorithm.noisy import NoisyLinear
from algorithm.policy.layers import Init
from algorithm.quantiles import quantile_huber
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

CONTINUOUS = ("ac_iqn", "marinenav_ddpg", "marinenav_sac")
DISCRETE = ("iqn", "marinenav_dqn", "rainbow")
SIZES = dict(hidden_sizes="8,6", object_sizes="4,3", batch_size=16)
FRACTIONS = dict(quantiles=5, act_quantiles=7, cosines=9)


def build(alg: str, obs_dim: int = 19, **given):
    fractions = FRACTIONS if "iqn" in alg else {}
    config = resolve({"alg": alg, "device": "cpu", "encoder": "objects"} | SIZES | fractions | given)
    return create_agent(with_sizes(config, obs_dim, 4 if alg in DISCRETE else 2))


def batch(agent, rows: int = 16, seed: int = 0) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    acts = torch.randint(4, (rows,), generator=g) if agent.config.discrete else torch.rand(rows, 2, generator=g) * 2 - 1
    return {"obs": torch.randn(rows, *agent.obs_dims, generator=g), "acts": acts,
            "obs_next": torch.randn(rows, *agent.obs_dims, generator=g), "rews": torch.randn(rows, 1, generator=g),
            "done": (torch.arange(rows) % 3 == 0).float()[:, None],
            "discount": (torch.arange(rows) % 3 != 0).float()[:, None] * 0.9, "weight": torch.ones(rows, 1)}


def test_the_loss_of_quantiles_is_that_of_its_loops():
    g = torch.Generator().manual_seed(0)
    values, targets = (3 * torch.randn(4, n, generator=g, dtype=torch.float64) for n in (3, 5))
    taus = torch.rand(4, 3, generator=g, dtype=torch.float64)
    total = 0.0
    for b in range(4):
        for i in range(3):
            for j in range(5):
                delta = float(targets[b, j] - values[b, i])
                huber = delta * delta / 2 if abs(delta) <= 1 else abs(delta) - 0.5
                total += abs(float(taus[b, i]) - (delta < 0)) * huber / 5 / 4
    assert float(quantile_huber(values, targets, taus)) == pytest.approx(total, rel=1e-12)


def test_absent_objects_give_no_features_and_the_order_of_others_is_kept():
    encoder = ObjectsEncoder(7 + 3 * 6, (7, 5), (4, 2), Init(False, torch.Generator().manual_seed(0)))
    obs = torch.randn(2, 25)
    obs[:, 22:] = torch.tensor([1.0, 0.0, 1.0])
    found = encoder(obs)
    assert found.shape == (2, encoder.size) == (2, 10)
    assert (found[:, 6:8] == 0).all()
    alone = functional.relu(functional.linear(obs[:, 17:22], *encoder.object_encoder[0].parameters()))
    torch.testing.assert_close(found[:, 8:], alone)


@pytest.mark.parametrize("alg", ["ac_iqn", "iqn", "rainbow", "marinenav_sac"])
def test_normalised_observations_still_say_which_objects_there_are(alg):
    agent = build(alg, obs_normalization=True)
    obs = 3 * torch.randn(40, 19) + 1
    obs[:, -2:] = (obs[:, -2:] > 0).float()
    agent.normalizer_update({"obs": obs[:20], "obs_next": obs[20:]})
    found = agent.normalize(obs)
    assert torch.equal(found[:, -2:], obs[:, -2:])
    torch.testing.assert_close(found[:, :-2].mean(0), torch.zeros(17), atol=0.1, rtol=0)
    assert build(alg, obs_normalization=True, encoder="plain", object_sizes=None).normalizer.flags == 0


@pytest.mark.parametrize("alg", CONTINUOUS)
def test_the_policys_loss_is_that_of_critics_that_have_stepped(alg):
    agent, twin = build(alg, q_lr=0.1), build(alg, q_lr=0.1)
    given = batch(agent)
    noise = {name: agent.draw_noise(16) for name in agent.q_noise + agent.pi_noise}
    info = agent.train(given | noise)
    checked = twin.checked(given | noise, twin.spec())
    before = float(twin.pi_loss(checked)[0].detach())
    twin.train_q(given | noise)
    after = float(twin.pi_loss(checked)[0].detach())
    assert float(info["Pi_loss"]) == pytest.approx(after, rel=1e-5)
    assert abs(before - after) > 1e-3 * abs(after)


def test_over_a_decomposition_the_critics_step_first_too():
    agent = create_agent(with_sizes(resolve(
        {"alg": "uniform", "basis_alg": "ac_iqn", "device": "cpu", "encoder": "objects"} | SIZES | FRACTIONS), 19, 2))
    stepped = []
    agent.inspect = lambda info: stepped.append(sorted(info))
    agent.train(batch(agent))
    assert stepped == [["Q_loss"], ["Pi_loss"]]
    assert not _is_captured(agent, "ACIQN")


@pytest.mark.parametrize("alg", CONTINUOUS)
def test_a_target_update_copies_policy_and_critics(alg):
    agent = build(alg)
    agent.train(batch(agent))
    main, target = agent.nets["main"].state_dict(), agent.nets["target"].state_dict()
    assert main.keys() == target.keys()
    assert any(not torch.equal(main[name], target[name]) for name in main)
    agent.target_update()
    assert all(torch.equal(main[name], target[name]) for name in main)


@torch.no_grad()
def test_the_density_of_sacs_actions_integrates_to_one():
    agent = build("marinenav_sac")
    policy, obs = agent.policy.double(), torch.randn(1, 19, dtype=torch.float64)
    z = torch.linspace(-60, 60, 40_001, dtype=torch.float64)
    mean, log_std = policy(obs)
    noise = torch.stack([(z - mean[0, 0]) / log_std[0, 0].exp(), torch.zeros_like(z)], 1)
    acts, log_p = policy.act(obs.expand(len(z), -1), noise)
    other = -log_std[0, 1] - 0.5 * math.log(2 * math.pi) - math.log(2 / math.pi) + torch.log1p(mean[0, 1] ** 2)
    density = (log_p[:, 0] - other).exp()
    assert float(torch.trapezoid(density, acts[:, 0])) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("alg", CONTINUOUS)
def test_a_share_of_exploring_actions_is_uniform(alg):
    agent = build(alg, warmup=0, eps_l=0.5, eps_r=0.1, eps_decay=1000)
    obs = np.zeros((400, 19), np.float32)
    greedy = agent.step(obs)
    first = agent.step(obs, explore=True)
    assert agent.epsilon == pytest.approx(0.5 + (0.1 - 0.5) * 0.4)
    if alg != "marinenav_sac":                          # which also samples
        assert (first != greedy).any(1).mean() == pytest.approx(0.5, abs=0.1)
    assert np.abs(first).max() <= 1
    agent.counters["steps"] = 5000
    assert agent.explore_metrics() == {"Epsilon": pytest.approx(0.1)}
    random = build(alg, warmup=1000)
    acts = random.step(obs, explore=True)
    assert np.abs(acts.mean(0)).max() < 0.1
    assert acts.std(0) == pytest.approx(np.full(2, 3 ** -0.5), abs=0.06)


def test_iqn_acts_by_the_mean_of_its_quantiles():
    agent = build("iqn")
    obs, taus = torch.randn(6, 19), torch.rand(6, 7)
    torch.testing.assert_close(agent.values(obs, taus), agent.value(obs, taus).mean(1))
    alone = torch.cat([agent.value(obs, taus[:, i:i + 1]) for i in range(7)], 1)
    torch.testing.assert_close(agent.value(obs, taus), alone)


def test_an_arctangent_keeps_actions_inside():
    assert squashed(torch.tensor([0.0, 1.0, -1e9])).tolist() == pytest.approx([0, 0.5, -1])


@pytest.mark.parametrize("alg", [*CONTINUOUS, *DISCRETE])
@pytest.mark.sampled(3)
def test_an_update_lowers_the_critics_loss_on_its_batch(alg):
    agent = build(alg, q_lr=3e-3)
    given = batch(agent) | {name: agent.draw_noise(16) for name in agent.q_noise + agent.pi_noise}
    infos = [agent.train(given) for _ in range(200)]
    losses = [sum(float(value) for name, value in info.items() if name.startswith("Q")) for info in infos]
    least = 0.7 if alg == "rainbow" else 0.5            # the entropy of its targets remains
    assert losses[-1] < least * losses[0]


def test_the_projection_onto_atoms_is_that_of_its_loops():
    support, g = atoms(-2.0, 3.0, 6), torch.Generator().manual_seed(0)
    probs = torch.rand(5, 6, generator=g).softmax(1)
    rews, discounts = torch.tensor([[0.3], [-9.0], [9.0], [1.0], [-0.25]]), torch.tensor([[0.9], [1], [1], [0], [0.5]])
    wanted = torch.zeros(5, 6)
    for b in range(5):
        for z in range(6):
            place = (float((rews[b] + discounts[b] * support[z]).clamp(-2, 3)) + 2) / 1.0
            below, share = int(place), place - int(place)
            wanted[b, below] += probs[b, z] * (1 - share)
            wanted[b, min(below + 1, 5)] += probs[b, z] * share
    found = project(probs, rews, discounts, support)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(found.sum(1), torch.ones(5))
    assert found[3].tolist() == pytest.approx([0, 0, 0, 1, 0, 0])


def test_a_layers_noise_is_factorised():
    layer = NoisyLinear(3, 2, 0.5, torch.Generator().manual_seed(0))
    x, noise = torch.randn(4, 3), torch.tensor([4.0, -9.0, 1.0, 0.25, -1.0])
    scaled = torch.tensor([2.0, -3.0, 1.0]), torch.tensor([0.5, -1.0])
    weight = layer.weight_mu + layer.weight_sigma * torch.outer(scaled[1], scaled[0])
    torch.testing.assert_close(layer(x, noise), x @ weight.T + layer.bias_mu + layer.bias_sigma * scaled[1])
    torch.testing.assert_close(layer(x), x @ layer.weight_mu.T + layer.bias_mu)
    assert layer.weight_sigma.unique().tolist() == pytest.approx([0.5 / 3 ** 0.5])
    assert layer.bias_sigma.unique().tolist() == pytest.approx([0.5 / 2 ** 0.5])


def test_rainbow_explores_by_its_weights_noise_and_is_judged_without():
    agent = build("rainbow", warmup=0)
    with torch.no_grad():
        for name, parameter in agent.value.named_parameters():
            if "sigma" in name:
                parameter.mul_(50)
    obs = np.random.default_rng(0).standard_normal((64, 19)).astype(np.float32)
    assert (agent.step(obs) == agent.step(obs)).all()
    assert (agent.step(obs, explore=True) != agent.step(obs, explore=True)).any()


def test_a_decomposition_refuses_returns_over_several_steps(capsys):
    assert refusal([*SMALL, "--alg=rrd", "--basis_alg=rainbow", "--env=CartPole-v1"], capsys) == (
        "basis_alg: 'rainbow' learns from returns over several steps, and a decomposition pays single ones; expected "
        "an agent of single steps, such as dqn or iqn")


# Runs -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("alg", [*CONTINUOUS, *DISCRETE])
def test_a_run_on_marinenav(alg):
    kwargs = ['--env_kwargs={"discrete": true}'] if alg in DISCRETE else []
    done = run(f"--alg={alg}", *SMALL, "--env=MarineNav-v0", "--encoder=objects", "--num_envs=3", *kwargs)
    assert all(math.isfinite(float(row["Rewards"])) for row in done.rows)
    assert done.rows[-1]["Epsilon"]


@pytest.mark.parametrize(("alg", "env"), [("ac_iqn", "Match-v0"), ("marinenav_sac", "Match-v0"),
                                          ("iqn", "CartPole-v1")])
@pytest.mark.parametrize("basis", [False, True], ids=["alone", "rrd"])
@pytest.mark.sampled(3)
def test_two_parts_of_a_run_are_the_whole(alg, env, basis):
    flags = ["--alg=rrd", f"--basis_alg={alg}", "--rrd_batch_size=8", "--rrd_sample_size=4"] if basis else [
        f"--alg={alg}"]
    twice([*FLAGS, *flags, f"--env={env}"], 50, 130)


def test_two_parts_of_a_run_of_rainbow_are_the_whole():
    twice([*FLAGS, "--alg=rainbow", "--env=CartPole-v1"], 50, 130)


def test_iqn_learns_from_pictures():
    agent = create_agent(with_sizes(resolve({"alg": "iqn", "device": "cpu"} | FRACTIONS), (20, 16, 2), 3))
    pictures = torch.randint(256, (8, 20, 16, 2), dtype=torch.uint8)
    given = {"obs": pictures, "obs_next": pictures.flip(0), "acts": torch.arange(8) % 3, "rews": torch.ones(8, 1),
             "done": torch.zeros(8, 1)}
    assert math.isfinite(float(agent.train(given)["Q_loss"]))
    assert agent.step(pictures.numpy()).shape == (8,)


@pytest.mark.parametrize(("flags", "told"), [
    (["--env=Pendulum-v1", "--alg=ac_iqn", "--encoder=objects"],
     "encoder: got objects for observations of 3 numbers, expected 7 + M (5 + 1) with M of at least 1, as --object"),
    (["--env=CartPole-v1", "--alg=iqn", "--encoder=objects", "--object_dims=4,3"],
     "encoder: got objects for observations of 4 numbers, expected 4 + M (3 + 1) with M of at least 1, as --object"),
    (["--env=MarineNav-v0", "--alg=ac_iqn", "--encoder=objects", "--object_dims=7"],
     "object_dims: got (7,), expected two numbers"),
    (["--env=MarineNav-v0", "--alg=ac_iqn", "--encoder=object"],
     "encoder: got 'object', expected one of plain, objects"),
    (["--env=CartPole-v1", "--alg=rainbow", "--v_min=5", "--v_max=5"],
     "v_min: got 5.0, expected less than v_max (5.0)"),
    (["--env=MarineNav-v0", "--alg=sac", "--encoder=objects"], "encoder: not a setting of sac"),
], ids=["sizes", "no objects", "numbers", "name", "atoms", "sac"])
def test_what_does_not_fit_is_one_line(flags, told, capsys):
    assert refusal([*SMALL, *flags], capsys).startswith(told)
