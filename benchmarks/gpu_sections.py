"""The sections of the check on a GPU; `SECTIONS` is the table, to which others are added.

Each measures one item at a time, see `benchmarks.clocks`. All of it also runs on a CPU, as a test of itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import statistics
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from algorithm.engine.seeds.captured import CapturedStack
from algorithm.engine.seeds.stacked import StackedEngine
from benchmarks import gpu_tests
from benchmarks.arena import random_play
from benchmarks.clocks import Item, Section
from benchmarks.contestants import OurRun, filled_buffer, our_engine, settings
from benchmarks.report import memory_table, table
from benchmarks.sections import ALGORITHMS, BareRun, Plan, held_bytes, measure_memory, ready_engine
from benchmarks.task import ENV, OBS
from benchmarks.timing import median_seconds, rate_turn
from envs.arena.env import Arena
from learner.training import train_runs
from utils.settings.resolve import resolve
from utils.stop import Stop
from utils.text import human_bytes

PRECISIONS = ("fp32", "tf32", "bf16")
FIRST = "rrd-sac"               # the algorithm that is measured first, and alone where one is enough
SEEDS = (1, 8, 32)
SEED_STEPS = 100_000            # stored for each of several seeds
GAMES = (4096, 16_384)
# On one H200: a second, a second, times one seed's time, game steps a second.
GOALS = {"updates": 4000, "steps": 2000, "seeds": 2, "arena": 1_000_000}


def timed(plan: Plan, run: Callable[[int], object], count: int) -> dict[str, Any]:
    """Seconds of one unit of `run(count)` by round, how many a second, and the most memory of the GPU."""
    on_gpu = plan.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(plan.device)
    turn = rate_turn(run, count, plan.seconds)
    seconds = [turn() for _ in range(plan.rounds)]
    return {"seconds": seconds, "per_second": 1 / statistics.median(seconds),
            "peak_bytes": torch.cuda.max_memory_allocated(plan.device) if on_gpu else None}


# Updates -------------------------------------------------------------------------------------------------------------

def update_items(plan: Plan) -> dict[str, Item]:
    """Updates by engine, algorithm and precision: of the engine that users get first, and `compile` last."""
    names = sorted(plan.only, key=lambda name: (name != FIRST, not name.startswith("rrd")))
    return {f"{name} {engine} {precision}": functools.partial(measure_updates, plan, name, engine, precision)
            for engine, name, precision in itertools.product(plan.engines, names, PRECISIONS)}


def measure_updates(plan: Plan, name: str, engine: str, precision: str) -> dict[str, Any]:
    """Measure whole updates, as the learner makes them.

    Raises:
        ConfigError: the engine does not compute these.
    """
    config = settings(name, str(plan.device), plan.steps, precision=precision)
    made = ready_engine(plan, config, _replay(name, str(plan.device), plan.steps), engine)
    return {"engine": made.name, **timed(plan, made.run, plan.updates)}


@functools.lru_cache(maxsize=1)
def _replay(name: str, device: str, steps: int) -> Any:
    """A full replay: updates only draw from it, and no precision changes it."""
    return filled_buffer(settings(name, device, steps))


def updates_table(results: dict[str, Any]) -> str:
    """Updates a second by algorithm and engine, a column for each precision, and how many times eager's fp32."""
    by_row: dict[tuple[str, str], dict[str, float]] = {}
    for item, found in results.items():
        name, engine, precision = item.split()
        made = engine if found["engine"] == engine else f"{engine} (as {found['engine']})"
        by_row.setdefault((name, made), {})[precision] = found["per_second"]
    rows = [[name, engine, *(_number(rates.get(precision)) for precision in PRECISIONS),
             _times(rates.get("fp32"), by_row.get((name, "eager"), {}).get("fp32"))]
            for (name, engine), rates in by_row.items()]
    return table(["updates a second", "by", *PRECISIONS, "fp32, x eager"], rows)


# One run -------------------------------------------------------------------------------------------------------------

def run_items(plan: Plan) -> dict[str, Item]:
    """Runs of the learner on the schedule of the original, and what one step of them is made of."""
    runs = [(FIRST, "fp32"), ("sac", "fp32"), (FIRST, "tf32"), (FIRST, "bf16")]
    return {**{f"{name} {precision}": functools.partial(measure_run, plan, name, precision)
               for name, precision in runs},
            "environment alone": lambda: timed(plan, BareRun(plan.longest), plan.env_steps),
            "acting alone": functools.partial(measure_acting, plan)}


