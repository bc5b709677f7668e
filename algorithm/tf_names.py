"""The original's names and layouts of a PyTorch agent's tensors, to exchange them with the original.

The tree of modules has the names of the original's scopes. Dense kernels are [in, out] there, convolutions
[height, width, in, out]. Adam keeps `<variable>/Adam` and `<variable>/Adam_1` (m and v), and for each optimiser
`beta1_power` and `beta2_power`, b^(t + 1) after t steps, numbered in the order of creation. RMSProp keeps
`<variable>/RMSProp` (the mean square) and `<variable>/RMSProp_1` (the last step, which a momentum of 0 never reads;
zeros here).
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor, nn

from utils.checkpoint import check_same
from utils.normalizer import Normalizer

# The original creates its optimisers in this order; the power of the second one is `beta1_power_1`.
ORDER = ("policy", "alpha", "critic", "reward")
LAYOUT = {nn.Linear: (1, 0), nn.Conv2d: (2, 3, 1, 0)}           # TensorFlow's axes of a kernel in PyTorch's


def variables(agent, optimizer: bool = False) -> dict[str, np.ndarray]:
    """Float32 copies by the original's names; with `optimizer`, the optimisers' slots and powers as well."""
    found = {name: view.detach().cpu().numpy().copy() for name, view in (_views(agent) | _normalizers(agent)).items()}
    if not optimizer:
        return found
    found |= {name: view.cpu().numpy().copy() for name, view in _slots(agent).items()}
    for suffix, group in _adam_groups(agent).items():
        for beta, name in zip(group["betas"], ("beta1_power", "beta2_power"), strict=True):
            found[name + suffix] = power(beta, group["t"])
    return found


@torch.no_grad()
def load(agent, given: dict[str, np.ndarray]) -> None:
    """Assign variables by the original's names, all or some of them.

    Raises:
        ValueError: a name is unknown, a shape or dtype is wrong, or a power belongs to no number of steps; the agent is
            unchanged.
    """
    arrays = {name: np.asarray(value) for name, value in given.items()}
    known = variables(agent, optimizer=True)
    check_same(arrays, {name: known[name] for name in known if name in arrays}, "variables", known)
    counts = {suffix: _count(arrays, suffix, group) for suffix, group in _adam_groups(agent).items()}
    views = _views(agent) | _slots(agent)
    _load_normalizers(agent, arrays)
    for name, array in arrays.items():
        if name in views:                               # the powers are not tensors of a PyTorch agent
            views[name].copy_(torch.as_tensor(array.astype(np.float32)))
    for suffix, group in _adam_groups(agent).items():
        if counts[suffix] is not None:
            _set_count(agent, group, counts[suffix])


def places(agent) -> dict[str, str]:
    """The original's name -> the name of its value in `agent.state_dict()`."""
    own = {tensor: name for name, tensor in [*agent.nets.named_parameters(), *agent.nets.named_buffers()]}
    names = {tensor: name for name, (tensor, _) in entries(agent).items()}
    found = {name: f"nets.{own[tensor]}" for tensor, name in names.items()}
    for path, _ in _normalizer_modules(agent):
        found |= {f"{path.replace('.', '/')}/{name}": f"nets.{path}.{HELD[name]}" for name in HELD}
    for opt, group in agent.groups():
        for tensor in group["params"]:
            found |= {f"{names[tensor]}/{tf_slot}": f"opt.{own[tensor]}.{slot}"
                      for tf_slot, slot in opt.tf_slots.items()}
    for suffix, group in _adam_groups(agent).items():
        found |= {f"{name}{suffix}": f"opt.{group['name']}.t" for name in ("beta1_power", "beta2_power")}
    return found


def entries(agent) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    """Weights, targets and log alpha, each with TensorFlow's order of its axes."""
    found = {}
    for path, module in agent.nets.named_modules():
        scope = path.replace(".", "/")
        axes = next((axes for kind, axes in LAYOUT.items() if isinstance(module, kind)), None)
        if axes is not None:
            parent, _, layer = scope.rpartition("/")
            found[f"{parent}/net/{layer}/kernel"] = module.weight, axes
            found[f"{parent}/net/{layer}/bias"] = module.bias, (0,)
        elif not isinstance(module, Normalizer):
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            found |= {f"{scope}/{name}": (tensor, tuple(range(tensor.ndim))) for name, tensor in own}
    return found


def _views(agent) -> dict[str, Tensor]:
    """Views of the tensors of `entries` in TensorFlow's layout."""
    return {name: tensor.permute(axes) for name, (tensor, axes) in entries(agent).items()}


HELD = {"sum": "average", "sum_sqr": "m2", "cnt": "cnt", "mean": "mean", "std": "std"}     # what holds it here


