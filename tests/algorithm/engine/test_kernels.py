"""Kernels of the gradients by hand: they compute the same, are chosen by timing, and repeat."""

from __future__ import annotations

import dataclasses
import json
import threading
import time

import pytest
import torch
from engines import build

from algorithm.engine import create_engine
from algorithm.engine.by_hand import kernels, products, timing
from algorithm.engine.by_hand.engine import ManualEngine
from algorithm.engine.by_hand.kernels import Kernels, candidates, parse, usual
from utils import cache
from utils.errors import ConfigError
from utils.settings.kernels import AUTOGRAD

needs_onednn = pytest.mark.skipif(not products.ONEDNN, reason="this PyTorch has no oneDNN")


@pytest.fixture
def timed(tmp_path, monkeypatch):
    """Every product is large, nothing else runs, and choices are cached in a directory of the test's own."""
    monkeypatch.setattr(products, "LEAST", 0)
    monkeypatch.setattr(timing, "is_busy", lambda: False)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def gradients(chosen: Kernels) -> list[torch.Tensor]:
    engine = ManualEngine(*build(), chosen)
    timing._by_hand(engine, chosen, timing.blank(engine.agent))
    return [grad.clone() for grad in engine.grads.values()]


@pytest.mark.parametrize("text", ["mm-2x1", "mm-1x2", pytest.param("onednn-1x1", marks=needs_onednn),
                                  pytest.param("onednn-2x1", marks=needs_onednn)])
def test_all_kernels_compute_the_same_gradients(text, monkeypatch):
    monkeypatch.setattr(products, "LEAST", 0)
    for ours, expected in zip(gradients(parse(text)), gradients(parse("mm-1x1")), strict=True):
        if text == "mm-2x1":
            assert torch.equal(ours, expected)          # the halves share no sum
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


@needs_onednn
def test_onednn_computes_large_products_where_it_is_chosen(monkeypatch):
    monkeypatch.setattr(products, "LEAST", 0)
    calls = []
    monkeypatch.setattr("algorithm.engine.by_hand.mlp.onednn", lambda *args, call=products.onednn, **named: (
        calls.append(1), call(*args, **named))[1])
    for text, used in (("mm-1x1", False), ("onednn-1x1", True)):
        calls.clear()
        ManualEngine(*build(), parse(text)).run(1)
        assert bool(calls) == used, text


def test_candidates_differ_only_where_products_are_large(two_threads, monkeypatch):
    agent, _ = build()
    assert candidates(agent) == [usual(agent)]
    monkeypatch.setattr(products, "LEAST", 0)
    found = candidates(agent)
    libraries = {"mm", "onednn"} if products.ONEDNN else {"mm"}
    assert found[0] == usual(agent)
    assert len(set(found)) == len(found)
    assert {str(one) for one in found} == {f"{name}-{halves}x1" for name in libraries for halves in (1, 2)}


# Timing -------------------------------------------------------------------------------------------------------------

def sleeper(seconds: float, log: list | None = None):
    def call():
        time.sleep(seconds)
        if log is not None:
            log.append(1)
    return call


@pytest.mark.parametrize(("times", "expected"), [((4, 1), "other"), ((4, 3.9), "usual"), ((1, 4), "usual")])
def test_the_fastest_is_chosen_and_the_usual_one_unless_it_is_clearly_slower(times, expected):
    one, other = (sleeper(seconds / 1000) for seconds in times)
    assert timing.fastest({"usual": one, "other": other}, "usual") == expected


def test_threads_that_still_spin_do_not_count_against_the_next_candidate():
    spins_until = [time.perf_counter() + 0.01]          # as those of what ran before

    def usual():
        time.sleep(0.02 if time.perf_counter() < spins_until[0] else 0.004)

    def other():
        time.sleep(0.006)
        spins_until[0] = time.perf_counter() + 0.01
    assert timing.fastest({"usual": usual, "other": other}, "usual") == "usual"


def test_what_takes_far_longer_is_timed_no_more():
    log = []
    assert timing.fastest({"usual": sleeper(0.001), "slow": sleeper(0.05, log)}, "usual") == "usual"
    assert len(log) == 2                                # once to make its buffers


