"""How many functions a reader opens, from the learner's call of the engine to the lines that change the numbers."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
import torch
from engines import build

from algorithm.engine import create_engine
from algorithm.engine.by_hand.engine import as_they_are

ROOT = str(Path(__file__).resolve().parent.parent.parent.parent)
ROOMS = ("algorithm", "envs", "learner", "utils")      # not the virtual environment, which may be in the checkout
LEAVES = ("MLP._differentiate", "TFAdam.step_group")        # they write a gradient, and a weight


def functions_above(leaves: tuple[str, ...], call) -> set[str]:
    """The functions of the package, or the classes of `Threads`, that are on the stack while a leaf is called."""
    found: set[str] = set()

    def look(frame, event, _):
        if event == "call" and frame.f_code.co_qualname in leaves:
            while frame:
                code = frame.f_code
                # a decorator of entry points, which keeps the caller's state of PyTorch apart, is no step of the path
                room = Path(code.co_filename).relative_to(ROOT).parts[0] if code.co_filename.startswith(ROOT) else ""
                ours = room in ROOMS and not code.co_filename.endswith("torch_state.py")
                if ours and "<" not in code.co_name:
                    found.add(code.co_qualname)
                frame = frame.f_back
    threading.setprofile(look)
    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return {"Threads" if name.startswith("Threads.") else name for name in found}


@pytest.mark.parametrize("threads", [1, 2])
def test_the_default_path_from_the_engine_to_a_weight_is_fewer_than_twelve_functions(threads, monkeypatch):
    """A graph is `compute` again, made without Python; it is not opened to follow an update."""
    monkeypatch.setattr("algorithm.engine.by_hand.traced.Graphs.__call__", lambda self, *call: as_they_are(*call))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        agent, buffer = build("rrd", "sac")
        engine, _ = create_engine(agent.config, agent, buffer)
        opened = functions_above(LEAVES, lambda: engine.run(2))
    finally:
        torch.set_num_threads(before)
    assert {*LEAVES, "SACGradients.q_loss", "SACGradients.pi_loss", "RewardGradients.loss"} < opened
    assert len(opened) < 12, sorted(opened)
