"""The four parts of the speed benchmark; each returns its part of the JSON file.

Times are listed by round, so that every median and ratio can be computed again.
"""

from __future__ import annotations

import dataclasses
import functools
import resource
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from algorithm.engine import Engine
from benchmarks.child import Child
from benchmarks.contestants import Bare, OurRun, filled_buffer, our_engine, settings
from benchmarks.flops import ceiling_of, ceilings, update_flops
from benchmarks.peers import ALGORITHMS as OF_PEERS
from benchmarks.peers import PEERS, replay_bytes, turns_of
from benchmarks.task import ACTS, ENV, EPISODE, OBS, make_bare
from benchmarks.timing import (
    Rounds,
    Turns,
    fixed_turn,
    median_ratio,
    median_seconds,
    rate_turn,
    synchronize,
    take_turns,
)

ALGORITHMS = ("sac", "rrd-sac", "td3", "rrd-td3", "ddpg", "rrd-ddpg")
SCALE_STEPS = 100_000           # stored while something else varies


@dataclass
class Plan:
    """The amount of measuring: the flags, and the sizes that --quick reduces."""

    device: torch.device
    rounds: int
    steps: int                          # stored
    only: tuple[str, ...]
    engines: tuple[str, ...]
    tensorflow: bool
    quick: bool
    bf16: bool = False                  # measure RRD-SAC in bf16 as well
    peers: dict[str, Child] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self):
        full = not self.quick
        self.seconds = 0.5 if full else 0.0             # of a turn, at least
        self.updates = 100 if full else 2               # of one call of `Engine.run`; the learner makes 100
        self.calls = 100 if full else 10                # of sampling and acting, per turn
        self.every = 100 if full else 10                # steps of a run, and then as many updates
        self.env_steps = 500 if full else 10            # of a run, per turn
        self.longest = 1000 if full else 100            # episode, and steps before the first update
        self.sizes = None if full else (512, 1024)      # of the ceiling's matrices


def note(plan: Plan, text: str) -> None:
    if text not in plan.notes:
        plan.notes.append(text)


# Sampling, acting, updating -----------------------------------------------------------------------------------------

def measure_algorithm(plan: Plan, name: str) -> dict[str, Any]:
    """Measure sampling, acting and whole updates of one algorithm in turn, beside the ceiling of products."""
    config = settings(name, str(plan.device), plan.steps)
    buffer = filled_buffer(config)
    engines = {engine: ready_engine(plan, config, buffer, engine) for engine in plan.engines}
    fastest = our_engine(config, buffer)                # as --engine=auto takes it
    default = engines.setdefault(fastest.name, fastest)
    if plan.bf16 and name == "rrd-sac":
        engines["bf16"] = our_engine(dataclasses.replace(config, precision="bf16"), buffer)
    updates = {who: engine.run for who, engine in engines.items()}
    if plan.tensorflow:
        updates["tensorflow"] = our_engine(config, buffer, use_pytorch=False).run
    turns: Turns = {f"update {who}": rate_turn(run, plan.updates, plan.seconds) for who, run in updates.items()}
    turns |= {who: functools.partial(median_seconds, call, plan.calls, 3)
              for who, call in _small_calls(default).items()}
    turns |= _peers_turns(plan, name) | ceilings(plan.device, plan.sizes)
    return summary(take_turns(turns, plan.rounds), update_flops(default.agent), default.name)


def _small_calls(engine: Engine) -> dict[str, Callable[[], object]]:
    """Turns of a sample and an exploring step: ours, and the floor."""
    obs = np.random.default_rng(0).standard_normal(OBS).astype(np.float32)
    bare = Bare(engine.agent, engine.buffer)
    return {"sample ours": engine.buffer.sample, "sample floor": bare.gather,
            "step ours": lambda: engine.actor.step(obs, explore=True), "step floor": bare.forward}


def _peers_turns(plan: Plan, name: str) -> Turns:
    """Turns of updating, sampling and acting of the peers that have this algorithm."""
    if name not in OF_PEERS:
        return {}
    found = turns_of(plan.peers, "algorithm", basis=name, steps=plan.steps, count=plan.updates, seconds=plan.seconds,
                     calls=plan.calls)
    return {f"{what} {who}": turns[what] for who, turns in found.items() for what in PEERS[who].turns}