def measure_run(plan: Plan, name: str, precision: str) -> dict[str, Any]:
    """Measure environment steps a second of one run: 100 steps of one environment, then 100 updates, and so on."""
    run = OurRun(name, ENV, str(plan.device), plan.longest, plan.every, precision)
    return {"engine": run.engine.name, **timed(plan, run, plan.env_steps)}


def measure_acting(plan: Plan) -> dict[str, Any]:
    """Measure one exploring action for one observation, NumPy to NumPy."""
    engine = our_engine(settings(FIRST, str(plan.device), 2000), _replay(FIRST, str(plan.device), 2000))
    obs = np.random.default_rng(0).standard_normal(OBS).astype(np.float32)
    seconds = median_seconds(lambda: engine.actor.step(obs, explore=True), plan.calls)
    return {"engine": engine.name, "seconds": [seconds], "per_second": 1 / seconds}


def run_table(results: dict[str, Any]) -> str:
    rows = [[name, found.get("engine", ""), _number(found["per_second"]), f"{1e6 / found['per_second']:.0f}"]
            for name, found in results.items()]
    return table([f"one run, {ENV}", "by", "steps a second", "us a step"], rows)


# Several seeds -------------------------------------------------------------------------------------------------------

def seed_items(plan: Plan) -> dict[str, Item]:
    """Several seeds against one: their updates alone, and whole runs, by counts of seeds."""
    counts = (1, 2) if plan.quick else SEEDS
    return {f"{what} {count}": functools.partial(measure, plan, count)
            for what, measure in (("updates", measure_stack), ("runs", measure_seeds)) for count in counts}


def measure_stack(plan: Plan, count: int) -> dict[str, Any]:
    """Measure updates of `count` agents at once; one agent alone by the engine that users get."""
    configs = [dataclasses.replace(settings(FIRST, str(plan.device), min(plan.steps, SEED_STEPS)), seed=seed)
               for seed in range(count)]
    engines = [our_engine(config, filled_buffer(config)) for config in configs]
    stack = engines[0]
    if count > 1:
        kind = CapturedStack if plan.device.type == "cuda" else StackedEngine
        stack = kind([engine.agent for engine in engines], [engine.buffer for engine in engines])
    return {"engine": stack.name, **timed(plan, stack.run, plan.updates)}


def measure_seeds(plan: Plan, count: int) -> dict[str, Any]:
    """Measure `train.py --seeds` as it is, record included: seconds of one step of all seeds.

    The first two cycles gather the steps before the first update, and capture; those after them count.
    """
    cycle, warm = 5 * plan.every, plan.longest + 5 * plan.every
    total = warm + cycle * (2 + plan.rounds)
    config = resolve(dict(alg="rrd", basis_alg="sac", env=ENV, device=str(plan.device), seeds=list(range(count)),
                          timesteps=plan.every, train_batches=plan.every, iterations=5, warmup=plan.longest,
                          test_timesteps=plan.longest, total_timesteps=total, buffer_size=SEED_STEPS, test_rollouts=0))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        runs = train_runs(config, Stop())
    costs = np.array([[row["TimeCost(sec)/train"] for row in run.metrics] for run in runs])[:, -plan.rounds:]
    seconds = [float(worst) / cycle for worst in costs.max(axis=0)]
    return {"seconds": seconds, "per_second": 1 / statistics.median(seconds),
            "peak_bytes": torch.cuda.max_memory_allocated(plan.device) if plan.device.type == "cuda" else None}


def seed_table(results: dict[str, Any]) -> str:
    """What several seeds take, and how many times the time of one that is; figures of one seed's share, and of all."""
    rows = []
    for name, found in results.items():
        what, count = name.split()
        one, peak = results.get(f"{what} 1"), found.get("peak_bytes")
        rows.append([f"{count}, {what}", _number(found["per_second"]), _number(int(count) * found["per_second"]),
                     _times(one and one["per_second"], found["per_second"]), human_bytes(peak) if peak else ""])
    return table(["seeds", "of each, a second", "of all, a second", "x the time of one", "GPU memory"], rows)


# Arena ---------------------------------------------------------------------------------------------------------------

def arena_items(plan: Plan) -> dict[str, Item]:
    """Random play of Arena by style and number of games."""
    counts = (64,) if plan.quick else GAMES
    return {f"style {style}, {count} games": functools.partial(measure_arena, plan, style, count)
            for style, count in itertools.product((1, 2), counts)}


