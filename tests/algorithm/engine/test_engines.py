"""Engines do the same mathematics: gradients by hand against autograd, every engine against the original's figures."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys
import threading
import warnings
from argparse import Namespace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from agents import IDS, PAIRS
from engines import SAME, build, copies, distance, float64, in_threads
from reference_cases import NAMES, Case, thin
from resident import LINUX, give_back
from runs import SMALL_RRD, run

import algorithm.engine.by_hand.products
import algorithm.engine.by_hand.traced
import train
from algorithm import create_agent
from algorithm.engine import Engine, create_engine
from algorithm.engine.by_hand.engine import ManualEngine
from algorithm.engine.by_hand.kernels import Kernels, parse
from algorithm.engine.by_hand.traced import trace
from algorithm.engine.compiled import CompiledEngine
from algorithm.engine.pairs import Once, Threads
from algorithm.engine.seeds.shared import Meeting
from algorithm.engine.seeds.stacked import StackedEngine
from algorithm.replay_buffer import create_buffer
from utils.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent.parent.parent
BY_HAND = [name for name in NAMES if "dqn" not in name]


@pytest.fixture
def _float64():
    """Both sides compute in float64: see `engines.float64` for why."""
    with float64():
        yield


def after_nine_updates(kind, pair: tuple, nudged: bool = False, **option) -> tuple[dict, dict]:
    """The states of an agent before and after; `nudged` moves every weight by one unit in its last place first."""
    agent, buffer = build(*pair, **option)
    start, random = copies(agent), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in agent.nets.parameters() if nudged else ():
            towards = torch.where(torch.rand(weight.shape, generator=random) < 0.5, -math.inf, math.inf)
            weight.copy_(torch.nextafter(weight, towards))
    kind(agent, buffer).run(9)
    return start, copies(agent)


@pytest.mark.parametrize(("pair", "option"), [(("rrd", "sac"), {}), (("uniform", "td3"), {"pi_delay_freq": 3}),
                                              (("rrd", "ddpg"), {})], ids=str)
def test_one_unit_in_the_last_place_moves_float32_apart(pair, option):
    """Why engines are compared in float64: one program against itself with weights moved by one rounding."""
    def moved() -> float:
        start, once = after_nine_updates(Engine, pair, **option)
        return distance(after_nine_updates(Engine, pair, nudged=True, **option)[1], once, start)
    single = moved()
    with float64():
        double = moved()
    assert single > 1e-4                # between 4e-4 and 9e-2, where two correct engines were allowed 1e-3
    assert double < SAME / 10


# Updates by hand ------------------------------------------------------------------------------------------------

OPTIONS = [{}, {"rrd_bias_correction": True}, {"return_scale": 0.03}, {"alpha_lr": 0.0}, {"pi_delay_freq": 3},
           {"obs_normalization": True}, {"gamma": 0.5, "polyak": 0.5}]


def fits(pair, option) -> bool:
    alg, basis = pair
    name = next(iter(option), None)
    return {None: True, "rrd_bias_correction": alg == "rrd", "return_scale": alg == "rrd", "alpha_lr": basis == "sac",
            "pi_delay_freq": basis == "td3"}.get(name, True)


CASES = [(pair, option) for pair in [(alg, basis) for alg in ("rrd", "ircr", "uniform", None)
                                  for basis in ("sac", "td3", "ddpg")]
         for option in OPTIONS if fits(pair, option)]


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("pair", "option"), CASES, ids=lambda value: "-".join(map(str, value)) or "default")
@pytest.mark.sampled(40)
def test_training_by_hand_follows_autograd(pair, option, threads):
    """Nine updates from the replay: the same draws, and weights, moments and targets equal to rounding."""
    alg, basis = pair[0] or pair[1], pair[1]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        results, start = [], None
        for kind in (Engine, ManualEngine):
            agent, buffer = build(alg, basis, **option)
            start = copies(agent)
            sums = kind(agent, buffer).run(9)
            means = {(name, count): float(total) / count for name, total, count in sums.items()}
            results.append((copies(agent), means, agent.updates, buffer.sample()["obs"]))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    (expected, metrics, updates, drawn), (got, ours, ours_updates, ours_drawn) = results
    assert distance(got, expected, start) < SAME
    assert updates == ours_updates == 9
    torch.testing.assert_close(drawn, ours_drawn, rtol=0, atol=0)
    assert ours == pytest.approx(metrics, rel=SAME, abs=SAME)


@pytest.mark.parametrize("options", [{}, {"batch_size": 100, "alpha_lr": 0.0, "rrd_bias_correction": True,
                                           "return_scale": 0.03}],
                         ids=["default", "others"])
@pytest.mark.parametrize("pair", PAIRS, ids=IDS)
@pytest.mark.sampled(10)
def test_tasks_as_graphs_give_the_bits_of_tasks_in_python(pair, options, monkeypatch):
    """With a batch size that does not divide well in float32; sizes in a graph may become tensors."""
    option = {name: value for name, value in options.items() if name == "batch_size" or fits(pair, {name: value})}
    traced, plain = build(*pair, **option), build(*pair, **option)
    assert torch.equal(*(one[1].sample()["obs"] for one in (traced, plain)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)         # each task is a graph
        ManualEngine(*traced).run(20)
    monkeypatch.setattr(algorithm.engine.by_hand.traced, "trace", lambda part, batch, state: part)
    ManualEngine(*plain).run(20)
    ours, expected = copies(traced[0]), copies(plain[0])
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def no_trace(monkeypatch) -> str:
    def fail(*args, **kwargs):
        raise RuntimeError("no TorchScript here\nand more")
    monkeypatch.setattr(torch.jit, "trace", fail)
    return "no TorchScript here"


def no_script(monkeypatch) -> str:
    """As where PyTorch has dropped TorchScript."""
    monkeypatch.delattr(torch, "jit")
    return "module 'torch' has no attribute 'jit'"


def switched_off(monkeypatch) -> str:
    monkeypatch.setattr(torch.jit, "trace", lambda module, *args, **kwargs: module)
    return "PYTORCH_JIT=0 switches it off"


def broken(monkeypatch, change, reason: str) -> str:
    """Graphs are made, and each call of one goes through `change`."""
    trace = torch.jit.trace

    class Broken:
        def __init__(self, graph):
            self.graph, self.whole = graph.graph, graph

        def __call__(self, *values):
            return change(self.whole(*values))
    monkeypatch.setattr(torch.jit, "trace", lambda *args, **kwargs: Broken(trace(*args, **kwargs)))
    return reason


def no_call(monkeypatch) -> str:
    return broken(monkeypatch, lambda found: found.missing, "'tuple' object has no attribute 'missing'")


def other_numbers(monkeypatch) -> str:
    return broken(monkeypatch, lambda found: tuple(1.01 * value for value in found),
                  "a graph computes other numbers than Python does")


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("fault", [no_trace, no_script, switched_off, no_call, other_numbers])
def test_a_task_that_cannot_be_a_graph_stays_python_with_one_warning(fault, threads, monkeypatch):
    agent, buffer = build()
    before = torch.get_num_threads()
    with warnings.catch_warnings(record=True) as caught, monkeypatch.context() as patched:
        warnings.simplefilter("always")
        reason = fault(patched)
        torch.set_num_threads(threads)
        try:
            ManualEngine(agent, buffer).run(3)
        finally:
            torch.set_num_threads(before)
    assert [str(w.message) for w in caught] == [
        f"engine: TorchScript does not work here, continuing without it, slower: {reason}"]
    other, others = build()
    Engine(other, others).run(3)
    assert distance(copies(agent), copies(other), {n: -1 - v for n, v in copies(other).items()}) < SAME


def test_products_of_onednn_need_no_torchscript(monkeypatch):
    products = algorithm.engine.by_hand.products
    if not products.ONEDNN:
        pytest.skip("no oneDNN")
    monkeypatch.setattr(products, "LEAST", 0)
    agent, buffer = build()
    with monkeypatch.context() as patched:
        no_script(patched)
        with pytest.warns(UserWarning, match="TorchScript does not work here"):
            ManualEngine(agent, buffer, Kernels("onednn", 1, 1)).run(3)
    assert agent.updates == 3


@pytest.mark.parametrize("what", ["`torch.jit.{}` is deprecated. Please switch to `torch.compile`.",
                                  "`torch.jit.{}` is not supported in Python 3.14+ and may break."])
@pytest.mark.parametrize("engine", ["manual", "auto"])
def test_no_user_sees_that_torchscript_is_deprecated(engine, what, monkeypatch):
    """Even with all warnings on, whatever PyTorch says of `torch.jit`."""
    products = algorithm.engine.by_hand.products
    monkeypatch.setattr(products, "LEAST", 0)
    products._scripted.cache_clear()
    for name in ("trace", "script"):
        original = getattr(torch.jit, name)

        def deprecated(*args, name=name, original=original, **kwargs):
            warnings.warn(what.format(name), DeprecationWarning, stacklevel=2)
            return original(*args, **kwargs)
        monkeypatch.setattr(torch.jit, name, deprecated)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        agent, buffer = build()
        chosen(agent, buffer, engine=engine, kernels="onednn-1x1" if products.ONEDNN else "mm-1x1")[0].run(3)
    assert [str(w.message) for w in caught] == []


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_graphs_are_freed_with_their_engine():
    """TorchScript by itself keeps them: 4 MB for each engine."""
    for number in range(13):
        ManualEngine(*build()).run(1)
        if number == 2:                                 # libraries have set themselves up
            before = give_back()
    assert give_back() - before < 12e6             # 40 MB without `own_table`


def test_a_graph_that_reads_an_unknown_tensor_is_refused():
    """The graph would keep the values of its creation."""
    secret = torch.ones(3)
    with pytest.raises(ValueError, match="neither of the batch nor of the state"):
        trace(lambda batch: {"sum": (batch["x"] * secret).sum()}, {"x": torch.ones(3)}, [])
    graph = trace(lambda batch: {"sum": (batch["x"] * secret).sum()}, {"x": torch.ones(3)}, [secret])
    secret.fill_(2.0)
    assert graph({"x": torch.ones(3)})["sum"] == 6


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("pair", PAIRS, ids=IDS)
def test_every_gradient_by_hand_is_autograds(pair):
    """With their sizes, which Adam's first steps hide; with stds at both limits and below the floor."""
    settings = {"rrd_bias_correction": True, "return_scale": 0.03} if "rrd" in pair else {}
    agent, buffer = build(*pair, **settings)
    other, _ = build(*pair, **settings)
    if "sac" in pair:
        with torch.no_grad():
            for one in (agent, other):
                last = one.nets["main"]["policy"].pi
                last.bias[3:] = torch.tensor([-25.0, -5.5, 2.5])
                last.weight.mul_(0.5)
    batch = dict(buffer.sample()) | {name: torch.full((16, 3), 0.3) for name in agent.noise_spec()}
    batch["pi_noise"] = batch["pi_next_noise"] = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
    agent.pi_delay_freq = other.pi_delay_freq = 1
    agent.train(batch)
    engine = ManualEngine(other, buffer)
    engine.call("train", batch)
    names = {parameter: name for name, parameter in agent.nets.named_parameters() if parameter.grad is not None}
    ours = {parameter: name for name, parameter in other.nets.named_parameters() if parameter in engine.grads}
    assert set(names.values()) == set(ours.values())
    found = {name: engine.grads[parameter] for parameter, name in ours.items()}
    for parameter, name in names.items():
        error = (found[name] - parameter.grad).norm() / parameter.grad.norm()
        assert error < 1e-11, name


