"""A NaN or an infinity ends the run within one update and one line, and the last good checkpoint stays."""

from __future__ import annotations

import re
from pathlib import Path

import breaking  # noqa: F401 (registers its environments)
import numpy as np
import pytest
import safetensors.torch
import torch
from engines import build, copies, in_threads
from runs import SMALL, SMALL_RRD, Finished

import train
from algorithm.engine import Engine
from algorithm.engine.by_hand.engine import ManualEngine
from algorithm.engine.captured import CapturedEngine
from algorithm.engine.guard import Guard, Recorder, check_tensors
from algorithm.engine.seeds.captured import CapturedStack
from algorithm.engine.seeds.shared import Meeting
from algorithm.engine.seeds.stacked import StackedEngine
from envs import make_env
from learner.collector import Collector, VectorCollector
from utils.finite import NotFiniteError, check_observation, check_reward
from utils.flat import gather
from utils.settings.resolve import resolve

ENGINES = ["eager", "manual"]


def refusal(capfd, *argv: str) -> str:
    """The one line by which the run ends, with code 1; without the program's name."""
    assert train.main(list(argv)) == 1
    err = capfd.readouterr().err
    assert "Traceback" not in err
    (line,) = err.splitlines()
    return line.removeprefix("train.py: ")


def checkpoint(cycles: int, updates: int) -> dict:
    """The last model of the only run, which must be finite and have so many recorded cycles and updates."""
    (directory,) = Path("outputs").glob("*")
    finished = Finished(directory)
    assert len(finished.rows) == cycles
    tensors = finished.tensors()
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert int(tensors["updates"]) == updates
    assert "NotFiniteError" in (directory / "error.txt").read_text()
    return tensors


# Numbers of environments -------------------------------------------------------------------------------------------

# 120 steps in cycles of 40; episodes of ten; five updates after each twenty steps, from the 40th on.
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("env", "line"), [
    ("Breaks-obs", "observation[1]: got nan at step 75, step 5 of its episode (2 of 3 components are not finite); "
                   "expected finite numbers"),
    ("Breaks-reset", "observation[2]: got nan at step 80, the start of its episode; expected finite numbers"),
    ("Breaks-reward", "reward: got nan at step 75, step 5 of its episode; expected a finite float32"),
    ("Infinite", "reward: got -inf at step 75, step 5 of its episode; expected a finite float32"),
    ("Large", "reward: got 1e+39 at step 75, step 5 of its episode; expected a finite float32"),
])
def test_numbers_of_an_environment(engine, env, line, capfd):
    assert refusal(capfd, *SMALL_RRD, f"--env=breaking:{env}-v0", f"--engine={engine}") == line
    checkpoint(cycles=1, updates=5)


def test_a_reward_per_step_and_a_clipped_one(capfd):
    line = "reward: got nan at step 75, step 5 of its episode; expected a finite float32"
    argv = ["--alg=sac", *SMALL, "--env=breaking:Breaks-reward-v0", "--env_type=normal"]
    assert refusal(capfd, *argv) == line
    env = make_env(resolve({"alg": "dqn", "env": "CartPole-v1", "env_type": "normal"}))
    from envs.wrappers import ClipReward
    assert np.isnan(ClipReward(env, 1.0).reward(np.nan))
    assert ClipReward(env, 1.0).reward(np.inf) == np.inf


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("env", "line"), [
    ("obs", "observation[1]: got nan in environment 2 of 2 at step 66, step 3 of its episode (2 of 3 components are "
            "not finite); expected finite numbers"),
    ("reset", "observation[2]: got nan in environment 2 of 2 at step 80, the start of its episode; expected finite "
              "numbers"),
    ("reward", "reward: got nan in environment 2 of 2 at step 66, step 3 of its episode; expected a finite float32"),
])
@pytest.mark.sampled(2)
def test_one_of_several_environments(engine, env, line, capfd):
    assert refusal(capfd, *SMALL_RRD, f"--env=breaking:BreaksSecond-{env}-v0", "--num_envs=2",
                   f"--engine={engine}") == line
    checkpoint(cycles=1, updates=5)


