"""The comparison of rewards of Stable-Baselines3's SAC runs, writes what plot.py reads, and skips what is done."""

from __future__ import annotations

import numpy as np

from benchmarks.sb3 import compare
from results.reading import read_curves


def test_it_writes_curves_and_skips_what_is_done(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "EVERY", 150)
    monkeypatch.setattr(compare, "EPISODES", 1)
    monkeypatch.setattr(compare, "mean_return", lambda model, env: float(model.num_timesteps))
    monkeypatch.setattr("sys.argv", ["compare.py", "--seeds=1", "--env=Pendulum-v1", "--total_timesteps=250",
                                     f"--out={tmp_path}"])
    compare.main()
    for name in compare.RUNS:
        assert np.load(tmp_path / name / "Pendulum-v1_seed1.npz")["info"].tolist() == [[150, 150], [250, 250]]
    assert len(read_curves([str(tmp_path)], print)) == 3
    capsys.readouterr()
    compare.main()
    assert capsys.readouterr().out == ""


def test_late_pays_the_return_with_the_last_step():
    env = compare.Late(compare.gym.make("Pendulum-v1", max_episode_steps=3))
    env.reset(seed=0)
    paid, true = zip(*[(step[1], step[4]["true_reward"]) for step in (env.step(np.ones(1)) for _ in range(3))],
                     strict=True)
    assert paid == (0.0, 0.0, sum(true))
