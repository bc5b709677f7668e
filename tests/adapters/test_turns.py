"""From the outcome of an episode to a reward for each turn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import return_decomposition as rd


def dialogues(count: int = 64, turns: int = 5, seed: int = 0):
    """Episodes of 2 to 5 turns that succeed if one turn had the first feature; the others say nothing."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, turns, 4)).astype(np.float32)
    mask = np.arange(turns) < rng.integers(2, turns + 1, count)[:, None]
    features[..., 0] = 0
    for episode in range(0, count, 2):
        features[episode, rng.integers(0, mask[episode].sum()), 0] = 1
    return features, (np.arange(count) % 2 == 0).astype(np.float32), mask


def test_the_turn_that_decides_is_paid():
    features, outcomes, mask = dialogues()
    found = rd.turn_rewards(features, outcomes, mask, updates=60, r_lr=3e-2, reward_hidden_sizes=(32,))
    assert found.rewards.shape == mask.shape
    assert (found.rewards[~mask] == 0).all()
    best = found.rewards.argmax(1)[::2]
    assert (features[::2, :, 0].argmax(1) == best).mean() > 0.9
    assert ((found.probability > 0.5) == outcomes).mean() > 0.9


def test_rewards_add_up_to_the_rise_of_the_probability():
    features, outcomes, mask = dialogues(16)
    found = rd.turn_rewards(features, outcomes, mask, updates=5, reward_hidden_sizes=(8,))
    model = found.model
    with torch.no_grad():
        steps = model.prepare("obs", torch.as_tensor(features))
        logits = model.predict(steps, torch.zeros(16, 5, 1), steps)[..., 0] * torch.as_tensor(mask)
        bias = model.outcome.bias.detach()
        expected = (logits.sum(1) + bias).sigmoid() - bias.sigmoid()
    assert np.allclose(found.rewards.sum(1), expected.numpy(), atol=1e-6)
    assert np.allclose(found.probability, (expected + bias.sigmoid()).numpy(), atol=1e-6)


def test_padding_changes_nothing_and_another_call_continues():
    features, outcomes, mask = dialogues(16)
    wild = np.where(mask[..., None], features, 1e6).astype(np.float32)
    first, second = (rd.turn_rewards(values, outcomes, mask, updates=3, reward_hidden_sizes=(8,))
                     for values in (features, wild))
    assert np.array_equal(first.rewards, second.rewards)
    again = rd.turn_rewards(features, outcomes, mask, updates=0, model=first.model)
    assert np.array_equal(again.rewards, first.rewards)
    assert not np.array_equal(rd.turn_rewards(features, outcomes, mask, updates=1, model=first.model).rewards,
                              again.rewards)


@pytest.mark.parametrize(("changes", "message"), [
    (dict(features=np.zeros((2, 3))), r"features: got shape \(2, 3\), expected \(N, L, D\)"),
    (dict(outcomes=np.zeros(3)), r"outcomes: got shape \(3,\), expected \(2,\), one for each episode"),
    (dict(outcomes=np.array([0, 2])), "outcomes: got 2, expected numbers from 0, failure, to 1, success"),
    (dict(mask=np.ones((2, 4))), r"mask: got shape \(2, 4\), expected \(2, 3\)"),
    (dict(mask=np.array([[1, 0, 1], [1, 1, 1]])), "mask: got an episode without turns, or with a gap"),
])
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        rd.turn_rewards(**dict(features=np.zeros((2, 3, 4)), outcomes=np.zeros(2)) | changes)
