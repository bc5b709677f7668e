"""What a caller has set for its own tensors reaches no agent, replay or engine."""

from __future__ import annotations

import contextlib
import threading
from argparse import Namespace

import numpy as np
import pytest
import torch
from engines import build
from runs import SMALL, run

import return_decomposition as rd
from algorithm import create_agent
from algorithm.create import create_decomposition
from algorithm.engine import create_engine
from algorithm.replay_buffer import create_buffer
from utils.torch_state import apart, methods_apart


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


STATES = {
    "float64": lambda: default_dtype(torch.float64), "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16), "meta": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode, "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}
LEARNERS = [dict(alg="rrd", basis="sac"), dict(alg="ircr", basis="td3"), dict(alg="uniform", basis="ddpg"),
            dict(alg="sac", basis=None, engine="eager"), dict(alg="ddpg", basis=None, engine="eager"),
            dict(alg="rrd", basis="td3", engine="eager"), dict(alg="dqn", basis=None), dict(alg="rrd", basis="dqn")]


def learn(outside, alg, basis, engine="auto") -> dict[str, torch.Tensor]:
    """The state after some updates by the loop of the README; `outside()` is entered at every call of it."""
    with outside():
        discrete = "dqn" in (alg, basis)
        args = Namespace(alg=alg, basis_alg=basis, obs_dims=(3,), acts_dims=(2,), device="cpu", buffer_size=300,
                         batch_size=16, train_target=2, engine=engine)
        if alg == "rrd":
            args.rrd_batch_size, args.rrd_sample_size = 16, 4
        agent, replay = create_agent(args), create_buffer(args)
    rng = np.random.default_rng(0)
    for _ in range(3):
        acts = rng.integers(2, size=20) if discrete else rng.uniform(-1, 1, (20, 2))
        with outside():
            replay.store_episode({"obs": rng.normal(size=(20, 3)), "acts": acts, "rews": rng.normal(size=(20, 1)),
                                  "done": np.zeros((20, 1)), "obs_next": rng.normal(size=(20, 3))})
    with outside():
        agent.normalizer_update(replay.sample())
        made, _ = create_engine(agent.config, agent, replay)
    with outside():
        made.run(3)
    with outside():
        agent.train(replay.sample())
        agent.target_update()
        action = agent.step(rng.normal(size=3), explore=True)
        state = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    return state | {"action": torch.as_tensor(np.asarray(action))}


@pytest.mark.parametrize("learner", LEARNERS, ids=str)
@pytest.mark.sampled(4)
def test_no_state_of_the_caller_changes_a_number(learner):
    expected = learn(contextlib.nullcontext, **learner)
    for name, outside in STATES.items():
        found = learn(outside, **learner)
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            assert found[key].dtype == tensor.dtype, f"{name}: {key}"
            assert torch.equal(found[key], tensor), f"{name}: {key}"


@pytest.mark.parametrize("outside", STATES.values(), ids=STATES)
def test_a_decomposition_by_itself_fits_the_same(outside):
    rng = np.random.default_rng(1)
    episodes = [{"obs": rng.normal(size=(9, 3)), "obs_next": rng.normal(size=(9, 3)), "acts": rng.random((9, 2)),
                 "rews": rng.normal(size=(9, 1)), "done": np.zeros((9, 1))} for _ in range(4)]
    args = Namespace(alg="rrd", obs_dims=(3,), acts_dims=(2,), device="cpu", rrd_batch_size=8, rrd_sample_size=4)

    def fitted(state) -> torch.Tensor:
        with state():
            model = create_decomposition(args)
            model.fit(episodes, 3)
            return model.redistribute(episodes[0])
    assert torch.equal(fitted(outside), fitted(contextlib.nullcontext))


@pytest.mark.parametrize("outside", [STATES["float64"], STATES["meta"], STATES["inference mode"]])
def test_a_run_and_what_is_loaded_from_it_are_the_same(outside):
    settings = dict(flag.removeprefix("--").split("=") for flag in SMALL)
    plain = run("--alg=uniform", "--basis_alg=ddpg", "--env=Match-v0", *SMALL)
    with outside():
        other = rd.train("Match-v0", alg="uniform", basis_alg="ddpg", tag="other", **settings)
        obs = np.ones((2, 1), np.float32)
        action = rd.load(other.directory).step(obs)
    assert all(torch.equal(tensor, other.agent.state_dict()[name]) for name, tensor in plain.tensors().items())
    np.testing.assert_array_equal(action, rd.load(plain.directory).step(obs))


def test_a_batch_made_in_inference_mode_is_learned_from():
    agent, buffer = build("sac", None)
    with torch.inference_mode():
        batch = {name: value.clone() for name, value in buffer.sample().items()}
    assert batch["obs"].is_inference()
    assert torch.isfinite(agent.train(batch)["Q_loss"])


def test_the_callers_state_is_restored_also_after_an_error():
    @apart
    def fail():
        assert torch.get_default_dtype() is torch.float32
        assert torch.zeros(1).device.type == "cpu"
        raise RuntimeError
    with default_dtype(torch.float64), torch.device("meta"), torch.inference_mode():
        with pytest.raises(RuntimeError):
            fail()
        assert torch.get_default_dtype() is torch.float64
        assert torch.zeros(1).device.type == "meta"
        assert torch.is_inference_mode_enabled()


def test_what_a_function_sets_itself_holds_below_it():
    @methods_apart("outer", "inner")
    class One:
        @torch.inference_mode()
        def outer(self):
            return self.inner()

        def inner(self):
            return torch.is_inference_mode_enabled()

    class Other(One):
        def inner(self):
            return super().inner(), torch.get_default_dtype()

    with default_dtype(torch.float64):
        assert One().outer() is True
        assert One().inner() is False
        assert Other().inner() == (False, torch.float32)


def test_each_thread_is_apart_by_itself():
    found = []

    @apart
    def outer():
        thread = threading.Thread(target=lambda: found.append(inner()))
        thread.start()
        thread.join()

    @apart
    def inner():
        return torch.is_grad_enabled()
    outer()
    assert found == [True]
