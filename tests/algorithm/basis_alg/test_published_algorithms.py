"""Algorithms that are written for the published trainer: REINFORCE as its tutorial describes one."""

from __future__ import annotations

import pytest
import torch
from runs import SMALL_ROLLOUTS, run

import train
from algorithm import BaseAlgorithm, build_algo, build_policy, get_registered_algo_names, register_algo
from algorithm.basis_alg.on_policy_torch import OnPolicy
from algorithm.basis_alg.ppo_torch import PPO
from envs import build_env
from utils.errors import ConfigError
from utils.settings.algorithms import ALGORITHMS

seen: list = []                                     # what the algorithm below was given


class Reinforce(BaseAlgorithm):
    train_info = ("loss", "reward")

    def __init__(self, cfg, policy):
        self.cfg, self.policy, self.device = cfg, policy, torch.device(cfg.device)
        self.optimizer = torch.optim.Adam(policy.parameters(), lr=cfg.learning_rate)
        self.sizes = None

    def initialize_buffer(self, num_steps, num_envs, obs_dim, action_dim):
        assert self.sizes is None                   # once
        self.sizes = (num_steps, num_envs, obs_dim, action_dim)

    def collect_rollout(self, env, policy, obs, num_steps, on_step_callback=None):
        self.rollout = []
        for _ in range(num_steps):
            action, *_ = policy.get_action(obs)
            next_obs, reward, terminated, truncated, info = env.step(action)
            done = terminated | truncated
            self.rollout.append((obs, action, reward, done))
            seen.append((self.sizes, next_obs, done, info["final_obs"]))
            on_step_callback(obs, action, reward, done, info, next_obs)
            obs = next_obs
        return {}

    def update(self):
        obs, acts, rews, _ = map(torch.stack, zip(*self.rollout, strict=True))
        log_prob, *_ = self.policy.evaluate_actions(obs, acts)
        loss = -(log_prob * (rews - rews.mean())).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item(), "reward": rews.mean().item(), "unnamed": 1.0}


@pytest.fixture(autouse=True)
def registered():
    register_algo("reinforce", learning_rate=1e-3)(Reinforce)
    seen.clear()
    yield
    for name in ("reinforce", "another"):
        ALGORITHMS.pop(name, None)


FLAGS = [*SMALL_ROLLOUTS, "--alg=reinforce", "--env=PointMassRL", "--num_envs=3"]


def test_it_is_trained_and_its_metrics_are_columns():
    done = run(*FLAGS, "--env_type=normal")
    assert len(done.rows) == 1
    assert {"loss", "reward", "train/return", "metrics/success"} <= set(done.rows[0])
    assert float(done.rows[0]["reward"]) < 0
    assert (done.config["learning_rate"], int(done.rows[0]["Timesteps"])) == (1e-3, 120)


def test_its_environment_resets_itself_and_shows_the_last_observation():
    """SMALL_ROLLOUTS ends each episode after ten steps."""
    run(*FLAGS)
    assert {sizes for sizes, *_ in seen} == {(20, 3, 14, 2)}
    assert [bool(done.all()) for _, _, done, _ in seen[:10]] == [False] * 9 + [True]
    _, began, _, final = seen[9]
    assert not torch.equal(began, final)
    assert began[:, 2:4].abs().sum() == 0                                   # a new episode is at rest
    assert final[:, 2:4].abs().sum() > 0
    assert torch.equal(seen[8][1], seen[8][3])


def test_it_learns():
    """Towards the goal: the policy's parameters are those that the run evaluates and saves."""
    register_algo("another", learning_rate=0.0)
    first = run(*FLAGS)
    again = run(*FLAGS, "--learning_rate=1e-2")
    assert first.rows[0]["Rewards"] != again.rows[0]["Rewards"]


class Short(Reinforce):
    def collect_rollout(self, env, policy, obs, num_steps, on_step_callback=None):
        return super().collect_rollout(env, policy, obs, num_steps - 1, on_step_callback)


class Silent(Reinforce):
    def update(self):
        return None


