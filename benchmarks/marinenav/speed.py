"""Robot-steps a second of MarineNav.

    python benchmarks/marinenav/speed.py                           random actions and resets, by number of worlds
    python benchmarks/marinenav/speed.py --compile --worlds 256    the compiled step beside it; it compiles for a minute

Worlds of 6 robots, 8 cores and 8 obstacles, with noise; all rows count, those that wait for their world too. The
published program does 208 robot-steps a second of a busy thread in the same worlds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.flags import positive
from envs.marinenav import world
from envs.marinenav.env import MarineNav
from utils.errors import ConfigError
from utils.settings.resolve import coerce
from utils.torch_utils import resolve_device

PUBLISHED = 208


def measure(step: Callable[[], object], rows: int, seconds: float) -> tuple[float, float]:
    """Return robot-steps a second of the clock, and of this process's time."""
    step()
    steps, clock, process = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - clock < seconds:
        step()
        steps += rows
    return steps / (time.perf_counter() - clock), steps / (time.process_time() - process)


def random_play(env: MarineNav) -> Callable[[], None]:
    """Return a function that plays one joint action, and resets the worlds that are over."""
    env.reset()

    def step() -> None:
        acts = 2 * torch.rand(env.num_envs, 2, device=env.device) - 1
        _, _, terminated, truncated, _ = env.step(acts)
        env.reset(terminated | truncated)
    return step


def inputs(env: MarineNav) -> tuple:
    """Return the arguments of `world.step` for random actions in the worlds as they are."""
    change = torch.empty(env.num_groups, env.rows_per_group, 2, device=env.device).uniform_(-1, 1)
    layout = env.layout()
    return env.world_state(), layout, change * env.rules.change_scale, env._draw(layout), env.rules


def bare_step(env: MarineNav, function: Callable) -> Callable[[], None]:
    """Return a function that makes the step of the worlds alone, `world.step` or the compiled one, with its draws."""
    env.reset()
    return lambda: function(*inputs(env))


def same_results(env: MarineNav, compiled: Callable, steps: int = 50) -> bool:
    """Whether the compiled step gives the states, views and outcomes of the eager one, from the same numbers."""
    env.reset()
    for _ in range(steps):
        given = inputs(env)
        eager, found = (function(*given) for function in (world.step, compiled))
        if not all(torch.allclose(one.double(), other.double(), atol=1e-4, equal_nan=True)
                   for one, other in zip(tensors(*eager), tensors(*found), strict=True)):
            return False
        env._keep(None, eager[0])
    return True


def tensors(state: world.State, view: world.View, outcome: world.Step) -> Iterator[Tensor]:
    """Yield every tensor of the results of a step."""
    for part in (state, view, view.sight, outcome):
        yield from (value for value in vars(part).values() if isinstance(value, Tensor))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=positive, nargs="+", default=[1, 64, 256, 1024])
    parser.add_argument("--robots", type=positive, default=6)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(argv)
    try:
        resolve_device(coerce("device", given.device))
        MarineNav(1, num_robots=given.robots)
    except ConfigError as error:
        parser.error(str(error))
    torch.set_num_threads(given.threads)
    print(f"{'worlds':>7}{'step':>10}{'steps/s':>10}{'of process time':>17}{'x published':>13}")
    for worlds in given.worlds:
        env = MarineNav(worlds, given.device, num_robots=given.robots, seed=0)
        contestants = {"eager": random_play(env)}
        if given.compile:
            compiled = torch.compile(world.step, dynamic=False, fullgraph=True)
            if not same_results(env, compiled):
                raise SystemExit("speed.py: the compiled step differs from the eager one")
            contestants |= {"bare": bare_step(env, world.step), "compiled": bare_step(env, compiled)}
        for name, step in contestants.items():
            clock, process = measure(step, env.num_envs, given.seconds)
            print(f"{worlds:>7}{name:>10}{clock:>10.0f}{process:>17.0f}{process / PUBLISHED:>13.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