@pytest.mark.parametrize("several", [False, True])
def test_the_very_first_observation(several):
    class Bad:
        num_envs, unwrapped = 2, None

        def reset(self, **_):
            obs = np.zeros((2, 3) if several else 3, np.float32)
            obs[-1] = np.inf
            return obs, {}
    with pytest.raises(NotFiniteError, match=r"observation\[\d\]: got inf (in environment 2 of 2 )?at step 0, the"):
        VectorCollector(Bad(), None, [0, 1]) if several else Collector(Bad(), None, 0)


@pytest.mark.parametrize(("what", "line"), [
    ("obs", "observation[1]: got nan in evaluation, at step 5 of an episode (2 of 3 components are not finite); "
            "expected finite numbers"),
    ("reset", "observation[2]: got nan in evaluation, at the start of an episode; expected finite numbers"),
    ("reward", "true reward: got nan in evaluation, at step 5 of an episode; expected a finite float32"),
])
def test_evaluation(what, line, capfd):
    assert refusal(capfd, *SMALL_RRD, f"--env=breaking:BreaksInTest-{what}-v0") == line
    checkpoint(cycles=1, updates=5)


def test_pictures_and_numbers_beyond_float32():
    check_observation(np.full((4, 4, 2), 255, np.uint8), "here")
    with pytest.raises(NotFiniteError, match=re.escape("observation[0, 1]: got 1e+300 here; expected finite")):
        check_observation(np.array([[1.0, 1e300]]), "here")
    check_reward(3.4e38, "here")


# Losses and gradients -----------------------------------------------------------------------------------------------

def poison(monkeypatch, what: str, update: int = 7) -> None:
    """From an update on, makes the gradient of the policy's last weight NaN, or a metric infinite, and nothing else."""
    check = Guard.check

    def bad(self, number, info, gradients, memories=()):
        if number >= update and what == "loss":
            info = info | {"Q_loss": torch.tensor(torch.inf)}
        name = "gradient of nets.main.policy.pi.weight"
        if number >= update and what == "gradient" and name in gradients:
            with torch.no_grad():
                gradients[name][0, 0] = torch.nan
        return check(self, number, info, gradients, memories)
    monkeypatch.setattr(Guard, "check", bad)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("basis", ["sac", "td3", "ddpg"])
@pytest.mark.parametrize(("what", "line"), [
    ("loss", "Q_loss: got inf in update 7; expected finite numbers"),
    ("gradient", "gradient of nets.main.policy.pi.weight: got nan in update 8; expected finite numbers"),
])
def test_an_update(engine, basis, what, line, capfd, monkeypatch):
    poison(monkeypatch, what, 7 if what == "loss" else 8)
    assert refusal(capfd, *SMALL_RRD, "--env=Match-v0", f"--basis_alg={basis}", f"--engine={engine}") == line
    checkpoint(cycles=1, updates=5)


@pytest.mark.parametrize("kind", [Engine, ManualEngine])
@pytest.mark.parametrize("threads", [1, 2])
def test_no_update_is_made_after_a_bad_one(kind, threads, monkeypatch):
    torch.set_num_threads(threads)
    try:
        agent, buffer = build()
        poison(monkeypatch, "gradient", 3)
        with pytest.raises(NotFiniteError, match="in update 3"):
            kind(agent, buffer).run(9)
        assert agent.updates == 3
        assert agent.inspect is None
        if kind is Engine:                              # and the bad one changed no weight
            assert all(parameter.isfinite().all() for parameter in agent.nets.parameters())
    finally:
        torch.set_num_threads(1)


def test_a_gradient_of_autograd_is_the_one_that_is_named():
    agent, buffer = build()
    agent.nets["main"]["policy"].pi.weight.register_hook(lambda grad: grad * torch.nan)
    with pytest.raises(NotFiniteError, match=r"^gradient of nets\.main\.policy\.pi\.weight: got nan in update 1; "):
        Engine(agent, buffer).run(5)


@pytest.mark.parametrize("kind", [Engine, ManualEngine])
def test_a_weight_that_is_nan_is_seen_in_the_losses(kind):
    agent, buffer = build()
    with torch.no_grad():
        next(iter(agent.critics.values() if hasattr(agent, "critics") else agent.basis.critics.values())
             ).q.bias.fill_(torch.nan)
    with pytest.raises(NotFiniteError, match=r"(Q|Pi)_loss: got nan in update 1 \(also .* and \d+ more\); expected"):
        kind(agent, buffer).run(5)


