"""Engines on a GPU: 200 updates, replayed graphs, stacks of seeds, what acts.

Most tests run on the CPU as well, with fewer updates. There a captured engine computes each time what it would capture
(`no_graphs`), so that only graphs, streams and CUDA's kernels are left to the GPU.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from agents import IDS, PAIRS
from engines import SAME, build, copies, distance, float64

from algorithm.engine import Engine, create_engine
from algorithm.engine.by_hand.engine import ManualEngine
from algorithm.engine.captured import CapturedEngine
from algorithm.engine.seeds.captured import CapturedStack
from utils.errors import ConfigError

GPU = pytest.param("cuda", marks=pytest.mark.cuda)
UPDATES = {"cpu": 10, "cuda": 50}       # of each of four runs
# An optimiser's rate is a float32 in a graph and a Python number elsewhere, which are up to 6e-8 apart. After 200
# updates the agents are 1e-8 to 1e-7 apart.
RATES = 1e-5


@pytest.fixture(params=["cpu", GPU])
def device(request) -> str:
    if request.param == "cpu":
        request.getfixturevalue("no_graphs")
    return request.param


@pytest.fixture
def _float64():
    """See `engines.float64`: in float32 two correct engines are far apart after 200 updates."""
    with float64():
        yield


class Unreplayed(CapturedEngine):
    """Computes each update anew, as one is computed before it is captured."""

    _run = CapturedEngine._compute          # what `no_graphs` does on the CPU


def engine_of(name: str, agent, buffer) -> Engine:
    """As `--engine=NAME` makes it; an agent of float64 is as one of fp32."""
    return create_engine(dataclasses.replace(agent.config, engine=name), agent, buffer)[0]


def means(sums) -> dict[str, float]:
    return {name: float(total) / count for name, total, count in sums.items()}


def after(make, pair: tuple, device: str, runs: int = 4, updates: int | None = None, **option):
    """The states before and after, the metrics of the last run, and the engine."""
    agent, buffer = build(*pair, device=device, **option)
    updates = updates or UPDATES[device]
    start, engine = copies(agent), make(agent, buffer)
    for _ in range(runs):
        sums = engine.run(updates)
    assert agent.updates == runs * updates
    return start, copies(agent), means(sums), engine


# 200 updates --------------------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("pair", PAIRS, ids=IDS)
def test_200_captured_updates_follow_the_eager_engine(pair, device):
    start, expected, metrics, _ = after(Engine, pair, device)
    _, got, ours, engine = after(partial(engine_of, "cudagraph"), pair, device)
    assert type(engine) is CapturedEngine
    assert distance(got, expected, start) < RATES
    assert ours == pytest.approx(metrics, rel=RATES, abs=RATES)


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("pair", [("rrd", "sac"), ("uniform", "td3"), ("ddpg", None)], ids=str)
def test_200_replayed_updates_are_those_that_are_computed_each_time(pair, device):
    """Only the graph differs, so that nothing but its kernels' order of sums may."""
    start, expected, metrics, _ = after(Unreplayed, pair, device)
    _, got, ours, engine = after(CapturedEngine, pair, device)
    assert len(engine.sums) == 2                        # kinds of updates: with the targets' move, and without
    assert len(engine.graphs) == (2 if device == "cuda" else 0)
    assert distance(got, expected, start) < SAME
    assert ours == pytest.approx(metrics, rel=SAME, abs=SAME)


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("runs", [(1, 2, 3, 4), (7, 3), (10,)], ids=str)
def test_how_updates_are_divided_into_runs_changes_nothing(runs, device):
    """Warm updates, a capture and replays follow each other wherever a run ends."""
    start, expected, _, _ = after(Engine, ("rrd", "td3"), device, runs=1, updates=10)
    agent, buffer = build("rrd", "td3", device=device)
    engine = engine_of("cudagraph", agent, buffer)
    for updates in runs:
        engine.run(updates)
    assert distance(copies(agent), expected, start) < RATES


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("pair", [("rrd", "sac"), ("rrd", "td3"), ("ddpg", None)], ids=str)
def test_episodes_that_arrive_between_runs_are_drawn_from(pair, device):
    """A graph reads the extent of the replay on the device, also once the ring has wrapped."""
    found = []
    for name in ("eager", "cudagraph"):
        agent, buffer = build(*pair, device=device)
        start, engine = copies(agent), engine_of(name, agent, buffer)
        engine.run(12)
        for number in range(20):                        # of 40 steps, into a ring of 500
            buffer.store_episode(random_episode(number))
            engine.run(3)
        found.append(copies(agent))
    assert distance(found[1], found[0], start) < RATES


def random_episode(seed: int, length: int = 40) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {"obs": 11, "obs_next": 11, "rews": 1, "acts": 3}
    episode = {name: random.standard_normal((length, width)).astype(np.float32) for name, width in shapes.items()}
    return episode | {"acts": np.tanh(episode["acts"]), "done": np.zeros((length, 1), np.float32)}