@pytest.mark.usefixtures("_float64")
def test_where_both_critics_agree_the_policy_climbs_them_once():
    agents = []
    for kind in (Engine, ManualEngine):
        agent, buffer = build("sac", None)
        first, second = agent.critics.values()
        second.load_state_dict(first.state_dict())
        start = copies(agent)
        kind(agent, buffer).call("train", buffer.sample())
        agents.append(agent)
    assert distance(copies(agents[1]), copies(agents[0]), start) < SAME


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("verb", ["train", "train_q", "train_pi"])
@pytest.mark.parametrize("pair", PAIRS, ids=IDS)
def test_each_verb_by_hand(pair, verb):
    alg, basis = pair if isinstance(pair, tuple) else (pair, None)
    if "dqn" in (alg, basis):
        pytest.skip("by autograd only")
    states = []
    for kind in (Engine, ManualEngine):
        agent, buffer = build(alg, basis)
        start = copies(agent)
        for _ in range(2):
            info = kind(agent, buffer).call(verb, buffer.sample())
        states.append((copies(agent), {name: float(value) for name, value in info.items()}))
    assert distance(states[1][0], states[0][0], start) < SAME
    assert states[1][1] == pytest.approx(states[0][1], rel=SAME, abs=SAME)


def test_a_wrong_batch_is_named_by_every_engine():
    for kind in (Engine, ManualEngine):
        agent, buffer = build()
        batch, before = buffer.sample(), copies(agent)
        batch["acts"] = batch["acts"][:, :2]
        with pytest.raises(ValueError, match="acts"):
            kind(agent, buffer).call("train", batch)
        assert distance(copies(agent), before, {name: -1 - value for name, value in before.items()}) == 0


