"""Products in bfloat16 by hand: float32 sums of rounded operands, near float32 in losses, gradients and learning."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from engines import build, copies, distance
from reference_cases import NAMES, Case, thin
from torch import Tensor, nn

from algorithm import networks
from algorithm.engine import Engine, create_engine
from algorithm.engine.by_hand import products, timing
from algorithm.engine.by_hand.choice import why_not_by_hand
from algorithm.engine.by_hand.engine import ManualEngine
from algorithm.engine.by_hand.kernels import candidates, parse, usual
from algorithm.engine.by_hand.mlp import MLP, Pad
from algorithm.engine.by_hand.products import Products
from utils.errors import ConfigError

CPU = torch.device("cpu")
BF16 = parse("bf16-1x1")
ULP = 2**-8                     # of bfloat16, relative
PAIRS = [("rrd", "sac"), ("rrd", "td3"), ("rrd", "ddpg"), ("sac", None)]
each = pytest.mark.parametrize("pair", PAIRS, ids=str)


@pytest.fixture(autouse=True)
def _all_are_large(monkeypatch):
    monkeypatch.setattr(products, "LEAST", 0)


@pytest.fixture
def fused(monkeypatch):
    """As on a processor where oneDNN multiplies bfloat16: bias and ReLU in the same call; counts the calls."""
    calls = []

    def linear(x: Tensor, weight: Tensor, bias: Tensor, after: str) -> Tensor:
        calls.append(1)
        z = torch.addmm(bias.float(), x.float(), weight.float().t())
        return (z.relu() if after == "relu" else z).bfloat16()
    monkeypatch.setattr(products, "has_bf16", lambda: True)
    monkeypatch.setattr(products, "_linear", linear)
    monkeypatch.setattr(products, "_scripted", lambda: linear)
    return calls


def rounded(x: Tensor) -> Tensor:
    return x.bfloat16().to(x.dtype)


def made(network: networks.MLP, name: str) -> MLP:
    weights = [layer.weight.detach() for layer in network.layers]
    biases = [layer.bias.detach() for layer in network.layers]
    return MLP(weights, biases, Pad(CPU, products=Products(name)), "x", True, network.late, network.activation)


# Products -----------------------------------------------------------------------------------------------------------

def test_sums_are_float32s():
    """Of a thousand ones: bfloat16's own sum stays at 256."""
    network = networks.MLP("x", (1000, 3, 2), "relu")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1)
        network.layers[0].bias.zero_()
    with torch.inference_mode():
        ours = made(network, "bf16")
        assert ours(torch.ones(1000, 1000)).unique().tolist() == [3001]
        ours.backward(torch.ones(1000, 2))
    assert ours.weight_grads[0].unique().tolist() == [2000]
    assert ours.bias_grads[0].unique().tolist() == [2000]


def test_a_network_multiplies_rounded_operands_and_rounds_each_sum_once():
    """Step by step in float64; one unit of bfloat16 where a sum is halfway between two numbers."""
    torch.manual_seed(0)
    network, x, grad = networks.MLP("x", (20, 40, 30, 2), "relu"), torch.randn(50, 20), torch.randn(50, 2)
    with torch.inference_mode():
        ours = made(network, "bf16")
        out = ours(x)
        ours.backward(grad.clone())
        dx = ours.input_grad(grad, 5)
    weights, biases = ([getattr(layer, name).detach().double() for layer in network.layers]
                       for name in ("weight", "bias"))
    x0, grad = rounded(x.double()), grad.double()
    h1 = rounded(x0 @ rounded(weights[0]).T + rounded(biases[0])).relu()
    h2 = rounded(h1 @ rounded(weights[1]).T + rounded(biases[1])).relu()
    g2 = rounded(grad @ weights[2]) * (h2 > 0)                          # the last layer is not rounded
    g1 = rounded(g2 @ rounded(weights[1])) * (h1 > 0)
    expected = [h2 @ weights[2].T + biases[2], g1 @ weights[0][:, 5:], grad.T @ h2, rounded(g2.T @ h1),
                rounded(g1.T @ x0), g2.sum(0), g1.sum(0)]
    found = [out, dx, *ours.weight_grads[::-1], *ours.bias_grads[1::-1]]
    for one, exact in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), exact, rtol=ULP, atol=1e-2 * float(exact.abs().mean()))