def ready_engine(plan: Plan, config: Any, buffer: Any, name: str) -> Engine:
    """An engine, warmed up if it compiles; what it warns of is noted."""
    if name == "compile":
        torch.compiler.reset()                          # what was compiled for other agents counts towards a limit
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        engine = our_engine(config, buffer, name)
        if name == "compile":
            engine.run(plan.updates)                    # which compiles
    for warning in caught:
        if str(warning.message).startswith("engine:"):
            note(plan, str(warning.message))
    return engine


def summary(rounds: Rounds, flops: int, default: str) -> dict[str, Any]:
    """The rounds of one algorithm, and the numbers computed from them.

    `share` is of the ceiling: the rate times the least FLOPs of an update, over the GFLOP/s of the same round.
    """
    seconds = {key.partition(" ")[2]: values for key, values in rounds.items() if key.startswith("update ")}
    ceiling = ceiling_of(rounds)
    least = [flops / (1e9 * gflops) for gflops in ceiling["ceiling_gflops"]]                        # seconds
    return {
        "mflop": flops / 1e6, "default_engine": default, **ceiling, "seconds": seconds,
        "per_second": {who: 1 / statistics.median(values) for who, values in seconds.items()},
        "share": {who: median_ratio(least, values) for who, values in seconds.items()},
        **{f"to_{peer}": {who: median_ratio(seconds[peer], values) for who, values in seconds.items()}
           for peer in ("eager", *PEERS, "tensorflow") if peer in seconds},
        **({"to_fp32": {"bf16": median_ratio(seconds[default], seconds["bf16"])}} if "bf16" in seconds else {}),
        **{what: _small(rounds, what) for what in ("sample", "step")},
    }


def _small(rounds: Rounds, what: str) -> dict[str, Any]:
    """The numbers of sampling or acting: seconds by round, the median in ms, and the ratios to the others."""
    seconds = {key.partition(" ")[2]: values for key, values in rounds.items() if key.startswith(f"{what} ")}
    return {"seconds": seconds, "ms": {who: 1e3 * statistics.median(values) for who, values in seconds.items()},
            **{f"to_{peer}": median_ratio(seconds["ours"], seconds[peer]) for peer in seconds if peer != "ours"}}


# A whole run --------------------------------------------------------------------------------------------------------

def measure_environment(plan: Plan) -> dict[str, Any]:
    """Measure environment steps per second of whole runs (100 steps, then 100 updates) and of the environment alone."""
    how = dict(longest=plan.longest, every=plan.every)
    runs = {name: OurRun(name, ENV, str(plan.device), **how) for name in ("rrd-sac", "sac") if name in plan.only}
    runs["environment"] = BareRun(plan.longest)
    for run in runs.values():                           # the first updates make buffers that later ones reuse
        run(plan.every)
    turns = {name: fixed_turn(run, plan.env_steps) for name, run in runs.items()}
    others = turns_of(plan.peers, "run", steps=plan.env_steps, **how)
    turns |= {f"{who} sac": found["run"] for who, found in others.items()}
    seconds = take_turns(turns, plan.rounds)
    return {"env": ENV, "seconds": seconds,
            "per_second": {name: 1 / statistics.median(values) for name, values in seconds.items()},
            **{f"to_{peer.partition(' ')[0]}": {name: median_ratio(seconds[peer], values)
                                                for name, values in seconds.items()}
               for peer in (*(f"{who} sac" for who in PEERS), "environment") if peer in seconds}}


class BareRun:
    """Step the environment alone, with random actions."""

    def __init__(self, longest: int):
        self.env, self.random = make_bare(ENV, longest), np.random.default_rng(0)
        self.env.reset(seed=0)

    def __call__(self, steps: int) -> None:
        for action in self.random.uniform(-1, 1, (steps, *self.env.action_space.shape)).astype(np.float32):
            _, _, terminated, truncated, _ = self.env.step(action)
            if terminated or truncated:
                self.env.reset()


# Scaling -----------------------------------------------------------------------------------------------------------

