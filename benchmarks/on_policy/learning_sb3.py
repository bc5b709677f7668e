"""Learning curves of Stable-Baselines3's PPO with the settings of half_cheetah.json, which plot.py draws beside ours.

    python benchmarks/on_policy/learning_sb3.py --seeds=0-2         # a seed that is done is skipped
    python plot.py outputs --by=tag

It needs the extra bench. Its VecNormalize does what `obs_normalization` and `normalize_rewards` do; greedy episodes are
played at the same steps as ours. It writes outputs/SB3/HalfCheetah-v4_seed0.npz and so on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from utils.settings.fields import Config  # noqa: E402
from utils.settings.resolve import coerce, resolve  # noqa: E402


def settings(steps: int | None) -> Config:
    """Return those of the suite's PPO on the dense reward, for so many steps if they are given."""
    suite = json.loads((HERE / "half_cheetah.json").read_text())
    changes = {} if steps is None else {"total_timesteps": steps}
    return resolve({"env": suite["env"][0], **suite["common"], **suite["runs"]["PPO, dense reward"], **changes})


def environments(config: Config, seed: int) -> Any:
    """Return N environments in this process, whose observations and rewards are normalised."""
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
    rows = DummyVecEnv([lambda: gym.make(config.env)] * config.num_envs)
    rows.seed(seed)
    return VecNormalize(rows, norm_obs=config.obs_normalization, norm_reward=config.normalize_rewards,
                        gamma=config.gamma)


def ppo(config: Config, env: Any, seed: int) -> Any:
    """Return Stable-Baselines3's PPO with these settings; its own defaults are written out where ours say nothing."""
    from stable_baselines3 import PPO
    net = {"pi": [64, 64], "vf": [64, 64]}
    return PPO("MlpPolicy", env, seed=seed, device="cpu", n_steps=config.rollout_steps, batch_size=config.batch_size,
               n_epochs=config.n_epochs, learning_rate=config.learning_rate, gamma=config.gamma,
               gae_lambda=config.gae_lambda, clip_range=config.clip_coef, ent_coef=config.ent_coef,
               vf_coef=config.vf_coef, max_grad_norm=config.max_grad_norm, target_kl=config.target_kl,
               policy_kwargs={"net_arch": net, "log_std_init": config.log_std_init})


def mean_return(model: Any, env: gym.Env, config: Config) -> float:
    """Return the mean return of greedy episodes, by the environment's own rewards."""
    normalized, found = model.get_vec_normalize_env(), []
    for _ in range(config.test_rollouts):
        (obs, _), total, over = env.reset(), 0.0, False
        while not over:
            action, _ = model.predict(normalized.normalize_obs(obs), deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(action)
            total, over = total + reward, terminated or truncated
        found.append(total)
    return float(np.mean(found))


def train(config: Config, seed: int) -> np.ndarray:
    """Return (evaluations, 2): environment steps and mean return."""
    model, test = ppo(config, environments(config, seed), seed), gym.make(config.env)
    test.reset(seed=seed + 10_000)
    cycle, rows = config.timesteps * config.iterations, []
    while model.num_timesteps < config.total_timesteps:
        steps = min(cycle, config.total_timesteps - model.num_timesteps)
        model.learn(steps, reset_num_timesteps=not rows)
        rows.append((model.num_timesteps, mean_return(model, test, config)))
        print(f"seed {seed}  steps {rows[-1][0]}  return {rows[-1][1]:.1f}", flush=True)
    return np.array(rows, np.float64)


def main() -> None:
    """Train each seed that has no file yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", default="0-2", help="such as 0,1,2 or 0-2")
    parser.add_argument("--total_timesteps", type=int, help="instead of the suite's")
    parser.add_argument("--out", type=Path, default=Path("outputs/SB3"))
    args = parser.parse_args()
    config = settings(args.total_timesteps)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in coerce("seeds", args.seeds):
        path = args.out / f"{config.env}_seed{seed}.npz"
        if not path.exists():
            np.savez(path, info=train(config, seed))


if __name__ == "__main__":
    main()
