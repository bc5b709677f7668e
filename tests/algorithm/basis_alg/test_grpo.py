"""GRPO: returns, groups and loss worked out by hand, new episodes with each rollout, the reference policy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rollouts import fill, finish, make
from runs import SMALL_ROLLOUTS, refusal, run

from algorithm.basis_alg.grpo_torch import first_episode, group_advantages, step_returns
from envs.point_mass import PointMassRL


def test_returns_are_cut_where_an_episode_ends():
    rews = torch.tensor([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
    over = torch.tensor([[False, False], [True, False], [False, False]])
    assert step_returns(rews, over, 0.5).tolist() == [[2.0, 3.0], [2.0, 4.0], [4.0, 4.0]]


def test_only_an_environments_first_episode_counts_and_its_end_belongs_to_it():
    over = torch.tensor([[False, True], [True, False], [False, True], [True, False]])
    assert first_episode(over).T.tolist() == [[True, True, False, False], [True, False, False, False]]


def test_advantages_are_within_a_group_at_the_same_step_over_what_counts():
    returns = torch.tensor([[1.0, 3.0, 10.0, 30.0], [1.0, 5.0, 7.0, 7.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0]])
    assert torch.allclose(group_advantages(returns, mask, 2),
                          torch.tensor([[-1.0, 1.0, -1.0, 1.0], [-1.0, 1.0, 0.0, 0.0]]))
    first, all_four = group_advantages(returns, mask, 4), returns[0].numpy()
    np.testing.assert_allclose(first[0], (all_four - all_four.mean()) / all_four.std(), rtol=1e-6)
    three = np.array([1.0, 5.0, 7.0])
    np.testing.assert_allclose(first[1], [*(three - three.mean()) / three.std(), 0], rtol=1e-6)


def test_the_loss_is_the_papers_over_the_steps_that_count():
    agent, buffer = make("grpo", batch_size=32, ent_coef=0.1, kl_coef=0.7, clip_coef=0.05)
    finish(agent, fill(agent, buffer))
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    batch = agent.checked(buffer.first_batch(), agent.spec())
    assert 0 < batch["mask"].sum() < 32
    loss, info = agent.losses(batch)
    log_prob, entropy, value = agent.policy.evaluate_actions(batch["obs"], batch["acts"])
    before = agent.nets["reference"].evaluate_actions(batch["obs"], batch["acts"])[0]
    terms = []
    for new, old, first, h, advantage, counts in zip(*(x.tolist() for x in (
            log_prob, batch["log_prob"], before, entropy, batch["advantages"], batch["mask"])), strict=True):
        ratio, d = np.exp(new - old), first - new
        surrogate = min(ratio * advantage, np.clip(ratio, 0.95, 1.05) * advantage)
        terms += [-surrogate + 0.7 * (np.exp(d) - d - 1) - 0.1 * h] if counts else []
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-4)
    assert info["Reference_KL"].item() > 0
    assert not value.any()


def test_the_reference_is_the_first_policy_and_is_saved():
    agent, buffer = make("grpo", batch_size=16, kl_coef=0.5)
    first = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    finish(agent, fill(agent, buffer))
    agent.update(buffer.sample)
    assert any(not torch.equal(value, first[name]) for name, value in agent.policy.state_dict().items())
    assert all(torch.equal(value, first[name]) for name, value in agent.nets["reference"].state_dict().items())
    assert any("reference" in name for name in agent.state_dict())
    assert not any("critic" in name for name in agent.state_dict())
    assert "reference" not in make("grpo")[0].nets


def test_each_rollout_begins_with_new_episodes(monkeypatch):
    starts = []
    reset = PointMassRL._reset
    monkeypatch.setattr(PointMassRL, "_reset", lambda env, rows: starts.append(rows.clone()) or reset(env, rows))
    done = run(*SMALL_ROLLOUTS, "--alg=grpo", "--env=PointMassRL", "--num_envs=4", "--rollout_steps=7",
               "--test_rollouts=0", "--total_timesteps=56", "--batch_size=14")
    assert [rows.tolist() for rows in starts if len(rows) == 4] == [[True] * 4] * 3     # the run's, two rollouts'
    assert "train/length" not in {name for name, value in done.rows[-1].items() if value}   # of ten steps, none ended


def test_what_it_cannot_do_is_one_line(capsys):
    flags = ["--alg=grpo", "--env=PointMassRL"]
    assert refusal([*flags, "--num_envs=6"], capsys) == (
        "num_envs: got 6, expected a multiple of group_size (4), such as --num_envs=64")
    assert refusal([*flags, "--num_envs=4", "--vf_coef=1"], capsys).startswith("vf_coef: not a setting of grpo")
    assert refusal(["--alg=uniform", "--basis_alg=grpo", "--env=PointMassRL", "--num_envs=4"], capsys).startswith(
        "basis_alg: 'grpo' computes its advantages itself")
