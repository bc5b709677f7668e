"""What each decomposition costs: an update of SAC with it, by turns, and an update of a model that learns in bursts.

    python benchmarks/methods/cost.py                               all methods, T = 1000
    python benchmarks/methods/cost.py --only=rrd,rd --steps=200     a few, shorter episodes

Milliseconds of processor time of one thread, so that other processes disturb little: the median of the rounds, and the
median of the ratio to RRD within a round. RRD is timed as it is by default, with gradients by hand.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent)]

from algorithm import create_agent  # noqa: E402
from algorithm.engine import create_engine  # noqa: E402
from algorithm.replay_buffer import create_buffer  # noqa: E402
from benchmarks.timing import median_ratio, take_turns  # noqa: E402
from utils.settings.algorithms import decompositions  # noqa: E402

OBS, ACTS = 17, 6                       # HalfCheetah's
COLUMNS = ("method", "settings", "update_ms", "ratio_to_rrd", "burst_update_ms", "updates")
# Settings beside the defaults: those of methods whose published sizes are for a GPU, reduced.
REDUCED = {"rbt": dict(attention_size=64, attention_layers=1, fit_episodes=1), "diaster": dict(fit_episodes=2),
           "gp_lrr": dict(fit_episodes=1)}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(decompositions()), help="names, by commas (default: all)")
    parser.add_argument("--steps", type=int, default=1000, help="of an episode (default: 1000)")
    parser.add_argument("--rounds", type=int, default=7, help="default: 7")
    parser.add_argument("--updates", type=int, default=10, help="in a turn (default: 10)")
    parser.add_argument("--out", type=Path, help="a CSV file to write as well")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = list(dict.fromkeys(["rrd", *given.only.split(",")]))
    rows = measured(names, given.steps, given.rounds, given.updates)
    write(rows, given.out)


def measured(names: Sequence[str], steps: int, rounds: int, updates: int) -> list[dict[str, str]]:
    """Return a row of `COLUMNS` for each method."""
    engines = {name: engine_of(name, steps) for name in names}
    found = take_turns({name: turn(engine.run, updates) for name, engine in engines.items()}, rounds)
    return [{"method": name, "settings": " ".join(f"{key}={value}" for key, value in REDUCED.get(name, {}).items()),
             "update_ms": f"{statistics.median(found[name]):.1f}",
             "ratio_to_rrd": f"{median_ratio(found[name], found['rrd']):.2f}", "burst_update_ms": burst_ms(engine),
             "updates": str(rounds * updates)} for name, engine in engines.items()]


def engine_of(name: str, steps: int):
    """Return an engine with a replay of 20 episodes."""
    args = Namespace(alg=name, basis_alg="sac", obs_dims=(OBS,), acts_dims=(ACTS,), device="cpu",
                     buffer_size=20 * steps, test_timesteps=steps, **REDUCED.get(name, {}))
    agent, replay, rng = create_agent(args), create_buffer(args), np.random.default_rng(0)
    for _ in range(20):
        replay.store_episode(episode(rng, steps))
    engine, _ = create_engine(agent.config, agent, replay)
    engine.run(3)                                       # a warm-up
    return engine


def episode(rng: np.random.Generator, steps: int) -> dict[str, np.ndarray]:
    """Return an episode of random numbers."""
    obs = rng.normal(size=(steps + 1, OBS)).astype(np.float32)
    return {"obs": obs[:-1], "obs_next": obs[1:], "acts": np.tanh(rng.normal(size=(steps, ACTS))).astype(np.float32),
            "rews": rng.normal(size=(steps, 1)).astype(np.float32), "done": np.zeros((steps, 1), np.float32)}


def turn(run: Callable[[int], object], updates: int) -> Callable[[], float]:
    """Return a turn of so many updates -> milliseconds of processor time of one."""
    def once() -> float:
        start = time.process_time()
        run(updates)
        return 1000 * (time.process_time() - start) / updates
    return once


def burst_ms(engine) -> str:
    """Return the milliseconds of an update of a model that learns in bursts, the least of three; "" for another."""
    agent = engine.agent
    if not agent.config.fit_every:
        return ""
    times = []
    for _ in range(3):
        start = time.process_time()
        next(iter(agent.fit(engine.buffer, 1)))
        times.append(time.process_time() - start)
    return f"{1000 * min(times):.1f}"


def write(rows: Sequence[dict[str, str]], out: Path | None) -> None:
    """Print the rows, and write them to a file if one is named."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    print(text.getvalue(), end="")
    if out is not None:
        out.write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main()
