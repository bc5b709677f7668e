"""`return_scale` in RRD and RD: returns are fitted over it and payments multiplied by it; at 1 nothing is computed."""

from __future__ import annotations

import re
from argparse import Namespace

import numpy as np
import pytest
import torch
from agents import A, O, make_agent, make_batch
from engines import SAME, distance, float64, widened
from replays import build
from rollouts import fill
from rollouts import make as make_on_policy
from test_whole_episodes import episode, model_of

import algorithm.create
from algorithm import create_decomposition
from algorithm.decomposition import rrd
from algorithm.decomposition.episodes import hold
from algorithm.engine import create_engine
from algorithm.tf import convert
from utils.checkpoint import CheckpointError
from utils.errors import ConfigError
from utils.settings.resolve import resolve

C = 0.03
SEQUENCES = dict(rrd_batch_size=16, rrd_sample_size=4)
FORMS = {"rrd": ("rrd", SEQUENCES), "rrd-l(rd)": ("rrd", SEQUENCES | {"rrd_bias_correction": True}), "rd": ("rd", {}),
         "return": ("rd", {"target": "return"}), "penalty": ("rd", {"variance_penalty": 0.5, "rrd_sample_size": 3}),
         "drawn": ("rd", SEQUENCES | {"estimator": "drawn", "variance_penalty": 0.25})}
OF_RETURNS = ("rrd_rews", "ep_return", "ep_bag_return")
EPISODES = [episode(length, length) for length in (5, 7, 3, 6)]


def steps_of(one: dict) -> list[torch.Tensor]:
    return [torch.from_numpy(one[name]).double() for name in ("obs", "acts", "obs_next")]


def stepped(model, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    """The metrics of one step of the optimiser on a batch in float64, which `update` would round."""
    (opt,), (loss, info) = model.opts, model.loss(batch)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return {name: float(value.detach()) for name, value in info.items()}


@pytest.mark.parametrize(("alg", "settings"), FORMS.values(), ids=FORMS)
def test_returns_times_c_with_a_scale_of_c_give_the_same_network_and_payments_times_c(alg, settings):
    with float64():
        plain, scaled = (model_of(alg, fit_episodes=3, return_scale=scale, **settings) for scale in (1, C))
    start = {name: value.clone() for name, value in plain.state_dict().items()}
    for _ in range(20):
        drawn = widened(plain.draw([hold(one) for one in EPISODES]))
        times = {name: value * C if name in OF_RETURNS else value for name, value in drawn.items()}
        metrics = [stepped(plain, drawn), stepped(scaled, times)]
        assert metrics[1] == pytest.approx(metrics[0], rel=SAME)
    assert distance(scaled.state_dict(), plain.state_dict(), start) < SAME
    steps = steps_of(EPISODES[0])
    paid = plain.predict(*steps).detach()
    torch.testing.assert_close(scaled.predict(*steps).detach(), paid * C, rtol=SAME, atol=0)
    assert float(paid.std()) > 0


def test_payments_are_the_network_times_the_scale():
    model, steps = model_of(return_scale=C), steps_of(EPISODES[0])
    torch.testing.assert_close(model.predict(*steps), C * model.reward(*steps), rtol=1e-12, atol=0)


@pytest.mark.parametrize("settings", [{}, {"return_scale": 1}], ids=str)
def test_at_1_the_networks_own_numbers_are_compared_and_paid(settings, monkeypatch):
    """No operation is added: the tensors are the same objects."""
    agent, batch, seen = make_agent("rrd", "sac", **settings), make_batch(), []
    model, loss = agent.decomposition, rrd.randomized_loss
    reward = torch.randn(3, 4, 1)
    monkeypatch.setattr(model.reward, "forward", lambda *steps: reward)
    monkeypatch.setattr(rrd, "randomized_loss", lambda *given: seen.append(given) or loss(*given))
    model.loss(batch)
    (pred, given, _), = seen
    assert pred is reward
    assert given["rrd_rews"] is batch["rrd_rews"]
    assert model.predict(batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"]) is reward
    assert "return_scale" not in agent.identity()


# A scale of 0 -------------------------------------------------------------------------------------------------------

BURSTS = dict(return_scale=0, fit_every=10, fit_updates=30, batch_size=8, warmup=1, buffer_size=100)


@pytest.mark.parametrize("settings", [{}, SEQUENCES | {"estimator": "drawn"}], ids=["all", "drawn"])
def test_in_bursts_a_scale_of_0_counts_the_returns_that_were_fitted(settings, tmp_path):
    """They are saved, and an agent that loads them pays the same."""
    settings = BURSTS | settings
    agent, other = (make_agent("rd", "sac", seed=seed, **settings) for seed in (0, 1))
    buffer = build("rd", obs_dim=O, act_dim=A, **settings)
    for one in EPISODES:
        buffer.store_episode(one)
    engine, why = create_engine(agent.config, agent, buffer)
    assert engine.name == "eager"
    assert "RRD" in why
    model, counted = agent.decomposition, []
    count = model.scale.count
    model.scale.count = lambda returns: counted.append(returns) or count(returns)
    engine.fit()
    returns = torch.cat(counted)[:, 0]
    assert len(returns) == 30 * (1 if model.whole else 4)
    true = {np.float32(one["rews"].astype(np.float64).sum()) for one in EPISODES}
    assert {np.float32(value) for value in returns.tolist()} <= true
    assert float(model.scale()) == pytest.approx(float(returns.double().std(correction=0)), rel=1e-6)
    agent.save_model(tmp_path / "model")
    other.load_model(tmp_path / "model")
    assert torch.equal(other.redistribute(EPISODES[0]), agent.redistribute(EPISODES[0]))


def test_on_policy_a_scale_of_0_counts_before_a_rollout_is_paid(tmp_path):
    sizes = dict(rrd_batch_size=8, rrd_sample_size=4, buffer_size=500, test_timesteps=100)
    agent, buffer = make_on_policy("rrd", basis_alg="ppo", return_scale=0, **sizes)
    fill(agent, buffer)
    assert float(agent.decomposition.scale()) == 1
    assert len(list(agent.fit(buffer, 3))) == 3
    assert float(agent.decomposition.scale.moments[0]) == 6            # two sub-sequences an update
    assert float(agent.decomposition.scale()) != 1
    agent.save_model(tmp_path / "model")
    other, _ = make_on_policy("rrd", basis_alg="ppo", return_scale=0, seed=1, **sizes)
    other.load_model(tmp_path / "model")
    steps = (buffer["obs"], agent.for_env(buffer["acts"]), buffer["obs_next"])
    assert torch.equal(other.rewards(*steps), agent.rewards(*steps))


@pytest.mark.parametrize(("alg", "basis"), [("lrr", "sac"), ("rd", "sac"), ("rrd", "ppo")])
def test_the_returns_are_counted_on_the_device_of_the_model(alg, basis):
    model = create_decomposition(Namespace(alg=alg, basis_alg=basis, obs_dims=O, acts_dims=A, device="auto",
                                           return_scale=0, **{"fit_every": 10} if basis == "sac" else {}))
    assert model.scale.moments.device == next(model.parameters()).device


# Refusals -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("alg", "settings", "complaint"), [
    ("rrd", dict(return_scale=-1), "return_scale: got -1.0, expected a finite number at least 0"),
    ("rd", dict(return_scale=float("nan")), "return_scale: got nan, expected a finite number"),
    ("rd", dict(return_scale="much"), "return_scale: got 'much', expected a finite number"),
    ("rrd", dict(return_scale=0), "return_scale: got 0 with rrd, which learns in each update of the agent and counts "
     "no returns; expected a number above 0, or a decomposition that learns in bursts, such as rd with "
     "--fit_every=1000"),
    ("rd", dict(return_scale=0), "return_scale: got 0 with fit_every=0, expected a number above 0, or bursts such as "
     "--fit_every=1000"),
    ("rd", dict(return_scale=2, likelihood="bernoulli"), "return_scale: got 2.0 with likelihood=bernoulli, expected 1: "
     "returns are outcomes, 0 or 1"),
    ("rd", dict(return_scale=0, likelihood="bernoulli", fit_every=9), "return_scale: got 0.0 with likelihood=bernoulli"
     ", expected 1: returns are outcomes, 0 or 1"),
])
def test_a_wrong_scale_is_one_line(alg, settings, complaint):
    with pytest.raises(ConfigError, match=f"^{re.escape(complaint)}") as error:
        make_agent(alg, "sac", **settings)
    assert "\n" not in str(error.value)


