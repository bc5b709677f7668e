"""The files of a run, and its output on a terminal and in a pipe."""

from __future__ import annotations

import csv
import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from runs import SMALL, SMALL_RRD, run, run_on_terminal
from tensorboardX.proto.event_pb2 import Event

import train
from algorithm import create_agent
from record.directories import make_directory
from utils.settings.fields import Config
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

ROOT = Path(__file__).parent.parent.parent


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the events as TensorBoard does: records of (length, checksum, event, checksum)."""
    found: dict[str, list[tuple[int, float]]] = {}
    (path,) = (directory / "tensorboard").iterdir()
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event, data = Event.FromString(data[12:12 + length]), data[16 + length:]
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_a_run_writes_to_its_directory_only():
    finished = run(*SMALL_RRD, "--env=Hopper-v4", "--tag=my tag/RRD-L(RD)")
    assert re.fullmatch(r"my_tag_RRD-L\(RD\)-rrd-sac-Hopper-v4_\d{8}-\d{6}", finished.directory.name)
    assert os.listdir() == ["outputs"]
    assert len(os.listdir("outputs")) == 1
    files = {str(path.relative_to(finished.directory)) for path in finished.directory.rglob("*") if path.is_file()}
    assert {re.sub(r"/events\..*", "/events", re.sub(r"-\d.*\.safetensors", "-N", name)) for name in files} == {
        "config.json", "run.json", "metrics.csv", "tensorboard/events", "rews/Hopper-v4.npz",
        "checkpoints/last.safetensors", "checkpoints/best.safetensors", "checkpoints/resume/lock",
        *(f"checkpoints/resume/{chain}/{name}" for chain in "ab" for name in ("manifest.json", "state-N", "log-N"))}


def test_metrics_have_the_originals_names_one_row_a_cycle():
    finished = run(*SMALL_RRD, "--env=Match-v0", "--rrd_bias_correction=True", "--basis_alg=ddpg")
    assert list(finished.rows[0]) == [
        "Epoch", "Cycle", "Episodes", "Timesteps", "TimeCost(sec)/train", "TimeCost(sec)/test",
        "Pi_loss", "Q_loss", "Q_reg_loss", "R_loss", "R_var", "Q_average", "Steps", "Rewards",
        "train/return", "train/length"]
    assert [row["Timesteps"] for row in finished.rows] == ["40", "80", "120"]
    assert [row["Cycle"] for row in finished.rows] == ["0", "1", "2"]
    assert all(float(value) == float(value) for row in finished.rows for value in row.values())


def test_epoch_and_cycle_count_as_the_original_did():
    finished = run(*SMALL, "--alg=sac", "--env=Match-v0", "--cycles=2")
    assert [(row["Epoch"], row["Cycle"]) for row in finished.rows] == [("0", "0"), ("0", "1"), ("1", "0")]


def test_tensorboard_and_csv_agree():
    finished = run(*SMALL_RRD, "--env=Match-v0")
    board = scalars(finished.directory)
    for name in finished.rows[0]:
        ours = [(int(row["Timesteps"]), float(row[name])) for row in finished.rows if row[name]]
        tag = re.sub(r"[()]", "_", name)                            # TensorBoard's names have no parentheses
        np.testing.assert_allclose(board.pop(tag), ours, rtol=1e-5)
    assert not board


def test_returns_are_written_as_the_original_wrote_them():
    finished = run(*SMALL, "--alg=sac", "--env=Match-v0")
    info = finished.returns("Match-v0")
    assert info.dtype == np.float64
    expected = [(int(row["Timesteps"]), float(row["Rewards"])) for row in finished.rows]
    np.testing.assert_allclose(info, expected, rtol=1e-8)


def test_save_rews_off_and_evaluation_off():
    assert not (run(*SMALL, "--alg=sac", "--env=Match-v0", "--save_rews=False").directory / "rews").exists()
    finished = run(*SMALL, "--alg=sac", "--env=Match-v0", "--test_rollouts=0")
    assert not (finished.directory / "rews").exists()
    assert {row["Rewards"] for row in finished.rows} == {""}


def test_the_best_checkpoint_is_that_of_the_best_evaluation():
    finished = run(*SMALL, "--alg=sac", "--env=Match-v0", "--total_timesteps=240", "--test_rollouts=10")
    best = max(range(len(finished.rows)), key=lambda i: float(finished.rows[i]["Rewards"]))
    updates = int(finished.tensors("last")["updates"])
    per_cycle = updates / (len(finished.rows) - 0.5)              # the first cycle is half warm-up
    assert int(finished.tensors("best")["updates"]) == pytest.approx((best + 0.5) * per_cycle)


@pytest.mark.parametrize("alg", [["--alg=ircr", "--basis_alg=td3"], SMALL_RRD[:3], ["--alg=sac"]])
def test_the_written_config_repeats_the_run(alg):
    first = run(*SMALL, *alg, "--env=Match-v0", "--seed=7", "--tag=x")
    assert resolve(first.config).settings() == first.config
    second = run("--config", str(first.directory / "config.json"))
    assert first.untimed() == second.untimed()
    assert first.config == second.config


def test_run_json_records_everything_that_a_result_may_depend_on():
    facts = run(*SMALL, "--alg=sac", "--env=Match-v0").facts
    assert facts["obs_dims"] == [1]
    assert facts["env_id"] == "Match-v0"
    assert facts["backend"] == "pytorch"
    assert set(facts["versions"]) >= {"torch", "numpy", "gymnasium", "mujoco"}
    assert facts["versions"]["numpy"] == np.__version__
    assert {"command", "python", "platform", "threads", "git_commit", "started"} <= set(facts)


def test_the_saved_model_loads_into_an_agent_made_from_the_config():
    finished = run(*SMALL_RRD, "--env=Match-v0")
    config = with_sizes(resolve(finished.config), 1, 1)
    create_agent(config).load_model(finished.directory / "checkpoints" / "last.safetensors")


def test_runs_of_the_same_second_get_directories_of_their_own(monkeypatch):
    monkeypatch.setattr("time.strftime", lambda *_: "_20260101-000000")
    names = [make_directory(Config(env="Match-v0"), Path("outputs")).name for _ in range(3)]
    assert names == ["rrd-Match-v0_20260101-000000" + suffix for suffix in ("", ".2", ".3")]


def test_a_pipe_gets_plain_lines(capsys):
    run(*SMALL_RRD, "--env=Match-v0")
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() for line in lines)
    assert len(lines) == 5                                          # the first line, three cycles, the directory
    assert "1 observations, 1 actions" in lines[0]
    assert re.match(r"Epoch=0  Cycle=0  Episodes=4  Timesteps=40  Progress=33%  TimeCost", lines[1])
    assert [re.search(r"Progress=(\d+)%", line)[1] for line in lines[1:4]] == ["33", "66", "100"]


@pytest.mark.parametrize(("columns", "shown"), [
    (60, ["done", "steps", "return", "train return", "length"]),
    (120, ["done", "steps", "return", "train return", "length", "train length", "episodes", "Pi_loss", "Q_loss",
           "R_loss"])])
@pytest.mark.sampled(1)
def test_a_terminal_gets_a_row_a_cycle_and_a_progress_bar(columns, shown):
    text = run_on_terminal(*SMALL_RRD, "--env=Match-v0", columns=columns)
    assert "120/120 steps" in text
    assert "steps/s" in text
    lines = [line.rpartition("\r")[2] for line in text.splitlines()]
    assert all(len(line) <= columns for line in lines if " in outputs/" not in line)
    (heading,) = [i for i, line in enumerate(lines) if " ".join(line.split()) == " ".join(shown)]
    rows = [line.split() for line in lines[heading + 1:] if re.match(r" +\d+% +\d+ |100% +\d+ ", line)]
    assert [row[:2] for row in rows] == [["33%", "40"], ["66%", "80"], ["100%", "120"]]
    (directory,) = Path("outputs").iterdir()
    with open(directory / "metrics.csv", newline="") as file:
        recorded = list(csv.DictReader(file))
    for row, other in zip(rows, recorded, strict=True):
        assert len(row) == len(shown)
        cells = dict(zip(shown, row, strict=True))
        assert float(cells["return"]) == pytest.approx(float(other["Rewards"]), rel=1e-4)
        assert float(cells["train return"]) == pytest.approx(float(other["train/return"]), rel=1e-4)
        assert cells["length"] == f"{float(other['Steps']):g}"
        assert cells.get("episodes", other["Episodes"]) == other["Episodes"]


def test_ctrl_c_ends_with_one_line_and_130(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr("learner.learner.Learner._train", interrupt)
    assert train.main([*SMALL_RRD, "--env=Match-v0"]) == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_config_json_holds_only_what_the_algorithm_reads():
    config = json.loads((run(*SMALL, "--alg=td3", "--env=Match-v0").directory / "config.json").read_text())
    assert "pi_delay_freq" in config
    assert not {"alpha_lr", "rrd_sample_size", "basis_alg", "obs_dims"} & set(config)


def test_a_name_without_a_version_is_recorded_with_the_newest_one():
    argv = [*SMALL, "--alg=sac", "--env=Pendulum"]
    done = run(*argv)
    assert done.directory.name.startswith("sac-Pendulum-v1_")
    assert (done.config["env"], done.facts["env_id"]) == ("Pendulum-v1", "Pendulum-v1")
    assert len(done.returns("Pendulum-v1")) == len(done.rows)
    own = run(*SMALL, "--alg=sac", "--env=tiny_envs:Match")
    assert own.config["env"] == "tiny_envs:Match-v0"
    assert train.main([*argv, "--on_existing=resume"]) == 0
    assert len(list(Path("outputs").iterdir())) == 2
