"""The normaliser, the Gaussian and TensorFlow's Adam, against formulas and independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from agents import O, make_agent

from utils.optimizers import TFAdam
from utils.torch_utils import Normalizer, RandomNormal, get_vars


def test_normalizer_is_the_identity_before_its_first_update():
    x = torch.tensor([[-70.0, 0.0, 70.0]])
    assert torch.equal(Normalizer(3).normalize(x), x)


def test_a_normalizer_of_which_only_mean_and_std_were_loaded_is_used():
    agent = make_agent("sac", obs_normalization=True)
    name = "normalizer/normalizer_variables"
    agent.load_tf_variables({f"{name}/mean": np.full(O, 10.0), f"{name}/std": np.full(O, 2.0)})
    torch.testing.assert_close(agent.normalize(torch.full((O,), 12.0)), torch.ones(O))


def test_normalizer_counts_mean_and_std_over_all_batches():
    data = np.random.RandomState(0).normal(3, 2, size=(40, 3)).astype(np.float32)
    normalizer = Normalizer(3)
    normalizer.update(torch.tensor(data[:10]))
    normalizer.update(torch.tensor(data[10:]))
    np.testing.assert_allclose(normalizer.mean, data.mean(0), rtol=1e-5)
    np.testing.assert_allclose(normalizer.std, data.std(0), rtol=1e-4)
    assert float(normalizer.cnt) == 40
    np.testing.assert_allclose(normalizer.normalize(torch.tensor(data)), (data - data.mean(0)) / data.std(0), atol=1e-3)


def test_normalizer_clips_at_5_and_floors_std_at_1e_2():
    normalizer = Normalizer(2)
    normalizer.update(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    assert normalizer.std.tolist() == pytest.approx([1e-2, 1.0])
    assert normalizer.normalize(torch.tensor([[1.01, 100.0]]))[0].tolist() == pytest.approx([1.0, 5.0], rel=1e-3)


def test_a_variance_rounded_below_0_gives_no_nan():
    normalizer, rounded = Normalizer(1), []
    for _ in range(100):
        normalizer.update(torch.full((7, 1), 1234.567))
        rounded.append(float(normalizer.sum_sqr / normalizer.cnt - normalizer.mean.square()))
        assert torch.isfinite(normalizer.std).all()
    assert min(rounded) < 0                        # it did happen


def test_prefix_and_suffix_use_their_part():
    normalizer = Normalizer(3)
    normalizer.update(torch.tensor([[0.0, 10.0, 20.0], [2.0, 14.0, 26.0]]))
    whole = normalizer.normalize(torch.tensor([1.5, 13.0, 25.0]))
    torch.testing.assert_close(normalizer.normalize_prefix(torch.tensor([1.5, 13.0])), whole[:2])
    torch.testing.assert_close(normalizer.normalize_suffix(torch.tensor([13.0, 25.0])), whole[1:])


def test_gaussian_agrees_with_torch_where_std_is_not_floored():
    g = torch.Generator().manual_seed(0)
    mean, logstd, x = (torch.randn(4, 3, generator=g) for _ in range(3))
    ours, theirs = RandomNormal(mean, logstd), torch.distributions.Normal(mean, logstd.exp())
    torch.testing.assert_close(ours.log_p(x), theirs.log_prob(x).sum(-1, keepdim=True))
    torch.testing.assert_close(ours.entropy(), theirs.entropy().sum(-1, keepdim=True))
    other = RandomNormal(x, logstd / 2)
    expected = torch.distributions.kl_divergence(theirs, torch.distributions.Normal(x, (logstd / 2).exp()))
    torch.testing.assert_close(ours.kl(other), expected.sum(-1, keepdim=True))
    torch.testing.assert_close(ours.kl(ours), torch.zeros(4, 1), rtol=0, atol=1e-6)


def test_gaussian_floors_std_but_not_the_log_std_of_the_likelihood():
    pi = RandomNormal(torch.zeros(1, 1), torch.tensor([-6.0]))
    assert float(pi.std) == pytest.approx(1e-2)
    assert float(pi.log_p(torch.tensor([[0.01]]))) == pytest.approx(-0.5 * math.log(2 * math.pi) + 6.0 - 0.5)


def test_adam_follows_tensorflows_formula_where_epsilon_matters():
    """Gradients of the size of epsilon distinguish TensorFlow's position of epsilon from PyTorch's."""
    gradients = np.random.RandomState(0).normal(0, 3e-8, size=(20, 4)).astype(np.float32)
    parameter = torch.nn.Parameter(torch.zeros(4))
    optimizer = TFAdam([dict(name="x", params=[parameter], lr=1e-3)])
    x, m, v = np.zeros(4), np.zeros(4), np.zeros(4)
    for t, gradient in enumerate(gradients, start=1):
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * np.square(gradient, dtype=np.float64)
        x -= 1e-3 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(parameter.detach(), x, rtol=1e-4)


def test_a_group_without_gradients_does_not_change():
    first, second = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = TFAdam([dict(name="a", params=[first], lr=0.1), dict(name="b", params=[second], lr=0.1)])
    first.grad = torch.ones(1)
    optimizer.step()
    assert float(second.detach()) == 1.0
    assert [group["t"] for group in optimizer.param_groups] == [1, 0]


def test_get_vars_lists_by_prefix():
    agent = make_agent("sac")
    assert len(get_vars(agent.nets, "main.policy")) == 6
    assert len(get_vars(agent.nets, "main.q_value")) == 12
    with pytest.raises(ValueError, match="nobody"):
        get_vars(agent.nets, "nobody")
