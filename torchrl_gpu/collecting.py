"""Gather experience with TorchRL's collector, for `learner.learner.Learner`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tensordict import TensorDictBase
from torch import Tensor
from torchrl.collectors import Collector

from envs.state import below
from learner.drops import Drops
from learner.staging import Dense
from torchrl_gpu.marinenav_torchrl_env import MarineNavTorchRLEnv
from torchrl_gpu.open_steps import OpenSteps
from torchrl_gpu.policy_wrapper import PolicyWrapper
from torchrl_gpu.processes import Processes
from utils.settings.fields import Config


class TorchRLCollector:
    """A batch of worlds that TorchRL steps; see `learner.collector`. A joint action of one world is a step.

    It makes as many steps of all worlds at once as are due before the next update, so E worlds are the same experiment
    as one: updates, stages and evaluations count the steps of all of them.
    """

    def __init__(self, env: MarineNavTorchRLEnv, policy: PolicyWrapper, config: Config,
                 processes: Processes | None = None, vote: Callable[[], Any] = lambda: None):
        """
        Args:
            env: not reset yet, unless its state was restored.
            policy: explores as its agent does.
            processes: those that have such an environment each; None: this one alone.
            vote: called by `gather`, in all of them.
        """
        self.env, self.policy, self.drops = env, policy, Drops()
        self.processes, self.vote = processes or Processes(), vote
        self.num_envs = env.batch_size[0] * self.processes.count
        per_update = config.timesteps // self.num_envs
        whole = per_update * self.num_envs == config.timesteps and config.run_length % config.timesteps == 0
        self.batch = per_update if whole else 1             # steps of each world that are taken at once
        self.open = OpenSteps(config.test_timesteps, self.batch)
        self.ended: list[tuple[Tensor, int]] = []           # return and length of the episodes since `log`
        self.dense = Dense(env.env)
        env.on_step = self.dense.add
        self.batches: Iterator[TensorDictBase] | None = None

    @property
    def steps(self) -> int:
        """The steps of each world."""
        return self.env.steps

    def gather(self, count: int, buffer: Any) -> tuple[int, int]:
        """Take `count` environment steps, or some more; store the episodes that end.

        Returns:
            (environment steps taken, episodes stored).
        Raises:
            NotFiniteError: an observation or a reward is not finite.
        """
        taken = stored = 0
        while taken < count:
            for episode in self.open.add(self._next()):
                buffer.store_episode(episode)
                self.ended.append((episode["rews"].double().sum(), len(episode["rews"])))
                stored += 1
            taken += self.batch * self.num_envs
        self.vote()
        return taken, stored

    def agreed(self, yes: bool) -> bool:
        """Return whether all processes of the run say yes."""
        return self.processes.all(yes)

    def _next(self) -> TensorDictBase:
        """Return the next batch [E, T]. The collector is opened by the first call, when a state is restored already."""
        if self.batches is None:
            self.processes.check_same(self.env.steps)
            self.collector = Collector(
                self.env, self.policy, frames_per_batch=self.batch * self.env.batch_size[0], total_frames=-1,
                device=self.env.device, trust_policy=True, track_traj_ids=False, no_cuda_sync=True, use_buffers=False,
                auto_register_policy_transforms=False)
            self.batches = iter(self.collector)
        return next(self.batches)

    def log(self, logger: Any) -> None:
        """Log what the worlds told since the last call, the stage, and the episodes that ended."""
        for total, length in self.ended:
            logger.add({"train/return": total, "train/length": length})
        self.ended = []
        self.dense.log(logger, self.env.steps)
        self.env.staged.log(logger)

    def close(self) -> None:
        """End TorchRL's collector."""
        if self.batches is not None:
            self.collector.shutdown(close_env=False)

    # Saved state ----------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return what the worlds and the open episodes are restored from: (values, tensors).

        The first process waits here until the others have saved: so these have what it will be resumed with.
        """
        if self.processes.rank == 0:
            self.processes.all(True)
        values, worlds = self.env.worlds_state()
        time, steps = self.open.state()
        return (values | {"time": time}, {f"env/{name}": tensor for name, tensor in worlds.items()}
                | {f"open/{name}": tensor for name, tensor in steps.items()})

    def restore(self, values: dict[str, Any], tensors: Mapping[str, Tensor]) -> int:
        """Restore what `state` returned, before the first `gather`; return how many open episodes were lost."""
        lost = self.env.restore_worlds(values, below("env", tensors))
        self.open.restore(values["time"], below("open", tensors), lost)
        return int(lost.sum())


@contextlib.contextmanager
def collecting(env: MarineNavTorchRLEnv, agent: Any, config: Config, processes: Processes | None = None,
               vote: Callable[[], Any] = lambda: None) -> Iterator[TorchRLCollector]:
    """Open the collector of these worlds, for an agent that explores; it ends with the block."""
    collector = TorchRLCollector(env, PolicyWrapper(agent, env.most, epsilon=None), config, processes, vote)
    try:
        yield collector
    finally:
        collector.close()


