"""PyTorch's threads: how they wait, how many there are, and where one is enough."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch

from utils import threads
from utils.threads import one_thread, prepare_threads, worth


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def os_threads() -> int:
    return len(list(threads.TASKS.iterdir()))


@pytest.mark.skipif(not threads.TASKS.is_dir(), reason="no /proc")
def test_the_time_that_threads_wait_for_a_core_is_counted():
    """More threads spin than there are cores, so at least one of them always waits."""
    before, start = threads.waited(), time.perf_counter()
    code = "import threading, time\nend = time.time() + 0.5\nwhile time.time() < end: pass"
    spinners = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2 * threads.count_cores())]
    while any(spinner.poll() is None for spinner in spinners):
        sum(range(1000))
    assert 0 < threads.waited() - before < 10 * (time.perf_counter() - start)


def patient(monkeypatch, shares: list[float]) -> threads.Patience:
    """A `Patience` that sees these shares of waiting, a window of a second each."""
    clock, total = [0.0], [0.0]
    monkeypatch.setattr(threads.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(threads, "waited", lambda: total[0])
    found = threads.Patience()

    def step() -> None:
        clock[0], total[0] = clock[0] + 1.0, total[0] + shares.pop(0)
        found.look()
    found.step = step
    return found


def test_contended_cores_begin_patience_and_two_calm_seconds_end_it(monkeypatch):
    torch.set_num_threads(2)
    found = patient(monkeypatch, [0.05, 0.5, 0.0, 0.05, 0.0, 0.0, 0.0])
    seen = []
    while True:
        try:
            found.step()
        except IndexError:
            break
        seen.append(found.team is not None)
    assert seen == [False, True, True, True, True, True, False]


def settled() -> int:
    """The threads of this process, once those of an earlier test have ended."""
    found, before = os_threads(), None
    while found != before:
        time.sleep(0.1)
        found, before = os_threads(), found
    return found


@pytest.mark.skipif(not threads.TASKS.is_dir(), reason="no /proc")
def test_patience_keeps_more_threads_than_cores_until_it_ends_and_leaves_the_number_alone():
    torch.set_num_threads(2)
    found, before = threads.Patience(), settled()
    found.begin()
    found.begin()
    try:
        assert os_threads() >= before + threads.count_cores() + 1
        assert torch.get_num_threads() == 2
    finally:
        found.end()
    deadline = time.perf_counter() + 10
    while os_threads() > before and time.perf_counter() < deadline:
        time.sleep(0.01)
    assert os_threads() == before


def test_one_thread_has_nothing_to_wait_for(monkeypatch):
    torch.set_num_threads(1)
    found = patient(monkeypatch, [0.5])
    found.step()
    assert found.team is None


@pytest.mark.parametrize(("variable", "left"), [(None, 2), ("3", 3)])
def test_a_quota_limits_the_threads_unless_their_number_is_given(monkeypatch, variable, left):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr(threads, "count_cores", lambda: 2)
    monkeypatch.setattr(threads.os, "getloadavg", lambda: (0.0, 0, 0), raising=False)
    torch.set_num_threads(3)
    prepare_threads()
    assert torch.get_num_threads() == left


@pytest.mark.parametrize(("count", "load", "begins"), [(2, 9.0, True), (2, 0.5, False), (1, 9.0, False)])
def test_on_a_loaded_machine_threads_are_patient_from_the_start(monkeypatch, count, load, begins):
    monkeypatch.setattr(threads, "count_cores", lambda: 2)
    monkeypatch.setattr(threads.os, "getloadavg", lambda: (load, 0, 0), raising=False)
    begun = []
    monkeypatch.setattr(threads.patience, "begin", lambda: begun.append(1))
    torch.set_num_threads(count)
    prepare_threads()
    assert bool(begun) is begins


def test_one_thread_is_restored_also_after_an_error():
    seen = []

    def fail() -> None:
        with one_thread():
            seen.append(torch.get_num_threads())
            raise ValueError("an error")
    torch.set_num_threads(3)
    with pytest.raises(ValueError, match="an error"):
        fail()
    assert (seen, torch.get_num_threads()) == ([1], 3)


@pytest.mark.parametrize(("rows", "widest", "available", "count"), [
    (256, 256 * 256, 2, 2), (256, 256 * 256, 64, 4), (64, 64 * 64, 64, 1), (256, 2048 * 2048, 64, 64),
    (256, 256 * 256, 0, 1)])
def test_small_products_are_worth_few_threads(rows, widest, available, count):
    assert worth(rows, widest, available) == count
