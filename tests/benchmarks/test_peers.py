"""The libraries that are compared with ours: their turns, their threads, and the tables with and without them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from benchmarks import peers, report, sections
from benchmarks.child import Lost
from benchmarks.stable_baselines import Answers
from benchmarks.timing import take_turns

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parent.parent.parent


class Fake:
    """Answers as `benchmarks.stable_baselines` does, in no time."""

    def __init__(self, *fails: str):
        self.fails, self.asked = fails, []

    def ask(self, what, **arguments):
        self.asked.append((what, arguments))
        if what in self.fails:
            raise Lost
        return {"algorithm": ["update", "sample", "step"], "run": ["run"], "turn": 0.25, "replay_bytes": 64}[what]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(peers, "PAUSE", 0.0)


def plan(**changes):
    return sections.Plan(CPU, rounds=2, steps=1000, only=("sac",), engines=("eager",), tensorflow=False, quick=True,
                         **changes)


# Turns ---------------------------------------------------------------------------------------------------------------

def test_each_peer_gets_ready_for_the_same_work_as_ours():
    both = {"sb3": Fake(), "sbx": Fake()}
    made = plan(peers=both)
    turns = sections._peers_turns(made, "td3")
    assert set(turns) == {"update sb3", "sample sb3", "step sb3", "update sbx", "step sbx"}     # SBX's replay is SB3's
    for fake in both.values():
        assert fake.asked == [("algorithm", dict(basis="td3", steps=1000, count=made.updates, seconds=made.seconds,
                                                 calls=made.calls))]
    assert turns["update sbx"]() == 0.25
    assert both["sbx"].asked[-1] == ("turn", {"name": "update"})


def test_peers_have_no_return_decomposition():
    fake = Fake()
    assert sections._peers_turns(plan(peers={"sb3": fake}), "rrd-sac") == {}
    assert fake.asked == []


def test_a_peer_that_cannot_get_ready_has_no_turns():
    assert set(peers.turns_of({"sb3": Fake("run"), "sbx": Fake()}, "run")) == {"sbx"}


def test_a_turn_that_fails_has_no_results_and_the_others_all_of_theirs():
    lost = iter([1.0, 2.0])

    def fails():
        for value in lost:
            return value
        raise Lost
    found = take_turns({"a": lambda: 1.0, "b": fails, "c": lambda: 3.0}, 4)
    assert found == {"a": [1.0] * 4, "c": [3.0] * 4}


def test_it_sleeps_before_and_after_a_turn(monkeypatch):
    order, fake = [], Fake()
    monkeypatch.setattr(peers, "PAUSE", 0.125)
    monkeypatch.setattr(peers.time, "sleep", order.append)
    fake.ask = lambda what, name: order.append(name) or 0.5
    assert peers.turn(fake, "update") == 0.5
    assert order == [0.125, "update", 0.125]


def test_the_bytes_of_a_replay_are_the_peers_or_unknown():
    assert peers.replay_bytes({"sb3": Fake()}, "sb3", 10) == 64
    assert peers.replay_bytes({"sb3": Fake("replay_bytes")}, "sb3", 10) is None
    assert peers.replay_bytes({}, "sb3", 10) is None


# Which ---------------------------------------------------------------------------------------------------------------

def test_a_peer_that_is_not_installed_is_a_note_that_names_the_extra(monkeypatch):
    notes = []
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    monkeypatch.setitem(sys.modules, "sbx", None)
    assert peers.find_peers(CPU, 2, notes.append) == {}
    assert [note.partition(":")[0] for note in notes] == ["stable-baselines3", "sbx-rl"]
    assert all("pip install -e '.[bench]'" in note for note in notes)


def test_a_peer_gets_our_threads_and_our_device():
    pytest.importorskip("stable_baselines3")
    found = peers.find_peers(CPU, 3, print)["sb3"]
    assert found.process is None                        # it is not started before it has something to do
    assert {name: found.env[name] for name in ("OMP_NUM_THREADS", "NPROC", "JAX_PLATFORMS")} == {
        "OMP_NUM_THREADS": "3", "NPROC": "3", "JAX_PLATFORMS": "cpu"}


def test_all_processes_are_closed_also_after_an_error():
    closed = []

    class One:
        def close(self):
            closed.append(self)
    with pytest.raises(KeyboardInterrupt), peers.closing({"sb3": One(), "sbx": One()}):
        raise KeyboardInterrupt
    assert len(closed) == 2


# The other side ------------------------------------------------------------------------------------------------------

def test_its_turns_make_updates_of_the_asked_sizes():
    answers = Answers(pytest.importorskip("stable_baselines3"), "cpu")
    assert answers.algorithm("td3", steps=500, count=2, seconds=0.0, calls=2) == ["update", "sample", "step"]
    model = answers.turns["sample"].args[0].__self__.model
    assert (model.batch_size, model.replay_buffer.size()) == (256, 500)
    before = model._n_updates                           # the first ones warm up
    assert answers.turn("update") > 0
    assert model._n_updates - before == 2
    assert answers.replay_bytes(500) == 500 * (4 * (2 * 27 + 8 + 1) + 4 + 4)        # done and timeout are floats


THREADS = """
import collections, pathlib, sys
import jax
jax.numpy.ones((64, 64)).sum().block_until_ready()
names = collections.Counter(path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm"))
print(names["tf_XLAEigen"])
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("sbx") is None, reason="needs the extra bench")
def test_sbx_computes_with_as_many_threads_as_it_is_given():
    for threads in (1, 3):
        done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True,
                              env=os.environ | peers.limits(CPU, threads))
        assert int(done.stdout) == threads


