"""Running normalisation of observations and rewards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from envs.normalize import ObsNormalizer, RewardNormalizer
from utils.moments import Moments

CASE = Path(__file__).resolve().parent.parent / "reference" / "normalization.npz"


def batches(seed: int = 0) -> list[torch.Tensor]:
    """Of different lengths, means and spreads."""
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(size, 3, generator=draws) * spread + shift
            for size, spread, shift in ((1, 1, 0), (7, 10, 5), (64, 0.1, -3), (2, 1, 1e4))]


def test_moments_are_those_of_all_batches_together():
    moments, everything = Moments(3), torch.cat(batches()).double()
    for batch in batches():
        moments.update(batch)
    torch.testing.assert_close(moments.mean, everything.mean(0), rtol=1e-14, atol=1e-12)
    torch.testing.assert_close(moments.var, everything.var(0, unbiased=False), rtol=1e-12, atol=1e-12)
    assert moments.count == len(everything)


def test_rows_that_take_no_part_are_not_counted():
    moments, some = Moments(3), Moments(3)
    for batch in batches():
        taken = torch.arange(len(batch)) % 3 == 1
        moments.update(torch.where(taken[:, None], batch, 1e9), taken)
        if taken.any():
            some.update(batch[taken])
    torch.testing.assert_close(moments.mean, some.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moments.var, some.var, rtol=1e-12, atol=1e-12)
    assert moments.count == some.count


def test_equal_to_the_reference():
    """Its moments are float32, and the first observations are divided by a std of 1e-4: so are these."""
    case = np.load(CASE)
    rewards, obs = RewardNormalizer(4, 0.99), ObsNormalizer(case["obs"].shape[-1], dtype=torch.float32)

    def same(ours, name, step):
        np.testing.assert_allclose(ours, case[f"fixed/{name}"][step], rtol=1e-5, atol=2e-5)
    same(obs.normalize(torch.as_tensor(case["obs"][0])), "normalized_obs", 0)
    for t, (paid, done) in enumerate(zip(case["rewards"], case["dones"], strict=True)):
        same(rewards.normalize(torch.as_tensor(paid), torch.as_tensor(done)), "normalized_rewards", t)
        same(obs.normalize(torch.as_tensor(case["obs"][t + 1])), "normalized_obs", t + 1)
        same(rewards.returns, "returns", t + 1)
        for kind, moments in (("obs", obs.moments), ("ret", rewards.moments)):
            for name in ("mean", "var", "count"):
                same(getattr(moments, name), f"{kind}_{name}", t + 1)
    assert np.abs(case["fixed/normalized_rewards"]).max() == 10


def test_a_reward_is_divided_by_the_std_of_returns():
    scale, total, seen = RewardNormalizer(2, 0.5), np.zeros(2), []
    for step, paid in enumerate(np.random.default_rng(0).normal(3, 2, (20, 2))):
        total = 0.5 * total + paid
        seen.append(total)
        over = torch.tensor([step % 4 == 3, step == 9])
        ours = scale.normalize(torch.as_tensor(paid), over)
        np.testing.assert_allclose(ours, np.clip(paid / np.sqrt(np.var(seen) + 1e-8), -10, 10), rtol=1e-9)
        total = np.where(over, 0, total)


def test_rows_that_are_not_active_change_nothing():
    one, other = RewardNormalizer(1, 0.9), RewardNormalizer(2, 0.9)
    off = torch.tensor([True, False])
    for step in range(9):
        paid = torch.tensor([float(step), 1e6])
        over = torch.tensor([step == 5, False])
        assert torch.equal(one.normalize(paid[:1], over[:1]), other.normalize(paid, over, off)[:1])
    assert one.moments.count == other.moments.count == 9


@pytest.mark.parametrize("make", [lambda: RewardNormalizer(5, 0.9), lambda: ObsNormalizer(3)])
def test_a_saved_normaliser_resumes_to_the_bit(make):
    def use(one, steps):
        draws = torch.Generator().manual_seed(steps)
        return [one.normalize(torch.randn(5, 3, generator=draws)) if isinstance(one, ObsNormalizer) else
                one.normalize(torch.randn(5, generator=draws), torch.rand(5, generator=draws) < 0.2)
                for _ in range(steps)]
    first, second = make(), make()
    use(first, 7)
    second.restore(first.state())
    assert all(torch.equal(a, b) for a, b in zip(use(first, 9), use(second, 9), strict=True))


def test_observations_can_be_normalised_without_counting_them():
    scale = ObsNormalizer(3)
    before = scale.normalize(batches()[1])
    assert torch.equal(scale.normalize(batches()[1], count=False), before)
    assert scale.moments.count == 7
