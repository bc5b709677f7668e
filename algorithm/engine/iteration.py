"""The updates of one iteration of training: what is checked and counted before them, and after them."""

from __future__ import annotations

from collections.abc import Iterator

from algorithm.engine.eager import Engine, Sums


def iterate(engine: Engine, updates: int) -> Iterator[Sums]:
    """Make the updates that are due; yield the sums of their metrics.

    Args:
        updates: how many, off policy; on policy the rollout says it.
    Raises:
        ConfigError: the replay or the rollout lacks a field, or holds a wrong one.
        NotFiniteError: a metric or a gradient was not finite.
    """
    if getattr(engine.agent, "on_policy", False):
        yield from _of_rollout(engine)
        return
    batch = engine.buffer.sample()
    engine.check_batch(batch)
    engine.agent.normalizer_update(batch)
    if getattr(engine.agent, "decomposition", None) is not None:
        yield from _burst(engine)
    yield engine.run(updates)


def _burst(engine: Engine) -> Iterator[Sums]:
    """Fit a decomposition that learns in bursts, if that is due, and pay the episodes that are due."""
    due = engine.agent.burst_due(engine.buffer)
    if due:
        yield engine.fit()
    engine.agent.credit(engine.buffer, anew=due)


def _of_rollout(engine: Engine) -> Iterator[Sums]:
    """Fit what pays, pay, compute the advantages, and make the passes over the rollout."""
    agent, buffer = engine.agent, engine.buffer
    if hasattr(agent, "decomposition"):
        yield engine.fit()
    agent.finish_rollout(buffer, buffer.last_obs, buffer.last_memory)
    mask = buffer.get("mask")
    if mask is not None and not mask.any():             # no step is paid yet
        return
    agent.begin_updates(buffer)
    engine.check_batch(buffer.first_batch())
    before, due = agent.updates, buffer.updates
    yield engine.run(due)
    agent.end_updates(buffer, due - (agent.updates - before))
