"""A reward of (s, a) that learns what a model of whole episodes pays."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.batch import Spec
from algorithm.decomposition.base import Decomposition
from algorithm.decomposition.networks import StepNet
from algorithm.decomposition.scale import ReturnScale
from algorithm.decomposition.whole import Episodes, episodes_spec


class Distilled(Decomposition):
    """A model of whole episodes, over `scale`, whose payments a reward of (s, a), `step`, learns and pays."""

    metrics = ("R_loss", "R_step")
    scale: ReturnScale
    step: StepNet

    def loss_spec(self) -> Spec:
        """Return the fields of whole episodes with one label each."""
        return episodes_spec(self.config, bags=False)

    def predict(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """Return the learned reward of a step times `return_scale`, (..., 1); see `Decomposition.predict`."""
        return self.step(obs, self.encode_acts(acts), obs_next) * self.scale()


def distillation(rewards: Tensor, targets: Tensor, episodes: Episodes, rows: Tensor | None = None) -> Tensor:
    """Return the mean squared error of rewards (N, L, 1) against targets (N, L), held constant, ().

    Args:
        rows: the numbers n L + t of the steps that count, (B,); None: every step of the episodes, once.
    """
    squares = (rewards[..., 0] - targets.detach()).square()
    if rows is not None:
        return squares.flatten()[rows].mean()
    return torch.where(episodes.inside, squares, 0.0).sum() / episodes.inside.sum()