@pytest.mark.parametrize("late", [0, 4])
@pytest.mark.parametrize("activation", networks.ACTIVATIONS)
def test_each_activation_is_near_float32(activation, late):
    torch.manual_seed(0)
    network, x, more, grad = networks.MLP("x", (24, 64, 48, 3), activation, late), torch.randn(32, 24), \
        torch.randn(32, 4), torch.randn(32, 3)
    for layer in network.layers:
        nn.init.normal_(layer.bias)
    found = []
    for name in ("mm", "bf16"):
        with torch.inference_mode():
            ours = made(network, name)
            out = ours(x, more if late else None).clone()
            ours.backward(grad.clone())
            found.append([out, ours.input_grad(grad, 3).clone(), *([ours.late_grad(grad)] if late else []),
                          *ours.weight_grads, *ours.bias_grads])
    for exact, near in zip(*found, strict=True):
        assert (near - exact).norm() / exact.norm() < (0.15 if activation == "relu" else 0.03)  # rows near 0 switch
    assert not torch.equal(found[0][0], found[1][0])


def test_small_products_stay_in_float32(monkeypatch):
    monkeypatch.setattr(products, "LEAST", 10**9)
    states = []
    for name in ("mm-1x1", "bf16-1x1"):
        agent, buffer = build()
        ManualEngine(agent, buffer, parse(name)).run(3)
        states.append(copies(agent))
    assert all(torch.equal(states[1][name], exact) for name, exact in states[0].items())


# Updates ------------------------------------------------------------------------------------------------------------

BY_HAND = [name for name in NAMES if "dqn" not in name]
RELATIVE = {"Q_loss": 0.02, "R_loss": 0.02, "R_var": 0.02, "Q_reg_loss": 2e-4, "Pi_loss": 0.01}
OF_PI = 0.004                   # Pi_loss, a mean of values of both signs, may be near 0


@pytest.mark.parametrize("name", BY_HAND)
def test_the_originals_cases_in_bfloat16(name):
    case = Case(name)
    agent = case.agent()
    engine = ManualEngine(agent, None, BF16)
    for step, calls in enumerate(case.calls):
        for call in (call for call in calls if call != "target_update"):
            for metric, value in engine.call(call, case.batch(step)).items():
                np.testing.assert_allclose(float(value), case.metric(metric, step), RELATIVE[metric],
                                           OF_PI * (metric == "Pi_loss"), err_msg=metric)
        if "target_update" in calls:
            agent.target_update()
    variables = agent.tf_variables()
    for variable in case.shapes:
        expected = case.sample(f"after_{len(case.calls)}", variable)
        np.testing.assert_allclose(thin(variables[variable]), expected, 0, 0.01, err_msg=variable)


