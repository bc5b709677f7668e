"""Neither a step of the worlds nor an update reads a tensor on the host."""

from __future__ import annotations

import pytest
import torch
from boats_torchrl import ALGS, agent_of, env_of
from host_reads import HostRead, none_allowed

import algorithm.batch
from algorithm.engine import create_engine
from algorithm.engine.guard import Recorder
from torchrl_gpu.open_steps import OpenSteps
from torchrl_gpu.policy_wrapper import PolicyWrapper
from torchrl_gpu.replay import create_torchrl_buffer


@pytest.mark.parametrize("read", [
    lambda x: x.sum().item(), lambda x: float(x[0]), lambda x: bool((x > 0).any()), lambda x: x.cpu(),
    lambda x: x.numpy(), lambda x: x.tolist(), lambda x: x[x > 0], lambda x: (x > 0).nonzero(), lambda x: x.unique(),
    lambda x: x.index_put_((x > 0,), torch.zeros(())), lambda x: 0 if x[1] else 1, lambda x: range(3)[x[0].long()]])
def test_a_read_is_found(read):
    x = torch.arange(3.0)
    with pytest.raises(HostRead), none_allowed():
        read(x)
    with none_allowed():
        assert (x + 1).gather(0, torch.zeros(1, dtype=torch.int64)).shape == (1,)


def pipeline(alg: str, device: str = "cpu"):
    """Worlds, a policy, and an engine whose replay holds some episodes."""
    agent = agent_of(alg, device=device)
    replay, env = create_torchrl_buffer(agent.config), env_of(alg, count=3, device=device)
    engine, _ = create_engine(agent.config, agent, replay)
    policy, steps, td = PolicyWrapper(agent, epsilon=None), OpenSteps(9, 1), env.reset()
    for _ in range(30):
        stepped, td = env.step_and_maybe_reset(policy(td))
        for episode in steps.add(stepped.unsqueeze(1)):
            replay.store_episode(episode)
    return env, policy, engine, td


def step_and_update(env, policy, engine, td) -> None:
    """What TorchRL and the learner do between two reads: a step of all worlds, and an update from the replay."""
    env.step(policy(td))
    engine.agent.update(engine.buffer.sample)
    engine.move_targets()


@pytest.mark.parametrize("alg", ALGS)
def test_a_step_and_an_update_read_nothing(alg, monkeypatch):
    """A GPU leaves out the check of the actions' range, and keeps what is not finite on the device."""
    env, policy, engine, td = pipeline(alg)
    monkeypatch.setattr(algorithm.batch, "check_range", lambda *given: None)
    engine.guard = Recorder()
    before = {name: tensor.clone() for name, tensor in engine.agent.nets.state_dict().items()}
    with none_allowed(), engine._inspected():
        step_and_update(env, policy, engine, td)
    assert any(not torch.equal(before[name], tensor) for name, tensor in engine.agent.nets.state_dict().items())
    assert not engine.guard.found()


@pytest.mark.cuda
@pytest.mark.parametrize("alg", ALGS)
def test_a_step_and_an_update_wait_for_no_gpu(alg):
    parts = pipeline(alg, "cuda")
    step_and_update(*parts)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step_and_update(*parts)
    finally:
        torch.cuda.set_sync_debug_mode(before)