# Precisions and engines ---------------------------------------------------------------------------------------------

@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("pair", [("rrd", "sac"), ("sac", None), ("ddpg", None)], ids=str)
def test_a_graph_of_each_precision_stays_near_eager(pair, precision):
    option = dict(runs=3, updates=3, precision=precision)
    start, expected, metrics, _ = after(partial(engine_of, "eager"), pair, "cuda", **option)
    _, got, ours, _ = after(partial(engine_of, "cudagraph"), pair, "cuda", **option)
    assert distance(got, expected, start) < 0.3         # float32's own chaos: see `engines.float64`
    assert ours == pytest.approx(metrics, rel=0.1, abs=0.1)
    assert all(tensor.isfinite().all() for tensor in got.values())


@pytest.mark.cuda
def test_tf32_holds_for_its_own_engine_alone():
    a, b = (torch.randn(512, 512, device="cuda") for _ in "ab")
    exact, errors = a.double() @ b.double(), {}
    for precision in ("fp32", "tf32", "bf16"):
        engine_of("eager", *build(device="cuda", precision=precision))
        errors[precision] = float((a @ b - exact).abs().max())
    assert errors["fp32"] < 1e-3 < errors["tf32"]
    assert errors["bf16"] < 1e-3                        # autocast is the agent's; what is outside of it is float32


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("pair", PAIRS, ids=IDS)
def test_gradients_by_hand_follow_autograd(pair, device):
    start, expected, metrics, _ = after(partial(engine_of, "eager"), pair, device, runs=3, updates=3)
    _, got, ours, engine = after(partial(engine_of, "manual"), pair, device, runs=3, updates=3)
    assert type(engine) is ManualEngine
    assert distance(got, expected, start) < SAME
    assert ours == pytest.approx(metrics, rel=SAME, abs=SAME)


@pytest.mark.cuda
def test_auto_takes_a_graph_where_agent_and_replay_are_on_one_gpu():
    agent, buffer = build(device="cuda")
    assert type(engine_of("auto", agent, buffer)) is CapturedEngine
    _, elsewhere = build(device="cpu")
    assert type(engine_of("auto", agent, elsewhere)) is ManualEngine
    with pytest.raises(ConfigError, match=r"engine: got 'cudagraph', with the agent on cuda\S* and the replay on cpu"):
        engine_of("cudagraph", agent, elsewhere)


@pytest.mark.parametrize("name", ["eager", "manual"])
def test_a_replay_elsewhere_is_drawn_from(name, device):
    agent, _ = build(device=device)
    _, buffer = build(device="cpu")
    before = copies(agent)
    engine_of(name, agent, buffer).run(5)
    assert agent.updates == 5
    assert distance(copies(agent), before, {key: value + 1 for key, value in before.items()}) > 0


# Acting -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("pair", [("rrd", "sac"), ("td3", None), ("ddpg", None)], ids=str)
def test_what_acts_on_the_cpu_has_the_weights_of_the_last_update(pair, device):
    _, _, _, engine = after(partial(engine_of, "cudagraph"), pair, device, runs=3, updates=4)
    assert engine.actor is not engine.agent
    assert engine.actor.device.type == "cpu"
    theirs = engine.agent.nets.state_dict()
    for name, tensor in engine.actor.nets.state_dict().items():
        torch.testing.assert_close(tensor, theirs[name].cpu(), rtol=0, atol=0)
    for obs in (np.ones(11, np.float32), np.ones((5, 11), np.float32)):
        np.testing.assert_allclose(engine.actor.step(obs), engine.agent.step(obs), rtol=1e-4, atol=1e-5)


# Seeds --------------------------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("pair", [("rrd", "sac"), ("rrd", "td3"), ("ircr", "ddpg"), ("sac", None)], ids=str)
def test_200_updates_of_a_stack_are_those_of_each_agent_alone(pair, device):
    alone, together = ([build(*pair, device=device, seed=seed) for seed in (1, 2, 3)] for _ in "ab")
    starts = [copies(agent) for agent, _ in alone]
    metrics, updates = [], UPDATES[device]
    for agent, buffer in alone:
        engine = CapturedEngine(agent, buffer)
        engine.run(3 * updates)
        metrics.append(means(engine.run(updates)))
    stack = CapturedStack(*zip(*together, strict=True))
    stack.run(3 * updates)
    sums = stack.run(updates)
    for i, ((single, _), (agent, _), start) in enumerate(zip(alone, together, starts, strict=True)):
        assert distance(copies(agent), copies(single), start) < RATES
        assert means(sums.of(i)) == pytest.approx(metrics[i], rel=RATES, abs=RATES)
    for actor, (agent, _) in zip(stack.actors, together, strict=True):
        obs = np.ones(11, np.float32)
        np.testing.assert_allclose(actor.step(obs), agent.step(obs), rtol=1e-4, atol=1e-5)
