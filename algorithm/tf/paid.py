"""The TensorFlow references of decompositions that learn nothing: the basis, trained on the rewards of the replay."""

from __future__ import annotations

from algorithm.tf.base import Base
from utils.settings.fields import Config


def paid(config: Config, basis: Base) -> Base:
    """Return the basis itself; see `algorithm.decomposition.paid`."""
    return basis
