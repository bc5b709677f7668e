"""The dense networks of the gradients by hand against autograd: any depth, each activation, late inputs, stacks."""

from __future__ import annotations

import functools

import pytest
import torch
from engines import SAME, build, copies, distance, float64
from torch import Tensor, nn

from algorithm import networks
from algorithm.engine import Engine
from algorithm.engine.by_hand import products
from algorithm.engine.by_hand.activations import ACTIVATIONS
from algorithm.engine.by_hand.engine import ManualEngine
from algorithm.engine.by_hand.mlp import MLP, Pad
from algorithm.engine.seeds.stacked import StackedEngine
from algorithm.engine.seeds.stacks import StackedMLP

CPU = torch.device("cpu")
B, I, L, O = 6, 5, 4, 2                 # rows, inputs, late inputs, outputs    # noqa: E741
HIDDEN = [(9,), (9, 7), (9, 7, 8, 6)]
exactly = functools.partial(torch.testing.assert_close, rtol=1e-11, atol=1e-11)


def networks_of(count: int, hidden: tuple, activation: str, late: int) -> list[networks.MLP]:
    """Networks in float64 whose weights are large enough that no activation is linear."""
    made = [networks.MLP("x", (I, *hidden, O), activation, late).double() for _ in range(count)]
    for network in made:
        for parameter in network.parameters():
            nn.init.normal_(parameter)
    return made


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def by_hand(network: networks.MLP) -> MLP:
    weights = [layer.weight.detach() for layer in network.layers]
    biases = [layer.bias.detach() for layer in network.layers]
    return MLP(weights, biases, Pad(CPU, torch.float64), "x", True, network.late, network.activation)


def by_hand_at_once(nets: list[networks.MLP]) -> StackedMLP:
    layers = list(zip(*(network.layers for network in nets), strict=True))
    weights = [torch.stack([layer.weight.detach() for layer in same]) for same in layers]
    biases = [torch.stack([layer.bias.detach() for layer in same]) for same in layers]
    return StackedMLP(weights, biases, Pad(CPU, torch.float64), "x", True, nets[0].late, nets[0].activation)


@pytest.mark.parametrize("late", [0, L])
@pytest.mark.parametrize("hidden", HIDDEN, ids=str)
@pytest.mark.parametrize("activation", networks.ACTIVATIONS)
def test_outputs_and_gradients_are_autograds(activation, hidden, late):
    torch.manual_seed(0)
    (network,), x, more = networks_of(1, hidden, activation, late), draw(B, I), draw(B, late)
    out = network(x, more if late else None)
    grad = torch.randn_like(out)
    out.backward(grad)
    ours = by_hand(network)
    with torch.inference_mode():
        exactly(ours(x.detach(), more.detach() if late else None), out.detach())
        ours.backward(grad.clone())
        for layer, weight, bias in zip(network.layers, ours.weight_grads, ours.bias_grads, strict=True):
            exactly(weight, layer.weight.grad)
            exactly(bias, layer.bias.grad)
        exactly(ours.input_grad(grad, 2), x.grad[:, 2:])
        if late:
            exactly(ours.late_grad(grad), more.grad)


@pytest.mark.parametrize("late", [0, L])
@pytest.mark.parametrize("hidden", HIDDEN, ids=str)
@pytest.mark.parametrize("activation", networks.ACTIVATIONS)
def test_several_networks_at_once_are_independent(activation, hidden, late):
    torch.manual_seed(0)
    nets, x, more, grad = networks_of(3, hidden, activation, late), draw(3, B, I), draw(3, B, late), draw(3, B, O)
    with torch.inference_mode():
        ours, singles = by_hand_at_once(nets), [by_hand(network) for network in nets]
        out = ours(x, more if late else None)
        ours.backward(grad.clone())
        found = [ours.input_grad(grad, 1), *([ours.late_grad(grad)] if late else [])]
        for i, single in enumerate(singles):
            exactly(out[i], single(x[i], more[i] if late else None))
            single.backward(grad[i].clone())
            for both in zip(ours.weight_grads + ours.bias_grads, single.weight_grads + single.bias_grads, strict=True):
                exactly(both[0][i], both[1])
            expected = [single.input_grad(grad[i], 1), *([single.late_grad(grad[i])] if late else [])]
            exactly([one[i] for one in found], expected)


@pytest.mark.parametrize("late", [0, L])
@pytest.mark.parametrize("activation", networks.ACTIVATIONS)
def test_a_saved_forward_pass_is_enough_for_a_backward_pass_elsewhere(activation, late):
    torch.manual_seed(0)
    (network,), x, more, grad = networks_of(1, (9, 7, 8), activation, late), draw(B, I), draw(B, late), draw(B, O)
    with torch.inference_mode():
        one, other = by_hand(network), by_hand(network)
        one(x, more if late else None)
        other.load("q", {name: value.clone() for name, value in one.save("q").items()})
        one.backward(grad.clone())
        other.backward(grad.clone())
        exactly(other.weight_grads, one.weight_grads)
        exactly(other.bias_grads, one.bias_grads)


def test_every_activation_is_written_by_hand():
    assert set(ACTIVATIONS) == set(networks.ACTIVATIONS)