@pytest.mark.parametrize("kind", [Engine, ManualEngine])
def test_td3_checks_the_critics_gradient_where_the_policy_follows_and_no_stale_one(kind):
    agent, buffer = build("td3", None, pi_delay_freq=2)
    engine = kind(agent, buffer)
    seen, check = [], engine.guard.check

    def watched(number, info, gradients, *memories):
        seen.append((number, *info, any("policy" in name for name in gradients), any("q" in name.split(".")[-2]
                                                                                    for name in gradients)))
        return check(number, info, gradients, *memories)
    engine.guard.check = watched
    engine.run(3)
    assert seen == [(1, "Q_loss", False, True), (2, "Q_loss", False, True), (2, "Pi_loss", True, False),
                    (3, "Q_loss", False, True)]


def test_large_numbers_are_finite():
    info, gradients = {"Q_loss": torch.tensor(3e38)}, {"w": torch.tensor([[3e38, 1.0]]), "b": torch.full((4,), -3e38)}
    Guard().check(1, info, gradients)
    recorder = Recorder()
    recorder.check(1, info, gradients)
    assert recorder.found() == {}


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_every_element_of_gathered_gradients_is_checked(bad):
    tensors = {str(n): torch.full((n, 3), 2.0) for n in (1, 7, 16)}
    memory = gather(tensors.values())
    assert all((tensor == 2).all() for tensor in tensors.values())
    assert memory.count_nonzero() == 3 * (1 + 7 + 16)                       # what lies between them is 0
    for name, tensor in tensors.items():
        tensor.copy_(torch.ones_like(tensor))
        Guard().check(1, {}, tensors, [memory])
        for i in range(tensor.numel()):
            tensor.view(-1)[i] = bad
            with pytest.raises(NotFiniteError, match=f"^{name}: got {bad} in update 1; "):
                Guard().check(1, {}, tensors, [memory])
            tensor.view(-1)[i] = 1.0


def test_the_saved_state_is_finite(capfd, monkeypatch):
    """A moment that has overflowed does not appear in any loss or gradient."""
    from learner import Learner
    cycle = Learner._train_until

    def overflows(self, until):
        cycle(self, until)
        if until == 80:
            self.agent.state_dict()["opt.main.policy.pi.weight.exp_avg_sq"][0, 0] = torch.inf
    monkeypatch.setattr(Learner, "_train_until", overflows)
    line = refusal(capfd, *SMALL_RRD, "--env=Match-v0")
    assert line == "opt.main.policy.pi.weight.exp_avg_sq: got inf after update 15; expected finite numbers"
    checkpoint(cycles=1, updates=5)
    with pytest.raises(NotFiniteError, match=r"^b: got -inf now \(also c, d, e and 1 more\)"):
        check_tensors({"a": torch.ones(2), "b": torch.tensor(-np.inf)} | dict.fromkeys("cdef", torch.tensor(np.nan)),
                      "now")