def test_the_tensorflow_reference_refuses_another_scale_than_1(monkeypatch):
    monkeypatch.setattr(algorithm.create, "check_backend", lambda args: "tensorflow")
    with pytest.raises(ConfigError, match=r"^return_scale: got 0.03, not read by the TensorFlow reference"):
        make_agent("rrd", "sac", return_scale=C)
    for alg in ("rrd", "ircr"):
        algorithm.create.check_reference(resolve({"alg": alg}))


# Checkpoints --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("basis", ["sac", "ppo"])
@pytest.mark.parametrize(("theirs", "ours", "complaint"), [
    ({}, dict(return_scale=C), "return_scale: got the default, expected '0.03'"),
    (dict(return_scale=C), {}, "return_scale: got '0.03', expected the default"),
    (dict(return_scale=C), dict(return_scale=2), "return_scale: got '0.03', expected '2.0'"),
    (dict(return_scale=C), dict(return_scale=C), ""), ({}, dict(return_scale=1), "")])
def test_a_checkpoint_is_of_one_scale(theirs, ours, complaint, basis, tmp_path):
    """One without a scale, as all older ones, is of 1."""
    path = tmp_path / "model"
    make_agent("rrd", basis, **theirs).save_model(path)
    agent = make_agent("rrd", basis, seed=1, **ours)
    if not complaint:
        agent.load_model(path)
        return
    with pytest.raises(CheckpointError) as error:
        agent.load_model(path)
    assert str(error.value) == f"{path}: {complaint}"


def test_a_checkpoint_of_another_scale_is_not_converted_to_tensorflow(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(convert, "start", lambda device: None)
    make_agent("rrd", "sac", return_scale=C).save_model(tmp_path / "model")
    assert convert.main([str(tmp_path / "model"), "--alg=rrd", f"--out={tmp_path / 'out'}", "--to-tf"]) == 2
    assert "return_scale: got '0.03', expected the default" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
