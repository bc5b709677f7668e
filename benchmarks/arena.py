"""Arena: game steps a second, and how a run plays.

    python benchmarks/arena.py                             random play, by number of games; eager
    python benchmarks/arena.py --compile --games 1024      the compiled step beside it; compiling takes minutes
    python benchmarks/arena.py --play outputs/RUN --stage 4

`--play` plays an episode of each game at once, actions sampled, without the curriculum, statistics frozen. The
published program does 15 300 steps a second (style 2, 16 games, one thread of a quiet core); it cannot run here beside
ours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from envs.arena.env import Arena
from envs.arena.luck import Luck, draw
from envs.arena.rules import LIMIT
from envs.arena.step import advance
from learner.loading import load_agent

PUBLISHED = 15_300
METRICS = ("spawners_destroyed", "enemies_destroyed", "phase", "win")


# Speed --------------------------------------------------------------------------------------------------------------

def per_second(step: Callable[[], None], games: int, rounds: int, steps: int) -> tuple[float, float]:
    """Return the median over rounds of game steps a second, of the clock and of this process's time."""
    found = []
    for _ in range(rounds):
        clock, process = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step()
        found.append((games * steps / (time.perf_counter() - clock), games * steps / (time.process_time() - process)))
    return tuple(map(statistics.median, zip(*found, strict=True)))


def random_play(env: Arena) -> Callable[[], None]:
    """Return a function that steps all games by random actions, and resets those that are over."""
    acts = env.action_space.n
    env.reset()

    def step() -> None:
        drawn = torch.randint(acts, (env.num_envs,), generator=env.generator, device=env.device)
        _, _, terminated, truncated, _ = env.step(drawn)
        over = terminated | truncated
        if env.device.type != "cpu" or over.any():
            env.reset(over)
    return step


def bare_step(env: Arena, function: Callable) -> Callable[[], None]:
    """Return a function that makes the step of the games alone, `advance` or the compiled one, with drawn numbers."""
    env.reset()
    luck, acts = Luck(env.generator), env.action_space.n

    def step() -> None:
        drawn = torch.randint(acts, (env.num_envs,), generator=env.generator, device=env.device)
        function(env.games, drawn, draw(luck, env.num_envs), env.settings["style"], True)
    return step


def same_results(games: int, style: int, compiled: Callable, device: str, steps: int = 50) -> bool:
    """Whether the compiled step gives the observations, rewards and ends of the eager one, from the same numbers."""
    one, other = (Arena(num_envs=games, device=device, style=style, seed=1) for _ in range(2))
    luck = Luck(torch.Generator(one.device).manual_seed(0))
    for env in (one, other):
        env.reset()
    for _ in range(steps):
        acts = torch.randint(one.action_space.n, (games,), generator=luck.generator, device=one.device)
        drawn = draw(luck, games)
        eager, found = (function(env.games, acts, drawn, style, True)
                        for function, env in ((advance, one), (compiled, other)))
        if not all(torch.allclose(a.double(), b.double(), atol=1e-5) for a, b in zip(eager, found, strict=True)):
            return False
    return True


def speeds(given: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the table."""
    yield f"{'games':>7}{'step':>10}{'steps/s':>12}{'of process time':>17}{'x published':>13}"
    for games in given.games:
        env = Arena(num_envs=games, device=given.device, style=given.style, seed=1)
        contestants = {"eager": random_play(env)}
        if given.compile:
            compiled = torch.compile(advance, dynamic=False, fullgraph=True)
            assert same_results(games, given.style, compiled, given.device), "the compiled step differs"
            contestants |= {"bare": bare_step(env, advance), "compiled": bare_step(env, compiled)}
        for name, step in contestants.items():
            per_second(step, games, 1, 20)
            clock, process = per_second(step, games, given.rounds, given.steps)
            yield f"{games:>7}{name:>10}{clock:>12.0f}{process:>17.0f}{process / PUBLISHED:>13.1f}"


# Play ---------------------------------------------------------------------------------------------------------------

@torch.no_grad()
def play(run: str, games: int, stage: int, explore: bool, most: int = LIMIT) -> dict[str, Any]:
    """Play the first episode of each game, cut after `most` steps; return the means over them."""
    agent = load_agent(run, "last")
    settings = json.loads((Path(run) / "config.json").read_text()).get("env_kwargs") or {}
    env = Arena(num_envs=games, seed=7, **{**settings, "stage": stage})
    obs, open_ = env.reset(), torch.ones(games, dtype=torch.bool)
    found = {name: torch.zeros(games) for name in ("return", "length", *METRICS)}
    while open_.any():
        obs, rews, terminated, truncated, info = env.step(torch.as_tensor(agent.step(obs.numpy(), explore=explore)))
        found["return"] += rews * open_
        found["length"] += open_
        over = (terminated | truncated | (found["length"] == most)) & open_
        for name in METRICS:
            found[name] = torch.where(over, info["metrics"][name], found[name])
        open_ &= ~over
        if (terminated | truncated).any():
            obs = env.reset(terminated | truncated)
    return {name: float(values.mean()) for name, values in found.items()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--style", type=int, default=2, choices=(1, 2))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--play", metavar="RUN")
    parser.add_argument("--stage", type=int, default=0, help="of --play: 0 none, 1 to 6")
    parser.add_argument("--limit", type=int, default=LIMIT, help="steps after which --play cuts an episode")
    parser.add_argument("--greedy", action="store_true")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    if given.play:
        print(json.dumps(play(given.play, given.games[0], given.stage, not given.greedy, given.limit)))
        return 0
    for line in speeds(given):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
