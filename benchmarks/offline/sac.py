"""SAC from a fixed data set of Pendulum-v1 that is paid at the ends of episodes, as it is and paid anew.

    python benchmarks/offline/sac.py --seeds=0-2 --out benchmarks/offline/scores.csv

The data: half of the episodes by random actions, half by a swing-up controller with random actions mixed in. Each
method relabels a data set of Minari; SAC learns from the result alone, and is evaluated on the true return.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent)]

from adapters.offline import episodes_of, spaces_of  # noqa: E402
from adapters.relabelling import Order, compared, make_model, split  # noqa: E402
from algorithm.create import create_agent_for_spaces  # noqa: E402
from algorithm.engine import create_engine  # noqa: E402
from algorithm.replay_buffer import create_buffer  # noqa: E402
from utils.settings.values import parse_seeds  # noqa: E402

METHODS = ("late", "dense", "uniform", "rd", "rrd")     # late: as recorded; dense: the true rewards
STEPS, EVALUATED = 200, 20
COLUMNS = ("method", "seed", "return", "held_out_r2", "held_out_steps", "seconds")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0", help="such as 0,1 or 0-2 (default: 0)")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"by commas (default: {','.join(METHODS)})")
    parser.add_argument("--episodes", type=int, default=200, help="of the data set (default: 200)")
    parser.add_argument("--fits", type=int, default=2000, help="updates of a decomposition (default: 2000)")
    parser.add_argument("--updates", type=int, default=6000, help="updates of SAC (default: 6000)")
    parser.add_argument("--out", type=Path, default=HERE / "scores.csv", help="the CSV file to write")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = folder
        for seed in parse_seeds(given.seeds):
            late, dense = (recorded(f"pendulum/{kind}-v{seed}", given.episodes, seed, kind) for kind in METHODS[:2])
            for method in given.methods.split(","):
                rows.append(scored(method, seed, late, dense, given.fits, given.updates))
                print(rows[-1], flush=True)
                write(given.out, rows)


def recorded(name: str, count: int, seed: int, kind: str) -> Any:
    """Write a data set of Minari, paid step by step or at the ends of its episodes; return it."""
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer
    env, rng, buffers = gym.make("Pendulum-v1"), np.random.default_rng(seed), []
    for number in range(count):
        chance = 1.0 if number % 2 else rng.uniform(0.1, 0.7)
        obs, acts, rews = played(env, rng, chance, 100_000 * (seed + 1) + number)
        late = np.where(np.arange(STEPS) == STEPS - 1, rews.sum(), 0.0)
        over = np.arange(STEPS) == STEPS - 1
        buffers.append(EpisodeBuffer(observations=obs, actions=acts, rewards=rews if kind == "dense" else late,
                                     terminations=over & False, truncations=over))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return minari.create_dataset_from_buffers(name, buffers, env=env)


def played(env: gym.Env, rng: np.random.Generator, chance: float, seed: int) -> tuple[np.ndarray, ...]:
    """Play an episode whose actions are random with a chance: observations (T + 1, 3), actions (T, 1), rewards (T,)."""
    obs, acts, rews = [env.reset(seed=seed)[0]], [], []
    for _ in range(STEPS):
        acts.append(rng.uniform(-2, 2, 1).astype(np.float32) if rng.random() < chance else controlled(obs[-1]))
        seen, reward, *_ = env.step(acts[-1])
        obs.append(seen)
        rews.append(float(reward))
    return np.stack(obs), np.stack(acts), np.array(rews)


def controlled(obs: np.ndarray) -> np.ndarray:
    """Swing up by adding energy, and hold the pendulum by a linear law near the top, (3,) -> (1,)."""
    cos, sin, speed = map(float, obs)
    angle = np.arctan2(sin, cos)
    if cos > 0.9:
        torque = -12.0 * angle - 2.5 * speed
    else:
        energy = speed ** 2 / 6 + 5.0 * cos - 5.0               # of a rod of length and mass 1, g = 10; 0 at the top
        torque = -2.0 * np.sign(speed or 1.0) * np.sign(energy)
    return np.clip(np.float32([torque]), -2, 2)


def scored(method: str, seed: int, late: Any, dense: Any, fits: int, updates: int) -> dict[str, Any]:
    """Relabel, train SAC, and evaluate it."""
    start, numbers = time.process_time(), {}
    data = dense if method == "dense" else late
    if method not in METHODS[:2]:
        data, numbers = relabelled(method, seed, late, dense, fits)
    value = evaluated(trained(data, seed, updates))
    return {"method": method, "seed": seed, "return": f"{value:.1f}", "seconds": f"{time.process_time() - start:.0f}",
            **numbers}


def relabelled(method: str, seed: int, late: Any, dense: Any, fits: int) -> tuple[Any, dict[str, str]]:
    """Return the data set with a method's rewards, and how right they are in episodes held out."""
    order = Order(late.id, method, f"pendulum/{method}-v{seed}", settings={"seed": seed, "device": "cpu"})
    model, episodes = make_model(late, order, STEPS), list(episodes_of(late))
    learned, _ = split(episodes, 0.1, seed)
    model.fit(learned, fits)
    _, held = split(list(episodes_of(dense)), 0.1, seed)            # the same ones, with the rewards of their steps
    found = compared(model, held)
    shown = {"held_out_r2": found["r2"], "held_out_steps": found["pearson_within"]}
    return model.relabel(late, order.out), {name: "" if x is None else f"{x:.3f}" for name, x in shown.items()}


def trained(data: Any, seed: int, updates: int) -> Any:
    """Train SAC on a data set alone."""
    observations, actions = spaces_of(data)
    agent = create_agent_for_spaces(alg="sac", observation_space=observations, action_space=actions, seed=seed,
                                    device="cpu", hidden_sizes=(64, 64), batch_size=128, pi_lr=1e-3, q_lr=1e-3,
                                    alpha_lr=1e-3,
                                    buffer_size=data.total_steps, test_timesteps=STEPS)
    replay = create_buffer(agent.config)
    for episode in episodes_of(data):
        replay.store_episode(episode)
    create_engine(agent.config, agent, replay)[0].run(updates)
    return agent


def evaluated(agent: Any) -> float:
    """Return the mean true return of greedy episodes."""
    env, returns = gym.make("Pendulum-v1"), []
    for seed in range(EVALUATED):
        (obs, _), total = env.reset(seed=seed), 0.0
        for _ in range(STEPS):
            obs, reward, *_ = env.step(2 * agent.step(obs))
            total += float(reward)
        returns.append(total)
    return float(np.mean(returns))


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the scores so far."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
