"""A batch is a mapping from field names to arrays; here it is checked and brought to the agent's device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.errors import ConfigError
from utils.floats import widest
from utils.settings.fields import Config

Array = Any                                     # a tensor, a NumPy array, or what NumPy makes one of
Batch = Mapping[str, Array]
Spec = dict[str, tuple[int | str, ...]]         # names to shapes; a letter is a size that must agree everywhere


class Indices(tuple):
    """The shape of a field that holds integers in [0, count) rather than floats."""

    kinds, dtype = "iu", torch.int64
    count: int

    def __new__(cls, shape: tuple[int | str, ...], count: int) -> Indices:
        self = super().__new__(cls, shape)
        self.count = count
        return self

    def __getnewargs__(self) -> tuple:                  # what copying and pickling call __new__ with
        return tuple(self), self.count


class Bytes(tuple):
    """The shape of a field of uint8, which stays so."""

    kinds, dtype = "u", torch.uint8


class Pixels(tuple):
    """The shape of a field of floats in [0, 1], or of uint8, which are divided by 255."""

    kinds, dtype = "fu", torch.float32


class Doubles(tuple):
    """The shape of a field of floats that keeps their double precision."""

    kinds, dtype = "f", torch.float64


def observations(*shape: int | str) -> tuple[int | str, ...]:
    """The shape of observations: images if they end in three numbers, else vectors."""
    return Pixels(shape) if len(shape) > 2 and all(isinstance(size, int) for size in shape[-3:]) else shape


def actions_spec(config: Config, *letters: str) -> tuple[int | str, ...]:
    """Return the shape of actions with these leading sizes: vectors, or indices for DQN."""
    return Indices(letters, config.acts_dims[0]) if config.discrete else (*letters, *config.acts_dims)


def transition_spec(obs_dims: tuple[int, ...], acts: tuple[int | str, ...], letter: str = "B") -> Spec:
    """The fields of `letter` many transitions; `acts` is the shape of their actions."""
    obs, column = observations(letter, *obs_dims), (letter, 1)
    return {"obs": obs, "obs_next": obs, "acts": acts, "rews": column, "done": column}


def sequence_spec(obs_dims: tuple[int, ...], acts: tuple[int | str, ...], bias_correction: bool) -> Spec:
    """The fields of RRD's sub-sequences; `acts` is the shape of a batch's actions, (B, ...)."""
    obs, column = observations("N", "K", *obs_dims), ("N", 1)
    shape = ("N", "K", *acts[1:])
    sequences = Indices(shape, acts.count) if isinstance(acts, Indices) else shape
    spec = {"rrd_obs": obs, "rrd_obs_next": obs, "rrd_acts": sequences, "rrd_rews": column}
    return spec | ({"rrd_var_coef": column} if bias_correction else {})


def check_batch(batch: Batch, required: Spec, optional: Spec, device: torch.device,
                whose: str = "batch") -> dict[str, Tensor]:
    """The named fields as float32 tensors on `device` (indices: int64); other fields are left out.

    Args:
        whose: the name of the batch in an error.
    Raises:
        ValueError: a field is missing, or has the wrong shape or dtype. Floating-point arrays of any width are
            accepted, for indices integers; only `done` may be any of those, or boolean.
    """
    if not isinstance(batch, Mapping):
        raise ValueError(f"{whose}: got {type(batch).__name__}, expected a mapping with {', '.join(required)}")
    sizes: dict[str, int] = {}
    fields = {}
    for name, shape in (required | {name: optional[name] for name in optional if name in batch}).items():
        if name not in batch:
            raise ValueError(f"{whose}[{name!r}]: missing, expected shape {_show(shape)}; "
                             f"the {whose} has {', '.join(map(str, batch)) or 'no fields'}")
        kinds = getattr(shape, "kinds", "fiub" if name == "done" else "f")
        field = f"{whose}[{name!r}]"
        fields[name] = to_tensor(field, batch[name], device, kinds, getattr(shape, "dtype", torch.float32))
        _check_shape(field, tuple(fields[name].shape), shape, sizes)
        if isinstance(shape, Indices) and not fields[name].is_cuda:        # on a GPU it would make every update wait
            check_range(field, fields[name], shape.count)
    return fields


def prepared(name: str, value: Tensor, normalize: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a field as the losses read it: observations normalised, bytes of pixels in [0, 1], all else as it is."""
    if not name.endswith(("obs", "obs_next")):
        return value
    return normalize(value / 255 if value.dtype == torch.uint8 else value)


def rewards(batch: Mapping[str, Tensor]) -> Tensor:
    """The batch's `rews`, (B, 1).

    Raises:
        ConfigError: a decomposition has put rewards of another shape there, which would broadcast.
    """
    rews, expected = batch["rews"], batch["done"].shape
    if rews.shape != expected:
        raise ConfigError(f"batch['rews']: got shape {tuple(rews.shape)} from a decomposition, expected "
                          f"{tuple(expected)}, one reward for each step")
    return rews


def check_sequences(fields: dict[str, Any]) -> None:
    """The variance of RRD-L(RD) needs two steps of each sub-sequence."""
    if "rrd_obs" in fields and fields["rrd_obs"].shape[1] < 2:
        raise ValueError(f"batch['rrd_obs']: got shape {tuple(fields['rrd_obs'].shape)}, "
                         "expected (N, K, ...) with K at least 2 for rrd_bias_correction")


