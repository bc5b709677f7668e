"""When the policy and the targets are due, counted in updates from 1, and which parameters belong to the policy."""

from __future__ import annotations

from typing import Any, NamedTuple


class Schedule(NamedTuple):
    """The periods of one agent, in updates (calls of `train` or `train_q`)."""

    pi_delay_freq: float        # updates per update of the policy; infinite where there is no policy
    train_target: int | None    # updates per target update; None where there are no targets

    @classmethod
    def of(cls, agent: Any) -> Schedule:
        """The schedule of an agent of either backend, as its attributes are now."""
        return cls(agent.pi_delay_freq, agent.config.train_target)

    def policy_due(self, number: int) -> bool:
        """Whether the policy learns in update `number`."""
        return number % self.pi_delay_freq == 0

    def targets_due(self, number: int) -> bool:
        """Whether the targets move after update `number`."""
        return self.train_target is not None and number % self.train_target == 0


def is_policys(group: dict) -> bool:
    """Whether an optimiser's group of parameters learns when the policy does.

    The group says so with `role="policy"`, as SAC's temperature does. A group without a role is the critics'.
    """
    return group.get("role", "critic") == "policy"