# The original's figures -----------------------------------------------------------------------------------------

def play(case: Case, make) -> tuple:
    """The case's calls by an engine: metrics by step, and the variables after the last."""
    agent, infos = case.agent(), []
    engine = make(agent)
    for step, calls in enumerate(case.calls):
        for call in calls:
            if call == "target_update":
                agent.target_update()
            else:
                infos += [(step, name, float(value)) for name, value in engine.call(call, case.batch(step)).items()]
    return infos, agent.tf_variables()


def check(case: Case, infos: list, variables: dict) -> None:
    saturated = case.name == "sac_std_limits"
    for step, metric, value in infos:
        rtol, atol = (8e-7, 5e-8) if step == 0 else (5e-5, 2e-6)
        np.testing.assert_allclose(value, case.metric(metric, step), 5e-3 if saturated else rtol, atol)
    for name in case.shapes:
        expected = case.sample(f"after_{len(case.calls)}", name)
        np.testing.assert_allclose(thin(variables[name]), expected, 0, 1e-3 if saturated else 6e-4, err_msg=name)


@pytest.mark.parametrize("name", BY_HAND)
def test_the_originals_cases_by_hand(name):
    case = Case(name)
    check(case, *play(case, lambda agent: ManualEngine(agent, None)))


@pytest.mark.cuda
@pytest.mark.parametrize("name", NAMES)
def test_the_originals_cases_as_captured(name):
    from algorithm.engine.captured import CapturedEngine
    case = Case(name)
    agent = case.agent(cuda=True)
    check(case, *play(case, lambda _: CapturedEngine(agent, create_buffer(agent.config))))


