"""The targets of the speed benchmark, and the facts of a machine that decide which are measured."""

from __future__ import annotations

import pytest
import torch

from benchmarks.machine import describe_machine
from benchmarks.report import targets_table
from benchmarks.targets import TARGETS, targets
from utils import precision


def reachable() -> dict:
    """The figures of a run in which every target is just reached."""
    def of(**figures):
        return {"default_engine": "manual"} | {what: {"manual": value, "eager": 0.0} for what, value in figures.items()}
    rrd = of(share=0.6) | {"to_fp32": {"bf16": 1.8}, "sample": {"ms": {"ours": 0.29}}, "step": {"ms": {"ours": 0.11}}}
    return {"machine": {"bf16": "AMX"},
            "updates": {"rrd-sac": rrd, "rrd-td3": of(share=0.5), "rrd-ddpg": of(share=0.5),
                        "sac": of(to_sb3=2.5, to_sbx=1.5), "td3": of(to_eager=1.5)},
            "environment": {"to_sb3": {"rrd-sac": 2.0}},
            "games": {"default_engine": "eager", "share": {"eager": 0.7}},
            "memory": {"steps": 500_000, "replay_bytes": 149_000_000}}


def test_all_are_reached_at_their_very_values():
    found = {row["name"]: (row["value"], row["target"], row["reached"], row["needs"]) for row in targets(reachable())}
    assert found == {
        "rrd-sac, of the ceiling": (0.6, ">= 0.6", True, None),
        "rrd-td3, of the ceiling": (0.5, ">= 0.5", True, None),
        "rrd-ddpg, of the ceiling": (0.5, ">= 0.5", True, None),
        "sac, times SBX's rate": (1.5, ">= 1.5", True, None),
        "sac, times SB3's rate": (2.5, ">= 2.5", True, None),
        "td3, times eager": (1.5, ">= 1.5", True, None),
        "rrd-sac in bf16, times fp32": (1.8, ">= 1.8", True, None),
        "a run of rrd-sac, times SB3's sac": (2.0, ">= 2", True, None),
        "rrd-dqn, of its convolutions": (0.7, ">= 0.7", True, None),
        "rrd-sac, sample, ms": (0.29, "< 0.3", True, None),
        "rrd-sac, one exploring step, ms": (0.11, "< 0.12", True, None),
        "replay of a million steps, MB": (298.0, "< 300", True, None)}


@pytest.mark.parametrize(("part", "value", "row"), [
    (("updates", "sac", "to_sbx", "manual"), 1.49, "sac, times SBX's rate"),
    (("updates", "rrd-sac", "share", "manual"), 0.59, "rrd-sac, of the ceiling"),
    (("updates", "rrd-sac", "sample", "ms", "ours"), 0.3, "rrd-sac, sample, ms"),
    (("games", "share", "eager"), 0.69, "rrd-dqn, of its convolutions"),
    (("memory", "replay_bytes"), 150_000_000, "replay of a million steps, MB"),
])
def test_one_that_is_missed_is_not_reached(part, value, row):
    results = reachable()
    place = results
    for key in part[:-1]:
        place = place[key]
    place[part[-1]] = value
    missed = [one for one in targets(results) if not one["reached"]]
    assert [(one["name"], one["reached"], one["needs"]) for one in missed] == [(row, False, None)]


def test_what_was_not_measured_says_what_it_needs():
    rows = targets({"machine": {"bf16": None}})
    assert len(rows) == len(TARGETS)
    assert all(row["value"] is row["reached"] is None and row["needs"] for row in rows)
    table = targets_table(rows)
    assert "not measured: needs updates of sac, and SBX" in table
    assert "not measured: needs updates of rrd-sac, and AMX" in table


@pytest.mark.parametrize("bf16", [None, "AVX512-BF16"])
def test_bf16_is_judged_where_there_is_amx_alone(bf16):
    results = reachable() | {"machine": {"bf16": bf16}}
    (row,) = (row for row in targets(results) if not row["reached"])
    assert (row["name"], row["value"], row["reached"]) == ("rrd-sac in bf16, times fp32", None, None)


def test_a_peer_or_memory_that_is_missing_is_not_measured():
    results = reachable()
    del results["updates"]["sac"]["to_sbx"]
    results["environment"] = {}
    results["memory"]["steps"] = 2000
    assert [row["name"] for row in targets(results) if row["reached"] is None] == [
        "sac, times SBX's rate", "a run of rrd-sac, times SB3's sac", "replay of a million steps, MB"]


@pytest.mark.parametrize(("units", "found"), [
    (["AVX512-BF16", "AMX"], "AMX"), (["AVX512-BF16"], "AVX512-BF16"), ([], None)])
def test_instructions_for_bfloat16_are_those_that_a_run_would_use(monkeypatch, units, found):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    for unit, name in precision.UNITS.items():
        monkeypatch.setattr(torch.cpu, name, lambda unit=unit: unit in units, raising=False)
    assert describe_machine(torch.device("cpu"))["bf16"] == found
