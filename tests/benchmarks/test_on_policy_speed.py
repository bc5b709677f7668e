"""Arena's games as Stable-Baselines3 steps them in the benchmark."""

from __future__ import annotations

import pytest
import torch
from gymnasium.spaces import Box, Discrete

import return_decomposition as rd

pytest.importorskip("stable_baselines3")
from benchmarks.on_policy import speed
from benchmarks.on_policy.games import Games, games


class Counting:
    """Three rows that count their steps: the first one terminates at step 2, the second one is truncated at 3."""

    num_envs, observation_space, action_space = 3, Box(-1.0, 9.0, (1,)), Discrete(2)

    def reset(self, rows: torch.Tensor | None = None) -> torch.Tensor:
        rows = torch.ones(3, dtype=torch.bool) if rows is None else rows
        self.count = torch.where(rows, torch.zeros(3), getattr(self, "count", torch.zeros(3)))
        return self.count[:, None]

    def step(self, acts: torch.Tensor) -> tuple:
        self.count = self.count + 1
        terminated, truncated = self.count == torch.tensor([2, 9, 9]), self.count == torch.tensor([9, 3, 9])
        return self.count[:, None], acts.float(), terminated, truncated, {}


def test_games_that_are_over_are_reset_and_keep_their_last_observation():
    env = Games(Counting())
    assert env.reset().tolist() == [[0], [0], [0]]
    env.step([1, 0, 1])
    obs, rews, over, infos = env.step([1, 0, 1])
    assert (obs[:, 0].tolist(), rews.tolist(), over.tolist()) == ([0, 2, 2], [1, 0, 1], [True, False, False])
    assert infos[0]["terminal_observation"].tolist() == [2]
    assert not infos[0]["TimeLimit.truncated"]
    assert infos[1] == infos[2] == {}
    obs, _, over, infos = env.step([0, 0, 0])
    assert (obs[:, 0].tolist(), over.tolist()) == ([1, 0, 3], [False, True, False])
    assert infos[1]["terminal_observation"].tolist() == [3]
    assert infos[1]["TimeLimit.truncated"]


def test_stable_baselines3_learns_on_the_games():
    from stable_baselines3 import PPO
    env = games(2, style=2)
    PPO("MlpPolicy", env, n_steps=8, batch_size=8, n_epochs=1, device="cpu",
        policy_kwargs=speed.network(speed.ARENA)).learn(16)
    assert env.reset().shape == (2, *env.observation_space.shape)


def test_our_network_has_the_published_size():
    env = games(1, style=2)
    settings = {name: value for name, value in speed.OURS[speed.ARENA].items() if name != "env_kwargs"}
    agent = rd.create_agent(alg="ppo", device="cpu", observation_space=env.observation_space,
                            action_space=env.action_space, **settings)
    assert sum(parameter.numel() for parameter in agent.policy.parameters()) == 58_311
