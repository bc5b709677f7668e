"""What networks of decompositions read of a step: vectors joined, features of pictures, or a user's own features."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from utils.errors import ConfigError
from utils.settings.fields import Config
from utils.settings.imports import import_modules
from utils.torch_utils import ConvTrunk


class StepInputs(nn.Module):
    """[s, a] or [s, a, s - s'] of vectors; of pictures DQN's convolutions on [s, s - s'], and a; (..., F)."""

    def __init__(self, config: Config, difference: bool, generator: torch.Generator):
        """difference: whether s - s' is joined; of pictures it always is."""
        super().__init__()
        self.difference, self.trunk = difference, None
        obs_dims, (acts,) = config.obs_dims, config.acts_dims
        if len(obs_dims) == 3:
            self.pair_dims = (*obs_dims[:2], 2 * obs_dims[2])
            self.trunk = ConvTrunk("r", self.pair_dims, generator)
            self.size = self.trunk.features + acts
        else:
            self.size = obs_dims[0] * (1 + difference) + acts

    def forward(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """(..., O), encoded (..., A), (..., O) -> (..., F), for any leading dimensions."""
        if self.trunk is not None:
            pairs = torch.cat([obs, obs - obs_next], dim=-1)
            features = self.trunk.trunk(pairs.reshape(-1, *self.pair_dims))
            return torch.cat([features.reshape(*acts.shape[:-1], -1), acts], dim=-1)
        return torch.cat([obs, acts, obs - obs_next] if self.difference else [obs, acts], dim=-1)


class OwnFeatures(nn.Module):
    """Features that a user's function computes, (..., D); it has no parameters."""

    def __init__(self, config: Config, function: Callable[..., Any]):
        """Call the function once, with zeros, to know D.

        Raises:
            ConfigError: its result is none of the features that are expected.
        """
        super().__init__()
        self.function, self.name = function, config.feature_fn
        obs, acts = torch.zeros(1, *config.obs_dims), torch.zeros(1, *config.acts_dims)
        self.size = 0
        self.size = self(obs, acts, obs).shape[-1]

    def forward(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """(..., O), encoded (..., A), (..., O) -> (..., D), for any leading dimensions.

        Raises:
            ConfigError: the result has another shape, type or device, needs gradients, or is not finite.
        """
        found = self.function(obs, acts, obs_next)
        leading = tuple(acts.shape[:-1])
        expected = f"expected floats of shape {(*leading, self.size or 'D')} on {acts.device} without gradients"
        if not isinstance(found, Tensor) or not found.is_floating_point():
            raise ConfigError(f"feature_fn: got {getattr(found, 'dtype', type(found).__name__)} from {self.name}, "
                              f"{expected}")
        if found.ndim != acts.ndim or found.shape[:-1] != leading or self.size not in (0, found.shape[-1]) \
                or not found.shape[-1]:
            raise ConfigError(f"feature_fn: got shape {tuple(found.shape)} from {self.name}, {expected}")
        if found.device != acts.device or found.requires_grad:
            raise ConfigError(f"feature_fn: got features {'with gradients' if found.requires_grad else 'on '}"
                              f"{'' if found.requires_grad else found.device} from {self.name}, {expected}")
        if not found.is_cuda and not found.isfinite().all():            # a GPU would have to be waited for
            raise ConfigError(f"feature_fn: got numbers that are not finite from {self.name}, expected finite ones")
        return found.to(acts.dtype)


def own_features(config: Config) -> OwnFeatures | None:
    """Return the features of `feature_fn`; None if it is not set.

    Raises:
        ConfigError: there is no such function, or it returns no features.
    """
    if config.feature_fn is None:
        return None
    module, colon, name = config.feature_fn.partition(":")
    if not colon or not name.isidentifier():
        raise ConfigError(f"feature_fn: got {config.feature_fn!r}, expected module:function, such as my_features:phi")
    import_modules([module])
    function = getattr(importlib.import_module(module), name, None)
    if not callable(function):
        raise ConfigError(f"feature_fn: got {config.feature_fn!r}, but {module} has no function {name}; expected one "
                          "of tensors (.., O), (.., A), (.., O) -> (.., D)")
    return OwnFeatures(config, function)
