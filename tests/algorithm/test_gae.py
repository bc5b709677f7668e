"""Advantages: against sums that are written out, at borders of episodes, at time limits and at a rollout's end."""

from __future__ import annotations

import pytest
import torch

from algorithm.gae import gae

GAMMA, LAMBDA = 0.9, 0.7


def draw(steps: int, rows: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)
    terminated, truncated = (torch.rand(steps, rows, generator=generator) < 0.2 for _ in "ab")
    return (normal(steps, rows), normal(steps, rows), normal(rows), terminated, truncated, normal(steps, rows))


def written_out(rewards, values, last, terminated, truncated, final, row):
    """sum_k (gamma lambda)^k delta_{t+k} until the episode ends, one step after the other."""
    def delta(t):
        if terminated[t, row]:
            after = 0.0
        elif truncated[t, row]:
            after = final[t, row]
        else:
            after = values[t + 1, row] if t + 1 < len(values) else last[row]
        return rewards[t, row] + GAMMA * after - values[t, row]
    found = []
    for t in range(len(values)):
        total, k = 0.0, 0
        while t + k < len(values):
            total += (GAMMA * LAMBDA) ** k * delta(t + k)
            if terminated[t + k, row] or truncated[t + k, row]:
                break
            k += 1
        found.append(float(total))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
def test_advantages_are_discounted_sums_of_errors(seed):
    given = draw(11, 5, seed)
    advantages, returns = gae(*given, GAMMA, LAMBDA)
    expected = torch.stack([written_out(*given, row) for row in range(5)], 1)
    torch.testing.assert_close(advantages, expected)
    torch.testing.assert_close(returns, expected + given[1])


def test_lambda_one_without_an_end_is_the_bootstrapped_return():
    rewards, values, last, *_ = draw(6, 2)
    never = torch.zeros(6, 2, dtype=torch.bool)
    _, returns = gae(rewards, values, last, never, never, torch.full_like(values, torch.nan), GAMMA, 1.0)
    powers = GAMMA ** torch.arange(6, dtype=torch.float64)[:, None]
    torch.testing.assert_close(returns[0], (powers * rewards).sum(0) + GAMMA ** 6 * last)


def test_what_stands_beyond_an_episodes_border_is_never_read():
    rewards, values, last, terminated, truncated, final = draw(7, 1)
    terminated[:], truncated[:] = False, False
    terminated[2], truncated[4] = True, True
    final[:] = torch.where(truncated, final, torch.nan)         # read only at the time limit
    before = gae(rewards, values, last, terminated, truncated, final, GAMMA, LAMBDA)[0]
    rewards[3:], values[3:5] = 100.0, 100.0                     # another episode
    after = gae(rewards, values, last, terminated, truncated, final, GAMMA, LAMBDA)[0]
    assert torch.equal(before[:3], after[:3])
    assert not torch.isnan(before).any()


def test_a_step_that_terminates_and_is_truncated_has_no_future():
    rewards, values, last, terminated, truncated, final = draw(3, 1)
    terminated[:], truncated[:] = True, True
    advantages, _ = gae(rewards, values, last, terminated, truncated, final, GAMMA, LAMBDA)
    torch.testing.assert_close(advantages, rewards - values)