@pytest.mark.slow
@pytest.mark.skipif(find_spec("sbx") is None, reason="needs the extra bench")
def test_sbx_is_measured_in_its_process():
    notes = []
    found = {"sbx": peers.find_peers(CPU, 1, notes.append)["sbx"]}
    with peers.closing(found):
        turns = peers.turns_of(found, "algorithm", basis="ddpg", steps=500, count=2, seconds=0.0, calls=2)["sbx"]
        assert min(turns[name]() for name in peers.PEERS["sbx"].turns) > 0
        assert peers.turns_of(found, "run", longest=100, every=10, steps=10)["sbx"]["run"]() > 0
    assert notes == []


SHAPES = """
import math

import jax
import sbx
from benchmarks.stable_baselines import Model
from benchmarks.task import Spaces
for name in ("sac", "td3", "ddpg"):
    policy = Model(sbx, name, Spaces(), "cpu", buffer_size=10).model.policy
    kernels = [leaf.shape for state in (policy.actor_state, policy.qf_state)
               for leaf in jax.tree.leaves(state.params) if leaf.ndim == (2 if state is policy.actor_state else 3)]
    types = {leaf.dtype.name for leaf in jax.tree.leaves((policy.actor_state.params, policy.qf_state.params))}
    print(name, sum(map(math.prod, kernels)), *types)
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("sbx") is None, reason="needs the extra bench")
def test_sbxs_networks_are_as_wide_as_ours_in_float32():
    done = subprocess.run([sys.executable, "-c", SHAPES], capture_output=True, text=True, check=True, cwd=ROOT)
    weights = {"sac": 27 * 256 + 256 * 256 + 256 * 16 + 2 * (35 * 256 + 256 * 256 + 256),
               "td3": 27 * 256 + 256 * 256 + 256 * 8 + 2 * (35 * 256 + 256 * 256 + 256),
               "ddpg": 27 * 400 + 400 * 300 + 300 * 8 + 35 * 400 + 400 * 300 + 300}
    assert done.stdout.split("\n")[:3] == [f"{name} {count} float32" for name, count in weights.items()]


# Tables --------------------------------------------------------------------------------------------------------------

def found_updates(*others: str) -> dict:
    """The figures of an algorithm, beside some peers."""
    who = ("eager", "manual", *others)
    return {"mflop": 596.2, "default_engine": "manual", "ceiling_gflops": [100.0], "products_gflops": {"mm": [100.0]},
            "per_second": {name: 10.0 * i for i, name in enumerate(who, 1)}, "share": dict.fromkeys(who, 0.5),
            "to_eager": {name: float(i) for i, name in enumerate(who, 1)},
            **{f"to_{peer}": {name: i + 0.25 for i, name in enumerate(who)} for peer in others},
            "sample": {"ms": {"ours": 0.2}, "to_floor": 3.0, **({"to_sb3": 0.5} if "sb3" in others else {})},
            "step": {"ms": {"ours": 0.1}, "to_floor": 4.0, **{f"to_{peer}": 0.5 for peer in others}}}


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n") if line[:1] == "|"]


def test_a_table_of_updates_has_a_column_and_a_row_for_each_peer():
    head, _, _, ours, sb3, sbx = cells(report.updates_table({"sac": found_updates("sb3", "sbx")}))
    assert head == ["updates", "by", "/s", "MFLOP", "of ceiling", "x eager", "x SB3", "x SBX"]
    assert ours[1:3] == ["manual (default)", "20.0"]
    assert ours[-3:] == ["2.00", "1.25", "1.25"]
    assert (sb3[1], sbx[1]) == ("SB3", "SBX")


def test_without_sbx_it_has_neither():
    table = report.updates_table({"sac": found_updates("sb3")})
    assert cells(table)[0][-2:] == ["x eager", "x SB3"]
    assert "SBX" not in table
    small = report.small_table({"sac": found_updates("sb3")})
    assert cells(small)[0] == ["", "sample, ms", "x bare gather", "x SB3's", "one step, ms", "x bare products",
                               "x SB3's"]


def test_sbx_has_no_sample_of_its_own():
    head, _, row = cells(report.small_table({"sac": found_updates("sb3", "sbx")}))
    assert head[-4:] == ["one step, ms", "x bare products", "x SB3's", "x SBX's"]
    assert head[1:4] == ["sample, ms", "x bare gather", "x SB3's"]
    assert row == ["sac", "0.200", "3.0", "0.50", "0.100", "4.0", "0.50", "0.50"]


def test_runs_of_both_are_in_the_table_of_the_environment():
    runs = ("rrd-sac", "environment", "sb3 sac", "sbx sac")
    found = {"env": "HalfCheetah-v4", "per_second": dict.fromkeys(runs, 100.0),
             **{f"to_{peer}": dict.fromkeys(runs, ratio) for peer, ratio in (("sb3", 2.0), ("sbx", 3.0),
                                                                             ("environment", 0.1))}}
    rows = cells(report.environment_table(found))
    assert rows[0] == ["HalfCheetah-v4", "steps/s", "x SB3", "x SBX", "of the environment's"]
    assert [row[0] for row in rows[2:]] == ["rrd-sac", "environment alone", "SB3's sac", "SBX's sac"]
    assert rows[2][2:4] == ["2.00", "3.00"]


def test_bf16_is_compared_with_the_default_engine_in_fp32():
    rounds = {"update manual": [4.0, 8.0], "update bf16": [2.0, 2.0], "ceiling mm": [1.0, 1.0],
              "sample ours": [1.0], "step ours": [1.0]}
    found = sections.summary(rounds, 1_000_000, "manual")
    assert found["to_fp32"] == {"bf16": 3.0}                # by round 2 and 4
    shown = cells(report.updates_table({"rrd-sac": found | {"default_engine": "manual"}}))
    assert shown[0][5] == "x fp32"
    assert [row[5] for row in shown[2:]] == ["", "3.00"]
