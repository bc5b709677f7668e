"""What a run on policy is called in TensorBoard and Weights & Biases: the names of EmbodiChain's trainer.

`metrics.csv` has a row for each cycle, under the names of this program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Written after the updates on each rollout, under these names.
AFTER_ROLLOUT = {"Pi_loss": "train/actor_loss", "V_loss": "train/value_loss", "Entropy": "train/entropy"}
# Written with each cycle; None: not written then.
NAMES: dict[str, str | None] = {"Rewards": "eval/avg_reward", "Steps": "eval/avg_length",
                                "eval/metrics/success": "eval/success_rate", **dict.fromkeys(AFTER_ROLLOUT)}


def shown(means: Mapping[str, Any], names: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the means under the names that stand for theirs, without those that `names` leaves out."""
    pairs = ((names.get(name, name), value) for name, value in means.items())
    return {name: value for name, value in pairs if name is not None}
