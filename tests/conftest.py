import contextlib
import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

import gymnasium as gym
import pytest
import resident
import sampling
import tiny_envs  # noqa: F401 (registers them)
import torch

import envs.registration  # noqa: F401 (registers ours, which `forget` then keeps)
from algorithm.tf.importing import complete_pytorch
from utils.settings.algorithms import ALGORITHMS
from utils.settings.policies import POLICIES

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:           # in the background of a script; it is inherited
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)            # small matrices, and nothing waits for a busy core
os.environ.setdefault("MUJOCO_GL", "disabled")
os.environ["RETURN_DECOMPOSITION_CACHE"] = "off"                # kernels by processor, not by timing
if importlib.util.find_spec("tensorflow"):
    complete_pytorch()              # tests import TensorFlow by themselves


# Memory --------------------------------------------------------------------------------------------------------------

GROWN = 200e6           # bytes more than were held before, after which what is free is given back
held = [0]
peaks: dict[str, int] = {}          # the most that each process has held


def pytest_runtest_logfinish():
    if resident.LINUX and resident.resident_bytes() > held[0] + GROWN:
        held[0] = resident.give_back()


def pytest_sessionfinish(session):
    if resident.LINUX:
        peaks["here"] = resident.peak_bytes()
        getattr(session.config, "workeroutput", {})["peak"] = peaks["here"]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Of a worker of pytest-xdist."""
    if "peak" in (getattr(node, "workeroutput", None) or {}):
        peaks[node.gateway.id] = node.workeroutput["peak"]


def pytest_terminal_summary(terminalreporter):
    workers = {name: peak for name, peak in peaks.items() if name != "here"} or peaks
    if workers:
        found = ", ".join(f"{name} {peak / 1e9:.1f} GB" for name, peak in workers.items())
        terminalreporter.write_line(f"memory at most: {found}")


# Time ----------------------------------------------------------------------------------------------------------------

UNTIL = float(os.environ.get("TESTS_UNTIL", "inf"))     # seconds since 1970, after which tests are skipped


# Every test ----------------------------------------------------------------------------------------------------------

@pytest.hookimpl(tryfirst=True)             # before `-m` selects
def pytest_collection_modifyitems(items):
    sampling.leave_to_slow(items)


def pytest_runtest_setup(item):
    if time.time() > UNTIL:
        pytest.skip("TESTS_UNTIL is over")
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def _own_directory(tmp_path, monkeypatch):
    """Every test runs in an empty directory of its own, with no switch set, and takes the machine for an idle one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("USE_PYTORCH", raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)       # a busy one gets a note more


TABLES = (ALGORITHMS, POLICIES, gym.registry)


@pytest.fixture
def forget():
    """Remove what a test registers and imports afterwards."""
    tables = [dict(table) for table in TABLES]
    path, modules, threads = list(sys.path), set(sys.modules), torch.get_num_threads()
    here = Path.cwd()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(here)):
            del sys.modules[name]
    for table, before in zip(TABLES, tables, strict=True):
        table.clear()
        table.update(before)


class Standin:
    """A CUDA stream or graph that does nothing."""

    def __init__(self, *args):
        pass

    def wait_stream(self, other):
        pass

    synchronize = register_generator_state = wait_stream


@pytest.fixture
def no_graphs(monkeypatch):
    """A CapturedEngine that computes on the CPU, each time, what it would capture and replay."""
    from algorithm.engine import captured
    from algorithm.engine.seeds import captured as stacked
    for name in ("Stream", "CUDAGraph", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, Standin)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    for module in (captured, stacked):
        monkeypatch.setattr(module, "check_device", lambda agent, buffer: None)
    monkeypatch.setattr(Standin, "synchronize", lambda self: None)
    monkeypatch.setattr(captured.CapturedEngine, "_run", captured.CapturedEngine._compute)
    return captured.CapturedEngine