# Choosing -------------------------------------------------------------------------------------------------------

def chosen(agent, buffer, **changes):
    return create_engine(dataclasses.replace(agent.config, **changes), agent, buffer)


def test_auto_takes_the_gradients_by_hand_on_a_cpu_and_says_why():
    engine, why = chosen(*build())
    assert (engine.name, type(engine)) == ("manual", ManualEngine)
    assert "by hand" in why


def test_auto_uses_autograd_where_nothing_is_written_by_hand():
    agent, buffer = build()
    agent.decomposition.reward.last = torch.nn.Tanh()                 # a custom network
    engine, why = chosen(agent, buffer)
    assert (engine.name, type(engine)) == ("eager", Engine)
    assert "no gradients are written by hand" in why
    with pytest.raises(ConfigError, match=r"engine: got 'manual'.*expected eager"):
        chosen(agent, buffer, engine="manual")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_tf32_of_an_earlier_run_does_not_reach_a_later_one(precision):
    torch.set_float32_matmul_precision("high")
    try:
        chosen(*build(precision=precision), engine="eager")
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(("flags", "message"), [
    (["--engine=cudagraph", "--device=cpu"], "engine: got 'cudagraph'.*--device=cuda.*or eager, manual, compile"),
    (["--engine=fast"], "engine: got 'fast', expected one of auto, eager, manual, compile, cudagraph"),
    (["--precision=fp16"], "precision: got 'fp16', expected one of fp32, tf32, bf16"),
    (["--precision=tf32", "--device=cpu"], "precision: got 'tf32', which only CUDA devices have"),
    (["--buffer_device=disk"], "buffer_device: got 'disk', expected cpu, cuda, cuda:N, mps or auto"),
    (["--buffer_device=cuda:77"], "buffer_device: got 'cuda:77', but this PyTorch sees"),
    (["--engine=manual", "--env=CartPole-v1", "--basis_alg=dqn"], "engine: got 'manual'.*by hand only for ddpg"),
])
def test_an_engine_that_cannot_work_gives_a_one_line_error(flags, message, capsys):
    assert train.main(["--env=Pendulum-v1", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"train.py: {message}", line)
    assert not Path("outputs").exists()


def test_runs_say_their_engine_and_agree_with_eager(capsys):
    """Two runs of train.py, by autograd and by hand: metrics of the first cycles agree."""
    outputs = {}
    for engine in ("eager", "manual"):
        outputs[engine] = run(*SMALL_RRD, "--env=Pendulum-v1", f"--engine={engine}")
        assert f"engine {engine} (as asked" in capsys.readouterr().out
    rows = [np.genfromtxt(done.directory / "metrics.csv", delimiter=",", names=True) for done in outputs.values()]
    for name in ("Q_loss", "R_loss", "Pi_loss"):
        np.testing.assert_allclose(rows[1][name], rows[0][name], rtol=1e-2, atol=1e-3)


# Threads --------------------------------------------------------------------------------------------------------

def test_two_tasks_run_at_the_same_time_and_an_error_of_either_is_raised():
    meet = threading.Barrier(2, timeout=10)
    before, alive = torch.get_num_threads(), threading.active_count()
    with Threads(1) as pair:
        assert pair(lambda: (meet.wait(), "first")[1], lambda: (meet.wait(), "second")[1]) == ("first", "second")
        for bad in ((lambda: 1 / 0, lambda: 1), (lambda: 1, lambda: 1 / 0)):
            with pytest.raises(ZeroDivisionError):
                pair(*bad)
        assert pair(lambda: 3, lambda: 4) == (3, 4)         # and no thread remains
        assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), threading.active_count()) == (before, alive)


