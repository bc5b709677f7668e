"""Networks of quantiles and their loss with gradients written by hand, beside `algorithm/quantiles.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.engine.by_hand.encoders import features, layers_of
from algorithm.engine.by_hand.mlp import MLP, Pad, Trunk
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.products import sizes


class QuantileGradients:
    """The quantiles Z of a `QuantileNetwork`, or with an action's features those of a `QuantileCritic`.

    With the features of the observation f, of the fraction c and of the action a,

        x = f c,  h = ReLU(W x + b),  Z = the other layers of h a,

    and so dL/da = sum over fractions of dL/d(h a) h, dL/df = sum over fractions of dL/dx c, dL/dc = dL/dx f. Rows of a
    batch of B observations with N fractions each are (B N, ...), the fractions of one observation together.
    """

    def __init__(self, nets: Nets, name: str, pad: Pad, trained: bool = False, actions: bool = False):
        """See `encoders.DenseFeatures`; name: of the network; actions: whether it has an encoder of actions."""
        network, self.pad, self.name = nets.agent.nets.get_submodule(name), pad, name
        first, *rest = layers_of(network, name)
        activation = nets.agent.shape("critic" if actions else "policy").activation
        self.encoder = features(nets, f"{name}.encoder", pad, trained)
        self.cosines = nets.dense([f"{name}.cos_embedding.linear"], pad, "relu", Trunk, trained)
        self.frequencies = nets.tensor([agent.nets.get_submodule(name).cos_embedding.frequencies
                                        for agent in nets.agents])
        self.first = nets.dense([first], pad, activation, Trunk, trained)
        self.action = nets.dense([f"{name}.action_encoder"], pad, "relu", Trunk, trained) if actions else None
        self.rest = nets.dense(rest, pad, activation, MLP, trained)

    def __call__(self, obs: Tensor, taus: Tensor, acts: Tensor | None = None) -> Tensor:
        """(B, O), (B, N), (B, A) or None -> (B, N, outputs)."""
        shape, self.f = sizes(taus), self.encoder(obs)
        cosines = torch.cos(taus[..., None] * self.frequencies)
        self.c = self.cosines(cosines.flatten(0, 1)).unflatten(0, shape)
        x = torch.mul(self.f[:, None], self.c, out=self.pad(f"{self.name}.x", *sizes(self.c)))
        h = self.h = self.first(x.flatten(0, 1)).unflatten(0, shape)
        if self.action is not None:
            self.a = self.action(acts)[:, None]
            h = torch.mul(h, self.a, out=self.pad(f"{self.name}.ha", *sizes(h)))
        return self.rest(h.flatten(0, 1)).unflatten(0, shape)

    def backward(self, grad: Tensor) -> None:
        """Write all gradients, given dL/dZ, (B, N, outputs)."""
        shape = sizes(grad)[:2]
        grad = self.rest.to_inputs(self.rest.backward(grad.flatten(0, 1))).unflatten(0, shape)
        if self.action is not None:
            self.action.backward(self._over_fractions(grad, self.h))
            grad.mul_(self.a)
        grad = self.first.to_inputs(self.first.backward(grad.flatten(0, 1))).unflatten(0, shape)
        of_features = self._over_fractions(grad, self.c)
        self.cosines.backward(grad.mul_(self.f[:, None]).flatten(0, 1))
        self.encoder.backward(of_features)

    def action_grad(self, grad: Tensor) -> Tensor:
        """Return dL/d(action), (B, A), given dL/dZ; the gradients of the weights are left alone."""
        grad = self.rest.input_grad(grad.flatten(0, 1), 0).unflatten(0, sizes(grad)[:2])
        return self.action.input_grad(self._over_fractions(grad, self.h), 0)

    def _over_fractions(self, grad: Tensor, factor: Tensor) -> Tensor:
        """The sum over fractions of both, (B, N, F) -> (B, F)."""
        return torch.mul(grad, factor, out=self.pad(f"{self.name}.product", *sizes(grad))).sum(1)


def quantile_huber(values: Tensor, targets: Tensor, taus: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of `algorithm.quantiles.quantile_huber`, (), and its gradient by the values, (B, N).

    With w_ij = |tau_i - 1{delta_ij < 0}|, dL/dvalue_i = -mean_j w_ij clip(delta_ij, -1, 1) / B.

    Args:
        weight: what a row counts in the mean over rows, ().
    """
    delta = targets[:, None, :] - values[:, :, None]                                            # (B, N, N')
    weights = (taus[:, :, None] - (delta < 0).to(delta.dtype)).abs_().mul_(weight / sizes(targets)[1])
    slope = delta.clamp(-1, 1)
    loss = (slope * (delta - 0.5 * slope) * weights).sum()          # Huber(d) = s (d - s / 2), s = clip(d, -1, 1)
    return loss, -(slope * weights).sum(2)
