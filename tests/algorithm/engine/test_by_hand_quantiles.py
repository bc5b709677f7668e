"""AC-IQN's and IQN's gradients by hand against autograd, in float64, and the engine that steps by them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from engines import SAME, build_buffer, copies, distance, float64

import algorithm.engine.by_hand.traced
from algorithm import create_agent
from algorithm.engine import Engine, create_engine
from algorithm.engine.by_hand.choice import why_not_by_hand
from algorithm.engine.by_hand.engine import ManualEngine
from algorithm.engine.by_hand.kernels import Kernels, large_layers, usual
from algorithm.engine.seeds.stacked import StackedEngine
from utils.errors import ConfigError
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

OBS, OBJECTS, ACTIONS = 7 + 3 * 6, 3, 5
SMALL = dict(buffer_size=500, batch_size=16, train_target=2, seed=3, device="cpu", hidden_sizes="12,10",
             object_sizes="6,4", features=11, quantiles=5, act_quantiles=7, cosines=9, encoder="objects",
             q_lr=0.01)
RRD = dict(alg="rrd", basis_alg="ac_iqn", rrd_batch_size=24, rrd_sample_size=8)
CASES = {
    "ac_iqn": dict(alg="ac_iqn"),
    "ac_iqn, plain": dict(alg="ac_iqn", encoder="plain", activation="tanh", critic_activation="silu"),
    "ac_iqn, one layer": dict(alg="ac_iqn", hidden_sizes="12", critic_hidden_sizes="9,8,7"),
    "ac_iqn, clipped": dict(alg="ac_iqn", max_grad_norm=0.05, obs_normalization=True),
    "ac_iqn, an odd row": dict(alg="ac_iqn", batch_size=7),
    "ac_iqn, one row": dict(alg="ac_iqn", batch_size=1),
    "iqn": dict(alg="iqn"),
    "iqn, plain": dict(alg="iqn", encoder="plain", activation="gelu"),
    "iqn, one layer": dict(alg="iqn", hidden_sizes="12"),
    "rrd over ac_iqn": RRD,
    "ircr over ac_iqn": dict(alg="ircr", basis_alg="ac_iqn"),
}
each = pytest.mark.parametrize("given", CASES.values(), ids=CASES)


def build(double: bool = True, **given):
    """An agent with its replay; some of the objects are not there."""
    given = SMALL | given
    discrete = given["alg"] == "iqn"
    if given["encoder"] == "objects":
        given.pop("features")
    else:
        given.pop("object_sizes")
    config = with_sizes(resolve(given), OBS, ACTIONS if discrete else 2, acts_discrete=discrete)
    agent, random = create_agent(config), np.random.default_rng(0)
    if double:
        agent.nets.double()
        for slots in (slots for opt in agent.opts for slots in opt.state.values()):
            slots |= {name: value.double() for name, value in slots.items() if name != "step"}
    buffer = build_buffer(config)
    for length in (20, 7, 33):
        normal = lambda width, rows=length: random.standard_normal((rows, width)).astype(np.float32)  # noqa: E731
        obs, acts = normal(OBS), random.integers(0, ACTIONS, length) if discrete else np.tanh(normal(2))
        obs[:, -OBJECTS:] = obs[:, -OBJECTS:] > 0
        buffer.store_episode({"obs": obs, "obs_next": normal(OBS), "rews": 3 * normal(1), "acts": acts,
                              "done": np.float32(random.random((length, 1)) < 0.1)})
    agent.normalizer_update(buffer.sample())
    return agent, buffer


def by_hand(threads: int):
    return lambda agent, buffer: ManualEngine(agent, buffer, Kernels("mm", threads, 1))


@each
@pytest.mark.parametrize("threads", [1, 2])
def test_training_by_hand_follows_autograd(given, threads):
    """Nine updates from the replay: the same draws, and weights, moments and targets equal to rounding."""
    with float64():
        results = []
        for kind in (Engine, by_hand(threads)):
            agent, buffer = build(**given)
            start = copies(agent)
            sums = kind(agent, buffer).run(9)
            results.append((copies(agent), {name: float(total) / count for name, total, count in sums.items()},
                            agent.updates, buffer.sample()["obs"]))
    (expected, metrics, updates, drawn), (got, ours, ours_updates, ours_drawn) = results
    assert distance(got, expected, start) < SAME
    assert updates == ours_updates == 9
    assert ours == pytest.approx(metrics, rel=SAME, abs=SAME)
    torch.testing.assert_close(drawn, ours_drawn, rtol=0, atol=0)


@each
def test_every_gradient_is_autograds(given):
    """With their sizes, which Adam's first steps hide."""
    with float64():
        (agent, buffer), (other, _) = build(**given), build(**given)
        engine = ManualEngine(agent, buffer, Kernels("mm", 1, 1))
        verb = engine.verbs["train"]
        with engine.paired() as engine.pair, torch.inference_mode():
            batch = engine.draw(verb)
            engine.losses(verb, batch)
        batch = {name: value.clone() for name, value in batch.items()}
        loss, _ = other.losses(batch, given["alg"] != "iqn")
        loss.backward()
        labels = Engine(other, buffer).labels
        expected = {label: parameter.grad for parameter, label in labels.items() if parameter.grad is not None}
    assert expected.keys() == verb.gradients.keys()
    for label, gradient in expected.items():
        assert float(gradient.abs().max()) > 0, label
        torch.testing.assert_close(verb.gradients[label], gradient, rtol=1e-9, atol=1e-13, msg=label)


