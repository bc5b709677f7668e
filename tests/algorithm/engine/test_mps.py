"""Apple's GPUs, which no machine of these tests has: what is refused, and that no float64 is made on such a device."""

from __future__ import annotations

import pytest
import torch
from agents import IDS, PAIRS
from engines import build
from runs import SMALL, SMALL_ROLLOUTS, refusal
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import algorithm.batch
import algorithm.decomposition.paid
import train
import utils.floats
import utils.normalizer
from algorithm.engine import Sums, create_engine
from record.logger import Mean
from utils.errors import ConfigError
from utils.floats import widened, widest
from utils.normalizer import Normalizer
from utils.settings.resolve import resolve
from utils.torch_utils import resolve_device

MPS, CPU = torch.device("mps"), torch.device("cpu")


class NoFloat64(TorchDispatchMode):
    """Raises, as MPS does, where an operation gives float64."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if any(isinstance(one, torch.Tensor) and one.dtype == torch.float64 for one in tree_leaves(found)):
            raise TypeError(f"{function}: float64")
        return found


@pytest.fixture
def _as_on_mps(monkeypatch):
    """Take the CPU for MPS where the type of a device's floats is chosen."""
    for module in (utils.floats, algorithm.batch, algorithm.decomposition.paid):
        monkeypatch.setattr(module, "widest", lambda device, dtype=torch.float64: widest(MPS, dtype))


@pytest.mark.parametrize("pair", PAIRS, ids=IDS)
@pytest.mark.usefixtures("_as_on_mps")
def test_an_agent_acts_and_learns_without_float64(pair):
    agent, buffer = build(*pair, obs_normalization=True)
    batches, sums, mean = [buffer.sample() for _ in range(3)], Sums(), Mean()
    for batch in batches:                                           # its moments are float64, and stay on the CPU
        agent.normalizer_update({"obs": batch["obs"], "obs_next": batch["obs_next"]})
    with NoFloat64():
        for batch in batches:
            sums.add(agent.train(batch))
        agent.step(torch.zeros(11).numpy(), explore=True, test_info=True)
        for _, total, count in sums.items():
            mean.add(total, count)
    assert mean.take() is not None


def test_only_mps_lacks_float64():
    assert widest(MPS) == widest(MPS, torch.float32) == torch.float32
    assert widest(CPU) == torch.float64
    assert widest(MPS, torch.int64) == torch.int64
    assert widened(torch.ones(2)).dtype == torch.float64


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="has MPS")
def test_without_such_a_gpu_it_is_one_line(capsys):
    assert refusal(["--device=mps", *SMALL[1:], "--env=Pendulum-v1"], capsys) == (
        "device: got 'mps', but this PyTorch finds no GPU of Apple's (MPS) here; expected cpu, cuda or auto")


def test_where_there_is_one_it_is_taken(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("mps") == MPS
    assert resolve_device("auto").type != "mps"


@pytest.mark.parametrize(("flags", "told"), [
    (dict(engine="manual"), "engine: got 'manual' with --device=mps, expected eager or auto"),
    (dict(engine="compile"), "engine: got 'compile' with --device=mps, expected eager or auto"),
    (dict(precision="bf16"), "precision: got 'bf16' with --device=mps, expected fp32"),
])
def test_what_is_not_made_for_it_is_refused(flags, told):
    agent, buffer = build("sac", None)
    agent.device = MPS
    with pytest.raises(ConfigError, match=told):
        create_engine(resolve(dict(alg="sac", **flags)), agent, buffer)
    assert create_engine(resolve(dict(alg="sac")), agent, buffer)[1] == "the engine for MPS"


@pytest.mark.parametrize("alg", ["ppo", "a2c"])
def test_on_policy_algorithms_are_refused(alg, monkeypatch, capsys):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert refusal([f"--alg={alg}", *SMALL_ROLLOUTS[1:], "--device=mps", "--env=Pendulum-v1"], capsys) == (
        f"device: got 'mps' with --alg={alg}, expected cpu, cuda or auto: it has no float64, which the returns of "
        "rollouts are")


def test_moments_stay_on_the_cpu(monkeypatch):
    """`meta` stands for MPS."""
    normalizer = Normalizer(3)
    monkeypatch.setattr(utils.normalizer, "widest", lambda device, dtype=torch.float64: widest(MPS, dtype))
    normalizer.to("meta")
    assert {name: tensor.device.type for name, tensor in normalizer.named_buffers()} == {
        "average": "cpu", "m2": "cpu", "cnt": "cpu", "mean": "meta", "std": "meta"}


def test_the_replay_stays_on_the_cpu(monkeypatch, capsys):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert build("sac", None, buffer_device="auto")[1].device == CPU
    assert train.main([*SMALL, "--alg=sac", "--env=Pendulum-v1", "--buffer_device=mps"]) == 2
    assert capsys.readouterr().err == ("train.py: buffer_device: got 'mps', which has no float64 for the returns; "
                                       "expected cpu or auto\n")
