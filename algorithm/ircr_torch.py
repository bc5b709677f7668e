"""Iterative Relative Credit Refinement (Gangwani et al., 2020, arXiv 2010.12718), over any basis.

Each step is paid its episode's return, scaled to [0, 1]. That is all in what the replay returns (see
`algorithm.replay_buffer.IRCRReplay`): the agent is its basis.
"""

from __future__ import annotations

from algorithm.basis_alg.base_torch import Agent
from utils.settings.fields import Config


def ircr(config: Config, basis: Agent) -> Agent:
    """The basis itself."""
    return basis
