"""Whole runs on a GPU; on the CPU as well, where graphs are computed each time (`no_graphs`)."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from runs import SMALL, SMALL_RRD, Finished, run

import evaluate
import train

GPU = pytest.param("cuda", marks=pytest.mark.cuda)
ALGS = {"rrd-sac": [*SMALL_RRD, "--basis_alg=sac"], "rrd-td3": [*SMALL_RRD, "--basis_alg=td3"],
        "ddpg": [*SMALL, "--alg=ddpg"], "dqn": [*SMALL, "--alg=dqn"], "ircr-sac": [*SMALL, "--alg=ircr"]}


@pytest.fixture(params=["cpu", GPU])
def device(request, monkeypatch) -> str:
    if request.param == "cpu":
        request.getfixturevalue("no_graphs")
    return request.param


def flags(alg: str, device: str, *more: str) -> list[str]:
    """A short run. On the CPU its engine is named, since `auto` does not take it there."""
    env = "CartPole-v1" if alg == "dqn" else "Pendulum-v1"
    others = [flag for flag in ALGS[alg] if not flag.startswith("--device")]
    return [*others, f"--env={env}", f"--device={device}", *["--engine=cudagraph"] * (device == "cpu"), *more]


def check_run(done: Finished, updates: int = 25) -> None:
    """All is finite, and every update was made: none in the first 40 of 120 steps, five every 20 steps."""
    assert len(done.rows) == 3
    assert all(math.isfinite(float(value)) for row in done.rows for value in row.values() if value)
    tensors = done.tensors()
    assert int(tensors["updates"]) == updates
    assert all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point())
    assert all(tensor.device.type == "cpu" for tensor in tensors.values())


@pytest.mark.parametrize("alg", ALGS)
def test_a_run_is_captured_and_its_agent_plays_on_any_device(alg, device, capsys):
    done = run(*flags(alg, device))
    assert "engine cudagraph (" in capsys.readouterr().out
    check_run(done)
    for where in {"cpu", device}:
        assert evaluate.main([str(done.directory), "--episodes=2", f"--device={where}"]) == 0


@pytest.mark.parametrize("more", [["--engine=manual"], ["--engine=eager"], ["--num_envs=2"], ["--train_target=3"],
                                  ["--obs_normalization"]], ids=str)
def test_other_ways_to_run_there(more, device):
    argv = [flag for flag in flags("rrd-sac", device) if not (more[0].startswith("--engine") and "engine" in flag)]
    check_run(run(*argv, *more))


@pytest.mark.cuda
@pytest.mark.parametrize("more", [["--precision=tf32"], ["--precision=bf16"], ["--buffer_device=cpu"],
                                  ["--precision=bf16", "--engine=eager"], ["--engine=compile"]], ids=str)
def test_what_only_a_gpu_has(more):
    check_run(run(*flags("rrd-sac", "cuda", *more)))


@pytest.mark.cuda
def test_auto_is_cuda_where_it_works(capsys):
    check_run(run(*flags("rrd-sac", "auto")))
    assert "pytorch on cuda" in capsys.readouterr().out


@pytest.mark.parametrize("alg", ["rrd-sac", "rrd-td3", "dqn"])
@pytest.mark.parametrize("first", [60, 80, 93])
@pytest.mark.sampled(3)
def test_a_run_that_is_resumed_there_is_the_uninterrupted_one(alg, first, device):
    """To the bit on a CPU, nearly so on a GPU, where a product may be computed in another order of its sums."""
    parts = run(*flags(alg, device, f"--total_timesteps={first}", "--tag=parts")).directory
    assert train.main([f"--resume={parts}", "--total_timesteps=140"]) == 0
    whole = run(*flags(alg, device, "--total_timesteps=140", "--tag=whole"))
    ours, theirs = Finished(parts).tensors(), whole.tensors()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        if device == "cpu" or not tensor.is_floating_point():
            assert torch.equal(ours[name], tensor), name
        else:
            assert (ours[name] - tensor).norm() <= 0.02 * tensor.norm() + 1e-4, name
    for one, other in zip(Finished(parts).rows, whole.rows, strict=True):
        assert one["Timesteps"] == other["Timesteps"]


def test_seeds_share_an_update_there(device, monkeypatch, capsys):
    monkeypatch.setattr("learner.seeds.on_gpu", lambda seeds: True)
    assert train.main(flags("rrd-sac", device, "--seeds=0-2")) == 0
    assert f"seeds 0, 1, 2: together on {device}, in one captured update" in capsys.readouterr().out
    runs = [Finished(path) for path in Path("outputs").iterdir()]
    assert sorted(done.config["seed"] for done in runs) == [0, 1, 2]
    for done in runs:
        check_run(done)
