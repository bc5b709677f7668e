"""Likelihood reward redistribution with a Gaussian process (arXiv 2503.17409, v2; AAAI 2026).

The rewards of an episode are r ~ GP(mu, k), k a kernel over (s, a). The loss is the negative log marginal likelihood of
the leave-one-out targets. Differentiated as it stands, every mean gets the same gradient, whatever the kernel; `detach`
holds the targets constant, and then the kernel pools what similar steps learn, as the paper says.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from algorithm.batch import Spec
from algorithm.decomposition.base import Decomposition, Info
from algorithm.decomposition.networks import StepNet
from algorithm.decomposition.scale import ReturnScale
from algorithm.decomposition.whole import Episodes, episodes_of, episodes_spec
from utils.floats import widened
from utils.optimizers import reward_adam
from utils.settings.fields import Config

JITTER = 1e-4
START = {"log_sigma_f": 0.0, "log_length_scale": 0.0, "log_sigma_noise": math.log(0.1)}         # as published


class GPLRR(Decomposition):
    """A mean reward from (s, a), and a kernel between the steps of an episode; the mean is paid."""

    reads = ("r_lr", "fit_episodes", "return_scale", "kernel", "detach")
    metrics = ("R_loss", "R_error")

    def __init__(self, config: Config, generator: torch.Generator | None = None):
        """Build the network, the logarithms of the kernel's parameters, and the optimiser; see `Decomposition`."""
        super().__init__(config, generator)
        self.scale = ReturnScale(config)
        self.mean = StepNet(config, self.weights_generator)
        start = START | ({"log_alpha": 0.0} if config.kernel == "rq" else {})
        self.hyper = nn.ParameterDict({name: nn.Parameter(torch.tensor(value)) for name, value in start.items()})
        self.to(self.device)
        self.opts = [reward_adam(self.parameters(), config.r_lr)]

    def loss_spec(self) -> Spec:
        """Return the fields of whole episodes with one label each."""
        return episodes_spec(self.config, bags=False)

    def predict(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """Return the mean times `return_scale`, (..., 1); see `Decomposition.predict`."""
        return self.mean(obs, self.encode_acts(acts), obs_next) * self.scale()

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """R_loss = mean_N of `likelihoods`; R_error = mean_N (R / scale - sum mu)^2."""
        losses, error = self.likelihoods(batch)
        loss = losses.mean()
        return loss, {"R_loss": loss, "R_error": error.square().mean()}

    def likelihoods(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return e' K^-1 e / 2 + log det K / 2 + T log(2 pi) / 2 of each episode, and R / scale - sum mu, (N,) each.

        e is the residual of every step's leave-one-out target, the same number T times.
        """
        episodes = episodes_of(batch)
        mu = episodes.within(self.mean(episodes.obs, self.encode_acts(episodes.acts), episodes.obs_next)[..., 0])
        error = batch["ep_return"][:, 0].to(mu.dtype) / self.scale() - mu.sum(1)        # (N,)
        residuals = error[:, None].expand_as(mu)
        if self.config.detach:
            residuals = residuals.detach() + mu.detach() - mu
        factor = torch.linalg.cholesky(self.covariance(episodes))                                   # (N, L, L)
        scaled = torch.linalg.solve_triangular(factor, widened(episodes.within(residuals))[..., None], upper=False)
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)                                      # half of it
        constant = episodes.lengths.to(log_det.dtype) * (math.log(2 * math.pi) / 2)
        return (scaled.square().sum((1, 2)) / 2 + log_det + constant).to(mu.dtype), error

    def covariance(self, episodes: Episodes) -> Tensor:
        """Return K = k(X, X) + (sigma_noise^2 + 1e-4) I over X = [s, a], (N, L, L), the identity beyond the ends.

        In double precision: the factors of a nearly singular matrix lose digits.
        """
        hyper = {name: widened(value) for name, value in self.hyper.items()}
        x = widened(self.mean.inputs(episodes.obs, self.encode_acts(episodes.acts), episodes.obs_next).detach())
        squares = x.square().sum(-1)
        distance = (squares[:, :, None] + squares[:, None] - 2 * x @ x.transpose(1, 2)).clamp_min(0)
        shape = SHAPES[self.config.kernel](distance / (2 * hyper["log_length_scale"]).exp(), hyper)
        both = episodes.inside[:, :, None] & episodes.inside[:, None]
        noise = torch.where(episodes.inside, (2 * hyper["log_sigma_noise"]).exp() + JITTER, 1.0)
        return torch.where(both, (2 * hyper["log_sigma_f"]).exp() * shape, 0.0) + torch.diag_embed(noise)


def rbf(ratio: Tensor, hyper: dict[str, Tensor]) -> Tensor:
    """Return exp(-d^2 / (2 l^2)) for d^2 / l^2."""
    return (-ratio / 2).exp()


def matern(ratio: Tensor, hyper: dict[str, Tensor]) -> Tensor:
    """Return (1 + sqrt(3) d / l) exp(-sqrt(3) d / l) for d^2 / l^2."""
    distance = (3 * ratio + 1e-12).sqrt()               # whose derivative at 0 is finite
    return (1 + distance) * (-distance).exp()


def rational_quadratic(ratio: Tensor, hyper: dict[str, Tensor]) -> Tensor:
    """Return (1 + d^2 / (2 alpha l^2))^-alpha for d^2 / l^2."""
    alpha = hyper["log_alpha"].exp()
    return (1 + ratio / (2 * alpha)) ** -alpha


SHAPES = {"rbf": rbf, "matern": matern, "rq": rational_quadratic}