@pytest.mark.parametrize("slow", [0, 1])
def test_the_next_batch_is_drawn_once_by_the_thread_that_is_done_first(slow):
    drawn, over = threading.Event(), []
    def draw():
        over.append(threading.current_thread() is threading.main_thread())
        drawn.set()
        return "batch"
    calls = [lambda: None, lambda: None]
    calls[slow] = lambda: drawn.wait(10)                    # its half is not over before the batch is there
    with Threads(1) as pair:
        ahead = Once(draw)
        pair(*calls, ahead)
        assert (ahead.result, over) == ("batch", [slow == 1])
        with pytest.raises(ZeroDivisionError):
            pair(lambda: 1, lambda: 2, Once(lambda: 1 / 0))
        assert pair(lambda: 3, lambda: 4) == (3, 4)


def test_batches_that_are_drawn_early_are_those_of_eager_updates():
    """Batches and noise come from one generator, in the same order in either thread."""
    seen = {}
    for engine_of in (Engine, partial(ManualEngine, kernels=parse("mm-2x1"))):
        agent, buffer = build("rrd", "td3")
        sample, log = buffer.sample, []
        buffer.sample = lambda sample=sample, log=log: (log.append(sample()), log[-1])[1]
        engine_of(agent, buffer).run(6)
        seen[engine_of] = log, agent.generator.get_state()
    (eager, state), (manual, other) = seen.values()
    assert len(eager) == len(manual)
    assert all(torch.equal(one[name], two[name]) for one, two in zip(eager, manual, strict=True) for name in one)
    assert torch.equal(state, other)


