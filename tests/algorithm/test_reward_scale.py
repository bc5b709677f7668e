"""Rewards divided by the running std of their discounted sum: against sums that are written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rollouts import fill, make

from algorithm.reward_scale import RewardScale

GAMMA = 0.9


def draw(steps: int, rows: int):
    generator = torch.Generator().manual_seed(0)
    rews = 3 * torch.randn(steps, rows, generator=generator)
    over, mask = (torch.rand(steps, rows, generator=generator) < share for share in (0.2, 0.7))
    return rews, over, mask


def written_out(rews, over, mask) -> np.ndarray:
    """r / sqrt(var), where var is that of R of all steps so far that count, those of the same time step included."""
    sums, seen, found = np.zeros(rews.shape[1]), [], np.zeros(rews.shape)
    for t in range(len(rews)):
        sums = GAMMA * sums + rews[t].numpy()
        seen.extend(sums[mask[t].numpy()])
        found[t] = np.clip(rews[t].numpy() / np.sqrt(np.var(seen) + 1e-8), -10, 10)
        sums[(over[t] | ~mask[t]).numpy()] = 0
    return found


@pytest.mark.parametrize("masked", [False, True])
def test_rewards_are_divided_by_the_deviation_of_their_discounted_sums(masked):
    rews, over, mask = draw(20, 3)
    given = mask if masked else torch.ones_like(mask)
    scaled, running = RewardScale(GAMMA)(rews, over, torch.zeros(3, dtype=torch.float64), mask if masked else None)
    np.testing.assert_allclose(scaled[given], written_out(rews, over, given)[given.numpy()], rtol=1e-5)
    assert running.tolist() == torch.where(over[-1] | ~given[-1], 0.0, running).tolist()


def test_two_rollouts_are_one():
    """The sums of the open episodes and the moments are carried over."""
    rews, over, _ = draw(20, 3)
    whole, parts = RewardScale(GAMMA), RewardScale(GAMMA)
    expected, _ = whole(rews, over, torch.zeros(3, dtype=torch.float64))
    first, running = parts(rews[:7], over[:7], torch.zeros(3, dtype=torch.float64))
    second, _ = parts(rews[7:], over[7:], running)
    assert torch.equal(torch.cat([first, second]), expected)
    assert all(torch.equal(value, parts.state_dict()[name]) for name, value in whole.state_dict().items())


def test_an_agent_learns_from_scaled_rewards_and_saves_their_moments():
    (plain, one), (scaling, other) = make(), make(normalize_rewards=True)
    for agent, buffer in ((plain, one), (scaling, other)):
        fill(agent, buffer)
        buffer.fields["rews"] = 100 * buffer["rews"]
        agent.finish_rollout(buffer, buffer.last_obs)
    assert other["advantages"].std() < one["advantages"].std() / 20
    saved = {name: value for name, value in scaling.state_dict().items() if "reward_scale" in name}
    assert {name.rpartition(".")[2] for name in saved} == {"mean", "var", "count"}
    assert all(value.dtype == torch.float64 for value in saved.values())
    assert float(next(value for name, value in saved.items() if name.endswith("count"))) == 32


def test_steps_that_are_not_paid_do_not_count():
    """Uniform knows the reward of whole episodes alone."""
    agent, buffer = make("uniform", basis_alg="ppo", normalize_rewards=True, buffer_size=300)
    fill(agent, buffer)
    agent.finish_rollout(buffer, buffer.last_obs)
    assert 0 < float(agent.nets["reward_scale"].count) == buffer["mask"].sum() < 32
