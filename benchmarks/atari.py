"""Speed on Atari: `python benchmarks/atari.py`.

Prints, of this machine and in one run: how long a batch of 32 transitions and 1 x 32 steps of a sub-sequence takes to
stack; environment steps per second with and without our wrappers; and updates per second of RRD-DQN with sampling,
and the share that they reach of the speed at which PyTorch's convolutions and matrix products run alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from algorithm import create_agent
from algorithm.replay_buffer import create_buffer
from benchmarks.timing import median_seconds
from envs import make_env
from envs.atari import SIDE, import_atari
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="Assault", help="an Atari game (default: Assault)")
    parser.add_argument("--steps", type=int, default=100_000, help="stored steps (default: 100000)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    args = parser.parse_args()
    config = resolve(dict(alg="rrd", basis_alg="dqn", env=args.game, buffer_size=args.steps, device=args.device))
    config = with_sizes(config, (SIDE, SIDE, 4), 7)
    buffer, agent = filled_buffer(config), create_agent(config)

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}, {args.steps} stored steps")
    sample = median_seconds(buffer.sample, 200)
    print(f"stack    {1e3 * sample:7.2f} ms a batch")
    bare, ours = steps_per_second(config)
    print(f"env      {ours:7.0f} steps/s, bare ale-py with OpenCV {bare:.0f}: {ours / bare:.0%}")
    update = median_seconds(lambda: agent.update(buffer.sample), 30)
    floor = sum(median_seconds(layer, 30) for layer in layers(config))
    print(f"update   {1 / update:7.1f} /s, the layers alone {1 / floor:.1f} /s: {floor / update:.0%}")


def filled_buffer(config):
    buffer, random, length = create_buffer(config), np.random.default_rng(0), 1000
    episode = {"frames": random.integers(256, size=(length + 4, SIDE, SIDE), dtype=np.uint8),
               "acts": random.integers(7, size=length), "rews": np.zeros((length, 1), np.float32),
               "done": np.zeros((length, 1), np.float32)}
    for _ in range(config.buffer_size // length):
        buffer.store_episode(episode)
    return buffer


def steps_per_second(config, rounds: int = 7, steps: int = 300) -> tuple[float, float]:
    """Median steps/s of the bare game with OpenCV's two calls, and of our environment, measured in turn."""
    ale_py, cv2 = import_atari()
    gym.register_envs(ale_py)
    env = make_env(config)
    bare = gym.make(f"ALE/{config.env}-v5", frameskip=4, repeat_action_probability=0.0).unwrapped
    random = np.random.default_rng(0)

    def bare_step(action: int) -> bool:
        screen, _, terminated, truncated, _ = bare.step(action)
        cv2.resize(cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return terminated or truncated

    def our_step(action: int) -> bool:
        _, _, terminated, truncated, _ = env.step(action)
        return terminated or truncated

    def rate(game: gym.Env, step: Callable[[int], bool]) -> float:
        game.reset(seed=0)
        spent = 0.0
        for action in random.integers(env.action_space.n, size=steps):
            start = time.perf_counter()
            over = step(int(action))
            spent += time.perf_counter() - start
            if over:
                game.reset()
        return steps / spent
    pairs = [(rate(bare, bare_step), rate(env, our_step)) for _ in range(rounds)]
    return tuple(statistics.median(column) for column in zip(*pairs, strict=True))


def layers(config) -> list[Callable[[], object]]:
    """The time of each layer of one update: forward, and backward if the update has a backward pass."""
    actions = config.acts_dims[0]
    value = [(4, 32, 8, 4, 84), (32, 64, 4, 2, 21), (64, 64, 3, 1, 11)]
    reward = [(8, 32, 8, 4, 84), *value[1:]]
    batch, sequence = config.batch_size, config.rrd_batch_size
    calls = []
    # The value of s (trained) and the target of s'; the reward of the sub-sequence (trained) and of the batch.
    for rows, convs, trained in ((batch, value, True), (batch, value, False), (sequence, reward, True),
                                 (batch, reward, False)):
        for i, (inputs, filters, kernel, stride, side) in enumerate(convs):
            conv = nn.Conv2d(inputs, filters, kernel, stride, padding=kernel // 2 - (stride > 1) * (kernel // 4))
            calls.append(layer(conv, torch.rand(rows, inputs, side, side), trained, i > 0))
        for fan_in, fan_out in ((7744, 512), (512, actions)):
            calls.append(layer(nn.Linear(fan_in, fan_out), torch.rand(rows, fan_in), trained, True))
    return calls


def layer(module: nn.Module, inputs: torch.Tensor, trained: bool, to_inputs: bool) -> Callable[[], object]:
    if inputs.ndim == 4:
        module = module.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    inputs.requires_grad_(trained and to_inputs)
    with torch.no_grad():
        outputs = torch.rand_like(module(inputs))

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return module(inputs)

    def both() -> None:
        module.zero_grad(set_to_none=True)
        module(inputs).backward(outputs)
    return both if trained else forward


if __name__ == "__main__":
    main()