@pytest.mark.parametrize("name", ["ac_iqn", "iqn", "rrd over ac_iqn"])
def test_graphs_give_the_bits_of_python(name, monkeypatch):
    traced, plain = (build(double=False, **CASES[name]) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)         # each part is a graph
        by_hand(2)(*traced).run(6)
    monkeypatch.setattr(algorithm.engine.by_hand.traced, "trace", lambda part, batch, state: part)
    by_hand(2)(*plain).run(6)
    ours, expected = copies(traced[0]), copies(plain[0])
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


@pytest.mark.parametrize("verb", ["train", "train_q", "train_pi"])
def test_each_verb_of_ac_iqn(verb):
    """`train` steps the critic before it computes the policy's loss."""
    with float64():
        (agent, buffer), (other, _) = build(alg="ac_iqn"), build(alg="ac_iqn")
        start, batch = copies(other), buffer.sample()
        batch |= {name: agent.draw_noise(16) for name in agent.q_noise + agent.pi_noise}
        info = by_hand(2)(agent, buffer).call(verb, batch)
        expected = getattr(other, verb)(batch)
    assert distance(copies(agent), copies(other), start) < SAME
    assert {name: float(value) for name, value in info.items()} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, rel=SAME)


def test_iqn_has_no_policy_to_train():
    agent, buffer = build(double=False, alg="iqn")
    with pytest.raises(NotImplementedError, match="no policy to train"):
        ManualEngine(agent, buffer).call("train_pi", {})


@pytest.mark.parametrize(("given", "name"), [
    (dict(alg="ac_iqn"), None), (dict(alg="iqn"), None), (RRD, None), (dict(alg="ircr", basis_alg="iqn"), None),
    (dict(alg="ac_iqn", precision="bf16"), "bf16"), (RRD | dict(basis_alg="iqn"), "rewards of discrete actions"),
    (dict(alg="ircr", basis_alg="ac_iqn", precision="bf16"), "bf16")], ids=str)
def test_what_is_computed_by_hand(given, name):
    given = dict(given)
    if given.get("basis_alg") == "iqn":
        config = with_sizes(resolve(SMALL | given | {"features": None}), OBS, ACTIONS, acts_discrete=True)
        assert why_not_by_hand(create_agent(config)) == name
        return
    assert why_not_by_hand(build(double=False, **given)[0]) == name


@pytest.mark.parametrize("alg", ["ac_iqn", "iqn"])
def test_auto_chooses_gradients_by_hand(alg):
    agent, buffer = build(double=False, alg=alg)
    engine, why = create_engine(agent.config, agent, buffer)
    assert (engine.name, why.partition(";")[0]) == ("manual", "gradients by hand are the fastest on CPUs")


@pytest.mark.parametrize("alg", ["ac_iqn", "iqn"])
def test_asking_for_them_in_bf16_is_refused(alg):
    """As `auto` says: it chooses autograd's products."""
    agent, buffer = build(double=False, alg=alg, precision="bf16", engine="manual")
    with pytest.raises(ConfigError, match=r"engine: got 'manual'.* and not for bf16; expected eager, compile or auto"):
        create_engine(agent.config, agent, buffer)


def test_a_layer_of_quantiles_has_a_row_for_each_fraction(monkeypatch):
    agent, _ = build(double=False, alg="ac_iqn", batch_size=64, quantiles=8, hidden_sizes="128,128",
                     object_sizes="56,40", cosines=64)
    assert {rows for rows, _, _ in large_layers(agent)} == {512}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    assert usual(agent)[1:] == (2, 2)                   # 2 x 512 x 128 x 176 operations, 8 million for each thread


@pytest.mark.parametrize("alg", ["ac_iqn", "iqn"])
def test_they_are_not_stacked(alg):
    pairs = [build(double=False, alg=alg, seed=seed) for seed in (0, 1)]
    with pytest.raises(ConfigError, match="seeds: got agents that cannot share their updates"):
        StackedEngine(*zip(*pairs, strict=True))