@pytest.mark.parametrize(("build", "message"), [
    (Short, "collect_rollout: Short took 19 steps, expected num_steps, 20"),
    (Silent, "update: Silent returned a NoneType, expected a dict of numbers")])
def test_what_is_wrong_is_one_line(build, message, capsys):
    register_algo("reinforce")(build)
    assert train.main(FLAGS) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"train.py: {message}"


def test_a_decomposition_cannot_pay_it(capsys):
    assert train.main([*SMALL_ROLLOUTS, "--alg=uniform", "--basis_alg=reinforce", "--env=PointMassRL"]) == 2
    assert "basis_alg: 'reinforce' computes its advantages itself" in capsys.readouterr().err


def test_a_subclass_of_ppo_is_an_algorithm_too():
    @register_algo("another", clip_coef=0.1)
    class Another(PPO):
        """PPO under another name."""
    done = run(*SMALL_ROLLOUTS, "--alg=another", "--env=PointMassRL")
    assert done.config["clip_coef"] == 0.1
    assert issubclass(Another, OnPolicy)


@pytest.mark.parametrize(("alg", "more"), [("ppo", {"batch_size": 20, "n_epochs": 3}), ("a2c", {}),
                                           ("grpo", {"batch_size": 20})], ids=["ppo", "a2c", "grpo"])
def test_a_built_in_algorithm_runs_in_the_trainers_loop(alg, more):
    """As the trainer does: reset once; then rollout and update; the numbers change, and each step is reported."""
    env = build_env("PointMassRL", {"num_envs": 4, "max_episode_steps": 7})
    block = {"name": "actor_only" if alg == "grpo" else "actor_critic"}
    policy = build_policy(block, env.observation_space, env.action_space, "cpu")
    algorithm = build_algo(alg, {"learning_rate": 1e-2} | more, policy, torch.device("cpu"))
    with pytest.raises(RuntimeError, match=r"^Buffer not initialized"):
        algorithm.collect_rollout(env, policy, None, 1)
    algorithm.initialize_buffer(10, 4, 14, 2)
    (obs, _), first, steps = env.reset(), policy.log_std.clone(), []
    for _ in range(2):
        assert algorithm.collect_rollout(env, policy, obs, 10, lambda *step: steps.append(step)) == {}
        found = algorithm.update()
        obs = steps[-1][-1]
    assert len(steps) == 20
    assert ({"actor_loss", "entropy"} <= set(found), "value_loss" in found) == (True, alg != "grpo")
    assert all(isinstance(value, float) for value in found.values())
    assert not torch.equal(policy.log_std, first)
    assert isinstance(algorithm, BaseAlgorithm)
    assert algorithm.agent.updates == (2 if alg == "a2c" else 2 * 2 * algorithm.agent.config.n_epochs)


def test_advantages_in_the_trainers_loop_bootstrap_at_a_time_limit():
    """In rows whose episode is cut, by the value of what it ended with; equal to train.py's collector."""
    env = build_env("PointMassRL", {"num_envs": 4, "max_episode_steps": 7})
    policy = build_policy({}, env.observation_space, env.action_space, "cpu")
    algorithm = build_algo("ppo", {"gamma": 0.5, "gae_lambda": 0.0, "batch_size": 8}, policy)
    algorithm.initialize_buffer(10, 4, 14, 2)
    algorithm.collect_rollout(env, policy, env.reset()[0], 10)
    buffer = algorithm.buffer
    (cut,) = buffer["truncated"].any(1).nonzero()
    assert cut.tolist() == [6]
    expected = buffer["rews"][6] + 0.5 * policy.get_value(buffer["obs_next"][6])
    assert torch.allclose(buffer["returns"][6], expected)
    assert not torch.equal(buffer["obs_next"][6], buffer["obs"][7])


def test_names():
    assert {"ppo", "a2c", "reinforce"} <= set(get_registered_algo_names())
    assert "sac" not in get_registered_algo_names()
    with pytest.raises(ConfigError, match="algorithm: got 'reinforc'; did you mean reinforce"):
        build_algo("reinforc", None, torch.nn.Linear(1, 1))
