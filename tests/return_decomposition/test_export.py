"""A run of the published command, its model in the published program's form, and a new run that begins with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import train
from algorithm.model_file import read_tensors, write_model
from learner.loading import load_agent
from return_decomposition.exporting import main

COMMAND = ["--algo", "ppo_torch", "--style", "2", "--steps", "96", "--device", "cpu", "--no-render", "--num_envs=2",
           "--rollout_steps=16", "--batch=16", "--n_epochs=2", "--test_rollouts=0", "--lr=0.01", "--target_kl=100"]


@pytest.fixture
def run() -> Path:
    assert train.main(COMMAND) == 0
    return next(Path("outputs").glob("ppo-Arena-v0_*"))


def test_a_run_is_exported_under_the_published_names(run, capsys):
    assert main([str(run), "--format=arena"]) == 0
    folder = run / "export"
    stem = f"ppo_torch_style2_{run.name[-15:].replace('-', '_')}_96_steps"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{stem}.pt", f"{stem}_metadata.json", f"{stem}_normalization.json"]
    metadata = json.loads((folder / f"{stem}_metadata.json").read_text())
    assert {name: metadata[name] for name in ("step", "algorithm", "style")} == {
        "step": 96, "algorithm": "ppo_torch", "style": 2}
    stats = json.loads((folder / f"{stem}_normalization.json").read_text())
    assert {name: len(stats[name]) for name in ("obs_mean", "obs_var", "ret_mean", "ret_var")} == {
        "obs_mean": 32, "obs_var": 32, "ret_mean": 1, "ret_var": 1}
    assert (stats["obs_count"], stats["ret_count"]) == (96, 96)
    assert len(capsys.readouterr().out.splitlines()) >= 3

    agent, saved = load_agent(run, "last"), read_tensors((folder / f"{stem}.pt").read_bytes(), "")
    assert saved["num_timesteps"] == 96
    policy, obs = as_published(saved["policy_state_dict"]), torch.randn(5, 32)
    torch.testing.assert_close(policy["actor"](policy["shared_net"](obs)), agent.policy.actor(agent.policy.shared(obs)))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1.0)
    optimizer.load_state_dict(saved["optimizer_state_dict"])
    assert {float(one["step"]) for one in optimizer.state.values()} == {12.0}       # 96 / 16 batches, twice
    (opt, group), = agent.groups()
    held = [opt.state[parameter]["exp_avg_sq"] for parameter in group["params"]]
    for ours, theirs in zip(held, optimizer.state.values(), strict=True):
        torch.testing.assert_close(theirs["exp_avg_sq"], ours)


def as_published(state: dict) -> torch.nn.ModuleDict:
    """The published program's modules, in its order, with these weights."""
    linear, silu = torch.nn.Linear, torch.nn.SiLU
    modules = torch.nn.ModuleDict({
        "shared_net": torch.nn.Sequential(linear(32, 256), silu(), linear(256, 128), silu()),
        "actor": torch.nn.Sequential(linear(128, 64), silu(), linear(64, 6)),
        "critic": torch.nn.Sequential(linear(128, 64), silu(), linear(64, 1))})
    modules.load_state_dict(state)
    return modules


def test_a_run_begins_with_the_weights_of_another(run, capsys):
    before = load_agent(run, "last")
    write_model(Path("m.pt"), before)
    for place in (str(run), "m.pt"):
        assert train.main([*COMMAND, "--lr=1e-12", f"--load-model={place}", "--seed=5", "--tag=again",
                           "--on_existing=overwrite"]) == 0
        found = load_agent(next(Path("outputs").glob("again-*")), "last")
        for ours, theirs in zip(found.policy.parameters(), before.policy.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)
        assert float(found.normalizer.cnt) == 2 * 96
        assert found.updates == 12
    capsys.readouterr()
    assert train.main([*COMMAND, "--load-model=m.pt", "--style=1"]) == 2
    assert "m.pt: nets: policy.actor.2.weight: got shape (6, 64), expected (5, 64)" in capsys.readouterr().err
    assert train.main([*COMMAND, "--load-model=nowhere"]) == 2
    assert "'nowhere': expected a run's directory" in capsys.readouterr().err


def test_another_run_is_refused(capsys):
    assert train.main(["--alg=ppo", "--env=CartPole-v1", "--device=cpu", "--test_timesteps=9", "--rollout_steps=16",
                       "--batch_size=16", "--total_timesteps=16", "--test_rollouts=0"]) == 0
    run = next(Path("outputs").glob("ppo-CartPole*"))
    capsys.readouterr()
    assert main([str(run), "--format=arena"]) == 2
    assert "has env 'CartPole-v1', expected 'Arena-v0'" in capsys.readouterr().err
    assert main([str(run), "--format=sb3"]) == 2
    assert "format: got 'sb3', expected arena" in capsys.readouterr().err
