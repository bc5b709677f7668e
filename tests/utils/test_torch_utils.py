"""The normaliser, the Gaussian and TensorFlow's Adam, against formulas and independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from agents import O, make_agent

from utils.optimizers import TFAdam
from utils.torch_utils import Normalizer, RandomNormal, clipped, get_vars


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


def test_a_constant_has_no_variance_however_often_it_was_counted():
    normalizer = Normalizer(1)
    for _ in range(100):
        normalizer.update(torch.full((7, 1), 1234.567))
        assert float(normalizer.m2) == 0
        assert float(normalizer.std) == pytest.approx(1e-2)


@pytest.mark.parametrize(("mean", "std"), [(0, 1), (295, 0.5), (-1000, 0.2), (20, 0.02), (101_325, 100), (3e6, 40)])
@pytest.mark.parametrize("batches", [1, 7, 600])
def test_moments_are_those_of_all_that_was_counted_however_far_from_0(mean, std, batches):
    data = np.float32(np.random.default_rng(0).normal(mean, std, (batches * 300, 2)))
    normalizer = Normalizer(2)
    for batch in np.split(data, batches):
        normalizer.update(torch.from_numpy(batch))
    true = data.astype(np.float64)
    np.testing.assert_allclose(normalizer.average, true.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose((normalizer.m2 / normalizer.cnt).sqrt(), true.std(0), rtol=1e-9)
    np.testing.assert_allclose(normalizer.normalize(torch.from_numpy(data[:300])).std(0), 1, rtol=0.15)


def originals_of(data: np.ndarray) -> dict[str, torch.Tensor]:
    """What the original keeps after it has counted (N, O), batch by batch of 100."""
    total, squares = (np.zeros(data.shape[1], np.float32) for _ in "ab")
    for batch in np.split(data, len(data) // 100):
        total, squares = total + batch.sum(0), squares + np.square(batch).sum(0)
    mean = total / np.float32(len(data))
    std = np.maximum(np.sqrt(np.maximum(squares / np.float32(len(data)) - np.square(mean), 0)), np.float32(1e-2))
    found = dict(sum=total, sum_sqr=squares, cnt=np.float32([len(data)]), mean=mean, std=std)
    return {name: torch.from_numpy(value) for name, value in found.items()}


@pytest.mark.parametrize("mean", [0.0, 3.0, 1000.0])
def test_the_originals_sums_come_over_and_go_back(mean):
    data = np.float32(np.random.default_rng(1).normal(mean, [0.3, 1, 7], (1000, 3)))
    given, normalizer = originals_of(data), Normalizer(3)
    normalizer.load_originals(given)
    for name, value in normalizer.originals().items():
        torch.testing.assert_close(value, given[name], rtol=1e-6, atol=1e-6)
    again = Normalizer(3)
    again.load_originals(normalizer.originals())
    for name in ("average", "m2", "cnt"):
        torch.testing.assert_close(getattr(again, name), getattr(normalizer, name), rtol=1e-5, atol=1e-6)
    more = np.float32(np.random.default_rng(2).normal(mean, [0.3, 1, 7], (1000, 3)))
    normalizer.update(torch.from_numpy(more))
    both = np.concatenate([data, more]).astype(np.float64)
    np.testing.assert_allclose(normalizer.mean, both.mean(0), rtol=1e-4, atol=1e-6)
    if mean < 10:                                   # else the original's own sums have lost the variance
        np.testing.assert_allclose(normalizer.std, both.std(0), rtol=1e-4)


def test_sums_of_nothing_come_over_as_nothing():
    normalizer = Normalizer(2)
    normalizer.load_originals(Normalizer(2).originals())
    assert all(not tensor.any() for tensor in normalizer.state_dict().values())


def test_a_checkpoint_of_an_earlier_version_is_loaded_and_continues():
    data = np.float32(np.random.default_rng(3).normal(2, 1, (1000, O)))
    saved, agent = make_agent("ddpg"), make_agent("ddpg", seed=9)
    saved.normalizer.load_originals(originals_of(data))
    prefix = "nets.normalizer.normalizer_variables."
    old = {name: value for name, value in saved.state_dict().items() if not name.startswith(prefix)}
    old |= {prefix + name: value for name, value in originals_of(data).items()}
    agent.load_state_dict(old)
    obs = torch.from_numpy(data[:5])
    assert torch.equal(agent.normalize(obs), saved.normalize(obs))
    agent.normalizer.update(obs)
    seen = np.concatenate([data, data[:5]])
    np.testing.assert_allclose(agent.normalizer.std, seen.std(0), rtol=1e-4)
    module = Normalizer(O)
    module.load_state_dict({name.removeprefix(prefix): value for name, value in old.items() if name.startswith(prefix)})
    assert torch.equal(module.mean, saved.normalizer.mean)


@pytest.mark.parametrize("damage", [{"sum": None}, {"std": torch.zeros(2)}, {"cnt": torch.zeros(())},
                                    {"sum_sqr": torch.zeros(1, 1)}], ids=str)
def test_damaged_sums_are_refused_by_name(damage):
    agent = make_agent("ddpg")
    prefix = "nets.normalizer.normalizer_variables."
    old = {name: value for name, value in agent.state_dict().items() if not name.startswith(prefix)}
    sums = agent.normalizer.originals() | damage
    with pytest.raises(ValueError, match="normalizer_variables"):
        agent.load_state_dict(old | {prefix + name: value for name, value in sums.items() if value is not None})


def test_the_moments_stay_float64():
    normalizer = Normalizer(2).float()
    assert normalizer.m2.dtype == normalizer.half().cnt.dtype == torch.float64
    assert normalizer.mean.dtype == torch.float16


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


def test_a_gradient_passes_to_what_is_a_limit():
    x = torch.tensor([-6.0, -5.0, 0.5, 2.0, 3.0], requires_grad=True)
    found = clipped(x, -5.0, 2.0)
    assert torch.equal(found, x.clamp(-5.0, 2.0))
    found.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
