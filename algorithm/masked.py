"""Means over the steps of a minibatch that count, or over all of them."""

from __future__ import annotations

from torch import Tensor


def mean_of(values: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Return the mean over the steps that count, (); 0 if none does."""
    if "mask" not in batch:
        return values.mean()
    return (values * batch["mask"]).sum() / batch["mask"].sum().clamp_min(1)


def standardised(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """(x - mean) / (std + 1e-8), with the unbiased std, over the steps that count, or all of them."""
    if mask is None:
        return (values - values.mean()) / (values.std() + 1e-8)
    count = mask.sum()
    centred = (values - (values * mask).sum() / count.clamp_min(1)) * mask
    return centred / ((centred.square().sum() / (count - 1).clamp_min(1)).sqrt() + 1e-8)
