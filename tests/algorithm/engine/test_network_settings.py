"""Shapes, schedules and limits of gradients in every engine that computes by autograd, against the eager one."""

from __future__ import annotations

import functools

import pytest
import torch
from engines import build, copies

from algorithm.engine import create_engine
from algorithm.engine.captured import _Autograd
from algorithm.engine.compiled import CompiledEngine
from algorithm.engine.eager import Engine
from algorithm.engine.guard import Recorder
from algorithm.engine.seeds.stacked import StackedEngine

SETTINGS = dict(hidden_sizes=(24, 16, 12), activation="silu", critic_hidden_sizes="20", reward_activation="gelu",
                max_grad_norm=0.05, lr_schedule="cosine", lr_warmup=0.25, total_timesteps=16, timesteps=1,
                train_batches=1, warmup=0)
UPDATES = 9
EXACT = dict(rtol=1e-5, atol=1e-7)      # one engine rounds the rate to float32, the other does not
PAIRS = [("sac", None), ("ddpg", None), ("rrd", "sac"), ("rrd", "ddpg")]


def trained(make, alg: str, basis: str | None, **settings) -> dict:
    """The state of an agent after a few updates by the engine that `make` builds from agent and replay."""
    agent, buffer = build(alg, basis, **(SETTINGS | settings))
    run = make(agent, buffer)
    run(UPDATES)
    return copies(agent)


def eager(agent, buffer):
    return Engine(agent, buffer).run


def compiled(agent, buffer):
    engine = CompiledEngine(agent, buffer)

    def run(updates):
        engine.run(updates)
        assert engine.name == "compile"
    return run


def captured_without_cuda(agent, buffer):
    """The computation that the captured engine captures, with its counts in tensors."""
    inner = _Autograd(agent, buffer)
    inner.guard, inner.number = Recorder(), torch.zeros((), dtype=torch.int64)
    inner.counts = {group["name"]: torch.zeros((), dtype=torch.float64) for _, group in agent.groups()}

    def run(updates):
        for _ in range(updates):
            inner.number.add_(1)
            inner.compute(policy=True)
            agent.counters["updates"] += 1
            inner.target_update()
        assert not inner.guard.found()
        for _, group in agent.groups():
            group["t"] = int(inner.counts[group["name"]])
    return run


def check_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(("alg", "basis"), PAIRS)
def test_counts_on_the_device_give_what_the_eager_engine_gives(alg, basis):
    check_same(trained(captured_without_cuda, alg, basis), trained(eager, alg, basis))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")           # PyTorch's own
@pytest.mark.parametrize(("alg", "basis"), PAIRS)
def test_traced_losses_give_what_the_eager_engine_gives(alg, basis, monkeypatch):
    """As the compiled engine traces them; no code is generated, which takes a minute."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager", fullgraph=True))
    check_same(trained(compiled, alg, basis), trained(eager, alg, basis))


@pytest.mark.parametrize("setting", [
    dict(hidden_sizes=(24, 16, 8)), dict(activation="elu"), dict(critic_hidden_sizes=(8, 8)),
    dict(critic_activation="tanh"), dict(reward_hidden_sizes=(8,)), dict(reward_activation="relu"),
    dict(max_grad_norm=0.01), dict(lr_schedule="linear"), dict(lr_end=0.5), dict(lr_warmup=0.5),
    dict(total_timesteps=100)], ids=lambda setting: next(iter(setting)))
def test_each_setting_changes_what_is_learned(setting):
    before, after = trained(eager, "rrd", "sac"), trained(eager, "rrd", "sac", **setting)
    weight = "nets.rrd.r.weight" if next(iter(setting)).startswith("reward") else "nets.main.q_value_1.q.weight"
    assert before[weight].shape != after[weight].shape or not torch.equal(before[weight], after[weight])


@pytest.mark.parametrize("settings", [{}, dict(max_grad_norm=0.05), dict(lr_schedule="linear", total_timesteps=16)],
                         ids=str)
def test_a_stack_limits_and_schedules_each_agent_as_it_would_be_alone(settings):
    """One update: Adam's first moment is a tenth of the gradient that it stepped by."""
    shared = dict(timesteps=1, train_batches=1, warmup=0) | settings
    pairs = [[build("rrd", "sac", seed=seed, **shared) for seed in (3, 4)] for _ in range(2)]
    stack = StackedEngine(*zip(*pairs[0], strict=True))
    stack.run(1)
    for (agent, _), (alone, buffer) in zip(*pairs, strict=True):
        create_engine(alone.config, alone, buffer)[0].run(1)
        ours, theirs = agent.state_dict(), alone.state_dict()
        for name in (name for name in theirs if name.endswith("exp_avg")):
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-6)
    assert [group["t"] for group in stack.opt.param_groups] == [1] * 4
    for group, (_, own) in zip(stack.opt.param_groups, pairs[1][0][0].groups(), strict=True):
        assert (group["schedule"], group["max_grad_norm"]) == (own["schedule"], own["max_grad_norm"])
