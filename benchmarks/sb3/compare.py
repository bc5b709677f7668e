"""Stable-Baselines3's SAC on returns alone, with a decomposition and without it, and on the dense reward.

    python benchmarks/sb3/compare.py --seeds=0-2            # again: it resumes what was stopped
    python plot.py outputs --by=tag

It needs the extra sb3. Each run writes the mean returns of greedy episodes to outputs/SB3_NAME/HalfCheetah-v4_seed0.npz
and so on, as plot.py reads them, once it is done; until then model, replay and generators are kept beside it, from the
last evaluation.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from benchmarks.flags import names_of, positive  # noqa: E402
from utils.errors import ConfigError  # noqa: E402
from utils.settings.resolve import coerce  # noqa: E402

EVERY = 5000                                            # steps between evaluations
EPISODES = 5


class Late(gym.Wrapper):
    """Pays the return of an episode with its last step; `info["true_reward"]` is that of the step."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict]:
        """Reset the environment."""
        self.sum = 0.0
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Step the environment."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.sum += float(reward)
        paid = self.sum if terminated or truncated else 0.0
        return obs, paid, terminated, truncated, {**info, "true_reward": float(reward)}


def sac(env: gym.Env, seed: int, **settings: Any) -> Any:
    """Return SAC with the library's defaults, which starts after ten episodes of random actions."""
    from stable_baselines3 import SAC
    return SAC("MlpPolicy", env, seed=seed, device="cpu", learning_starts=10_000, **settings)


def dense(make: Callable[[], gym.Env], seed: int) -> tuple[Any, None]:
    """SAC on the reward of each step."""
    return sac(make(), seed), None


def late(make: Callable[[], gym.Env], seed: int) -> tuple[Any, None]:
    """SAC on the return at the end."""
    return sac(Late(make()), seed), None


def rrd(make: Callable[[], gym.Env], seed: int) -> tuple[Any, Any]:
    """SAC on the return at the end, paid by RRD."""
    from adapters.sb3 import DecomposedReplayBuffer, DecompositionCallback
    model = sac(Late(make()), seed, replay_buffer_class=DecomposedReplayBuffer,
                replay_buffer_kwargs=dict(decomposition="rrd", seed=seed))
    return model, DecompositionCallback()


RUNS = {"SB3_dense": dense, "SB3_late": late, "SB3_RRD": rrd}


def mean_return(model: Any, env: gym.Env, episodes: int = EPISODES) -> float:
    """Return the mean return of greedy episodes."""
    found = []
    for _ in range(episodes):
        (obs, _), total, over = env.reset(), 0.0, False
        while not over:
            action, _ = model.predict(obs, deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        found.append(total)
    return float(np.mean(found))


def train(build: Callable, make: Callable[[], gym.Env], seed: int, total: int, kept: Path) -> np.ndarray:
    """Return (evaluations, 2): environment steps and mean return; `kept` holds the run until it is done."""
    model, callback = build(make, seed)
    test, rows = make(), []
    test.reset(seed=seed + 10_000)
    if kept.exists():
        model, rows = load(model, kept)
    while model.num_timesteps < total:
        model.learn(min(EVERY, total - model.num_timesteps), callback=callback, reset_num_timesteps=not rows)
        rows.append((model.num_timesteps, mean_return(model, test)))
        print(f"{kept.parent.name}  seed {seed}  steps {rows[-1][0]}  return {rows[-1][1]:.1f}", flush=True)
        save(model, rows, kept)
    return np.array(rows, np.float64)


def save(model: Any, rows: list[tuple[int, float]], kept: Path) -> None:
    """Write a run that can be resumed; a run is between two episodes here."""
    new = kept.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    model.save(new / "model.zip")
    model.save_replay_buffer(new / "replay.pkl")
    _, keys, *rest = np.random.get_state()
    np.savez(new / "rest.npz", rows=rows, keys=keys, rest=rest, torch=torch.get_rng_state().numpy())
    shutil.rmtree(kept, ignore_errors=True)
    new.rename(kept)


def load(made: Any, kept: Path) -> tuple[Any, list[tuple[int, float]]]:
    """Read what `save` wrote, for the environment of a model that was made anew."""
    model = type(made).load(kept / "model.zip", env=made.get_env(), device="cpu")
    model.load_replay_buffer(kept / "replay.pkl")
    with np.load(kept / "rest.npz") as rest:
        position, has_gauss, gauss = rest["rest"]
        np.random.set_state(("MT19937", rest["keys"], int(position), int(has_gauss), float(gauss)))
        torch.set_rng_state(torch.from_numpy(rest["torch"]))
        return model, [(int(steps), float(found)) for steps, found in rest["rows"]]


def main() -> None:
    """Train each run that has no file yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", default="0-2", help="such as 0,1,2 or 0-2")
    parser.add_argument("--env", default="HalfCheetah-v4")
    parser.add_argument("--runs", type=names_of(tuple(RUNS)), default=tuple(RUNS), metavar="NAMES",
                        help=f"some of {','.join(RUNS)}")
    parser.add_argument("--total_timesteps", type=positive, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("outputs"))
    args = parser.parse_args()
    try:
        seeds = coerce("seeds", args.seeds)
    except ConfigError as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    for seed in seeds:
        for name in args.runs:
            path = args.out / name / f"{args.env}_seed{seed}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                kept = path.with_suffix(".run")
                np.savez(path, info=train(RUNS[name], lambda: gym.make(args.env), seed, args.total_timesteps, kept))
                shutil.rmtree(kept)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command resumes from the last evaluation")
