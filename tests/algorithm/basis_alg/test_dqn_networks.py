"""DQN's networks: dueling heads, convolutions padded as TensorFlow pads them, first weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from agents import B, K, N, O
from dqn_agents import IMAGE, A, each_agent, each_kind, make, make_batch, set_constant, value_of

from algorithm.basis_alg.dqn_torch import ConvQNetwork
from utils.errors import ConfigError
from utils.torch_utils import ConvTrunk, SameConv2d

# Dueling ------------------------------------------------------------------------------------------------------------

def test_dueling_adds_the_advantages_less_their_mean_to_the_state_value():
    agent = make(obs_dims=IMAGE, dueling=True)
    set_constant(agent.value.q_base, [10.0])
    set_constant(agent.value.q_act, [1.0, 2.0, 6.0])            # their mean is 3
    q = agent.value(make_batch(dims=IMAGE)["obs"])
    torch.testing.assert_close(q, torch.tensor([[8.0, 9.0, 13.0]]).expand(B, 3))


def test_both_heads_of_dueling_see_the_same_features_through_layers_of_their_own():
    network = ConvQNetwork(IMAGE, A, dueling=True, generator=torch.Generator().manual_seed(0))
    obs = make_batch(dims=IMAGE)["obs"]
    features = network.trunk(obs)
    advantage = network.q_act(network.q_dense_act(features).relu())
    base = network.q_base(network.q_dense_base(features).relu())
    torch.testing.assert_close(network(obs), base + advantage - advantage.mean(1, keepdim=True))
    torch.testing.assert_close(network(obs).mean(1, keepdim=True), base)
    assert network.q_dense_base.weight.shape == network.q_dense_act.weight.shape == (512, network.features)


@each_agent
def test_dueling_over_vectors_is_refused(alg, basis):
    with pytest.raises(ConfigError, match=r"^dueling: got True over vectors \(5,\), expected images \(height, [^\n]*$"):
        make(alg, basis, dueling=True)
    make(alg, basis, dueling=False)


def test_without_dueling_there_is_no_state_value():
    names = [name for name, _ in make(obs_dims=IMAGE).value.named_parameters()]
    assert {name.partition(".")[0] for name in names} == {"q_conv1", "q_conv2", "q_conv3", "q_dense_act", "q_act"}


# Convolutions -------------------------------------------------------------------------------------------------------

def padded_as_tensorflow(size: tuple[int, int], kernel: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """One convolution by PyTorch and by TensorFlow, (1, H', W', filters)."""
    tf = pytest.importorskip("tensorflow")
    conv = SameConv2d(2, 3, kernel, stride, torch.Generator().manual_seed(kernel))
    torch.nn.init.normal_(conv.bias, generator=torch.Generator().manual_seed(stride))
    images = np.random.default_rng(0).standard_normal((1, *size, 2), np.float32)
    with torch.no_grad():
        ours = conv(torch.tensor(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
        weight = conv.weight.permute(2, 3, 1, 0).numpy()
        return ours, (tf.nn.conv2d(images, weight, stride, "SAME") + conv.bias.numpy()).numpy()


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 8])
def test_images_of_any_size_are_padded_as_tensorflow_pads_them(kernel, stride):
    heights = [*range(1, 13), 20, 21, 33, 84]
    for height, width in zip(heights, heights[5:] + heights[:5], strict=True):
        ours, theirs = padded_as_tensorflow((height, width), kernel, stride)
        assert ours.shape == (1, -(-height // stride), -(-width // stride), 3)
        np.testing.assert_allclose(ours, theirs, 1e-5, 1e-5, err_msg=f"{height} x {width}")


def test_84_becomes_21_11_and_11():
    x, sizes = torch.zeros(1, 4, 84, 84), []
    for conv in ConvTrunk("q", (84, 84, 4)).convs:
        x = conv(x)
        sizes.append(tuple(x.shape))
    assert sizes == [(1, 32, 21, 21), (1, 64, 11, 11), (1, 64, 11, 11)]


@pytest.mark.parametrize(("size", "kernel", "stride", "before", "after"), [
    (84, 8, 4, 2, 2), (21, 4, 2, 1, 2), (11, 3, 1, 1, 1),       # the original's games
    (83, 8, 4, 2, 3), (6, 4, 2, 1, 1), (5, 4, 2, 1, 2), (3, 8, 4, 2, 3), (1, 8, 4, 3, 4), (9, 2, 4, 0, 1),
])
def test_the_odd_pixel_of_padding_comes_after_the_image(size, kernel, stride, before, after):
    """A kernel of 1, 2, ... shows which of its cells is on the first pixel in the first window, and on the last one."""
    conv = SameConv2d(1, 1, kernel, stride)
    conv.weight.data = torch.arange(1.0, kernel**2 + 1).reshape(1, 1, kernel, kernel)
    for pixel, cell in ((0, before), (-1, kernel - 1 - after)):
        image = torch.zeros(1, 1, size, size)
        image[..., pixel, pixel] = 1
        assert float(conv(image)[0, 0, pixel, pixel].detach()) == 1 + cell * (kernel + 1)


def test_features_are_flattened_by_row_column_and_channel():
    trunk, images = ConvTrunk("q", (4, 3, 2)), torch.arange(48.0).reshape(2, 4, 3, 2)
    trunk.convs = [torch.nn.Identity()]
    assert torch.equal(trunk.trunk(images), images.reshape(2, 24))


@pytest.mark.parametrize("dims", [(1, 1, 1), (3, 5, 1), (5, 40, 3), (37, 21, 2), (84, 84, 4)], ids=str)
def test_images_of_any_size_are_learned_from_and_acted_upon(dims):
    agent = make("rrd", "dqn", obs_dims=dims)
    assert value_of(agent).features == 64 * math.ceil(dims[0] / 8) * math.ceil(dims[1] / 8)
    assert agent.decomposition.reward.features == value_of(agent).features
    assert {name: value.isfinite().item() for name, value in agent.train(make_batch(dims=dims)).items()} == {
        "Q_loss": True, "R_loss": True}
    assert agent.step(np.zeros((2, *dims), np.uint8)).shape == (2,)
    batch = make_batch(dims=dims)
    assert agent.rewards(batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"]).shape == (N, K, 1)


def test_images_of_another_size_are_refused():
    agent, turned = make(obs_dims=IMAGE), (9, 12, 2)
    with pytest.raises(ValueError, match=r"^batch\['obs'\]: got shape \(8, 9, 12, 2\), expected \(B, 12, 9, 2\)"):
        agent.train(make_batch(dims=turned))
    with pytest.raises(ValueError, match=r"^obs: got shape \(9, 12, 2\), expected \(12, 9, 2\) or \(N, 12, 9, 2\)"):
        agent.step(np.zeros(turned, np.uint8))


@each_kind
def test_biases_start_at_zero_and_weights_are_xavier_uniform(dims):
    """A convolution's fans count the window: 6 / (k^2 (in + out))."""
    agent = make("rrd", "dqn", obs_dims=dims, **({} if dims == (O,) else {"dueling": True}))
    layers = [layer for layer in agent.nets.modules() if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))]
    assert len(layers) == (9 if dims == (O,) else 19)
    for layer in layers:
        fan_out, fan_in, *window = layer.weight.shape
        bound = math.sqrt(6 / (math.prod(window) * (fan_in + fan_out)))
        assert not layer.bias.any()
        assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound


@each_kind
def test_building_and_using_an_agent_does_not_touch_pytorchs_global_generator(dims):
    before = torch.random.get_rng_state()
    agent = make("rrd", "dqn", obs_dims=dims)
    agent.train(make_batch(dims=dims))
    agent.step(np.zeros(dims), explore=True)
    assert torch.equal(torch.random.get_rng_state(), before)