def gradients(pair, precision: str, by_hand: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The gradients of one update by name, and its losses."""
    agent, buffer = build(*pair, batch_size=64, precision=precision)
    agent.pi_delay_freq = 1
    names = {parameter: name for name, parameter in agent.nets.named_parameters()}
    batch = dict(buffer.sample()) | {name: torch.full((64, 3), 0.3) for name in agent.noise_spec()}
    engine = ManualEngine(agent, buffer) if by_hand else Engine(agent, buffer)
    info = engine.call("train", batch)
    of = engine.grads if by_hand else {one: one.grad for one in names if one.grad is not None}
    return {names[parameter]: gradient.clone() for parameter, gradient in of.items()}, info


@each
@pytest.mark.parametrize("how", ["plain", "fused"])
def test_gradients_and_losses_are_as_near_to_float32_as_autocasts(pair, how, request):
    """Autocast rounds the last layers, too. Where the terms of a gradient cancel, both are far off."""
    exact, losses = gradients(pair, "fp32", by_hand=True)
    autocast, _ = gradients(pair, "bf16", by_hand=False)
    calls = request.getfixturevalue("fused") if how == "fused" else []
    ours, near = gradients(pair, "bf16", by_hand=True)
    off = lambda found, name: float((found[name] - exact[name]).norm() / exact[name].norm())        # noqa: E731
    for name in exact:
        assert ours[name].dtype == torch.float32
        few = exact[name].numel() == 1                  # the sum of all rows, which may cancel
        assert off(ours, name) < (0.1 if few else max(1.2 * off(autocast, name), 0.03)) < 0.3, name
    assert {name: float(value) for name, value in near.items()} == pytest.approx(
        {name: float(value) for name, value in losses.items()}, rel=0.02, abs=OF_PI)
    assert bool(calls) == (how == "fused")


@each
def test_graphs_give_the_bits_of_python(pair, monkeypatch):
    traced, plain = build(*pair), build(*pair)
    ManualEngine(*traced, BF16).run(7)
    monkeypatch.setattr("algorithm.engine.by_hand.traced.trace", lambda part, batch, state: part)
    ManualEngine(*plain, BF16).run(7)
    ours, expected = copies(traced[0]), copies(plain[0])
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


@each
def test_all_that_is_saved_is_float32_and_loaded_weights_are_read(pair):
    """After its state is loaded, an engine that has rounded other weights resumes to the bit."""
    agent, buffer = build(*pair)
    engine = ManualEngine(agent, buffer, BF16)
    engine.run(4)
    saved, random = copies(agent), {name: state.clone() for name, state in engine.random_states().items()}
    drawn = buffer.generator.get_state()
    exact, _ = build(*pair)
    assert {name: tensor.dtype for name, tensor in saved.items()} == {
        name: tensor.dtype for name, tensor in exact.state_dict().items()}
    engine.run(5)
    other, others = build(*pair, seed=9)
    resumed = ManualEngine(other, others, BF16)
    resumed.run(2)
    other.load_state_dict(saved)
    resumed.set_random_states(random)
    others.generator.set_state(drawn)
    resumed.run(5)
    expected = copies(agent)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in copies(other).items())


def test_it_learns_as_float32_does():
    """RRD's loss falls to the same value, and the weights go the same way."""
    found, states = {}, {}
    for name in ("mm-1x1", "bf16-1x1"):
        agent, buffer = build(hidden_sizes=(32, 32), critic_hidden_sizes=(32, 32), reward_hidden_sizes=(32, 32))
        engine, start = ManualEngine(agent, buffer, parse(name)), copies(agent)
        losses = []
        for _ in range(4):
            losses.append({key: float(total) / count for key, total, count in engine.run(40).items()})
        found[name], states[name] = losses, copies(agent)
    for near, exact in zip(found["bf16-1x1"], found["mm-1x1"], strict=True):
        assert near["R_loss"] == pytest.approx(exact["R_loss"], rel=0.05)
        assert near["Q_loss"] == pytest.approx(exact["Q_loss"], rel=0.05)
    assert found["bf16-1x1"][-1]["R_loss"] < 0.7 * found["bf16-1x1"][0]["R_loss"]
    assert 0 < distance(states["bf16-1x1"], states["mm-1x1"], start) < 0.8


# Choosing -----------------------------------------------------------------------------------------------------------

def chosen(**changes):
    agent, buffer = build(precision=changes.pop("precision", "bf16"))
    return create_engine(dataclasses.replace(agent.config, **changes), agent, buffer)


@pytest.mark.parametrize("engine", ["auto", "manual"])
def test_bf16_on_a_cpu_is_by_hand(engine):
    made, why = chosen(engine=engine)
    assert (made.name, made.kernels.products) == ("manual", "bf16")
    assert f"kernels {made.kernels}" in why
    assert "small" not in why


def test_small_products_are_named(monkeypatch):
    monkeypatch.setattr(products, "LEAST", 10**9)
    assert chosen()[1].endswith("every product is small, so all are in fp32")


def test_every_candidate_is_in_bf16_and_autograd_is_timed_in_it_too(monkeypatch):
    agent, buffer = build(precision="bf16")
    assert candidates(agent)[0] == usual(agent)
    assert {one.products for one in candidates(agent)} == {"bf16"}
    rounds = []
    monkeypatch.setattr(agent, "losses", lambda *args, call=agent.losses: (
        rounds.append(torch.is_autocast_enabled("cpu")), call(*args))[1])
    calls = timing.update_calls(ManualEngine(agent, buffer), candidates(agent)[:1])
    calls["autograd"]()
    assert rounds == [True]
    assert timing.key_of(agent) != timing.key_of(build()[0])


@pytest.mark.parametrize(("precision", "kernels", "wanted"), [
    ("fp32", "bf16-2x1", "auto or mm-2x1"), ("bf16", "mm-2x1", "auto or bf16-2x1"),
    ("bf16", "onednn-1x4", "auto or bf16-1x4")])
def test_kernels_of_another_precision_are_refused(precision, kernels, wanted):
    with pytest.raises(ConfigError, match=f"kernels: got '{kernels}' with --precision={precision}, expected {wanted}"):
        chosen(precision=precision, kernels=kernels)


def test_a_gpu_keeps_autocast(monkeypatch):
    agent, _ = build(precision="bf16")
    assert why_not_by_hand(agent) is None
    monkeypatch.setattr(agent, "device", torch.device("cuda"))
    assert why_not_by_hand(agent) == "bf16"