@pytest.mark.skipif(not products.ONEDNN, reason="expected oneDNN")
@pytest.mark.parametrize("late", [0, 8])
@pytest.mark.parametrize("sizes", [(256, 35, 256), (100, 400, 303), (513, 62, 256)], ids=str)
def test_a_large_network_by_onednn_is_autograds(sizes, late, monkeypatch):
    """To the bit: of whole numbers, none above 2^24, float32's sums are exact in any order, and no ReLU is in doubt."""
    monkeypatch.setattr(products, "LEAST", 1000)             # every layer but the smallest
    calls = []
    monkeypatch.setattr(products, "_linear", lambda *args, call=products._linear: calls.append(args) or call(*args))
    rows, inputs, width = sizes
    torch.manual_seed(0)
    layers = [nn.Linear(inputs, width), nn.Linear(width + late, width - 3), nn.Linear(width - 3, 2)]
    with torch.no_grad():
        for parameter in (parameter for layer in layers for parameter in layer.parameters()):
            parameter.copy_(torch.randint(-1, 2, parameter.shape))
    x, extra, grad = (torch.randint(-2, 3, (rows, n)).float().requires_grad_() for n in (inputs, late, 2))
    h1 = torch.cat([layers[0](x).relu(), extra], dim=1)
    out = layers[2](layers[1](h1).relu())
    out.backward(grad)
    with torch.no_grad():
        ours = MLP([layer.weight for layer in layers], [layer.bias for layer in layers],
                   Pad(CPU, products=products.Products("onednn")), trained=True, late=late)
        close = functools.partial(torch.testing.assert_close, rtol=0, atol=0)
        close(ours(x, extra if late else None), out)
        ours.backward(grad.detach())
        for layer, weight, bias in zip(layers, ours.weight_grads, ours.bias_grads, strict=True):
            close(weight, layer.weight.grad)
            close(bias, layer.bias.grad)
        if late:
            close(ours.late_grad(grad), extra.grad)
        else:
            close(ours.input_grad(grad, 5), x.grad[:, 5:])
    assert len(calls) >= 6
    largest = max(float(tensor.detach().abs().max()) for tensor in [out, *(layer.weight.grad for layer in layers)])
    assert largest < 2**22              # and what its terms sum to on the way, below 2^24


# In the engines ---------------------------------------------------------------------------------------------------

SETTINGS = [
    dict(hidden_sizes=(12,), activation="tanh", critic_hidden_sizes=(9, 8, 7), critic_activation="silu"),
    dict(hidden_sizes=(12, 11, 10), activation="gelu", critic_activation="elu", max_grad_norm=0.05),
    dict(activation="silu", lr_schedule="cosine", lr_end=0.1, lr_warmup=0.2, timesteps=10, train_batches=10,
         total_timesteps=30, warmup=10, max_grad_norm=0.1),
]
OF_REWARD = dict(reward_hidden_sizes=(13, 5, 6), reward_activation="tanh")
BASES = [("rrd", "sac"), ("rrd", "td3"), ("rrd", "ddpg"), ("td3", None)]
each = pytest.mark.parametrize("pair", BASES, ids=str)
with_each = pytest.mark.parametrize("settings", SETTINGS, ids=["deep", "clipped", "scheduled"])


def trained(pair: tuple, settings: dict, kind, seed: int = 3) -> tuple[dict, dict]:
    """The states before and after seven updates by an engine."""
    agent, buffer = build(*pair, seed=seed, **settings, **(OF_REWARD if pair[0] == "rrd" else {}))
    start = copies(agent)
    kind(agent, buffer).run(7)
    return start, copies(agent)


@with_each
@each
def test_every_engine_applies_settings_of_networks_and_optimisers(pair, settings, no_graphs, monkeypatch):
    with float64():
        start, expected = trained(pair, settings, Engine)
        assert distance(trained(pair, settings, ManualEngine)[1], expected, start) < SAME
        # CUDA's Adam takes the rate, (), as float32, whose rounding it would enlarge.
        monkeypatch.setattr(Tensor, "float", lambda x, single=Tensor.float: single(x) if x.ndim else x)
        assert distance(trained(pair, settings, no_graphs)[1], expected, start) < SAME


@with_each
@each
@pytest.mark.sampled(4)
def test_a_stack_applies_them_to_each_agent(pair, settings):
    of_reward = OF_REWARD if pair[0] == "rrd" else {}
    with float64():
        alone = [trained(pair, settings, ManualEngine, seed) for seed in (3, 4)]
        agents, buffers = zip(*(build(*pair, seed=seed, **settings, **of_reward) for seed in (3, 4)), strict=True)
        StackedEngine(agents, buffers).run(7)
        for agent, (start, expected) in zip(agents, alone, strict=True):
            assert distance(copies(agent), expected, start) < SAME


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("pair", BASES, ids=str)
def test_other_depths_and_activations_are_graphs_too(pair, monkeypatch):
    """To the bit, as with the default networks."""
    once = trained(pair, SETTINGS[0], ManualEngine)[1]
    monkeypatch.setattr("algorithm.engine.by_hand.traced.trace", lambda part, batch, state: part)
    plain = trained(pair, SETTINGS[0], ManualEngine)[1]
    assert all(torch.equal(once[name], plain[name]) for name in plain)
