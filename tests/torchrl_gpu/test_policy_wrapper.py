"""The agents of MarineNav as policies of TorchRL."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from boats_torchrl import ALGS, agent_of, env_of

from torchrl_gpu import policy_wrapper
from torchrl_gpu.policy_wrapper import PolicyWrapper, flat


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("alg", ALGS)
def test_actions_are_those_of_the_agent(alg, explore):
    """With the same draws, for all robots of all worlds at once; also where all rows or none are random."""
    env = env_of(alg, count=3)
    policy, twin = PolicyWrapper(agent_of(alg), epsilon=None), agent_of(alg)
    policy.set_training_mode(explore)
    td = env.reset()
    for _ in range(20):                                 # epsilon falls from its start to its end
        acts = twin.step(flat(td).flatten(0, 1).numpy(), explore=explore)
        td = policy(td)
        assert torch.equal(td["action"].flatten(0, 1), torch.from_numpy(acts).view(6, -1))
        _, td = env.step_and_maybe_reset(td)
    assert policy.agent.counters == twin.counters
    assert torch.equal(policy.agent.generator.get_state(), twin.generator.get_state())
    assert twin.counters["steps"] == 60 * explore      # the two robots of a world act in the same step


@pytest.mark.parametrize("alg", ["ac_iqn", "marinenav_dqn"])
def test_epsilon_is_the_share_of_random_actions_while_training_alone(alg):
    agent = agent_of(alg)
    env, policy = env_of(alg, count=200), PolicyWrapper(agent, epsilon=0.25)
    td = env.reset()
    greedy = policy.eval()(td.clone())["action"]
    policy.set_training_mode(True)
    changed = (policy(td.clone())["action"] != greedy).any(-1).float().mean()
    assert float(changed) == pytest.approx(0.25, abs=0.07)
    policy.set_epsilon(0.0)
    assert torch.equal(policy(td.clone())["action"], greedy)
    policy.set_epsilon(1.0)
    assert (policy(td.clone())["action"] != greedy).any(-1).float().mean() > 0.9
    assert agent.counters["steps"] == 3 * 200
    policy.set_training_mode(False)
    assert torch.equal(policy(td.clone())["action"], greedy)


def test_a_policy_has_the_published_parts_and_no_numpy():
    policy = PolicyWrapper(agent_of("ac_iqn"))
    assert {name for name, _ in policy.named_buffers()} == {"action_low", "action_high", "is_continuous"}
    assert policy.action_low.tolist() == [-1, -1]
    assert bool(policy.is_continuous) is True
    assert bool(PolicyWrapper(agent_of("iqn")).is_continuous) is False
    assert "numpy" not in Path(policy_wrapper.__file__).read_text()
    td = env_of(count=2).reset()
    policy(td)
    assert td["action"].shape == (2, 2, 2)
    td = env_of("iqn", count=2).reset()
    PolicyWrapper(agent_of("iqn"))(td)
    assert (td["action"].shape, td["action"].dtype) == ((2, 2, 1), torch.int64)


def test_time_may_be_a_dimension_of_the_batch():
    td = torch.stack([env_of(count=2, seed=seed).reset() for seed in range(3)], 1)
    policy = PolicyWrapper(agent_of("marinenav_ddpg")).eval()
    both = policy(td)["action"]
    assert both.shape == (2, 3, 2, 2)
    assert torch.allclose(both[:, 1], policy(td[:, 1].clone())["action"], atol=1e-6)


