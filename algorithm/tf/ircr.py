"""The TensorFlow reference of IRCR (Gangwani et al., 2020, arXiv 2010.12718): the basis, on its own replay."""

from __future__ import annotations

from algorithm.tf.base import Base
from utils.settings.fields import Config


def ircr(config: Config, basis: Base) -> Base:
    """The basis itself; see `algorithm.replay_buffer.IRCRReplay`."""
    return basis
