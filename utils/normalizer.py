"""The normaliser of observations: running moments, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from utils.floats import widest
from utils.settings.fields import Config

MOMENTS = ("average", "m2", "cnt")
ORIGINALS = ("sum", "sum_sqr", "cnt", "mean", "std")    # what the original keeps, in this order, in float32


class Normalizer(nn.Module):
    """Scale vectors by their running mean and std: clip((x - mean) / std, -5, 5), std = max(1e-2, .).

    Three things differ from the original. It divides by a std of 0 before its first update: here it is the identity
    until then. It takes the root of a variance that rounding can make negative, the difference of two float32 sums,
    which gets worse the more it has counted: here are running moments in float64 (Chan, Golub, LeVeque, 1979).
    `originals` gives its sums, `load_originals` takes them over.

    With `eps` the std is sqrt(variance + eps) without a least value, in float64, as Stable-Baselines3's VecNormalize
    has it; `set_normalization_stats` takes such statistics over. The last `flags` numbers of a vector, each 0 or 1, are
    left as they are.
    """

    def __init__(self, shape: int | tuple[int, ...], eps_std: float = 1e-2, norm_clip: float = 5.0,
                 eps: float | None = None, flags: int = 0):
        super().__init__()
        self.flags, self.eps_std, self.norm_clip, self.eps = flags, eps_std, norm_clip, eps
        for name in ("average", "m2"):                  # the mean, and the sum of the squared distances from it
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("cnt", torch.zeros(1, dtype=torch.float64))
        for name in ("mean", "std"):                    # as networks read them
            self.register_buffer(name, torch.zeros(shape))
        if flags:
            scales = torch.arange(self.mean.shape[-1]) < self.mean.shape[-1] - flags
            self.register_buffer("scales", scales, persistent=False)
        self.register_load_state_dict_pre_hook(_take_over)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Normalizer:
        """Move to another device; the moments stay float64, and on the CPU where the device has no float64 (MPS)."""
        moments = {name: self._buffers.pop(name) for name in MOMENTS}
        super()._apply(fn, recurse)
        device = self.mean.device
        self._buffers = {name: moment.to(device) if widest(device) == torch.float64 else moment
                         for name, moment in moments.items()} | self._buffers
        return self

    def normalize(self, x: Tensor) -> Tensor:
        """(..., O) -> (..., O)."""
        return self._scale(x, slice(None))

    def normalize_prefix(self, x: Tensor) -> Tensor:
        """The same for vectors that are the first part of what was counted: (..., D <= O) -> (..., D)."""
        return self._scale(x, slice(x.shape[-1]))

    def normalize_suffix(self, x: Tensor) -> Tensor:
        """The same for vectors that are the last part of what was counted: (..., D <= O) -> (..., D)."""
        return self._scale(x, slice(-x.shape[-1], None))

    def _scale(self, x: Tensor, part: slice) -> Tensor:
        if self.eps is None:
            mean, std = self.mean[part], self.std[part]
        else:                                               # float32 loses digits where the variance is small
            mean, std = (moment.to(x.device, widest(x.device))[part] for moment in (self.average, self._deviation()))
        scaled = ((x - mean) / std).clamp(-self.norm_clip, self.norm_clip)
        scaled = scaled if self.eps is None else scaled.to(x.dtype)
        known = self.std[part] > 0                          # std is 0 as long as nothing was counted
        return torch.where(known & self.scales[part] if self.flags else known, scaled, x)

    def _deviation(self) -> Tensor:
        """The std that vectors are divided by, float64."""
        variance = self.m2 / self.cnt.clamp_min(1e-300)
        return variance.sqrt().clamp_min(self.eps_std) if self.eps is None else (variance + self.eps).sqrt()

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Count a batch of vectors, (B, O).

        With the batch's mean b, M2_b = sum (x - b)^2, d = b - mean and n vectors counted so far:
        mean += d B / (n + B),  M2 += M2_b + d^2 n B / (n + B).
        """
        x = torch.as_tensor(x).to(self.average.device).double()         # in two steps: MPS itself makes no float64
        total, share = self.cnt + len(x), len(x) / (self.cnt + len(x))
        own = x.mean(0)
        distance = own - self.average
        self.m2 += (x - own).square().sum(0) + distance.square() * self.cnt * share
        self.average += distance * share
        self.cnt.copy_(total)
        self.mean.copy_(self.average.to(self.mean.dtype))
        self.std.copy_(self._deviation().to(self.std.dtype))

    def normalization_stats(self) -> dict[str, Any]:
        """The statistics as JSON can hold them: `obs_mean` and `obs_var`, lists of O, and `obs_count`.

        Before the first update they are 0, 1 and 0.
        """
        variance = self.m2 / self.cnt if self.cnt > 0 else torch.ones_like(self.m2)
        return {"obs_mean": self.average.tolist(), "obs_var": variance.tolist(), "obs_count": float(self.cnt)}

    @torch.no_grad()
    def set_normalization_stats(self, stats: Mapping[str, Any]) -> None:
        """Take over what `normalization_stats` returned; other names are not read.

        Raises:
            ValueError: a number is missing, of another size, or not finite, or a variance or the count is negative.
        """
        shape = tuple(self.average.shape)
        mean, variance = (_numbers(stats, name, shape) for name in ("obs_mean", "obs_var"))
        count = _numbers(stats, "obs_count", ())
        for name, value in (("obs_var", variance), ("obs_count", count)):
            if (value < 0).any():
                raise ValueError(f"{name}: got {float(value.min()):g}, expected no negative number")
        self.average.copy_(mean)
        self.m2.copy_(variance * count)
        self.cnt.copy_(count)
        self.mean.copy_(mean.to(self.mean.dtype))
        self.std.copy_((self._deviation() * (self.cnt > 0)).to(self.std.dtype))

    def originals(self) -> dict[str, Tensor]:
        """What the original keeps, float32: `sum`, `sum_sqr`, `cnt`, `mean` and `std`."""
        squares = self.m2 + self.cnt * self.average.square()
        found = (self.average * self.cnt, squares, self.cnt, self.mean, self.std)
        return {name: value.float() for name, value in zip(ORIGINALS, found, strict=True)}

    @torch.no_grad()
    def load_originals(self, given: Mapping[str, Tensor]) -> None:
        """Take over what `originals` gives, or the original has saved."""
        for name, value in moments_of(given, self.eps_std).items():
            getattr(self, name).copy_(value)
        for name in ("mean", "std"):
            getattr(self, name).copy_(given[name])