def _normalizer_modules(agent) -> list[tuple[str, Normalizer]]:
    return [(path, module) for path, module in agent.nets.named_modules() if isinstance(module, Normalizer)]


def _normalizers(agent) -> dict[str, Tensor]:
    """The original's sums of the normaliser; it keeps other moments here."""
    return {f"{path.replace('.', '/')}/{name}": value for path, module in _normalizer_modules(agent)
            for name, value in module.originals().items()}


def _load_normalizers(agent, arrays: dict[str, np.ndarray]) -> None:
    for path, module in _normalizer_modules(agent):
        names = {name: f"{path.replace('.', '/')}/{name}" for name in HELD}
        if any(name in arrays for name in names.values()):
            own = {name: value.cpu() for name, value in module.originals().items()}
            module.load_originals(own | {name: torch.as_tensor(arrays[full].astype(np.float32))
                                         for name, full in names.items() if full in arrays})


def _slots(agent) -> dict[str, Tensor]:
    """Views of the optimisers' slots of each parameter in TensorFlow's layout."""
    found = {}
    names = {tensor: (name, axes) for name, (tensor, axes) in entries(agent).items()}
    for opt, group in agent.groups():
        for parameter in group["params"]:
            name, axes = names[parameter]
            for tf_slot, slot in opt.tf_slots.items():
                found[f"{name}/{tf_slot}"] = opt.state[parameter][slot].permute(axes)
            if "RMSProp" in opt.tf_slots:
                found[f"{name}/RMSProp_1"] = torch.zeros_like(parameter).permute(axes)
    return found


def _adam_groups(agent) -> dict[str, dict]:
    """The suffix of its powers -> each group of parameters that Adam trains."""
    groups = [group for opt, group in agent.groups() if "Adam" in opt.tf_slots]
    groups.sort(key=lambda group: (*ORDER, group["name"]).index(group["name"]))
    return {f"_{i}" if i else "": group for i, group in enumerate(groups)}


# Step counts --------------------------------------------------------------------------------------------------------

@functools.cache
def _powers(beta: float) -> np.ndarray:
    """b^(t + 1) for t = 0, 1, ... as the original multiplies it up in float32, down to the least normal number."""
    count = int(np.log(np.finfo(np.float32).tiny) / np.log(beta)) + 10
    powers = np.multiply.accumulate(np.full(count, beta, np.float32))
    return powers[powers >= np.finfo(np.float32).tiny]


LAST_COUNT = len(_powers(0.999))        # from so many steps on, 0.999^(t + 1) is 0 in float32, and t is unknown


def power(beta: float, count: int) -> np.ndarray:
    """`beta1_power` or `beta2_power` after `count` steps; 0 below the least normal float32."""
    powers = _powers(beta)
    return np.array(powers[count] if count < len(powers) else 0, np.float32)


def count_of(beta: float, value: float) -> int:
    """The number of steps after which the power is `value`; for 0, the least such number.

    Raises:
        ValueError: `value` is not a power of beta.
    """
    powers = _powers(beta)
    if not 0 <= value <= 1:                             # NaN is not, either
        raise ValueError(f"got {value}, expected a power of {beta}")
    if value < powers[-1] * 0.9999:
        return len(powers)
    nearest = int(np.abs(np.log(powers) - np.log(value)).argmin())
    if abs(value / powers[nearest] - 1) >= 1e-4:
        raise ValueError(f"got {value}, expected a power of {beta}")
    return nearest


def _count(arrays: dict[str, np.ndarray], suffix: str, group: dict) -> int | None:
    """The number of steps from the powers of one optimiser; None if they are not given.

    0.999^t stays above 0 for 87 000 steps. The bias correction has become 1 in float32 long before. A larger number of
    steps is lost, in the original too.
    """
    names = [f"beta1_power{suffix}", f"beta2_power{suffix}"]
    if not any(name in arrays for name in names):
        return None
    counts = []
    for name, beta in zip(names, group["betas"], strict=True):
        if name not in arrays:
            raise ValueError(f"variables[{name!r}]: missing, expected both powers")
        try:
            counts.append(count_of(beta, float(arrays[name])))
        except ValueError as error:
            raise ValueError(f"variables[{name!r}]: {error}") from None
    first, second = counts
    if first > second or (first < len(_powers(group["betas"][0])) and first != second):
        raise ValueError(f"variables[{names[0]!r}]: got {first} steps, expected the {second} of {names[1]}")
    return second


def _set_count(agent, group: dict, count: int) -> None:
    group["t"] = count
    if group["name"] == "critic":
        agent.counters["updates"] = count
