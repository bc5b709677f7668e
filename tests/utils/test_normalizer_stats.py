"""The observations' normaliser with the statistics and the arithmetic of VecNormalize."""

from __future__ import annotations

import json

import pytest
import torch

from utils.normalizer import Normalizer

STATS = {"obs_mean": [0.5, -3.0], "obs_var": [1e-7, 4.0], "obs_count": 302.5, "ret_mean": [0.0], "ret_count": 1}


def test_statistics_are_taken_over_and_given_back():
    normalizer = Normalizer(2, norm_clip=10.0, eps=1e-8)
    assert normalizer.normalization_stats() == {"obs_mean": [0, 0], "obs_var": [1, 1], "obs_count": 0}
    normalizer.set_normalization_stats(json.loads(json.dumps(STATS)))
    found = normalizer.normalization_stats()
    assert found["obs_mean"] == STATS["obs_mean"]
    assert found["obs_var"] == pytest.approx(STATS["obs_var"], rel=1e-12)
    assert found["obs_count"] == 302.5


def test_the_std_has_no_floor_and_small_variances_keep_their_digits():
    normalizer, x = Normalizer(2, norm_clip=10.0, eps=1e-8), torch.tensor([[0.5005, 1.0], [0.4, 100.0]])
    normalizer.set_normalization_stats(STATS)
    wanted = (x.double() - torch.tensor([0.5, -3.0]).double()) / (torch.tensor([1e-7, 4.0]).double() + 1e-8).sqrt()
    found = normalizer.normalize(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted.clamp(-10, 10).float(), rtol=1e-6, atol=0)
    assert found[1].tolist() == [-10, 10]
    original = Normalizer(2)
    original.set_normalization_stats(STATS)
    assert original.normalize(x)[0, 0] == pytest.approx(0.05, rel=1e-3)     # a std of at least 0.01


def test_counting_goes_on_from_the_statistics():
    one, other = Normalizer(2, eps=1e-8), Normalizer(2, eps=1e-8)
    first, second = torch.randn(7, 2), 3 + torch.randn(5, 2)
    one.update(torch.cat([first, second]))
    other.update(first)
    again = Normalizer(2, eps=1e-8)
    again.set_normalization_stats(other.normalization_stats())
    again.update(second)
    torch.testing.assert_close(again.average, one.average)
    torch.testing.assert_close(again.m2, one.m2)
    torch.testing.assert_close(again.std, one.std)


@pytest.mark.parametrize(("change", "message"), [
    ({"obs_mean": [1.0]}, "obs_mean: got shape"), ({"obs_var": [1.0, -1.0]}, "obs_var: got -1, expected no negative"),
    ({"obs_var": [1.0, float("nan")]}, "obs_var: got shape .* not all finite"),
    ({"obs_count": -1}, "obs_count: got -1"),
    ({"obs_count": "many"}, "obs_count: got something else than numbers"), ({"obs_mean": None}, "obs_mean: got"),
], ids=["size", "negative", "nan", "count", "text", "none"])
def test_wrong_statistics_change_nothing(change, message):
    normalizer = Normalizer(2, eps=1e-8)
    with pytest.raises(ValueError, match=message):
        normalizer.set_normalization_stats(STATS | change)
    with pytest.raises(ValueError, match="obs_mean: missing"):
        normalizer.set_normalization_stats({})
    assert normalizer.normalization_stats()["obs_count"] == 0
