"""A callback of Stable-Baselines3 that logs how well a decomposition predicts, and shows rollouts to it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from adapters.sb3_replay import DecomposedReplayBuffer
from adapters.sb3_rollout import DecomposedRolloutBuffer
from utils.errors import ConfigError

PREFIX = "decomposition/"


class DecompositionCallback(BaseCallback):
    """Log R2 and correlations of a decomposition; PPO and A2C need it, for rollouts lack what a decomposition reads.

    Recorded after episodes that ended, of the last 20, each judged before the model learned from it: `r2`, `slope`,
    `intercept`, `pearson_across`, `spearman_across` of predicted and true returns, and, if the environment's `info` has
    the `true_reward` of a step, `pearson_within` and `spearman_within` of steps; also the model's losses and updates.

    `model.save` then saves the decomposition as well, in the keyword arguments of its buffer.
    """

    def _init_callback(self) -> None:
        replay, rollout = getattr(self.model, "replay_buffer", None), getattr(self.model, "rollout_buffer", None)
        self.rollout = rollout if isinstance(rollout, DecomposedRolloutBuffer) else None
        self.buffer = replay if isinstance(replay, DecomposedReplayBuffer) else self.rollout
        if self.buffer is None:
            raise ConfigError(f"model: got a {type(self.model).__name__} with a {type(replay or rollout).__name__}, "
                              "expected replay_buffer_class=DecomposedReplayBuffer or "
                              "rollout_buffer_class=DecomposedRolloutBuffer")
        self._keep_model()
        self.seen = -1                                  # episodes, when the numbers were last logged
        if self.rollout is not None:
            self._set_updates(self.rollout)

    def _keep_model(self) -> None:
        """Put the model itself, instead of its settings, into the arguments of the buffer, which are saved."""
        own = {"decomposition", "episode_steps", "handle_timeout_termination"}
        for name in ("replay_buffer_kwargs", "rollout_buffer_kwargs"):
            if (given := getattr(self.model, name, None)) is not None:
                kept = {key: value for key, value in given.items() if key in own}
                setattr(self.model, name, {**kept, "decomposition": self.buffer.decomposition})

    def _set_updates(self, buffer: DecomposedRolloutBuffer) -> None:
        """Let the decomposition make as many updates as the policy on a rollout, if its settings say nothing."""
        steps = buffer.buffer_size * buffer.n_envs
        batch, epochs = getattr(self.model, "batch_size", steps), getattr(self.model, "n_epochs", 1)
        buffer.fit_updates = buffer.learner.config.fit_updates or epochs * math.ceil(steps / batch)

    # Rollouts -------------------------------------------------------------------------------------------------

    def _on_rollout_start(self) -> None:
        if self.rollout is not None:
            self.obs = self.rollout.form.obs(self._raw_obs(self.model._last_obs))

    def _on_step(self) -> bool:
        if self.rollout is None:
            return True
        now, form, normalized = self.locals, self.rollout.form, self.model.get_vec_normalize_env()
        following = form.obs(self._raw_obs(now["new_obs"]))
        after = following.copy()
        for env in np.flatnonzero(now["dones"]):
            after[env] = self._last(now["infos"][env]["terminal_observation"])
        seen = now["rewards"]
        rews = seen if normalized is None else normalized.get_original_reward()
        acts = form.acts(now["clipped_actions"])
        self.rollout.observe(self.obs, acts, after, np.array(rews), seen, now["dones"], now["infos"])
        self.obs = following
        return True

    def _raw_obs(self, obs: Any) -> Any:
        """Return the observations of all environments without the normalisation of VecNormalize."""
        normalized = self.model.get_vec_normalize_env()
        return obs if normalized is None else normalized.get_original_obs()

    def _last(self, obs: Any) -> np.ndarray:
        """Return the last observation of an episode as the model reads it, (O,)."""
        normalized = self.model.get_vec_normalize_env()
        obs = obs if normalized is None else normalized.unnormalize_obs(obs)
        return self.rollout.form.obs({name: np.asarray(one)[None] for name, one in obs.items()} if isinstance(obs, dict)
                                     else np.asarray(obs)[None])[0]

    # Logging --------------------------------------------------------------------------------------------------

    def _on_rollout_end(self) -> None:
        learner = self.buffer.learner
        if learner.replay.episodes_stored == self.seen:
            return
        self.seen = learner.replay.episodes_stored
        for name, value in {**learner.judge(), **learner.metrics(), "updates": learner.updates}.items():
            self.logger.record(PREFIX + name, value)
