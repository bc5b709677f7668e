"""Replay: whole episodes, in preallocated tensors on the agent's device."""

from __future__ import annotations

from typing import Any

from algorithm.create import create_replay, fill_config


def create_buffer(args: Any) -> Any:
    """The replay that the algorithm learns from; `args` as for `algorithm.create.create_agent`."""
    return create_replay(fill_config(args), args)