# torch.compile --------------------------------------------------------------------------------------------------

def test_a_failed_compilation_continues_with_one_warning(monkeypatch):
    agent, buffer = build()

    def broken(function, **kwargs):
        def fail(*args):
            raise RuntimeError("no C++ compiler\nand more")
        return fail
    monkeypatch.setattr(torch, "compile", broken)
    engine = CompiledEngine(agent, buffer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        engine.run(3)
    assert [str(w.message) for w in caught if "torch.compile" in str(w.message)] == [
        "engine: torch.compile does not work here, continuing without it: no C++ compiler"]
    assert engine.name == "eager"
    other, others = build()
    Engine(other, others).run(3)
    assert distance(copies(agent), copies(other), {n: -1 - v for n, v in copies(other).items()}) == 0


COMPILED = """
import sys
sys.path[:0] = ["tests/algorithm/engine", "tests", "."]
import test_engines as t
for name in ("rrd_sac", "rrd_td3"):
    case = t.Case(name)
    t.check(case, *t.play(case, lambda agent: t.CompiledEngine(agent, None)))
    print("agrees", name)
"""


@pytest.mark.slow
def test_compiled_losses_give_the_originals_figures(tmp_path):
    """In a process of its own, because compiling leaves workers and caches."""
    done = subprocess.run([sys.executable, "-W", "error::UserWarning:algorithm", "-c", COMPILED], cwd=ROOT,
                          capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout.split("\n")[:2] == ["agrees rrd_sac", "agrees rrd_td3"], done.stderr[-2000:]


# Several seeds at once ------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("option", [{}, {"rrd_bias_correction": True}, {"return_scale": 0.03}, {"alpha_lr": 0.0},
                                    {"obs_normalization": True}], ids=str)
@pytest.mark.parametrize("pair", PAIRS, ids=IDS)
@pytest.mark.sampled(9)
def test_stacked_agents_learn_what_each_would_alone(pair, option):
    if not fits((pair[0], pair[1] or pair[0]), option):
        pytest.skip("not an option of this one")
    alone, together = ([build(*pair, seed=seed, **option) for seed in (3, 4, 5)] for _ in "ab")
    starts = [copies(agent) for agent, _ in alone]
    assert distance(starts[1], starts[0], {name: value + 1 for name, value in starts[0].items()}) > 0.01
    metrics = [ManualEngine(agent, buffer).run(9) for agent, buffer in alone]
    agents = [agent for agent, _ in together]
    engine = StackedEngine(agents, [buffer for _, buffer in together])
    engine.run(4)
    sums = engine.run(5)
    for i, ((single, _), start) in enumerate(zip(alone, starts, strict=True)):
        assert distance(copies(agents[i]), copies(single), start) < SAME
        own, other = {n: c for n, _, c in sums.of(i).items()}, {n: c for n, _, c in metrics[i].items()}
        assert own.keys() == other.keys()
    last = engine.run(1)
    for i, (single, buffer) in enumerate(alone):
        expected = {name: float(value) for name, value, _ in ManualEngine(single, buffer).run(1).items()}
        found = {name: float(value) for name, value, _ in last.of(i).items()}
        assert found == pytest.approx(expected, rel=SAME, abs=SAME)