def measure_arena(plan: Plan, style: int, count: int) -> dict[str, Any]:
    """Measure game steps a second, of all games together, with their resets."""
    step = random_play(Arena(num_envs=count, device=str(plan.device), style=style, seed=1))

    def run(steps: int) -> None:
        for _ in range(steps):
            step()
    found = timed(plan, run, 10 if plan.quick else 200)
    return found | {"seconds": [one / count for one in found["seconds"]], "per_second": count * found["per_second"]}


def arena_table(results: dict[str, Any]) -> str:
    """Game steps a second."""
    return table(["Arena", "game steps a second"], [[name, _number(found["per_second"])]
                                                    for name, found in results.items()])


# TorchRL -------------------------------------------------------------------------------------------------------------

def torchrl_items(plan: Plan) -> dict[str, Item]:
    """The TorchRL pipeline and our own trainer by turns; it needs the extra `torchrl`."""
    from benchmarks import torchrl_pipeline
    return torchrl_pipeline.gpu_items(plan)


def torchrl_table(results: dict[str, Any]) -> str:
    """Joint steps a second."""
    from benchmarks import torchrl_pipeline
    return torchrl_pipeline.gpu_table(results)


# Memory --------------------------------------------------------------------------------------------------------------

def memory_items(plan: Plan) -> dict[str, Item]:
    """The memory of a replay and of an agent, on the device and of this process."""
    return {"replay and agent": lambda: measure_memory(plan) | {"process_bytes": held_bytes(torch.device("cpu"))}}


def memory_tables(results: dict[str, Any]) -> str:
    """The table of `speed.py`, and the memory of the process, in which libraries are most."""
    found = results["replay and agent"]
    rest = f"the process holds {human_bytes(found['process_bytes'])} of the machine's memory"
    return f"{memory_table(found)}\n\n{rest}" if found["process_bytes"] else memory_table(found)


# The table -----------------------------------------------------------------------------------------------------------

SECTIONS = {
    "tests": Section("Tests that need CUDA", 30, gpu_tests.items, gpu_tests.outcome_table),
    "updates": Section("Updates a second", 30, update_items, updates_table),
    "run": Section("One faithful run", 12, run_items, run_table),
    "seeds": Section("Several seeds", 22, seed_items, seed_table),
    "arena": Section("Arena", 6, arena_items, arena_table),
    "torchrl": Section("The TorchRL pipeline", 6, torchrl_items, torchrl_table),
    "memory": Section("Memory", 6, memory_items, memory_tables),
}


def make_plan(device: str, quick: bool) -> Plan:
    """What the sections are given; with `quick`, little of everything."""
    engines = (*(["cudagraph"] if device.startswith("cuda") or quick else []), "eager", "manual", "compile")
    if quick:
        torch.set_num_threads(1)
    return Plan(torch.device(device), rounds=1 if quick else 3, steps=2000 if quick else 1_000_000,
                only=(FIRST, "ddpg") if quick else ALGORITHMS, engines=engines[:-1] if quick else engines,
                tensorflow=False, quick=quick)


def goals(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The goals on one H200 as rows of `report.targets_table`; `found` holds each section's results."""
    def rate(section: str, item: str) -> float | None:
        return found.get(section, {}).get(item, {}).get("per_second")

    def ratio(what: str) -> float | None:
        one, many = rate("seeds", f"{what} 1"), rate("seeds", f"{what} {SEEDS[-1]}")
        return one / many if one and many else None
    rows = [("RRD-SAC, updates a second, fp32", ">=", rate("updates", f"{FIRST} cudagraph fp32"), GOALS["updates"]),
            ("one faithful run, steps a second, fp32", ">=", rate("run", f"{FIRST} fp32"), GOALS["steps"]),
            (f"{SEEDS[-1]} seeds, updates, x the time of one", "<=", ratio("updates"), GOALS["seeds"]),
            (f"{SEEDS[-1]} seeds, whole runs, x the time of one", "<=", ratio("runs"), GOALS["seeds"]),
            (f"Arena, {GAMES[-1]} games, game steps a second", ">=",
             rate("arena", f"style 2, {GAMES[-1]} games"), GOALS["arena"])]
    return [dict(name=name, target=f"{sign} {wanted:g}", value=value,
                 reached=None if value is None else value >= wanted if sign == ">=" else value <= wanted)
            for name, sign, value, wanted in rows]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def _times(one: float | None, other: float | None) -> str:
    return f"{one / other:.2f}" if one and other else ""