def check_observations(obs: Array, obs_dims: tuple[int, ...], device: torch.device) -> tuple[Tensor, bool]:
    """(O,) or (N, O) raw observations -> (N, O), and whether it was a single one.

    Raises:
        ValueError: the shape is wrong, or it holds no numbers.
    """
    obs = to_tensor("obs", obs, device, kinds="fiub")
    single = obs.ndim == len(obs_dims)
    rows = obs[None] if single else obs
    if rows.ndim != len(obs_dims) + 1 or tuple(rows.shape[1:]) != obs_dims:
        sizes = ", ".join(map(str, obs_dims))
        raise ValueError(f"obs: got shape {tuple(obs.shape)}, expected {_show(obs_dims)} or (N, {sizes})")
    return rows, single


def check_steps(steps: dict[str, Array], obs_dims: tuple[int, ...], acts: tuple[int | str, ...],
                device: torch.device) -> dict[str, Tensor]:
    """`obs`, `acts` and `obs_next` of steps with any leading dimensions; `acts` is the shape of a batch's, (B, ...).

    Raises:
        ValueError: a last dimension is wrong, the leading ones differ, or the numbers are of another kind.
    """
    discrete = isinstance(acts, Indices)
    shapes = dict.fromkeys(("obs", "obs_next"), observations("B", *obs_dims)) | {"acts": acts}
    checked = {name: to_tensor(name, value, device, getattr(shapes[name], "kinds", "f"),
                               getattr(shapes[name], "dtype", torch.float32)) for name, value in steps.items()}
    leading = checked["obs"].shape[:max(checked["obs"].ndim - len(obs_dims), 0)]
    for name, sizes in (("obs", obs_dims), ("acts", acts[1:]), ("obs_next", obs_dims)):
        if checked[name].shape != (*leading, *sizes):
            raise ValueError(f"{name}: got shape {tuple(checked[name].shape)}, expected {(*leading, *sizes)}")
    if discrete and checked["acts"].numel():
        check_range("acts", checked["acts"], acts.count)
    return checked


def to_tensor(name: str, value: Array, device: torch.device, kinds: str = "f",
              dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor on `device`, without history; arrays are copied, whatever their layout and byte order.

    Args:
        name: its name in an error.
        kinds: NumPy's letters of the accepted number types: f, and i, u, b where integers and flags make sense.
            "fu" means pixels: of unsigned types only uint8 is accepted, and divided by 255.
    Raises:
        ValueError: it holds anything else.
    """
    if isinstance(value, Tensor):
        value = value.clone() if value.is_inference() else value            # no gradient could pass it
        kind, got = _kind(value.dtype), str(value.dtype).removeprefix("torch.")
    else:
        try:
            value = np.asarray(value)
            kind, got = value.dtype.kind, str(value.dtype)
        except (TypeError, ValueError, RuntimeError):   # rows of different lengths, lists of tensors with gradients
            kind, got = "O", "object"
    if kind not in kinds or (kind == "u" and kinds in ("u", "fu") and got != "uint8"):
        expected = "float32 or uint8" if kinds == "fu" else str(dtype).removeprefix("torch.")
        raise ValueError(f"{name}: got dtype {got}, expected {expected}")
    dtype = widest(device, dtype)
    if kinds == "fu" and kind == "u":
        return to_tensor(name, value, device, "u", torch.uint8).to(dtype) / 255
    if isinstance(value, Tensor):
        return value.detach().to(device, dtype)
    with np.errstate(over="ignore"):                    # a float64 beyond float32 is infinite
        return torch.from_numpy(np.array(value, _NUMPY[dtype])).to(device)


_NUMPY = {torch.float32: np.float32, torch.float64: np.float64, torch.int64: np.int64, torch.uint8: np.uint8}


def _kind(dtype: torch.dtype) -> str:
    """NumPy's letter for a number type."""
    if dtype.is_floating_point or dtype.is_complex:
        return "f" if dtype.is_floating_point else "c"
    return "b" if dtype == torch.bool else "i" if dtype.is_signed else "u"


def check_range(name: str, indices: Tensor, count: int) -> None:
    """Check that indices lie in [0, count); `name` is their name in an error."""
    low, high = (int(end) for end in torch.aminmax(indices))
    if low < 0 or high >= count:
        raise ValueError(f"{name}: got {low if low < 0 else high}, expected integers from 0 to {count - 1}")


def _check_shape(field: str, got: tuple[int, ...], expected: tuple[int | str, ...], sizes: dict[str, int]) -> None:
    def agrees(size: int, entry: int | str) -> bool:
        return size == entry if isinstance(entry, int) else size == sizes.setdefault(entry, size)

    if len(got) != len(expected) or not all(map(agrees, got, expected)):
        known = ", ".join(f"{letter} = {size}" for letter, size in sizes.items() if letter in expected)
        raise ValueError(f"{field}: got shape {got}, expected {_show(expected)}{' with ' + known if known else ''}")
    if 0 in got:
        raise ValueError(f"{field}: got shape {got}, which is empty; expected {_show(expected)}")


def _show(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


# Losses of a user's own --------------------------------------------------------------------------------------------

def check_loss(owner: Any, method: str, result: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Check what a loss returned, and return it: (a 0-d tensor, a dict of 0-d metrics).

    Args:
        owner: whose loss it is; an error names its class.
        method: the name of the loss.
    Raises:
        ConfigError: it is anything else.
    """
    def refuse(got: str):
        raise ConfigError(f"{method}: got {got} from {type(owner).__name__}, expected (a 0-d tensor, a dict of 0-d "
                          "tensors, the metrics)")
    if not (isinstance(result, (tuple, list)) and len(result) == 2 and isinstance(result[1], dict)):
        refuse(_described(result) if not isinstance(result, (tuple, list))
               else f"({', '.join(map(_described, result))})")
    loss, info = result
    if not isinstance(loss, Tensor) or loss.ndim:
        refuse(f"{_described(loss)} as the loss")
    for name, value in info.items():
        if not isinstance(value, Tensor) or value.ndim:
            refuse(f"{_described(value)} as the metric {name!r}")
    return loss, info


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"
