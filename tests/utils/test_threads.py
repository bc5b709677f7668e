"""PyTorch's threads: how they wait, how many there are, and where one is enough."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from utils import threads
from utils.threads import limit_threads, one_thread, wait_asleep, worth

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_threads_sleep_unless_the_environment_says_how_they_wait(monkeypatch):
    for name in threads.WAITING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    wait_asleep()
    assert "OMP_WAIT_POLICY" not in os.environ
    monkeypatch.delenv("GOMP_SPINCOUNT")
    wait_asleep()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize("program", ["train", "evaluate", "plot", "report", "sweep"])
def test_every_program_says_so_before_pytorch_is_imported(program):
    code = ("import os, sys; seen = []\n"
            "class Look:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name == 'torch': seen.append(os.environ.get('OMP_WAIT_POLICY'))\n"
            "sys.meta_path.insert(0, Look())\n"
            f"import {program}\n"
            f"try: {program}.main(['--help'])\n"
            "except SystemExit: pass\n"
            "import torch; print(set(seen), file=sys.stderr)")
    env = {name: value for name, value in os.environ.items() if name not in threads.WAITING}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "{'PASSIVE'}"


@pytest.mark.parametrize(("variable", "left"), [(None, 2), ("3", 3)])
def test_a_quota_limits_the_threads_unless_their_number_is_given(monkeypatch, variable, left):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr(threads, "count_cores", lambda: 2)
    torch.set_num_threads(3)
    limit_threads()
    assert torch.get_num_threads() == left


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
