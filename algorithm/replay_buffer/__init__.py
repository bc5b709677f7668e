"""What is remembered: whole episodes, in preallocated tensors on the agent's device."""

from __future__ import annotations

from typing import Any

from algorithm import fill_config


def create_buffer(args: Any):
    """The replay that the algorithm learns from; `args` as for `algorithm.create_agent`."""
    from algorithm.replay_buffer.ircr import IRCRReplay
    from algorithm.replay_buffer.subsequence import SubsequenceReplay
    from algorithm.replay_buffer.transition import TransitionReplay
    from algorithm.replay_buffer.uniform import UniformReplay

    config = fill_config(args)
    kinds = {"rrd": SubsequenceReplay, "ircr": IRCRReplay, "uniform": UniformReplay}
    return kinds.get(config.alg, TransitionReplay)(config)
