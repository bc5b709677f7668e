"""The names of parameters in Stable-Baselines3's policies of rollouts, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

PREFIXES = {"mlp_extractor.shared_net": "shared", "mlp_extractor.policy_net": "actor",
            "mlp_extractor.value_net": "critic"}


def widths(shapes: Mapping[str, Sequence[int]], prefix: str) -> tuple[int, ...]:
    """The widths of the dense layers whose names begin so, in order."""
    layers = {int(match[1]): shape[0] for name, shape in shapes.items()
              if (match := re.fullmatch(rf"{re.escape(prefix)}\.(\d+)\.weight", name))}
    return tuple(layers[at] for at in sorted(layers))


def sb3_names(shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Our name of each parameter of Stable-Baselines3's policies."""
    last = {"action_net": f"actor.{2 * len(widths(shapes, 'mlp_extractor.policy_net'))}",
            "value_net": f"critic.{2 * len(widths(shapes, 'mlp_extractor.value_net'))}"}
    return {name: renamed(name, PREFIXES | last) for name in shapes}


def renamed(name: str, prefixes: Mapping[str, str]) -> str:
    """The name with another beginning, if it has one of these."""
    for theirs, ours in prefixes.items():
        if name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    return name
