"""The dense networks against plain PyTorch modules."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from algorithm.basis_alg.ddpg_torch import MLPPolicy, MLPQValue
from algorithm.basis_alg.dqn_torch import ConvQNetwork, MLPQNetwork
from algorithm.basis_alg.sac_torch import MLPQValueSAC, MLPStochasticPolicy
from algorithm.decomposition.networks import ConvRewardNet, MLPRewardNet
from algorithm.networks import ACTIVATIONS, MLP

PLAIN = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU, "elu": nn.ELU, "gelu": nn.GELU}
B, N, A = 5, 4, 3              # rows, observations, actions


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def plain(network: MLP, activation: str) -> nn.Sequential:
    """The layers of a network in a plain module."""
    parts = [part for layer in network.layers for part in (layer, PLAIN[activation]())]
    return nn.Sequential(*parts[:-1])


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator())


@pytest.mark.parametrize("activation", PLAIN)
@pytest.mark.parametrize("hidden", [(7,), (7, 6), (7, 6, 5, 4)])
def test_values_and_gradients_are_those_of_a_plain_module(hidden, activation):
    ours = MLP("q", (N, *hidden, 2), activation, generator=generator())
    theirs, x = copy.deepcopy(plain(ours, activation)), draw(B, N)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)
    for network in (ours, theirs):
        network(x).square().sum().backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=0)


def test_every_activation_is_tested():
    assert list(PLAIN) == list(ACTIVATIONS)


@pytest.mark.parametrize(("hidden", "names"), [
    ((7,), ["q_dense1", "q"]), ((7, 6), ["q_dense1", "q_dense2", "q"]),
    ((7, 6, 5), ["q_dense1", "q_dense2", "q_dense3", "q"])])
def test_the_layers_have_the_originals_names(hidden, names):
    network = MLP("q", (N, *hidden, 1), late=A)
    assert [name for name, _ in network.named_children()] == names
    assert [layer.out_features for layer in network.layers] == [*hidden, 1]
    assert [layer.in_features for layer in network.layers] == [N, hidden[0] + A, *hidden[1:]]
    assert network.layers == [getattr(network, name) for name in names]


@pytest.mark.parametrize("hidden", [(7,), (7, 6), (7, 6, 5)])
def test_late_inputs_join_at_the_second_layer(hidden):
    critic = MLPQValue(N, A, hidden, generator(), "tanh")
    obs, acts = draw(B, N), draw(B, A)
    first, *others = critic.layers
    x = torch.cat([torch.tanh(first(obs)), acts], dim=-1)
    for layer in others[:-1]:
        x = torch.tanh(layer(x))
    torch.testing.assert_close(critic(obs, acts), others[-1](x), rtol=0, atol=0)


def test_a_copy_and_a_replaced_layer_are_computed():
    network = MLPQValueSAC(N, A, generator(), (7,))
    other, obs, acts = copy.deepcopy(network), draw(B, N), draw(B, A)
    with torch.no_grad():
        other.q.bias += 1
    torch.testing.assert_close(other(obs, acts), network(obs, acts) + 1)
    other.q = nn.Linear(7, 2)
    assert other(obs, acts).shape == (B, 2)
    assert other.layers[-1] is other.q


@pytest.mark.parametrize("activation", PLAIN)
def test_sizes_and_activation_reach_every_public_network(activation):
    obs, acts, images = draw(B, N), draw(B, A), draw(2, 16, 16, 2)
    one_hot = torch.eye(A)[:2]
    networks = {
        MLPPolicy(N, A, (7, 6, 5), generator(), activation): (obs,),
        MLPQValue(N, A, (7, 6, 5), generator(), activation): (obs, acts),
        MLPStochasticPolicy(N, A, generator(), (7, 6, 5), activation): (obs,),
        MLPQValueSAC(N, A, generator(), (7, 6, 5), activation): (obs, acts),
        MLPQNetwork(N, A, generator(), (7, 6, 5), activation): (obs,),
        MLPRewardNet(N, A, generator(), (7, 6, 5), activation): (obs, acts, obs + 1),
        ConvQNetwork((16, 16, 2), A, True, generator(), (7, 6, 5), activation): (images,),
        ConvRewardNet((16, 16, 2), A, generator(), (7, 6, 5), activation): (images, one_hot, images),
    }
    for network, inputs in networks.items():
        assert network.activation == activation
        widths = {layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)}
        assert {7, 6, 5} <= widths
        before = network(*inputs)
        network.activation = "relu" if activation != "relu" else "tanh"
        after = network(*inputs)
        before, after = (out.mean if hasattr(out, "log_p") else out for out in (before, after))
        assert not torch.allclose(before, after)


def test_the_heads_after_convolutions_are_plain_modules():
    network = ConvQNetwork((16, 16, 2), A, True, generator(), (7, 6), "silu")
    features = network.trunk(draw(2, 16, 16, 2))
    heads = [nn.Sequential(*[getattr(network, name.format(head)) if "{" in name else nn.SiLU()
                             for name in ("q_dense_{}", "", "q_dense2_{}", "", "q_{}")]) for head in ("act", "base")]
    advantage, value = (head(features) for head in heads)
    expected = value + advantage - advantage.mean(1, keepdim=True)
    torch.testing.assert_close(network(draw(2, 16, 16, 2)), expected)
