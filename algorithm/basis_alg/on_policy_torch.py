"""The update of an agent that learns on policy: what PPO and A2C share.

An agent acts for a rollout of T steps in N environments, computes advantages, makes the updates that are due on it, and
forgets it. Its batches are minibatches of the rollout.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Agent, Info
from algorithm.batch import Batch, Doubles, Spec, actions_spec, check_batch, check_observations, observations
from algorithm.collecting import OnStep, collect
from algorithm.gae import gae
from algorithm.masked import mean_of, standardised
from algorithm.policy.base import Policy, RecurrentPolicy
from algorithm.replay_buffer.rollout import RolloutBuffer
from algorithm.reward_scale import RewardScale
from utils.settings.fields import Config
from utils.torch_optimizers import Adam, RMSprop

Payer = Callable[[RolloutBuffer], tuple[Tensor, Tensor | None]]


class OnPolicy(Agent):
    """An agent whose buffer forgets; continuous or discrete actions, as the environment has."""

    on_policy = True
    train_info: tuple[str, ...] = ("Pi_loss", "V_loss", "Entropy")
    step_info = ("V_average",)
    payer: Payer | None = None              # what pays a rollout; None: the environment does
    begins_anew = False                     # whether each rollout begins with new episodes

    def __init__(self, config: Config, policy: Policy):
        """Build the agent around a policy; see `algorithm.policy.create_policy`."""
        super().__init__(config)
        self.weights_generator = policy.weights_generator or self.weights_generator
        self.acts_shape = actions_spec(config, "B")
        self.policy = policy
        self.nets["policy"] = policy
        if config.normalize_rewards:
            self.nets["reward_scale"] = RewardScale(config.gamma)
        self.nets.to(self.device)
        policy.generator = self.generator
        self.memory: Tensor | None = None               # of a recurrent policy in `step`, (N, S)
        self.opts = [self._make_optimizer()]

    def _make_optimizer(self) -> Adam | RMSprop:
        config = self.config
        group = dict(name="policy", role="policy", params=self.policy.parameters(), lr=config.learning_rate)
        if config.optimizer == "adam":
            return Adam([group | dict(eps=config.Adam_eps)])
        return RMSprop([group], config.RMSProp_decay, config.RMSProp_eps)

    @property
    def recurrent(self) -> bool:
        """Whether the policy carries a state along an episode."""
        return isinstance(self.policy, RecurrentPolicy)

    # What a subclass says -------------------------------------------------------------------------------------

    def policy_loss(self, log_prob: Tensor, advantages: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """Return the policy's loss (), and its metrics.

        Args:
            log_prob: of the batch's actions by the policy as it is, (B,) or (L, B).
            advantages: the same shape, normalised as the settings say.
        """
        raise NotImplementedError

    def value_error(self, value: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """(V(s) - return)^2, of the shape of `value`."""
        return (value - batch["returns"]).square()

    # Batches --------------------------------------------------------------------------------------------------

    def letters(self) -> tuple[str, ...]:
        """Return the leading sizes of a batch: rows, or sequences of a recurrent policy, the time first."""
        return ("L", "B") if self.recurrent else ("B",)

    def spec(self) -> Spec:
        """Return the fields of a minibatch, with their shapes."""
        letters = self.letters()
        fields = {"obs": observations(*letters, *self.obs_dims), "acts": actions_spec(self.config, *letters)}
        fields |= dict.fromkeys(("advantages", "returns"), self._floats(*letters))
        if self.recurrent:
            fields |= {"starts": letters, "states": self._floats("B", self.policy.state_size)}
        return fields

    def _floats(self, *shape: int | str) -> tuple[int | str, ...]:
        """Return the shape of a field as precise as the networks."""
        return Doubles(shape) if next(self.policy.parameters()).dtype == torch.float64 else shape

    def checked(self, batch: Batch, spec: Spec) -> dict[str, Tensor]:
        """Return the batch as the losses read it; `mask`, 1 where a step counts, may be left out."""
        checked = check_batch(batch, spec, {"mask": self.letters()}, self.device)
        return {name: self.prepare(name, value) for name, value in checked.items()}

    def prepare(self, name: str, value: Tensor) -> Tensor:
        """Return a field as the losses read it; observations as precise as the networks."""
        found = super().prepare(name, value)
        return found.to(next(self.policy.parameters()).dtype) if name.endswith("obs") else found

    # Losses ---------------------------------------------------------------------------------------------------

    def evaluate(self, batch: dict[str, Tensor], policy: Any = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return log_prob, entropy and value of a prepared batch, (B,) or (L, B) each, by a policy, or by its own."""
        policy = self.policy if policy is None else policy
        if self.recurrent:
            return policy.evaluate_sequences(batch["obs"], batch["acts"], batch["starts"], batch["states"])
        return policy.evaluate_actions(batch["obs"], batch["acts"])

    def losses(self, batch: dict[str, Tensor], policy: bool = True) -> tuple[Tensor, Info]:
        """policy_loss + vf_coef mean (V(s) - return)^2 - ent_coef mean entropy, over the steps that count."""
        config = self.config
        log_prob, entropy, value = self.evaluate(batch)
        advantages = batch["advantages"]
        if config.normalize_advantages == "minibatch" and advantages.numel() > 1:
            advantages = standardised(advantages, batch.get("mask"))
        pi_loss, info = self.policy_loss(log_prob, advantages, batch)
        v_loss = mean_of(self.value_error(value, batch), batch)
        entropy = mean_of(entropy, batch)
        loss = pi_loss + config.vf_coef * v_loss - config.ent_coef * entropy
        return loss, {"Pi_loss": pi_loss, "V_loss": v_loss, "Entropy": entropy, **info}

    def refused(self, info: Info) -> bool:
        """Return whether the update of these metrics is not made, as with PPO's KL stop; call it once an update."""
        return False

    def _descend(self, loss: Tensor, info: Info) -> Info:
        if self.refused(info):
            self.counters["updates"] -= 1
            return {name: value.detach() for name, value in info.items()}
        return super()._descend(loss, info)

    # Acting ---------------------------------------------------------------------------------------------------

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        """Map prepared observations (N, O) to actions in [-1, 1], (N, A), or indices (N,)."""
        if not self.recurrent:
            return self.for_env(self.policy.get_action(obs, not explore)[0])
        acts, _, _, self.memory = self.policy.step(obs, self._memory(len(obs)), not explore)
        return self.for_env(acts)

    def _memory(self, rows: int) -> Tensor:
        """Return the memory of `step` for this many rows, (N, S); that of a new episode if it is of other rows."""
        fits = self.memory is not None and len(self.memory) == rows
        return self.memory if fits else self.policy.initial_state(rows)

    def begin_episode(self) -> None:
        """Forget the episode that `step` acted in; a recurrent policy needs it before each episode."""
        self.memory = None

    def for_env(self, acts: Tensor) -> Tensor:
        """Return drawn actions as the environment gets them: clipped to [-1, 1], or indices."""
        return acts if self.config.discrete else acts.clamp(-1, 1)

    @torch.no_grad()
    def evaluate_step(self, obs: Tensor) -> Info:
        """Return the value of observations, `V_average` (N,)."""
        value = self.policy.value_after(obs, self._memory(len(obs))) if self.recurrent else self.policy.get_value(obs)
        return {"V_average": value}

    @torch.no_grad()
    def step(self, obs: np.ndarray, explore: bool = False, test_info: bool = False):
        """Choose an action, (A,) or (N, A) in [-1, 1], or an index of discrete ones; see `Agent.step`.

        A recurrent policy remembers the steps since `begin_episode`.
        """
        rows, single = check_observations(obs, self.obs_dims, self.device)
        rows = self.normalize(rows / self.config.obs_scale)
        info = self.step_metrics(rows, single) if test_info else {}         # before a memory moves on
        acts = self.act(rows, explore).cpu().numpy()
        action = (int(acts[0]) if self.config.discrete else acts[0]) if single else acts
        return (action, info) if test_info else action

    # A rollout ------------------------------------------------------------------------------------------------

    def collect_rollout(self, env: Any, buffer: RolloutBuffer, steps: int, on_step: OnStep,
                        memory: Tensor | None = None) -> Tensor | None:
        """Act for a rollout; see `algorithm.collecting.collect`."""
        return collect(self, env, buffer, steps, on_step, memory)

    @torch.no_grad()
    def finish_rollout(self, buffer: RolloutBuffer, obs: Tensor, memory: Tensor | None = None) -> None:
        """Compute the advantages and returns of a rollout.

        Args:
            obs: the observations after its last step, raw, (N, ...).
            memory: of a recurrent policy then, (N, S).
        """
        rews, mask = self.pay(buffer)
        rows = self.prepare("obs", obs)
        last = self.policy.value_after(rows, memory) if self.recurrent else self.policy.get_value(rows)
        active = buffer.get("active")
        if active is not None:
            mask = active if mask is None else mask & active
        if self.config.normalize_rewards:
            rews = buffer.scaled(rews, self.nets["reward_scale"], mask)
        self.set_advantages(buffer, rews, last, self._final_values(buffer), mask)

    def set_advantages(self, buffer: RolloutBuffer, rews: Tensor, last_values: Tensor, final_values: Tensor,
                       mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Set `advantages`, `returns` and, if there is one, `mask` of a rollout; see `algorithm.gae.gae`.

        Args:
            mask: which steps count, bool (T, N).
        Returns:
            advantages, before they are normalised, and returns, (T, N) each.
        """
        found = gae(rews, buffer["values"], last_values, buffer["terminated"], buffer["truncated"], final_values,
                    self.config.gamma, self.config.gae_lambda)
        extras = {} if mask is None else {"mask": mask.to(found[0].dtype)}
        over_rollout = self.config.normalize_advantages == "rollout"
        advantages = standardised(found[0], extras.get("mask")) if over_rollout else found[0]
        buffer.set_extras({"advantages": advantages, "returns": found[1]} | extras)
        return found

    def pay(self, buffer: RolloutBuffer) -> tuple[Tensor, Tensor | None]:
        """Return the rewards of a rollout, (T, N), and which steps count, bool (T, N); None: all."""
        return (buffer["rews"], None) if self.payer is None else self.payer(buffer)

    def _final_values(self, buffer: RolloutBuffer) -> Tensor:
        """Return the value of the last observation of each episode that a time limit cut, (T, N); else 0."""
        if self.recurrent:
            return buffer["final_values"]
        found = torch.zeros_like(buffer["values"])
        cut = buffer["truncated"].nonzero(as_tuple=True)
        if len(cut[0]):
            found[cut] = self.policy.get_value(self.prepare("obs", buffer["obs_next"][cut]))
        return found

    def begin_updates(self, buffer: RolloutBuffer, permutations: Tensor | None = None) -> None:
        """Begin the passes over a finished rollout; see `RolloutBuffer.begin`."""
        names = (*self.spec(), *(() if buffer.get("mask") is None else ("mask",)))
        buffer.begin(names, buffer.sequence_length() if self.recurrent else 1, permutations)

    def end_updates(self, buffer: RolloutBuffer, skipped: int = 0) -> None:
        """Count the rollout's observations, which its updates read by the normaliser that it was gathered with.

        Args:
            skipped: the updates that were due and not made.
        """
        for _, group in self.groups():
            group["skipped"] += skipped
        if self.normalizer is not None:
            obs, active = buffer["obs"].flatten(0, 1), buffer.get("active")
            self.normalizer.update(obs if active is None else obs[active.flatten()])

    # Saving ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that is saved; see `Agent.state_dict`."""
        skipped = {f"opt.{group['name']}.skipped": torch.tensor(group["skipped"]) for _, group in self.groups()}
        return super().state_dict() | skipped

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load what `state_dict` returned; see `Agent.load_state_dict`."""
        super().load_state_dict(state)
        for _, group in self.groups():
            group["skipped"] = int(state[f"opt.{group['name']}.skipped"])

    def identity(self) -> dict[str, str]:
        """Return what must agree between a checkpoint and the agent that loads it."""
        parts = {} if self.config.obs_parts is None else {"obs_parts": json.dumps(self.config.obs_parts)}
        return super().identity() | {"policy": self.config.policy, **parts, **self.policy.identity()}
