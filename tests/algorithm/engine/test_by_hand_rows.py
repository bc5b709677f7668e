"""Half of the rows in each of two threads: their losses and gradients add up to those of the whole batch."""

from __future__ import annotations

import pytest
import torch
from engines import build, float64

from algorithm.engine.by_hand.engine import ManualEngine, Verb
from algorithm.engine.by_hand.kernels import Kernels
from algorithm.engine.by_hand.rows import halves, weighted

CASES = [("rrd", "td3", "train_pi"), ("uniform", "td3", "train_pi"), ("sac", None, "train_q"),
         ("sac", None, "train_pi"), ("ddpg", None, "train_q"), ("rrd", "ddpg", "train_pi"), ("rrd", "sac", "train_pi")]


def computed(agent, buffer, name: str, count: int, traced: bool) -> tuple[ManualEngine, Verb, dict]:
    """The engine of `count` threads after the losses of one verb; the same random numbers each time."""
    engine = ManualEngine(agent, buffer, Kernels("mm", count, 1))
    agent.generator.manual_seed(1)
    buffer.generator.manual_seed(1)
    verb = engine.verbs[name]
    with engine.paired() as engine.pair, torch.inference_mode():
        batch = engine.draw(verb)
        info = engine.losses(verb, batch, engine.graphs) if traced else engine.losses(verb, batch)
    return engine, verb, info


@pytest.mark.parametrize(("alg", "basis", "name"), CASES)
@pytest.mark.parametrize("rows", [16, 7, 1])
def test_halves_of_the_rows_add_up_to_the_batch(alg, basis, name, rows):
    with float64():
        pair = build(alg, basis, batch_size=rows)
        whole, verb, expected = computed(*pair, name, 1, traced=False)
        shared, _, info = computed(*pair, name, 2, traced=False)
        assert len(shared.twins) == 1
        assert not whole.twins
        for label, gradient in verb.gradients.items():
            torch.testing.assert_close(shared.verbs[name].gradients[label], gradient, rtol=1e-10, atol=1e-13)
        assert info.keys() == expected.keys()
        for metric, value in expected.items():
            torch.testing.assert_close(info[metric], value, rtol=1e-10, atol=1e-13)


def test_graphs_of_both_halves_write_what_python_does():
    pair = build("rrd", "td3")
    _, verb, expected = computed(*pair, "train_pi", 2, traced=False)
    _, traced, info = computed(*pair, "train_pi", 2, traced=True)
    for label, gradient in verb.gradients.items():
        torch.testing.assert_close(traced.gradients[label], gradient)
    torch.testing.assert_close(info["Pi_loss"], expected["Pi_loss"])


def test_what_is_divided_into_lists_is_not_divided_by_rows():
    engine, _, _ = computed(*build("rrd", "td3"), "train_q", 2, traced=False)
    assert not engine.twins


def test_a_row_counts_as_much_in_a_half_as_in_the_batch():
    batch = weighted({"obs": torch.arange(5.0)[:, None], "rrd_rews": torch.ones(2, 1)})
    first, second = halves(batch)
    assert (first["obs"].flatten().tolist(), second["obs"].flatten().tolist()) == ([0, 1, 2], [3, 4])
    assert float(first["weight"]) == float(second["weight"]) == pytest.approx(1 / 5)
    assert float(first["rrd_weight"]) == 1 / 2
