"""Evaluations in the published form: what robots did and observed, from a run's plain arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from boats import Seeker

from envs.marinenav.env import MarineNav
from envs.marinenav.evaluations import published_evaluations
from envs.marinenav.files import write_worlds
from envs.training_env import TrainingEnv
from learner.worlds import WorldPlayer
from learner.worlds_evaluator import flat
from utils.cases import write_case
from utils.errors import CheckpointError

SCHEDULE = {"num_episodes": [3, 8], "num_robots": [1, 3], "num_cores": [2, 0], "num_obstacles": [0, 3],
            "min_start_goal_dis": [15.0, 25.0]}


class Watched(Seeker):
    """A seeker that keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def step(self, obs, explore=False):
        self.seen.append(obs)
        return super().step(obs)


@pytest.fixture(scope="module")
def played():
    """Eleven worlds without noise, played; what was shown (T, W, R, O)."""
    worlds, watched = MarineNav(1, num_robots=3, noise=False).frozen(0, SCHEDULE), Watched()
    found = WorldPlayer(TrainingEnv(worlds, 60, False), watched, 0.99).play(0)
    return worlds, found, np.stack(watched.seen).reshape(len(watched.seen), 11, 3, -1)


def write(worlds, found) -> Path:
    """Write the files of a run with two evaluations, both the same."""
    write_worlds(Path("eval_configs.json"), worlds.given, worlds.rules, as_published=True)
    table = {name: np.stack([values] * 2) for name, values in found.summaries().items()}
    write_case(Path("evaluations.npz"), table | {"timesteps": np.array([8, 16])})
    Path("trajectories").mkdir()
    for steps in (8, 16):
        write_case(Path("trajectories") / f"{steps}.npz", flat(found))
    return Path()


def test_robots_are_listed_with_their_own_steps_and_what_they_observed(played):
    worlds, found, shown = played
    table = published_evaluations(write(worlds, found))
    assert table["timesteps"].tolist() == [8, 16]
    assert {name: values.shape for name, values in table.items() if name != "timesteps"} == dict.fromkeys(
        ("rewards", "successes", "times", "energies", "observations", "actions", "trajectories", "relations"), (2, 11))
    compared = with_objects = ended = 0
    for w in range(11):
        robots = [r for r in range(3) if found.steps[w, r] >= 0]
        lists = {name: table[name][1, w] for name in ("observations", "actions", "trajectories")}
        assert {len(one) for one in lists.values()} == {len(robots)}
        for r in robots:
            steps, observed = found.steps[w, r], lists["observations"][r]
            assert (len(lists["actions"][r]), len(lists["trajectories"][r])) == (steps, steps + 1)
            assert np.array(lists["trajectories"][r]) == pytest.approx(found.paths[:steps + 1, w, r], abs=1e-4)
            assert len(observed) == found.lengths[w] + 1
            for t in range(found.lengths[w]):           # the last one was shown to nobody
                own, objects = observed[t]
                if t > steps:
                    assert own is objects is None
                    ended += 1
                    continue
                mask = shown[t, w, r, 32:] > 0
                if t == steps:                          # of one that has ended, whose last observation is kept
                    continue
                assert own == pytest.approx(shown[t, w, r, :7], abs=2e-3)
                assert len(objects) == mask.sum()
                assert np.array(objects).reshape(-1, 5) == pytest.approx(
                    shown[t, w, r, 7:32].reshape(5, 5)[mask], abs=2e-3)
                compared, with_objects = compared + 1, with_objects + bool(objects)
    assert min(compared, with_objects, ended) > 20


def test_missing_files_are_named(played):
    worlds, found, _ = played
    run = write(worlds, found)
    (run / "trajectories" / "16.npz").unlink()
    with pytest.raises(CheckpointError, match=r"16\.npz: No such file"):
        published_evaluations(run)
    (run / "evaluations.npz").write_bytes(b"no zip")
    with pytest.raises(CheckpointError, match=r"evaluations\.npz: damaged"):
        published_evaluations(run)
