"""The memory of a replay of images, and agents that learn from its bytes."""

from __future__ import annotations

import re
from argparse import Namespace

import numpy as np
import pytest
import torch
from frames import (
    ACTS,
    SIZE,
    build,
    each_alg,
    episode,
)
from replays import assert_same

from algorithm import create_agent
from algorithm.replay_buffer.storage import FrameStorage
from utils.errors import ConfigError
from utils.text import human_bytes

# Memory -------------------------------------------------------------------------------------------------------

@pytest.fixture
def no_allocation(monkeypatch):
    monkeypatch.setattr(FrameStorage, "allocate", lambda self: None)


ATARI = dict(size=(84, 84), stack=4, acts=18)


@each_alg
def test_a_million_steps_of_atari_take_less_than_7_2_kB_each(alg, no_allocation, monkeypatch):
    monkeypatch.setattr("algorithm.replay_buffer.transition.available_bytes", lambda device: None)
    assert build(alg, buffer_size=1_000_000, **ATARI).bytes_needed < 7.2e9
    assert build(alg, buffer_size=10_000, **ATARI).bytes_needed < 7.2e7


@each_alg
def test_bytes_needed_is_what_is_allocated(alg):
    buffer = build(alg, buffer_size=20_000, **ATARI)
    storages = [value.untyped_storage() for value in (vars(buffer) | vars(buffer.storage)).values()
                if isinstance(value, torch.Tensor)]
    allocated = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())     # views count once
    assert 0 <= allocated - buffer.bytes_needed < 100
    assert buffer.bytes_needed < 20_000 * 7200


@each_alg
def test_a_buffer_that_does_not_fit_is_refused_with_a_size_that_does(alg, monkeypatch, no_allocation):
    def available(count):
        monkeypatch.setattr("algorithm.replay_buffer.transition.available_bytes", lambda device: count)
    available(None)
    needed = build(alg, buffer_size=1_000_000, **ATARI).bytes_needed
    free = needed // 6
    available(free)
    with pytest.raises(ConfigError) as refusal:
        build(alg, buffer_size=1_000_000, **ATARI)
    match = re.fullmatch(r"buffer_size: 1000000 .* (\S+ GB) .* (\S+ GB) free; --buffer_size=(\d+) would fit",
                        str(refusal.value))
    assert match.groups()[:2] == (human_bytes(needed), human_bytes(free))
    assert 0.8 * free < build(alg, buffer_size=match[3], **ATARI).bytes_needed <= free


# Agents ------------------------------------------------------------------------------------------------------

IMAGE = (12, 9, 3)
AGENTS = {
    "dqn": dict(alg="dqn"), "double": dict(alg="dqn", double=True), "dueling": dict(alg="dqn", dueling=True),
    "normalised": dict(alg="dqn", obs_normalization=True), "rmsprop": dict(alg="dqn", optimizer="rmsprop"),
    "rrd": dict(alg="rrd", basis_alg="dqn"), "ircr": dict(alg="ircr", basis_alg="dqn"),
    "rrd-l(rd)": dict(alg="rrd", basis_alg="dqn", rrd_bias_correction=True),
}


@pytest.fixture(params=AGENTS.values(), ids=AGENTS)
def options(request):
    """An algorithm over images."""
    return request.param


def make_agent(options, dims=IMAGE):
    return create_agent(Namespace(obs_dims=dims, acts_dims=(ACTS,), device="cpu", **options))


def bytes_batch(dims=IMAGE, B=5, N=2, K=3):
    g = torch.Generator().manual_seed(0)

    def pixels(*shape):
        return torch.randint(256, (*shape, *dims), dtype=torch.uint8, generator=g)
    return {"obs": pixels(B), "obs_next": pixels(B), "acts": torch.arange(B) % ACTS, "rews": torch.randn(B, 1),
            "done": torch.zeros(B, 1), "rrd_obs": pixels(N, K), "rrd_obs_next": pixels(N, K),
            "rrd_acts": torch.arange(N * K).view(N, K) % ACTS, "rrd_rews": torch.ones(N, 1),
            "rrd_var_coef": torch.full((N, 1), 0.5)}


def as_floats(batch):
    """The batch with pixels from 0 to 1, by NumPy."""
    return {name: np.asarray(field).astype(np.float32) / np.float32(255) if name.endswith(("obs", "obs_next")) else
            field for name, field in batch.items()}


FORMS = {
    "tensors": dict, "arrays": lambda batch: {name: field.numpy() for name, field in batch.items()},
    "views": lambda batch: {name: field.transpose(1, -1).contiguous().transpose(1, -1) if field.ndim > 2 else field
                            for name, field in batch.items()},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_an_agent_takes_bytes_as_the_same_pixels_divided_by_255_to_the_bit(options, form):
    batch, agents = bytes_batch(), [make_agent(options) for _ in range(2)]
    forms = form(batch), as_floats(batch)
    for agent, pixels in zip(agents, forms, strict=True):
        agent.normalizer_update(pixels)
    for _ in range(3):
        assert_same(*(agent.train(pixels) for agent, pixels in zip(agents, forms, strict=True)))
    assert_same(agents[0].state_dict(), agents[1].state_dict())


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.int16, np.int64, np.int8, bool, torch.uint16, torch.int64])
@pytest.mark.parametrize("field", ["obs", "obs_next", "rrd_obs"])
def test_pixels_of_other_kinds_are_refused(kind, field):
    agent, batch = make_agent(AGENTS["rrd"]), bytes_batch()
    value = batch[field].to(kind) if isinstance(kind, torch.dtype) else batch[field].numpy().astype(kind)
    # Whole numbers would be mistaken for pixels from 0 to 1, or wrap around.
    with pytest.raises(ValueError, match=rf"batch\['{field}'\]: got dtype \w+, expected float32"):
        agent.train(batch | {field: value})
    assert agent.updates == 0


def test_a_sampled_batch_trains_the_agent_like_its_stacks(options):
    sizes = dict(rrd_sample_size=3, rrd_batch_size=6) if options["alg"] == "rrd" else {}
    agents, buffer = [make_agent(options | sizes, (*SIZE, 3)) for _ in range(2)], build(options["alg"], K=3, N=2)
    for number in range(5):
        buffer.store_episode(episode(number, 9))
    for _ in range(3):
        batch = buffer.sample(4)
        assert_same(agents[0].train(batch), agents[1].train(as_floats(batch)))


def test_the_learned_reward_of_a_sampled_batch_can_be_predicted():
    agent, batch = make_agent(AGENTS["rrd"]), bytes_batch()
    names = ("obs", "acts", "obs_next")
    assert_same(*(agent.rewards(*(pixels[name] for name in names)) for pixels in (batch, as_floats(batch))))
    several = agent.rewards(*(batch[f"rrd_{name}"] for name in names))
    assert several.shape == (2, 3, 1)
