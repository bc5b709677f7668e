"""The metrics that an evaluation logs for an episode of a tensor environment."""

from __future__ import annotations

import numpy as np
import pytest

from envs import make_env
from learner.evaluator import Evaluator
from utils.settings.resolve import resolve


class Pushes:
    """Push towards the goal, by `gain` times the distance."""

    def __init__(self, gain: float):
        self.gain = gain

    def step(self, obs, test_info):
        return np.clip(self.gain * (obs[4:6] - obs[:2]), -1, 1).astype(np.float32), {}


class Noted(list):
    """A logger that keeps what each episode adds."""

    def add(self, info):
        if "Steps" in info:
            self.append(info)


@pytest.mark.parametrize(("gain", "success"), [(0.0, 0.0), (5.0, 1.0)])
def test_the_metrics_are_those_of_the_last_step(gain, success):
    """No force moves nothing; a force towards the goal arrives, and the episode ends there."""
    config = resolve({"env": "PointMassRL", "alg": "ppo", "test_rollouts": 3, "test_timesteps": 300})
    noted = Noted()
    Evaluator(config, make_env(config), Pushes(gain)).evaluate(noted)
    assert [one["eval/metrics/success"] for one in noted] == [success] * 3
    assert all((one["eval/metrics/path_length"] > 0) == (gain > 0) for one in noted)
    assert all((one["eval/metrics/final_distance"] < 0.03) == (gain > 0) for one in noted)
