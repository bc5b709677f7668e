"""The comparison of bf16 with fp32: its table and its suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bf16.speed import main
from sweeps.suite import read_suite

SUITE = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "bf16" / "halfcheetah.json"


@pytest.mark.slow
def test_the_table_has_rates_and_differences(capsys):
    """SAC's losses in bf16 are off, and not far."""
    assert main(["--only=sac", "--rounds=1", "--updates=1", "--steps=1000"]) == 0
    machine, head, _, row = capsys.readouterr().out.splitlines()
    assert ":" in machine
    names, values = ([cell.strip() for cell in line.split("|")] for line in (head, row))
    cells = dict(zip(names, values, strict=True))
    assert cells["kernels"].startswith("bf16-")
    assert 0 < float(cells["off"]) < 0.05
    assert float(cells["fp32/s"]) > 0


def test_the_suite_differs_in_precision_alone():
    trials = read_suite(SUITE, "0-2", [])
    assert [(trial.config.seed, trial.config.precision) for trial in trials] == [
        (seed, precision) for seed in range(3) for precision in ("fp32", "bf16")]
    assert {(trial.config.alg, trial.config.env, trial.config.run_length) for trial in trials} == {
        ("rrd", "HalfCheetah-v4", 100_000)}