def test_a_stacked_agent_is_still_saved_loaded_and_acts():
    agents, buffers = zip(*(build(seed=seed) for seed in (1, 2)), strict=True)
    engine = StackedEngine(agents, buffers)
    engine.run(3)
    agents[1].save_model("one.safetensors")
    before, acts = copies(agents[1]), agents[1].step(np.ones(11, np.float32))
    engine.run(3)
    assert not np.array_equal(agents[1].step(np.ones(11, np.float32)), acts)
    agents[1].load_model("one.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in copies(agents[1]).items())
    np.testing.assert_array_equal(agents[1].step(np.ones(11, np.float32)), acts)


def test_agents_that_cannot_be_stacked_are_named():
    agents, buffers = zip(*(build(seed=seed) for seed in (1, 2)), strict=True)
    Engine(agents[0], buffers[0]).run(1)
    with pytest.raises(ConfigError, match="seeds: got agents that cannot share"):
        StackedEngine(agents, buffers)


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("plan", [
    [(4, 4, 4), (5, 5, 5)],                 # together
    [(0, 4, 4), (0, 0, 0), (4, 0, 0), (3, 3, 3)],       # separately until all have made the same number, then together
    [(2, 2, None), (3, 3, None)],           # one leaves at once
], ids=["together", "apart", "left"])
def test_agents_that_meet_for_updates_learn_what_each_would_alone(plan, monkeypatch):
    alone, together = ([build(seed=seed) for seed in (3, 4, 5)] for _ in "ab")
    starts = [copies(agent) for agent, _ in alone]
    stacked, run = [], StackedEngine.run
    monkeypatch.setattr(StackedEngine, "run", lambda self, updates: (stacked.append(updates), run(self, updates))[1])
    agents, buffers = zip(*together, strict=True)
    members = Meeting(StackedEngine(agents, buffers)).members(agents)
    counts = [{} for _ in members]

    def work(i, member):
        for wanted in (step[i] for step in plan):
            if wanted is None:
                return member.leave()
            if wanted:
                counts[i] = {name: count for name, _, count in member.run(wanted).items()}
            else:
                member.skip()
    in_threads(members, work)
    assert stacked == {(4, 4, 4): [4, 5], (0, 4, 4): [3], (2, 2, None): []}[plan[0]]
    for i, (agent, buffer) in enumerate(alone):
        for wanted in (step[i] for step in plan if step[i]):
            expected = {name: count for name, _, count in ManualEngine(agent, buffer).run(wanted).items()}
            assert counts[i].keys() == expected.keys()
        assert agents[i].updates == agent.updates
        if agent.updates:
            assert distance(copies(agents[i]), copies(agent), starts[i]) < SAME


# What is captured -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("pair", PAIRS, ids=IDS)
def test_the_captured_computation_follows_the_eager_engine(pair, precision, no_graphs):
    if precision == "bf16" and "td3" in pair:
        with pytest.raises(ConfigError, match="a policy with a batch of its own"):
            no_graphs(*build(*pair, precision=precision))
        return
    results, start = [], None
    for kind in (Engine, no_graphs):
        agent, buffer = build(*pair, precision=precision)
        start = copies(agent)
        engine = kind(agent, buffer)
        engine.run(4)
        found = {name: (float(total), count) for name, total, count in engine.run(5).items()}
        results.append((copies(agent), found, engine))
    (expected, metrics, _), (got, ours, engine) = results
    assert distance(got, expected, start) < 2e-3
    assert {name: count for name, (_, count) in metrics.items()} == {name: count for name, (_, count) in ours.items()}
    assert all(ours[name][0] == pytest.approx(metrics[name][0], rel=1e-3, abs=1e-3) for name in ours)
    obs = np.ones(11, np.float32)
    assert engine.actor is not engine.agent
    np.testing.assert_array_equal(engine.actor.step(obs), engine.agent.step(obs))


def test_the_actor_counts_exploring_steps_for_the_agent(no_graphs):
    args = Namespace(alg="dqn", obs_dims=(4,), acts_dims=(2,), device="cpu", buffer_size=50, batch_size=4)
    agent, buffer = create_agent(args), create_buffer(args)
    engine = no_graphs(agent, buffer)
    engine.actor.step(np.ones((3, 4), np.float32), explore=True)
    assert agent.counters["steps"] == 3
