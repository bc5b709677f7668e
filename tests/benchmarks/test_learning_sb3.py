"""Stable-Baselines3's PPO as the benchmark trains it: the suite's settings, and a file that plot.py reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.on_policy import learning_sb3
from results.reading import read_curves

pytest.importorskip("stable_baselines3")


def small():
    return dataclasses.replace(learning_sb3.settings(None), env="Pendulum-v1", num_envs=2, rollout_steps=8,
                               batch_size=8, n_epochs=1, timesteps=16, iterations=1, total_timesteps=32,
                               test_rollouts=1)


def test_its_networks_and_settings_are_ours():
    from algorithm.policy import create_policy
    from utils.settings.sizes import with_sizes
    config = small()
    model = learning_sb3.ppo(config, learning_sb3.environments(config, 0), 0)
    ours = create_policy(with_sizes(config, 3, 1))
    assert sorted(p.shape for p in model.policy.parameters()) == sorted(p.shape for p in ours.parameters())
    assert isinstance(model.policy.mlp_extractor.policy_net[1], type(ours.actor[1]))
    assert torch.equal(model.policy.log_std, ours.log_std)
    assert model.policy.optimizer.param_groups[0]["eps"] == config.Adam_eps
    assert (model.n_steps, model.batch_size, model.clip_range(1), model.gae_lambda) == (8, 8, config.clip_coef,
                                                                                        config.gae_lambda)
    assert model.normalize_advantage == (config.normalize_advantages == "minibatch")
    assert model.get_vec_normalize_env().norm_obs is model.get_vec_normalize_env().norm_reward is True


def test_what_it_writes_is_a_curve(monkeypatch):
    config = small()
    monkeypatch.setattr(learning_sb3, "settings", lambda steps: config)
    monkeypatch.setattr("sys.argv", ["learning_sb3.py", "--seeds=3", "--out=SB3"])
    learning_sb3.main()
    (path,) = Path("SB3").iterdir()
    (curve,) = read_curves(["SB3"], print)
    assert (curve.algorithm, curve.env, curve.run) == ("SB3", "Pendulum-v1", "seed 3")
    with np.load(path) as file:
        assert file["info"][:, 0].tolist() == [16, 32]
    before = path.stat().st_mtime_ns
    learning_sb3.main()                                 # it is done
    assert path.stat().st_mtime_ns == before
