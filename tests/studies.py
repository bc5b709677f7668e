"""Runs that are made up for plots and reports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from runs import ROOT

ORIGINAL = ROOT / "tests" / "reference" / "original_rews" / "HalfCheetah-v2_seed1.npz"
SAC = dict(alg="sac", env_type="ep_rews")
DENSE = dict(alg="sac", env_type="normal")
RRD = dict(alg="rrd", basis_alg="sac", rrd_bias_correction=False, env_type="ep_rews")


def make_run(name: str, settings: dict, returns, env: str = "Hopper-v4", seed: int = 0, steps=None) -> Path:
    """A run's directory outputs/<name>, with these returns after 1000, 2000, ... steps."""
    directory = Path("outputs") / name
    (directory / "rews").mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(settings | dict(env=env, seed=seed, tag=name)))
    steps = 1000 * np.arange(1, len(returns) + 1) if steps is None else steps
    np.savez(directory / "rews" / f"{env.replace(':', '_')}.npz", info=np.column_stack([steps, returns]).astype(float))
    return directory


def make_runs(name: str, settings: dict, finals, env: str = "Hopper-v4") -> None:
    """Runs of ten evaluations each, the last of which have these returns."""
    for seed, final in enumerate(finals):
        make_run(f"{name}-{env}-{seed}", settings, np.linspace(0, final, 10), env, seed)


def make_study() -> None:
    """Two environments with anchors; RRD half way and all the way between them."""
    for env, scale in (("Hopper-v4", 1), ("Walker2d-v4", 10)):
        make_runs("ep", SAC, [scale * 100] * 3, env)
        make_runs("dense", DENSE, [scale * 300] * 3, env)
        make_runs("rrd", RRD, [scale * 200, scale * 200, scale * 300], env)
