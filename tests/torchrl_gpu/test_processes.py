"""Several processes of one run: their updates are those of one process with the joint batch."""

from __future__ import annotations

import csv
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from boats import QUICK, SMALL, write
from boats_torchrl import ALGS, DISCRETE, agent_of

from learner.loading import load_agent
from torchrl_gpu import processes as module
from torchrl_gpu.processes import Processes, joined
from utils.errors import CheckpointError, ConfigError

ROOT = Path(__file__).parents[2]
UPDATES, HALF = 3, 4


def joint(agent, number: int) -> dict[str, torch.Tensor]:
    """A batch of two halves, with its noise."""
    g = torch.Generator().manual_seed(number)
    rows = 2 * HALF
    acts = torch.randint(25, (rows,), generator=g) if agent.config.discrete else torch.rand(rows, 2, generator=g)
    batch = {"obs": torch.randn(rows, 37, generator=g), "acts": acts, "obs_next": torch.randn(rows, 37, generator=g),
             "rews": torch.randn(rows, 1, generator=g), "done": (torch.arange(rows) % 3 == 0).float()[:, None],
             "discount": torch.full((rows, 1), 0.9), "weight": torch.rand(rows, 1, generator=g)}
    noise = {name: torch.rand([rows if size == "B" else size for size in shape], generator=g)
             for name, shape in agent.noise_spec().items()}
    return batch | noise


def half(agent, batch: dict[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    """The rows of one process; a noise that is the same for all rows is whole."""
    whole = {name for name, shape in agent.noise_spec().items() if shape[0] != "B"}
    return {name: value if name in whole else value[rank * HALF:(rank + 1) * HALF] for name, value in batch.items()}


def take_part(folder: str) -> None:
    """One of the two processes: train all agents on its halves; the first one writes their weights."""
    with joined("cpu") as (processes, device):
        assert (processes.count, device) == (2, "cpu")
        for alg in ALGS:
            agent = agent_of(alg)
            processes.join(agent)
            for number in range(UPDATES):
                agent.train(half(agent, joint(agent, number), processes.rank))
            if processes.rank == 0:
                agent.save_model(Path(folder) / f"{alg}.safetensors")
        assert processes.told("first" if processes.rank == 0 else None) == "first"
        assert [processes.all(vote) for vote in (True, processes.rank == 0)] == [True, False]
        with pytest.raises(CheckpointError, match=r"resume: the processes continue after \[0, 1\] steps"):
            processes.check_same(processes.rank)


def torchrun(*argv: str) -> subprocess.CompletedProcess:
    """Two processes of this machine."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}", *argv]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "torchrl_gpu", ROOT / "tests")))
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, timeout=300,
                          capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_two_processes_make_the_updates_of_one_with_the_joint_batch(tmp_path):
    Path("part.py").write_text(f"import test_processes\ntest_processes.take_part({str(tmp_path)!r})\n")
    done = torchrun("part.py")
    assert done.returncode == 0, done.stderr
    for alg in ALGS:
        one, two = agent_of(alg), agent_of(alg, seed=1)
        two.load_model(tmp_path / f"{alg}.safetensors")
        for number in range(UPDATES):
            one.train(joint(one, number))
        for name, tensor in one.state_dict().items():
            torch.testing.assert_close(two.state_dict()[name], tensor, rtol=2e-4, atol=2e-6, msg=f"{alg} {name}")
    assert set(DISCRETE) < set(ALGS)


@pytest.mark.parametrize("alg", DISCRETE)
def test_gradients_are_the_mean_of_those_of_all_processes(alg, monkeypatch):
    """Two agents in this process: one tells its gradients, as the exchange between processes would."""
    other, one, whole, told = agent_of(alg), agent_of(alg), agent_of(alg), []
    batch = joint(whole, 0)
    other.average = lambda: told.extend(p.grad.flatten() for _, group in other.groups() for p in group["params"])
    other.train(half(other, batch, 1))
    monkeypatch.setattr(module.dist, "all_reduce", lambda gradients: gradients.add_(torch.cat(told)))
    Processes(0, 2).join(one)
    one.train(half(one, batch, 0))
    whole.train(batch)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(one.state_dict()[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


def test_one_process_has_its_part_of_batch_and_steps():
    config = agent_of("rainbow", batch_size=8, total_timesteps=101, eps_decay=50).config
    assert Processes().of_one(config) is config
    own = Processes(1, 2).of_one(config)
    assert (own.batch_size, own.run_length, own.eps_decay) == (4, 51, 25)
    with pytest.raises(ConfigError, match="batch_size: got 8, expected a multiple of the 3 processes"):
        Processes(0, 3).of_one(config)
    generators = [torch.Generator().manual_seed(0) for _ in range(3)]
    for rank, generator in enumerate(generators):
        Processes(rank, 3).own_draws(generator, 0, "env")
    assert len({int(torch.randint(2**40, (), generator=generator)) for generator in generators}) == 3
    assert generators[0].initial_seed() == 0


@pytest.mark.slow
def test_a_run_of_two_processes_keeps_one_record_and_resumes():
    """The steps of both count: 80 of them are 40 of each, with an update after 4."""
    content = {name: value for name, value in SMALL.items() if name != "save_dir"}
    flags = ["-m", "torchrl_gpu.train_torchrl_gpu", "-C", write("c.json", content), *QUICK, "--eps_decay=30"]
    assert torchrun(*flags, "--total_timesteps=40", "--tag=parts").returncode == 0
    (parts,) = Path("outputs").glob("parts-*")
    done = torchrun("-m", "torchrl_gpu.train_torchrl_gpu", f"--resume={parts}", "--total_timesteps=80")
    assert done.returncode == 0, done.stderr
    assert re.search(r"resumed after 40 steps of 80", done.stdout)
    done = torchrun(*flags, "--total_timesteps=80", "--tag=whole")
    assert done.returncode == 0, done.stderr
    (whole,) = Path("outputs").glob("whole-*")
    tables = [list(csv.DictReader((run / "metrics.csv").read_text().splitlines())) for run in (parts, whole)]
    for one, two in zip(*tables, strict=True):
        assert {name: text for name, text in one.items() if "TimeCost" not in name} == {
            name: text for name, text in two.items() if "TimeCost" not in name}
    assert [int(row["Timesteps"]) for row in tables[1]] == [40, 80]
    assert (parts / "checkpoints" / "resume-1").is_dir()
    # As if it had been killed after the other process saved, and before the first one did.
    max((whole / "checkpoints" / "resume").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime_ns).unlink()
    done = torchrun("-m", "torchrl_gpu.train_torchrl_gpu", f"--resume={whole}")
    assert done.returncode == 0, done.stderr
    assert "resumed after 40 steps of 80" in done.stdout
    assert (parts / "evaluations.npz").read_bytes() == (whole / "evaluations.npz").read_bytes()
    states = [load_agent(run, "last").state_dict() for run in (parts, whole)]
    assert [name for name, tensor in states[0].items() if not torch.equal(tensor, states[1][name])] == []
