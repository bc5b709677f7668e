"""What is remembered: whole episodes, in preallocated tensors on the agent's device."""

from __future__ import annotations

from utils.config import Config


def create_buffer(config: Config):
    """The replay that the algorithm learns from; `obs_dims` and `acts_dims` must be set."""
    from algorithm.replay_buffer.ircr import IRCRReplay
    from algorithm.replay_buffer.subsequence import SubsequenceReplay
    from algorithm.replay_buffer.transition import TransitionReplay

    return {"rrd": SubsequenceReplay, "ircr": IRCRReplay}.get(config.alg, TransitionReplay)(config)
