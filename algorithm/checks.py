"""What an algorithm of one's own gives, told in one line where it is not what the package goes on with."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from utils.errors import ConfigError


def check_loss(agent: Any, method: str, result: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """What a loss of this agent has given: (a 0-d tensor, a dict of 0-d metrics).

    Raises:
        ConfigError: it is something else.
    """
    def refuse(got: str):
        raise ConfigError(f"{method}: that of {type(agent).__name__} gives {got}, expected (a 0-d tensor, a dict of "
                          "0-d tensors, the metrics)")
    if not (isinstance(result, (tuple, list)) and len(result) == 2 and isinstance(result[1], dict)):
        refuse(_kind(result) if not isinstance(result, (tuple, list)) else f"({', '.join(map(_kind, result))})")
    loss, info = result
    if not isinstance(loss, Tensor) or loss.ndim:
        refuse(f"{_kind(loss)} as the loss")
    for name, value in info.items():
        if not isinstance(value, Tensor) or value.ndim:
            refuse(f"{_kind(value)} as the metric {name!r}")
    return loss, info


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"