@pytest.mark.parametrize(("alg", "basis"), [("rrd", "sac"), ("td3", None), ("rrd", "ddpg"), ("ircr", "td3")])
def test_timing_changes_neither_weights_nor_generators(alg, basis, timed):
    (agent, buffer), (other, _) = build(alg, basis), build(alg, basis)
    engine, why = create_engine(agent.config, agent, buffer)
    assert "the fastest here" in why or "gradients by hand are slower" in why
    for name, tensor in other.state_dict().items():
        assert torch.equal(agent.state_dict()[name], tensor), name
    assert torch.equal(agent.generator.get_state(), other.generator.get_state())
    engine.run(2)
    assert agent.updates == 2


def test_a_choice_is_cached_for_these_shapes(timed, monkeypatch):
    agent, buffer = build()
    first, _ = create_engine(agent.config, agent, buffer)
    monkeypatch.setattr(timing, "_measured", lambda *args: pytest.fail("timed again"))
    again, why = create_engine(agent.config, *build())
    assert (type(again), str(again.kernels)) == (type(first), str(first.kernels))
    assert "earlier run" in why
    (path,) = timed.glob("*.json")
    assert list(json.loads(path.read_text()).values()) == [str(first.kernels)]
    monkeypatch.setattr(timing, "_measured", lambda *args: AUTOGRAD)
    wider, why = create_engine(agent.config, *build(obs_dim=12))
    assert (wider.name, wider.kernels) == ("eager", AUTOGRAD)
    assert "slower here" in why
    asked, _ = create_engine(dataclasses.replace(agent.config, engine="manual"), *build(obs_dim=12))
    assert (asked.name, asked.kernels) == ("manual", usual(agent))


def test_nothing_is_timed_or_cached_while_other_programs_use_the_cores(timed, monkeypatch):
    monkeypatch.setattr(timing, "is_busy", lambda: True)
    agent, buffer = build()
    engine, why = create_engine(agent.config, agent, buffer)
    assert engine.kernels == usual(agent)
    assert "not timed" in why
    assert not list(timed.glob("*.json"))


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"a": 3}', b'{"a": "nonsense-1x1"}', b"\xff\x00", None])
def test_a_cache_that_cannot_be_read_is_written_anew(content, timed):
    if content is not None:
        (timed / "kernels.json").write_bytes(content)
    assert cache.remembered("kernels", "a", lambda: "mm-1x1", timing.is_choice) == ("mm-1x1", False)
    assert cache.remembered("kernels", "a", lambda: pytest.fail("measured again"), timing.is_choice) == ("mm-1x1", True)


def test_a_cache_that_cannot_be_written_is_none(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "below"))
    assert cache.remembered("kernels", "a", lambda: "mm-1x1", timing.is_choice) == ("mm-1x1", False)


@pytest.mark.skipif(cache.fcntl is None, reason="no locks")
def test_processes_that_ask_at_once_measure_once(timed):
    measured = []

    def measure():
        measured.append(1)
        time.sleep(0.2)
        return "mm-1x1"
    found = []
    ask = lambda: found.append(cache.remembered("kernels", "a", measure, timing.is_choice)[0])     # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["mm-1x1"] * 3
    assert measured == [1]


# As a setting -------------------------------------------------------------------------------------------------------

def made(**changes):
    agent, buffer = build()
    return create_engine(dataclasses.replace(agent.config, **changes), agent, buffer)


def test_kernels_that_are_asked_for_are_used():
    engine, why = made(kernels="mm-2x3")
    assert engine.kernels == Kernels("mm", 2, 3)
    assert "mm-2x3 as asked" in why
    assert made(kernels="autograd")[0].name == "eager"


@pytest.mark.parametrize(("changes", "field"), [
    (dict(kernels="mm-1x1", engine="eager"), "kernels: got 'mm-1x1'"),
    (dict(kernels="autograd", engine="manual"), "kernels: got 'autograd' with --engine=manual")])
def test_kernels_that_nothing_reads_are_refused(changes, field):
    with pytest.raises(ConfigError, match=field):
        made(**changes)


def test_without_onednn_its_kernels_are_refused(monkeypatch):
    monkeypatch.setattr(kernels, "ONEDNN", False)
    with pytest.raises(ConfigError, match=r"kernels: got 'onednn-2x1', but this build of PyTorch has no oneDNN; "
                                          r"expected auto, or mm-2x1"):
        made(kernels="onednn-2x1")
