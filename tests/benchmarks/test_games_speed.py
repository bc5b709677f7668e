"""The ceiling of updates from images, their convolutions, and that of the others, matrix products."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import flops, games
from benchmarks.contestants import our_engine
from benchmarks.flops import ceiling_of, ceilings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def engine():
    """RRD-DQN by autograd with batches of two."""
    config = games.settings("cpu", 64)
    config = dataclasses.replace(config, batch_size=2, rrd_batch_size=2, rrd_sample_size=2)
    return our_engine(config, games.filled_buffer(config), "eager")


def trunk(channels: int) -> list[int]:
    """Multiply-adds of the three convolutions of one image of 84 x 84."""
    return [21 * 21 * 32 * 8 * 8 * channels, 11 * 11 * 64 * 4 * 4 * 32, 11 * 11 * 64 * 3 * 3 * 64]


def test_the_convolutions_alone_are_those_of_an_update(engine):
    """Q(s) and r(tau) forward and backward, but not to the pixels; Q'(s') and r(batch) forward."""
    value, reward = trunk(4), trunk(8)
    forward = 2 * sum(value) + 2 * sum(reward)
    backward = sum(2 * sum(one) - one[0] for one in (value, reward))
    alone = games.Convolutions(engine)
    with FlopCounterMode(display=False) as counted, torch.inference_mode():
        games._make(alone.calls)
    assert counted.get_total_flops() == 2 * 2 * (forward + backward)
    with FlopCounterMode(display=False) as whole:
        engine.run(1)
    of_update = {str(call): count for call, count in whole.get_flop_counts()["Global"].items() if "conv" in str(call)}
    assert sum(of_update.values()) == counted.get_total_flops()


def test_both_layouts_compute_the_same_and_are_what_they_say(engine):
    alone = games.Convolutions(engine)
    _, arguments = alone.calls[0]
    for layout, form in games.LAYOUTS.items():
        images, kernels = (games._in_layout(form, value) for value in arguments[:2])
        assert images.is_contiguous(memory_format=form), layout
        assert kernels.is_contiguous(memory_format=form), layout
        assert torch.equal(images, arguments[0])
        assert alone.seconds(layout) > 0


def test_a_share_is_of_the_faster_layout_of_its_round(engine, monkeypatch):
    rounds = {"eager": [4.0, 2.0], "channels_last": [1.0, 1.5], "contiguous": [3.0, 1.0]}
    monkeypatch.setattr(games, "take_turns", lambda turns, count: {name: rounds[name] for name in turns})
    monkeypatch.setattr(games, "our_engine", lambda *_: engine)
    found = games.measure_updates(engine.agent.config, engine.buffer, 2, 1, 0.0)
    assert found["share"] == {"eager": 0.375}               # 1/4 and 1/2
    assert found["default_engine"] == "eager"
    assert found["convolutions_per_second"] == 1.0
    assert found["per_second"] == {"eager": 1 / 3}


# Products ------------------------------------------------------------------------------------------------------------

def test_each_library_multiplies():
    x, y = torch.rand(2, 64, 64, dtype=torch.float32)
    torch.testing.assert_close(flops._mm(x, y, torch.empty(64, 64)), x @ y)
    if flops.ONEDNN:
        torch.testing.assert_close(flops._onednn(x, y, torch.empty(64, 64)), x @ y.t())
    made = ceilings(CPU, (64,))
    assert set(made) == {"ceiling mm", *(["ceiling onednn"] if flops.ONEDNN else [])}
    assert all(one() > 0 for one in made.values())


def test_the_ceiling_of_a_round_is_its_better_library():
    rounds = {"update eager": [1.0, 1.0], "ceiling mm": [100.0, 80.0], "ceiling onednn": [90.0, 120.0]}
    assert ceiling_of(rounds) == {"products_gflops": {"mm": [100.0, 80.0], "onednn": [90.0, 120.0]},
                                  "ceiling_gflops": [100.0, 120.0]}