def normalizer_of(config: Config) -> Normalizer:
    """The normaliser that the settings `obs_clip` and `obs_eps` say, for observations of `obs_dims`.

    With `--encoder=objects` it leaves alone whether there is an object.
    """
    own, each = config.object_dims or (0, 0)
    flags = (config.obs_dims[0] - own) // (each + 1) if config.encoder == "objects" else 0
    return Normalizer(config.obs_dims, norm_clip=5.0 if config.obs_clip is None else config.obs_clip,
                      eps=config.obs_eps, flags=flags)


def _numbers(stats: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> Tensor:
    """A field of statistics, float64."""
    try:
        value = torch.as_tensor(stats[name], dtype=torch.float64)
    except KeyError:
        raise ValueError(f"{name}: missing, expected numbers of shape {shape}") from None
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(f"{name}: got something else than numbers, expected numbers of shape {shape}") from None
    if tuple(value.shape) != shape or not value.isfinite().all():
        raise ValueError(f"{name}: got shape {tuple(value.shape)}{', not all finite' * (tuple(value.shape) == shape)}, "
                         f"expected finite numbers of shape {shape}")
    return value


def moments_of(given: Mapping[str, Tensor], eps_std: float = 1e-2) -> dict[str, Tensor]:
    """Running moments from the original's sums: `average`, `m2`, `cnt`, float64.

    Where the difference of the sums has lost its digits, M2 is that of the saved std, which networks were trained with.
    """
    total, squares, cnt, _, std = (given[name].double() for name in ORIGINALS)
    counted = cnt.clamp_min(1)
    m2 = (squares - total.square() / counted).clamp_min(0)
    seen = (m2 / counted).sqrt()
    floored = torch.minimum(m2, counted * eps_std ** 2)
    exact = (seen - std).abs() <= 1e-4 * std
    known = torch.where(std <= eps_std * 1.0001, floored, torch.where(exact, m2, counted * std.square()))
    return {"average": total / counted, "m2": known * (cnt > 0), "cnt": cnt}


def upgraded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A saved state in which the original's sums, which earlier versions kept, are running moments."""
    found = dict(state)
    for prefix in [name.removesuffix("sum_sqr") for name in state if name.endswith("sum_sqr")]:
        given = {name: state.get(prefix + name) for name in ORIGINALS}
        shapes = [None if value is None else tuple(value.shape) for value in given.values()]
        if None in shapes or shapes[2] != (1,) or len({*shapes[:2], *shapes[3:]}) > 1:
            continue                                    # the check of names and shapes reports it
        for name in ("sum", "sum_sqr"):
            del found[prefix + name]
        found |= {prefix + name: value for name, value in moments_of(given).items()}
    return found


def _take_over(module: Normalizer, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
    """Upgrade the part of a state dict of PyTorch's own loading, in place."""
    if f"{prefix}sum_sqr" in state:
        new = upgraded({name: value for name, value in state.items() if name.startswith(prefix)})
        for name in [name for name in state if name.startswith(prefix)]:
            del state[name]
        state |= new
