"""The speed benchmark: its counts, its file, and its ratios of times."""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from algorithm import create_agent
from benchmarks import speed
from benchmarks.contestants import filled_buffer, our_engine, settings
from benchmarks.flops import Net, update_flops
from benchmarks.peers import PEERS
from benchmarks.sections import ALGORITHMS, summary
from benchmarks.stable_baselines import Model
from benchmarks.task import Spaces
from benchmarks.timing import fixed_turn, median_ratio, take_turns

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "performance.md").read_text(encoding="utf-8")

# Counts --------------------------------------------------------------------------------------------------------------

# Multiply-adds of one row, by hand: 27 observations, 8 actions. Of the weights' gradients as many as forward, of the
# layers' inputs all but the first layer's.
CRITIC = 35 * 256 + 256 * 256 + 256 * 1                                 # 74 752
FIT = CRITIC + CRITIC + (256 * 256 + 256 * 1)                           # forward and backward
CLIMB = CRITIC + (256 * 1 + 256 * 256 + 8 * 256)                        # forward, and back to the eight actions
POLICY = 27 * 256 + 256 * 256 + 256 * 16                                # mean and log std
LEARN = POLICY + POLICY + (256 * 256 + 256 * 16)
SAC_ROW = POLICY + 2 * CRITIC + 2 * FIT + LEARN + 2 * CLIMB             # 1 164 544
REWARD = 62 * 256 + 256 * 256 + 256 * 1
REWARD_ROW = REWARD + REWARD + REWARD + (256 * 256 + 256 * 1)           # predicted, and learned from another row
POLICY_TD3 = 27 * 256 + 256 * 256 + 256 * 8
TD3_ROW = POLICY_TD3 + 2 * CRITIC + 2 * FIT + (3 * POLICY_TD3 - 27 * 256 + CLIMB) / 2
CRITIC_DDPG = 27 * 400 + 408 * 300 + 300 * 1                            # the action joins the second layer
POLICY_DDPG = 27 * 400 + 400 * 300 + 300 * 8
DDPG_ROW = (POLICY_DDPG + CRITIC_DDPG + CRITIC_DDPG + CRITIC_DDPG + (400 * 300 + 300 * 1)
            + 3 * POLICY_DDPG - 27 * 400 + CRITIC_DDPG + (300 * 1 + 8 * 300))


@pytest.mark.parametrize(("name", "row"), [
    ("sac", SAC_ROW), ("rrd-sac", SAC_ROW + REWARD_ROW), ("td3", TD3_ROW), ("rrd-td3", TD3_ROW + REWARD_ROW),
    ("ddpg", DDPG_ROW), ("rrd-ddpg", DDPG_ROW + REWARD_ROW),
])
def test_operations_of_an_update_are_those_worked_by_hand(name, row):
    assert update_flops(create_agent(settings(name, "cpu", 1000))) == 2 * 256 * row


def test_the_two_that_the_targets_are_about():
    assert update_flops(create_agent(settings("sac", "cpu", 1000))) == 596_246_528
    assert update_flops(create_agent(settings("rrd-sac", "cpu", 1000))) == 755_367_936


def test_rows_are_the_batchs_and_the_sub_sequences():
    config = settings("rrd-sac", "cpu", 1000, batch_size=10, rrd_batch_size=70, rrd_sample_size=32)    # two of 32
    assert update_flops(create_agent(config)) == 2 * (10 * (SAC_ROW + REWARD) + 64 * (REWARD_ROW - REWARD))


# What autograd computes beyond that where the policy climbs: back to the critic's observations, too. DDPG's critic:
# back to its first layer's output, which the action joins; and to the data's action where it is fitted.
MORE = {"sac": 2 * 27 * 256, "td3": 27 * 256 / 2, "ddpg": 400 * 300 + 8 * 300}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_autograd_computes_what_is_counted_and_little_more(name):
    config = settings(name, "cpu", 1000)
    engine = our_engine(config, filled_buffer(config), "eager")
    with FlopCounterMode(display=False) as counter:
        engine.run(2)
    more = 2 * 256 * MORE[name.removeprefix("rrd-")]
    assert counter.get_total_flops() / 2 == update_flops(engine.agent) + more