def scaling_cases(plan: Plan) -> dict[str, tuple[str, int, dict[str, Any]]]:
    """Name -> (what varies, its value, the settings of RRD-SAC); "default" is what the others are compared with."""
    steps = min(plan.steps, SCALE_STEPS)
    vary = {"batch_size": [64, 512, 1024], "obs_dim": [11, 111, 376], "rrd_sample_size": [16, 32, 128, 256],
            "rrd_batch_size": [64, 512, 1024], "steps": sorted({max(steps // 10, 1), plan.steps} - {steps})}
    if plan.quick:
        vary = {what: values[:1] for what, values in vary.items()}
    cases = {"default": ("", 0, dict(steps=steps))}
    return cases | {f"{what} {value}": (what, value, dict(steps=steps) | {what: value})
                    for what, values in vary.items() for value in values}


def measure_scaling(plan: Plan) -> dict[str, Any]:
    """Measure a whole update of RRD-SAC's default engine as one setting at a time grows, relative to the default."""
    turns, flops, cases = {}, {}, scaling_cases(plan)
    for name, (_, _, changes) in cases.items():
        config = settings("rrd-sac", str(plan.device), **changes)
        engine = our_engine(config, filled_buffer(config))
        turns[name] = rate_turn(engine.run, plan.updates, plan.seconds)
        flops[name] = update_flops(engine.agent)
    seconds = take_turns(turns | ceilings(plan.device, plan.sizes), plan.rounds)
    ceiling = ceiling_of(seconds)
    rows = {name: {"varies": what, "value": value, "seconds": seconds[name], "mflop": flops[name] / 1e6,
                   "time_to_default": median_ratio(seconds[name], seconds["default"]),
                   "flops_to_default": flops[name] / flops["default"],
                   "share": median_ratio([flops[name] / (1e9 * gflops) for gflops in ceiling["ceiling_gflops"]],
                                         seconds[name])}
            for name, (what, value, _) in cases.items()}
    return {"algorithm": "rrd-sac", "default_engine": engine.name, **ceiling, "rows": rows}


# Memory -------------------------------------------------------------------------------------------------------------

def held_bytes(device: torch.device) -> int | None:
    """Bytes of resident memory of this process, or allocated on the GPU; None if the system does not say."""
    if device.type == "cuda":
        synchronize()
        return torch.cuda.memory_allocated(device)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * resource.getpagesize()


def measure_memory(plan: Plan) -> dict[str, Any]:
    """Measure the memory of a filled replay and the agent. Do this first, before the process holds memory to reuse."""
    device = str(plan.device)
    kept = _warm_engine(device)  # noqa: F841 (else the measured one would reuse its memory)
    start = held_bytes(plan.device)
    config = settings("rrd-sac", device, plan.steps)
    buffer = filled_buffer(config)
    filled = held_bytes(plan.device)
    engine = our_engine(config, buffer)
    engine.run(plan.updates)
    trained = held_bytes(plan.device)
    known = start is not None
    state = engine.agent.state_dict().values()
    return {"steps": plan.steps, "replay_bytes": filled - start if known else None,
            "replay_least_bytes": plan.steps * 4 * (2 * OBS + ACTS + 2),
            "replay_sb3_bytes": replay_bytes(plan.peers, "sb3", plan.steps),
            "agent_bytes": trained - filled if known else None,
            "agent_state_bytes": sum(tensor.nbytes for tensor in state)}


def _warm_engine(device: str) -> Engine:
    """Load libraries and start threads, whose memory is not the measured agent's."""
    config = settings("rrd-sac", device, EPISODE)
    engine = our_engine(config, filled_buffer(config))
    engine.run(2)
    return engine


# Where the time goes ------------------------------------------------------------------------------------------------

def profile(plan: Plan, engine: str, rows: int = 25) -> str:
    """torch.profiler's table of RRD-SAC's updates by one engine, with both its threads."""
    from torch._C._profiler import _ExperimentalConfig
    config = settings("rrd-sac", str(plan.device), min(plan.steps, SCALE_STEPS))
    one = our_engine(config, filled_buffer(config), engine)
    one.run(plan.updates)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if plan.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    all_threads = _ExperimentalConfig(profile_all_threads=True)           # the manual engine's second thread, too
    with torch.profiler.profile(activities=activities, experimental_config=all_threads, acc_events=True) as found:
        one.run(plan.updates)
        synchronize()
    return found.key_averages().table(sort_by=f"self_{plan.device.type}_time_total", row_limit=rows)