def test_the_tensorflow_reference(capsys, monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.setenv("USE_PYTORCH", "0")
    poison(monkeypatch, "loss")
    assert refusal(capsys, *SMALL_RRD, "--env=Match-v0").startswith("Q_loss: got inf in update 7; ")


# State on the device ------------------------------------------------------------------------------------------------

def poison_on_device(monkeypatch, what: str, update: int, agent: int | None = None) -> None:
    """Also for an update number on the device, and for one agent of a stack."""
    check = Recorder.check

    def bad(self, number, info, gradients, memories=()):
        mine = slice(None) if agent is None else agent
        if what == "loss" and "Q_loss" in info:
            value = info["Q_loss"].detach().clone()
            value[... if agent is None else mine] *= torch.where(torch.as_tensor(number) >= update, torch.nan, 1.0)
            info = info | {"Q_loss": value}
        name = "gradient of nets.main.policy.pi.weight"
        if what == "gradient" and name in gradients:
            value = gradients[name].clone()
            value[mine] *= torch.where(torch.as_tensor(number) >= update, torch.inf, 1.0)
            gradients = gradients | {name: value}
        return check(self, number, info, gradients, memories)
    monkeypatch.setattr(Recorder, "check", bad)


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pair", [("rrd", "sac"), ("rrd", "td3"), ("ddpg", None)], ids=str)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("what", "name"), [("loss", "Q_loss"), ("gradient", "gradient of nets.main.policy.pi.weight")])
def test_the_device_keeps_the_first_bad_update(pair, precision, what, name, device, request, monkeypatch):
    if precision == "bf16" and "td3" in pair:
        pytest.skip("not captured")
    if device == "cpu":
        request.getfixturevalue("no_graphs")
    poison_on_device(monkeypatch, what, 8)
    agent, buffer = build(*pair, device=device, precision=precision)
    engine = CapturedEngine(agent, buffer)
    engine.run(4)
    with pytest.raises(NotFiniteError, match=rf"^{name}: got nan or an infinity in update 8; expected finite numbers$"):
        engine.run(7)
    assert agent.updates == 11
    with pytest.raises(NotFiniteError, match="in update 12;"):          # the record starts again
        engine.run(2)


@pytest.mark.parametrize("kind", [Engine, ManualEngine])
def test_engines_that_are_not_captured_record_on_a_gpu_too(kind, monkeypatch):
    poison_on_device(monkeypatch, "gradient", 4)
    agent, buffer = build()
    engine = kind(agent, buffer)
    engine.guard = Recorder()                           # as where the agent is on CUDA
    with pytest.raises(NotFiniteError, match=r"^gradient of nets\.main\.policy\.pi\.weight: .* in update 4;"):
        engine.run(6)
    assert agent.updates == 6


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_stack_reports_which_of_its_agents_has_failed(captured, what, device, request, monkeypatch):
    if device == "cpu":
        request.getfixturevalue("no_graphs")
    poison_on_device(monkeypatch, what, 3, agent=1)
    agents, buffers = zip(*(build(seed=seed, device=device) for seed in (1, 2, 3)), strict=True)
    sums = (CapturedStack if captured else StackedEngine)(agents, buffers).run(8)
    assert [name for name, *_ in sums.of(0).items()] == [name for name, *_ in sums.of(2).items()]
    with pytest.raises(NotFiniteError, match=r"nan or an infinity in update 3;"):
        sums.of(1)
    with pytest.raises(NotFiniteError, match=r"^agent 2 of the stack: "):
        sums.items()


def test_an_agent_that_fails_does_not_stop_the_updates_of_the_others(monkeypatch):
    poison_on_device(monkeypatch, "loss", 3, agent=1)
    agents, buffers = zip(*(build(seed=seed) for seed in (1, 2, 3)), strict=True)
    messages = {}

    def work(i, member):
        try:
            for _ in range(2):
                member.run(4)
        except NotFiniteError as error:
            messages[i] = str(error)
        finally:
            member.leave()
    in_threads(Meeting(StackedEngine(agents, buffers)).members(agents), work)
    assert list(messages) == [1]
    assert [agents[i].updates for i in (0, 2)] == [8, 8]
    assert all(value.isfinite().all() for i in (0, 2) for value in copies(agents[i]).values())


# Several seeds ------------------------------------------------------------------------------------------------------

def test_a_seed_that_fails_does_not_stop_the_others(capfd, monkeypatch):
    monkeypatch.setattr("learner.seeds.count_cores", lambda: 3)
    line = refusal(capfd, *SMALL_RRD, "--env=breaking:BreaksSeed1-obs-v0", "--seeds=0-2")
    assert line.startswith("seed 1: observation[1]: got nan at step 75, step 5 of its episode (2 of 3 components are "
                           "not finite); expected finite numbers; traceback in ")
    rows = {int(path.name.split("_seed")[1][0]): len(Finished(path).rows) for path in Path("outputs").glob("*")}
    assert rows == {0: 3, 1: 1, 2: 3}


def test_a_seed_that_fails_in_the_update_of_all(capfd, no_graphs, monkeypatch):
    monkeypatch.setattr("learner.seeds.on_gpu", lambda seeds: True)
    poison_on_device(monkeypatch, "gradient", 7, agent=1)
    line = refusal(capfd, *SMALL_RRD, "--env=Match-v0", "--engine=cudagraph", "--seeds=0-2")
    assert line.startswith("seed 1: gradient of nets.main.policy.pi.weight: got nan or an infinity in update 7; ")
    for path in Path("outputs").glob("*"):
        seed = int(path.name.split("_seed")[1][0])
        tensors = safetensors.torch.load_file(path / "checkpoints" / "last.safetensors")
        assert int(tensors["updates"]) == (5 if seed == 1 else 25)
        assert all(tensor.isfinite().all() for tensor in tensors.values())


