"""The comparison of the TorchRL pipeline with our own trainer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.torchrl_pipeline import OURS, THEIRS, Training, main


@pytest.mark.slow
def test_the_table_compares_both(capsys):
    assert main(["--worlds", "2", "--rounds", "1", "--seconds", "0.01", "--json", "rows.json"]) == 0
    rows = json.loads(Path("rows.json").read_text())
    assert [(row["worlds"], row["what"]) for row in rows] == [("2", "whole"), ("2", "step"), ("2", "sample")]
    assert all(float(row["ratio"]) > 0 and float(row["TorchRL pipeline"]) > 0 for row in rows)
    assert "own trainer" in capsys.readouterr().out


def test_both_make_an_update_every_four_joint_steps():
    for which in (OURS, THEIRS):
        run = Training(which, 3, "cpu", longest=4)
        before, steps = run.engine.agent.updates, run.learner.due
        run(24)
        assert run.engine.agent.updates - before == 6
        assert run.learner.due - steps == 24
        run.open.close()