def test_a_networks_shape_is_read_from_its_layers():
    agent = create_agent(settings("ddpg", "cpu", 1000))
    assert Net.of(agent.critic) == Net(27, (400, 300), 1, late=8)
    assert Net.of(agent.policy) == Net(27, (400, 300), 8)


# Turns ---------------------------------------------------------------------------------------------------------------

def test_every_contestant_has_a_turn_in_each_round_and_none_is_always_first():
    order = []
    turns = {name: lambda name=name: order.append(name) or float(len(order)) for name in "abc"}
    rounds = take_turns(turns, 3)
    assert "".join(order) == "abc" "bca" "cab"
    assert rounds == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_the_time_of_a_turn_is_per_unit(monkeypatch):
    clock = iter([10.0, 16.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert fixed_turn(lambda count: None, count=4, calls=3)() == 0.5


def test_a_ratio_is_taken_within_its_round():
    assert median_ratio([1, 20, 3], [2, 20, 9]) == 0.5           # and not that of the medians, 3 / 9


def test_figures_follow_from_the_rounds():
    rounds = {"update manual": [0.01, 0.02], "update sb3": [0.03, 0.04], "ceiling mm": [100.0, 20.0],
              "ceiling onednn": [60.0, 50.0],
              "sample ours": [1e-4, 3e-4], "sample floor": [1e-5, 1e-5], "step ours": [1e-4], "step floor": [5e-5]}
    found = summary(rounds, flops=500_000_000, default="manual")
    assert found["per_second"]["manual"] == pytest.approx(1 / 0.015)
    assert found["share"]["manual"] == pytest.approx(0.5)       # 5 ms of 10, and 10 of 20
    assert found["to_sb3"] == pytest.approx({"manual": 2.5, "sb3": 1})
    assert found["sample"]["ms"]["ours"] == pytest.approx(0.2)
    assert found["sample"]["to_floor"] == pytest.approx(20)
    assert "to_eager" not in found


# The whole of it -----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The JSON file of a smoke run of everything."""
    path = tmp_path_factory.mktemp("bench") / "new" / "speed.json"
    assert speed.main(["--quick", "--rounds=3", "--out", str(path)]) == 0
    return json.loads(path.read_text())


@pytest.mark.slow
def test_every_documented_key_is_there(quick):
    listed = PAGE.partition("## The JSON file\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `([\w.<>]+)` \|", listed, re.MULTILINE)
    assert len(documented) >= 30
    for key in documented:
        if not key.endswith(("sb3", "sbx", "tensorflow", "fp32")):      # of what is installed, asked for or possible
            assert values_at(quick, key.split(".")), key
    assert set(quick) == {key.split(".")[0] for key in documented}


def values_at(value, parts: list[str]) -> list:
    """The values at a path, in which <any> is every key, or every element."""
    if not parts:
        return [value]
    if not parts[0].startswith("<"):
        return values_at(value[parts[0]], parts[1:]) if parts[0] in value else []
    inner = value.values() if isinstance(value, dict) else value
    return [found for one in inner for found in values_at(one, parts[1:])]


@pytest.mark.slow
def test_every_algorithm_and_engine_was_measured_in_each_round(quick):
    assert tuple(quick["updates"]) == ALGORITHMS
    for found in quick["updates"].values():
        assert {"eager", "manual"} <= set(found["seconds"])
        assert all(len(values) == 3 and min(values) > 0 for values in found["seconds"].values())
        assert len(found["ceiling_gflops"]) == 3


@pytest.mark.slow
def test_ratios_are_those_of_the_times(quick):
    for found in quick["updates"].values():
        for who, values in found["seconds"].items():
            assert math.isclose(found["per_second"][who], 1 / statistics.median(values))
            shares = [found["mflop"] / (1e3 * gflops * s)
                      for gflops, s in zip(found["ceiling_gflops"], values, strict=True)]
            assert math.isclose(found["share"][who], statistics.median(shares))
            assert math.isclose(found["to_eager"][who], by_round(found["seconds"]["eager"], values))
        for what in ("sample", "step"):
            seconds = found[what]["seconds"]
            assert math.isclose(found[what]["to_floor"], by_round(seconds["ours"], seconds["floor"]))
    run, scaling = quick["environment"], quick["scaling"]["rows"]
    for who, values in run["seconds"].items():
        assert math.isclose(run["to_environment"][who], by_round(run["seconds"]["environment"], values))
    for row in scaling.values():
        assert math.isclose(row["time_to_default"], by_round(row["seconds"], scaling["default"]["seconds"]))
        assert math.isclose(row["flops_to_default"], row["mflop"] / scaling["default"]["mflop"])


def by_round(one: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


@pytest.mark.slow
def test_stable_baselines3_is_measured_beside_ours(quick):
    pytest.importorskip("stable_baselines3")
    assert quick["updates"]["sac"]["sample"]["to_sb3"] > 0
    assert quick["memory"]["replay_sb3_bytes"] > 0
    check_peer(quick, "sb3")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("sbx") is None, reason="needs the extra bench")
def test_sbx_is_measured_beside_ours(quick):
    assert "to_sbx" not in quick["updates"]["sac"]["sample"]
    check_peer(quick, "sbx")


def check_peer(quick: dict, who: str) -> None:
    """Check the ratios to a peer."""
    for name in ("sac", "td3", "ddpg"):
        found = quick["updates"][name]
        assert math.isclose(found[f"to_{who}"]["manual"], by_round(found["seconds"][who], found["seconds"]["manual"]))
        assert found["step"][f"to_{who}"] > 0
    run = quick["environment"]
    assert math.isclose(run[f"to_{who}"]["rrd-sac"], by_round(run["seconds"][f"{who} sac"], run["seconds"]["rrd-sac"]))
    assert not any(PEERS[who].package in note for note in quick["notes"])


def test_stable_baselines3s_networks_are_as_wide_as_ours():
    sb3 = pytest.importorskip("stable_baselines3")
    for name in ("sac", "td3", "ddpg"):
        ours, theirs = create_agent(settings(name, "cpu", 1000)), Model(sb3, name, Spaces(), "cpu").model
        weights = [[w for w in module.parameters() if w.ndim == 2] for module in (ours.policy, theirs.actor)]
        assert sum(w.numel() for w in weights[0]) == sum(w.numel() for w in weights[1])
        critics = theirs.critic.q_networks
        assert len(critics) == (1 if name == "ddpg" else 2)
        assert [layer.out_features for layer in critics[0] if isinstance(layer, torch.nn.Linear)] == (
            [400, 300, 1] if name == "ddpg" else [256, 256, 1])


@pytest.mark.slow
def test_without_its_peers_there_are_notes_that_name_the_extra(monkeypatch, tmp_path, capsys):
    for peer in PEERS.values():
        monkeypatch.setitem(sys.modules, peer.module, None)
    assert speed.main(["--quick", "--only=sac", "--rounds=1", "--out", "speed.json"]) == 0
    found, printed = json.loads((tmp_path / "speed.json").read_text()), capsys.readouterr().out
    assert sum("pip install -e '.[bench]'" in note for note in found["notes"]) == len(PEERS)
    assert "note: stable-baselines3: is not installed" in " ".join(printed.split())
    assert not {"SB3", "SBX"} & set(printed.partition("updates")[2].partition("target")[0].split())
    assert set(found["updates"]) == {"sac"}
    assert not {"to_sb3", "to_sbx"} & set(found["updates"]["sac"] | found["environment"])
    theirs = [row for row in found["targets"] if re.search("SB[3X]", row["name"])]
    assert [(row["value"], row["reached"]) for row in theirs] == [(None, None)] * 3


@pytest.mark.parametrize("argv", [
    ["--only=sacc"], ["--sections=speed"], ["--rounds=0"], ["--rounds=many"], ["--steps=-1"], ["--quik"], ["sac"],
    ["--device=tpu"], ["--device=cuda:99"], ["--out=/dev/null/x"], ["--out=."],
])
def test_a_wrong_flag_gives_a_one_line_error_and_exit_code_2(argv, capsys):
    assert speed.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("speed.py: ")
    assert err.count("\n") == 1


def test_a_profile_shows_the_products_of_both_engines(capsys):
    assert speed.main(["--quick", "--profile"]) == 0
    eager, manual = capsys.readouterr().out.split("rrd-sac, manual")
    for table in (eager, manual):
        assert "aten::addmm" in table
        assert "Self CPU" in table
    assert "AddmmBackward0" in eager
    assert "AddmmBackward0" not in manual
