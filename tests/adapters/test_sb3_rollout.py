"""Rollouts of Stable-Baselines3 that a decomposition pays: before GAE, whole episodes, and the time limit's value."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from counting import Counting
from gymnasium.spaces import Box, Discrete
from rollouts import ACTS, OBS, fill, make
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import return_decomposition as rd
from utils.errors import ConfigError

RRD = dict(decomposition="rrd", rrd_batch_size=8, rrd_sample_size=4, buffer_size=500, test_timesteps=100)
RUDDER = dict(decomposition="rudder", cell_size=4, fit_updates=3, buffer_size=500, test_timesteps=100)
KINDS = {"rrd": RRD, "rudder": RUDDER, "uniform": dict(decomposition="uniform"), "ircr": dict(decomposition="ircr"),
         "rd": dict(decomposition="rd", outcome_credit="residual")}


def rollout_buffer(steps: int, rows: int, space=None, **settings):
    given = {name: value for name, value in settings.items() if name not in ("buffer_size", "test_timesteps")}
    space = space or Box(-np.inf, np.inf, (OBS,))
    return rd.sb3.DecomposedRolloutBuffer(steps, space, Box(-1, 1, (ACTS,)), "cpu", 0.9, 0.95, rows, **given)


def copy_of(theirs, agent, ours) -> None:
    """Add the steps of a rollout of this package to a buffer of Stable-Baselines3, with random values."""
    ours.reset()
    acts = agent.for_env(theirs["acts"])
    starts = np.ones(theirs.rows)
    for t in range(theirs.length):
        step = {name: theirs[name][t].numpy().copy() for name in ("obs", "rews", "terminated", "truncated", "obs_next")}
        over = step["terminated"] | step["truncated"]
        infos = [{"TimeLimit.truncated": bool(limit)} for limit in step["truncated"]]
        ours.observe(step["obs"], acts[t].numpy(), step["obs_next"], step["rews"], step["rews"], over, infos)
        # What Stable-Baselines3 adds at a time limit.
        ours.add(step["obs"], acts[t].numpy(), step["rews"] + 3.0 * step["truncated"], starts,
                 torch.arange(theirs.rows) + 1.0 * t, torch.zeros(theirs.rows))
        starts = over
    ours.dones = over


def other(name: str, rows: int, **settings):
    """The agent and rollout of this package, the buffer of the library, both with the same model."""
    given = KINDS[name] | settings
    agent, theirs = make(name, basis_alg="ppo", num_envs=rows,
                         **{key: value for key, value in given.items() if key != "decomposition"})
    ours = rollout_buffer(8, rows, rollout_steps=8, num_envs=rows, **given)         # the draws depend on both
    ours.decomposition.load_state_dict(agent.decomposition.state_dict())
    return agent, theirs, ours


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.parametrize("rows", [1, 4])
def test_rollouts_are_paid_bit_by_bit_as_by_an_agent_of_this_package(name, rows):
    agent, theirs, ours = other(name, rows)
    counted, obs = 0, None
    for seed in range(4):                               # episodes span rollouts
        copy_of(fill(agent, theirs, rows=rows, seed=seed, ends=0.1, obs=obs), agent, ours)
        obs = theirs.last_obs
        if rows == 1:                                   # with several the replays hold the episodes in another order
            list(agent.fit(theirs, 3))
            ours.learner.update(3)
        expected, mask = agent.payments(theirs)
        paid, counts = ours.payments()
        assert np.array_equal(counts, np.ones_like(counts) if mask is None else mask.numpy())
        assert np.allclose(paid[counts], expected.numpy()[counts], rtol=1e-6, atol=1e-7)
        counted += counts.sum()
    assert counted > 4


def test_rewards_are_replaced_and_the_value_at_a_time_limit_stays():
    agent, theirs, ours = other("rrd", 4)
    copy_of(fill(agent, theirs, ends=0.3), agent, ours)
    before, limits = ours.rewards.copy(), theirs["truncated"].numpy()
    paid, _ = ours.payments()
    ours.fit_updates = 0
    ours.compute_returns_and_advantage(torch.zeros(4), ours.dones)
    assert limits.any()
    assert np.allclose(ours.rewards, paid + 3.0 * limits, atol=1e-5)
    assert not np.allclose(ours.rewards, before)


def test_advantages_are_of_what_was_paid():
    agent, theirs, ours = other("rrd", 1)
    copy_of(fill(agent, theirs, rows=1, ends=0.3, seed=3), agent, ours)
    ours.fit_updates = 0
    last = torch.tensor([2.0])
    ours.compute_returns_and_advantage(last, ours.dones)
    over = (theirs["terminated"] | theirs["truncated"])[:, 0].numpy()
    values, advantage = [*ours.values[:, 0], 2.0], 0.0
    for t in reversed(range(8)):                        # A_t = delta_t + gamma lambda A_{t+1}, none beyond an end
        going = 1.0 - over[t]
        delta = ours.rewards[t, 0] + 0.95 * going * values[t + 1] - values[t]
        advantage = delta + 0.95 * 0.9 * going * advantage
        assert ours.advantages[t, 0] == pytest.approx(advantage, abs=1e-5)
    assert over.any()


def test_steps_of_an_open_episode_teach_nothing_where_whole_episodes_are_paid():
    agent, theirs, ours = other("uniform", 4)
    copy_of(fill(agent, theirs, ends=0.1, seed=1), agent, ours)
    _, counts = ours.payments()
    ours.compute_returns_and_advantage(torch.ones(4), ours.dones)
    assert 0 < counts.sum() < counts.size
    assert (ours.advantages[~counts] == 0).all()
    assert np.array_equal(ours.returns[~counts], ours.values[~counts])
    assert (ours.advantages[counts] != 0).all()


# In the library -----------------------------------------------------------------------------------------------------

def learn(kind=PPO, env=Counting, steps: int = 40, callback=None, wrap=lambda env: env, **settings):
    """Let an agent learn in two copies of an environment; return it."""
    given = dict(rrd_batch_size=8, rrd_sample_size=4) | settings
    sizes = dict(n_epochs=2, batch_size=10) if kind is PPO else {}
    policy = "MultiInputPolicy" if isinstance(env().observation_space, gym.spaces.Dict) else "MlpPolicy"
    model = kind(policy, wrap(DummyVecEnv([env, env])), n_steps=10, seed=0, device="cpu", gamma=0.5, **sizes,
                 policy_kwargs=dict(net_arch=[8]), rollout_buffer_class=rd.sb3.DecomposedRolloutBuffer,
                 rollout_buffer_kwargs=dict(decomposition="rrd") | given)
    return model.learn(steps, callback=callback or rd.sb3.DecompositionCallback())


@pytest.mark.parametrize(("kind", "env"), [(PPO, Counting), (A2C, lambda: Counting(parts=True)),
                                           (PPO, lambda: Counting(discrete=True))])
def test_what_the_model_reads_are_the_steps_of_the_environment(kind, env):
    model = learn(kind, env, steps=60)
    buffer, discrete = model.rollout_buffer, isinstance(env().action_space, Discrete)
    assert buffer.learner.updates == (4 if kind is PPO else 1) * 3
    replay = buffer.learner.replay
    assert replay.episodes > 10
    for number in range(replay.episodes):
        rows, total = replay.held_episode(number)
        held = replay.storage.read_episode(rows)
        obs, obs_next = held["obs"][:, -2:], held["obs_next"][:, -2:]
        assert len(rows) == total == 3 + int(obs[0, 0]) % 3
        assert obs[:, 1].tolist() == list(range(len(rows)))
        assert torch.equal(obs_next, obs + torch.tensor([0.0, 1.0]))        # the last one, too
        assert held["done"][-1] == float(obs[0, 0] % 2 == 0)                # a time limit is no end of the task
        assert discrete or held["acts"].abs().max() <= 1


def test_normalised_observations_and_rewards_are_undone_for_the_model():
    model = learn(wrap=lambda env: VecNormalize(env, clip_obs=1e6))
    buffer = model.rollout_buffer
    seen = np.stack([rewards for _, _, rewards, _ in buffer.steps])
    replay = buffer.learner.replay
    for number in range(replay.episodes):
        rows, total = replay.held_episode(number)
        obs = replay.storage.read_episode(rows)["obs_next"]
        assert total == len(rows)
        assert np.allclose(obs[:, 1], np.arange(1, len(rows) + 1), atol=1e-3)
    assert not np.isin(seen[seen != 0], [3, 4, 5]).any()                    # those that the policy saw
    paid, _ = buffer.payments()
    bootstraps = buffer.rewards.reshape(paid.shape) - paid
    assert (np.abs(bootstraps) < 1e-4).mean() > 0.5     # the payments are not normalised


def test_an_episode_that_another_call_of_learn_cuts_off_is_dropped():
    model = learn(steps=10)
    model.learn(20, callback=rd.sb3.DecompositionCallback())
    replay = model.rollout_buffer.learner.replay
    for number in range(replay.episodes):
        rows, total = replay.held_episode(number)
        assert len(rows) == total
    assert model.rollout_buffer.open.dropped > 0


def test_the_callback_is_needed_and_logs(tmp_path):
    with pytest.raises(ConfigError, match=r"callback: got 0 steps of 10 observed, expected all; call model.learn"):
        learn(callback=lambda *_: True)
    model = PPO("MlpPolicy", Counting(), n_steps=16, batch_size=8, device="cpu",
                rollout_buffer_class=rd.sb3.DecomposedRolloutBuffer,
                rollout_buffer_kwargs=dict(decomposition="rrd", rrd_batch_size=8, rrd_sample_size=4, fit_updates=2))
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(64, callback=rd.sb3.DecompositionCallback())
    model.logger.close()
    header = (tmp_path / "progress.csv").read_text().splitlines()[0].split(",")
    assert {"decomposition/r2", "decomposition/pearson_across", "decomposition/R_loss"} <= set(header)
    model.save(tmp_path / "model")
    steps = [torch.ones(4, size) for size in (2, 1, 2)]
    loaded = PPO.load(tmp_path / "model", device="cpu")
    assert torch.equal(loaded.rollout_buffer.decomposition.rewards(*steps),
                       model.rollout_buffer.decomposition.rewards(*steps))
    assert model.rollout_buffer.learner.updates == 8
