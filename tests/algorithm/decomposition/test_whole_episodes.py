"""Decompositions of whole episodes: RD and RRD as one class, labels on intervals, outcomes, features of one's own."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from agents import A, O, make_agent, make_batch, parameters
from replays import build

from algorithm import create_decomposition
from algorithm.decomposition.episodes import hold, whole_episodes
from algorithm.decomposition.whole import Bags, bags_from, bags_of, episodes_of
from algorithm.draws import pad
from algorithm.engine import create_engine
from utils.errors import ConfigError
from utils.settings.cli import parse_args

LENGTHS = (5, 1, 3)


def episode(length: int, seed: int = 0, **more) -> dict:
    rng = np.random.default_rng(seed)
    rews = np.float32(rng.normal(size=(length, 1)))
    return {"obs": np.float32(rng.normal(size=(length, O))), "acts": np.float32(np.tanh(rng.normal(size=(length, A)))),
            "obs_next": np.float32(rng.normal(size=(length, O))), "rews": rews, "done": np.zeros_like(rews)} | more


def model_of(alg: str = "rd", **settings):
    return create_decomposition(Namespace(alg=alg, obs_dims=O, acts_dims=A, device="cpu", **settings)).double()


def doubles(episodes: list[dict]) -> dict[str, torch.Tensor]:
    batch = whole_episodes([hold(one) for one in episodes])
    return {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}


# RD and RRD ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [2, 4])
def test_the_variance_penalty_is_what_drawing_steps_adds_to_the_loss(size):
    """Of each episode every draw of K steps: without replacement where K <= T, with replacement where K > T."""
    episodes = [episode(length, length) for length in LENGTHS]
    model = model_of(variance_penalty=1.0, rrd_sample_size=size)
    loss, info = model.loss(doubles(episodes))
    expected = []
    for one in episodes:
        length = len(one["rews"])
        pred = model.predict(*(torch.from_numpy(one[name]).double() for name in ("obs", "acts", "obs_next")))[:, 0]
        draws = (itertools.combinations(range(length), size) if size <= length
                 else itertools.product(range(length), repeat=size))
        mean = float(one["rews"].astype(np.float64).sum()) / length
        expected.append(torch.stack([(pred[list(draw)].mean() - mean).square() for draw in draws]).mean())
    torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-6, atol=0)           # labels are float32
    torch.testing.assert_close(model_of().loss(doubles(episodes))[0], info["R_loss"], rtol=1e-12, atol=0)


def test_rd_with_drawn_steps_is_rrd_and_between_the_penalties_it_is_between():
    batch, sizes = make_batch(), dict(rrd_batch_size=12, rrd_sample_size=4)
    for penalty, corrected in ((1.0, False), (0.0, True)):
        rd = make_agent("rd", "sac", estimator="drawn", variance_penalty=penalty, **sizes)
        rrd = make_agent("rrd", "sac", rrd_bias_correction=corrected, **sizes)
        for _ in range(3):
            assert rd.train(batch) == rrd.train(batch)
        torch.testing.assert_close(parameters(rd), parameters(rrd), rtol=0, atol=0)
    losses = [model_of(estimator="drawn", variance_penalty=penalty, **sizes).drawn_loss(
        {name: value.double() for name, value in batch.items()})[0] for penalty in (0.0, 0.25, 1.0)]
    torch.testing.assert_close(losses[1], 0.75 * losses[0] + 0.25 * losses[2])


def test_drawn_steps_with_a_penalty_are_computed_by_hand_too():
    settings = dict(estimator="drawn", variance_penalty=0.25, rrd_batch_size=12, rrd_sample_size=4)
    agents = [make_agent("rd", "sac", **settings) for _ in "ab"]
    engine, _ = create_engine(agents[0].config, agents[0], build("rd", obs_dim=O, act_dim=A, **settings))
    assert engine.name == "manual"
    batch = make_batch()
    by_hand, plain = engine.call("train", batch), agents[1].train(batch)
    torch.testing.assert_close(by_hand, {name: plain[name] for name in by_hand}, rtol=1e-5, atol=1e-6)
    theirs = parameters(agents[1])
    for name, tensor in parameters(agents[0]).items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-6)
    whole = make_agent("rd", "sac")
    engine, why = create_engine(whole.config, whole, build("rd", obs_dim=O, act_dim=A))
    assert (engine.name, why) == ("eager", "no gradients are written by hand for RRD of whole episodes")


@pytest.mark.parametrize(("settings", "complaint"), [
    (dict(estimator="drawn", target="return"), "target: got 'return' with estimator=drawn, expected mean"),
    (dict(estimator="drawn", likelihood="bernoulli"), "likelihood: got 'bernoulli' with estimator=drawn"),
    (dict(estimator="drawn", rrd_sample_size=1), "rrd_sample_size: got 1 with variance_penalty=0.0"),
    (dict(variance_penalty=1.0, target="return"), "variance_penalty: got 1.0, expected 0 with"),
    (dict(outcome_credit="probability"), "outcome_credit: got 'probability' with likelihood=gaussian"),
])
def test_settings_that_do_not_fit_together_are_named(settings, complaint):
    with pytest.raises(ConfigError, match=f"^{re.escape(complaint)}"):
        model_of(**settings)


# Labels on intervals ------------------------------------------------------------------------------------------------

def test_bags_end_at_marks_and_steps_behind_the_last_mark_are_in_none():
    ends = pad([torch.tensor(some).bool() for some in ([0, 1, 0, 0, 1, 0, 1], [1], [0, 0])])
    inside = torch.arange(7) < torch.tensor([[6], [1], [2]])
    bags = bags_from(ends, inside, 4).unflatten(0, (3, 4)).tolist()
    assert [bag for bag in bags[0] if bag[2] > bag[1]] == [[0, 0, 2], [0, 2, 5]]        # the last mark is outside
    assert [bag for bag in bags[1] if bag[2] > bag[1]] == [[1, 0, 1]]
    assert not [bag for bag in bags[2] if bag[2] > bag[1]]
    assert all(first <= end <= 6 for row in bags for _, first, end in row)


def test_overlapping_bags_and_gaps_are_summed_step_by_step():
    values = torch.randn(2, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    where = torch.tensor([[0, 0, 4], [0, 2, 7], [1, 5, 6], [1, 3, 3]])
    bags = Bags(where, torch.zeros(4))
    sums = bags.sums(values)
    expected = torch.stack([values[n, first:end].sum() for n, first, end in where.tolist()])
    torch.testing.assert_close(sums, expected)
    (gradient,) = torch.autograd.grad(sums.square().sum(), values, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), values)[0])
    assert float(bags.mean(torch.tensor([1.0, 2.0, 3.0, 100.0]))) == 2                  # the last one has no step


def test_labels_train_on_their_own_steps_alone():
    """Of an episode in two bags with the same return, labels tell where it was paid; the tail has no label."""
    one = episode(6, 1, label_end=np.array([[0], [0], [1], [0], [1], [0]], bool))
    batch = doubles([one])
    bags = bags_of(batch)
    assert [bag for bag in bags.where.tolist() if bag[2] > bag[1]] == [[0, 0, 3], [0, 3, 5]]
    np.testing.assert_allclose(bags.labels[:2], [one["rews"][:3].sum(), one["rews"][3:5].sum()], rtol=1e-6)
    model = model_of(target="return")
    pred = model.predict(*(torch.from_numpy(one[name]).double() for name in ("obs", "acts", "obs_next")))[:, 0]
    errors = [pred[:3].sum() - one["rews"][:3].sum(), pred[3:5].sum() - one["rews"][3:5].sum()]
    torch.testing.assert_close(model.loss(batch)[0], torch.stack(errors).square().mean(), rtol=1e-6, atol=0)
    assert model.float().redistribute(one)[5] != 0


@pytest.mark.parametrize("wrong", [np.zeros((4, 1)), np.zeros((3, 1), bool), np.zeros((4, 2), bool), np.array("x")])
def test_wrong_labels_are_named(wrong):
    one = episode(4, label_end=wrong)
    with pytest.raises(ValueError, match=r"^episode\['label_end'\]: got .*, expected bool of shape \(4, 1\)"):
        model_of().float().fit([one], 1)
    with pytest.raises(ValueError, match=r"^episode\['label_end'\]: got "):
        build("rd", obs_dim=O, act_dim=A).store_episode(one)


@pytest.mark.parametrize("bag", [(0, 0, 6), (3, 0, 1), (1, 0, 2), (0, 3, 2)])
def test_a_bag_beyond_its_episode_is_named(bag):
    batch = whole_episodes([episode(length, length) for length in LENGTHS]) | {"ep_bags": torch.tensor([bag] * 3)}
    for alg in ("rd", "lrr", "rudder", "rbt"):
        model = model_of(alg).float()
        with pytest.raises(ValueError, match=re.escape(f"batch['ep_bags']: got {bag}, expected an episode from 0 to")):
            model.update({name: batch[name] for name in model.loss_spec()})


# Outcomes -----------------------------------------------------------------------------------------------------------

def test_rises_of_the_probability_add_up_to_that_of_the_whole():
    model = model_of(likelihood="bernoulli", outcome_credit="probability").float()
    torch.nn.init.constant_(model.outcome.bias, -0.7)
    one = episode(9, 3)
    rewards = model.predict(*(torch.from_numpy(one[name]) for name in ("obs", "acts", "obs_next")))[:, 0]
    expected = torch.sigmoid(rewards.sum() - 0.7) - torch.sigmoid(torch.tensor(-0.7))
    torch.testing.assert_close(model.redistribute(one).sum(), expected.detach())
    rest = model_of(outcome_credit="residual").float().redistribute(one)
    assert float(rest.sum()) == pytest.approx(float(one["rews"].sum()), rel=1e-5)


def test_an_outcome_beyond_0_and_1_is_named():
    model = model_of(likelihood="bernoulli").float()
    with pytest.raises(ValueError, match=r"^batch\['ep_bag_return'\]: got 3 with likelihood=bernoulli"):
        model.fit([episode(3, rews=np.float32([[1], [1], [1]]))], 1)


def test_payments_of_whole_episodes_need_bursts():
    with pytest.raises(ConfigError, match=r"^fit_every: got 0, but rd pays whole episodes"):
        make_agent("rd", "sac", outcome_credit="residual")
    with pytest.raises(ConfigError, match=r"^fit_every: got 0, but rudder pays whole episodes"):
        make_agent("rudder", "sac", fit_every=0, return_scale=1.0)
    assert make_agent("rd", "sac", outcome_credit="residual", fit_every=10).q_spec()["rews"] == ("B", 1)
    with pytest.raises(ConfigError, match=r"^fit_every: not a setting of rudder over ppo"):
        parse_args(["--alg=rudder", "--basis_alg=ppo", "--fit_every=5"])


# Features -----------------------------------------------------------------------------------------------------------

FEATURES = """
import torch
weights = torch.nn.Parameter(torch.ones(1))
def good(obs, acts, obs_next): return torch.cat([obs[..., :1] * acts[..., :1], obs_next], -1)
def flat(obs, acts, obs_next): return obs.sum()
def nan(obs, acts, obs_next): return obs / 0 * 0
def trained(obs, acts, obs_next): return obs * weights
def moved(obs, acts, obs_next): return obs.to("meta")
def whole(obs, acts, obs_next): return (obs > 0).long()
def none(obs, acts, obs_next): return None
wide = 3
"""


@pytest.fixture
def my_features(monkeypatch):
    Path("my_features.py").write_text(FEATURES)
    monkeypatch.syspath_prepend(".")
    monkeypatch.delitem(sys.modules, "my_features", raising=False)
    importlib.invalidate_caches()


def test_features_of_a_users_own_are_what_the_network_reads():
    Path("features_in_a_file.py").write_text(FEATURES)
    model, one = model_of(feature_fn="features_in_a_file:good").float(), episode(4)
    assert model.reward.layers[0].in_features == 1 + O
    other = one | {"obs": np.concatenate([one["obs"][:, :1], one["obs"][:, 1:] * 3], 1)}        # not read
    torch.testing.assert_close(model.redistribute(one), model.redistribute(other), rtol=0, atol=0)
    assert model.fit([one], 2)["R_loss"] > 0


@pytest.mark.parametrize(("name", "complaint"), [
    ("flat", r"got shape \(\)"), ("nan", "got numbers that are not finite"), ("trained", "got features with gradients"),
    ("moved", "got features on meta"), ("whole", r"got torch.int64"), ("none", "got NoneType"),
    ("gone", "has no function gone"), ("wide", "has no function wide"),
])
def test_a_wrong_function_of_features_is_one_line(name, complaint, my_features):
    with pytest.raises(ConfigError, match=f"^feature_fn: .*{complaint}"):
        model_of(feature_fn=f"my_features:{name}")
    with pytest.raises(ConfigError, match=r"^feature_fn: got 'phi', expected module:function"):
        model_of(feature_fn="phi")


def test_rudder_fits_the_change_of_its_prediction_to_a_label():
    """One episode in two bags and a tail: as two errors of its prediction, worked by hand."""
    one = episode(6, 1, label_end=np.array([[0], [0], [1], [0], [1], [0]], bool))
    model, batch = model_of("rudder", cell_size=4, return_scale=2.0), doubles([one])
    g = model.predictions(episodes_of(batch))[0]
    first, second = (float(one["rews"][span].sum()) / 2 for span in (slice(3), slice(3, 5)))
    errors = [g[:3] - first, g[3:5] - g[2] - second]
    loss, info = model.loss(batch)
    main = (errors[0][-1].square() + errors[1][-1].square()) / 2
    torch.testing.assert_close(info["R_loss"], main, rtol=1e-6, atol=0)
    aux = sum(one.square().mean() for one in errors) / 2
    torch.testing.assert_close(loss, main + 0.5 * aux, rtol=1e-6, atol=0)


# Scale --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("alg", ["rudder", "diaster", "ares", "gp_lrr"])
def test_a_scale_of_0_is_the_standard_deviation_of_the_returns_so_far(alg):
    """So that returns a thousand times as large are fitted alike, and paid a thousand times as much."""
    small = dict(attention_size=8) if alg == "ares" else dict(cell_size=4) if alg != "gp_lrr" else {}
    episodes = [episode(4, seed) for seed in range(6)]
    large = [one | {"rews": one["rews"] * 1000} for one in episodes]
    model, other, fixed = (model_of(alg, return_scale=scale, fit_every=10, **small).float() for scale in (0, 0, 1))
    found = [one.fit(some, 5) for one, some in ((model, episodes), (other, large))]
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    paid = model.redistribute(episodes[0])
    torch.testing.assert_close(other.redistribute(large[0]) / 1000, paid, rtol=1e-3, atol=1e-5)
    batch = other.draw(large)
    before = other.scale.moments.clone()
    other.update({name: batch[name] for name in other.loss_spec()})
    assert float(other.scale.moments[0]) == float(before[0]) + len(batch["ep_return"])
    assert set(model.state_dict()) - set(fixed.state_dict()) == {"scale.moments"}


def test_the_scale_counts_what_numpy_computes():
    scale, returns = model_of("rudder", return_scale=0).scale, np.random.default_rng(0).normal(5, 3, (4, 7))
    assert float(scale()) == 1
    for some in returns:
        scale.count(torch.from_numpy(some)[:, None])
    assert float(scale()) == pytest.approx(returns.std())
    with pytest.raises(ConfigError, match=r"^return_scale: got 0 with fit_every=0, expected a number above 0, or"):
        model_of("lrr", return_scale=0)


# RUDDER -------------------------------------------------------------------------------------------------------------

def test_rudder_pays_the_return_and_the_mean_reward_until_it_predicts_the_return():
    model, one = model_of("rudder", cell_size=8, return_scale=2.0).float(), episode(7, 5)
    paid = model.redistribute(one)
    torch.testing.assert_close(paid, torch.full((7,), float(one["rews"].sum()) / 7))            # R2 is 0 before a batch
    model.count(torch.tensor(0.1), torch.tensor([[1.0], [-1.0]]))
    assert float(model.quality()) == pytest.approx(0.9)
    paid = model.redistribute(one)
    assert float(paid.sum()) == pytest.approx(float(one["rews"].sum()), rel=1e-5)
    assert float(paid.std()) > 1e-3
    for _ in range(500):
        model.count(torch.tensor(0.9), torch.tensor([[1.0], [-1.0]]))
    assert float(model.redistribute(one).std()) < 1e-6
