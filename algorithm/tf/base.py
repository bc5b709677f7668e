"""The TensorFlow reference of `base_torch`: the original's variables, losses and optimisers in TensorFlow 2.

It is written to be checked, not to be fast. A subclass builds `networks` and `optimizers`, and computes the loss of
each optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from algorithm.batch import Batch, Spec, check_batch, check_observations, observations, transition_spec
from algorithm.schedule import Schedule
from algorithm.tf.files import load_variables, read_checkpoint, write_checkpoint
from algorithm.tf.importing import import_tensorflow, start
from algorithm.tf.layers import Network, Normalizer, Random, Variables
from algorithm.tf.optimizers import Adam, RMSProp
from algorithm.tf_names import count_of
from utils.checkpoint import CheckpointError
from utils.settings.fields import Config

tf = import_tensorflow()

Fields = dict[str, tf.Tensor]
Losses = dict[str, tf.Tensor]           # what each optimiser, by name, minimises
Info = dict[str, tf.Tensor]
CPU = torch.device("cpu")


class Base:
    """The base of all reference agents; see `algorithm.basis_alg.base_torch.Agent` for what the verbs do."""

    train_info: tuple[str, ...] = ()
    step_info: tuple[str, ...] = ()
    pi_delay_freq = 1
    policy_batch = False
    q_noise: tuple[str, ...] = ()           # the noise that the critics' loss and the policy's loss draw
    pi_noise: tuple[str, ...] = ()
    explore_info: tuple[str, ...] = ()
    inspect: Callable[[dict[str, np.ndarray]], None] | None = None      # called with the metrics of every update
    checkpoint_suffix = ".ckpt"
    resumable = False

    def __init__(self, config: Config):
        start(config.device)
        self.config = config
        self.obs_dims, (self.act_dim,) = config.obs_dims, config.acts_dims
        self.acts_shape = ("B", self.act_dim)
        self.random = Random(config.seed)
        self.normalizer = Normalizer(self.obs_dims) if config.obs_normalization else None
        self.networks: list[Network] = []
        self.optimizers: dict[str, Adam | RMSProp] = {}         # in the original's order of creation
        self.updates = 0

    # What a subclass defines ----------------------------------------------------------------------------------

    def q_spec(self) -> Spec:
        return transition_spec(self.obs_dims, self.acts_shape)

    def pi_spec(self) -> Spec:
        return {"obs": ("B", *self.obs_dims)}

    def critic_losses(self, batch: Fields) -> tuple[Losses, Info]:
        raise NotImplementedError

    def policy_losses(self, batch: Fields) -> tuple[Losses, Info]:
        raise NotImplementedError

    def act(self, obs: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, Info]:
        """(N, O), (N, A) -> actions (N, A), and `step_info`."""
        raise NotImplementedError

    def target_pairs(self) -> list[tuple[Network, Network]]:
        """(network, its target)."""
        raise NotImplementedError

    def encode_acts(self, acts: tf.Tensor) -> tf.Tensor:
        """Actions as the networks take them."""
        return acts

    def draw_noise(self, name: str, rows: int) -> np.ndarray:
        return self.random.normal((rows, self.act_dim))

    # Training -------------------------------------------------------------------------------------------------

    def train(self, batch: Batch) -> dict[str, np.ndarray]:
        """One update of everything, all gradients at the parameters before it."""
        return self._train(batch, critic=True, policy=Schedule.of(self).policy_due(self.updates + 1))

    def train_q(self, batch: Batch) -> dict[str, np.ndarray]:
        """One update of the critics (and of the reward network, in RRD)."""
        return self._train(batch, critic=True, policy=False)

    def train_pi(self, batch: Batch) -> dict[str, np.ndarray]:
        """One update of the policy (and of the temperature, in SAC)."""
        if math.isinf(self.pi_delay_freq):
            raise NotImplementedError("DQN has no policy to train; train or train_q is all")
        return self._train(batch, critic=False, policy=True)

    def update(self, sample: Callable[[], Batch]) -> dict[str, np.ndarray]:
        """One update of a training loop, with batches from `sample`."""
        if not self.policy_batch:
            return self.train(sample())
        info = self.train_q(sample())
        if Schedule.of(self).policy_due(self.updates):
            info |= self.train_pi(sample())
        return info

    def _train(self, batch: Batch, critic: bool, policy: bool) -> dict[str, np.ndarray]:
        fields = self.feed(batch, critic, policy)               # an invalid batch does not count as an update
        self.updates += critic
        info = {name: value.numpy() for name, value in self._descend(fields, critic, policy).items()}
        if self.inspect is not None:
            self.inspect(info)
        return info

    def feed(self, batch: Batch, critic: bool, policy: bool) -> Fields:
        """The checked fields of a batch; missing noise is drawn."""
        spec = (self.q_spec() if critic else {}) | (self.pi_spec() if policy else {})
        noise = dict.fromkeys((*self.q_noise, *self.pi_noise), ("B", self.act_dim))
        fields = {name: value.numpy() for name, value in check_batch(batch, spec, noise, CPU).items()}
        for name in (self.q_noise if critic else ()) + (self.pi_noise if policy else ()):
            if name not in fields:
                fields[name] = self.draw_noise(name, len(fields["obs"]))
        return {name: tf.constant(value) for name, value in fields.items()}

    @tf.function
    def _descend(self, batch: Fields, critic: bool, policy: bool) -> Info:
        gradients, info = self.gradients(batch, critic, policy)
        for name, gradient in gradients.items():
            self.optimizers[name].apply(gradient)
        return info

    def gradients(self, batch: Fields, critic: bool, policy: bool) -> tuple[dict[str, list[tf.Tensor]], Info]:
        """For each optimiser, the gradients of its loss by its variables; and the metrics."""
        batch = {name: self.normalize(value) if name.endswith(("obs", "obs_next")) else value
                 for name, value in batch.items()}
        batch |= {name: self.encode_acts(value) for name, value in batch.items() if name.endswith("acts")}
        losses, info = {}, {}
        with tf.GradientTape(persistent=True) as tape:
            for wanted, compute in ((policy, self.policy_losses), (critic, self.critic_losses)):
                if wanted:
                    new_losses, new_info = compute(batch)
                    losses, info = losses | new_losses, info | new_info
        return {name: tape.gradient(loss, list(self.optimizers[name].trained.values()))
                for name, loss in losses.items()}, info

    @tf.function
    def target_update(self) -> None:
        """target <- polyak target + (1 - polyak) main."""
        polyak = self.config.polyak
        for main, target in self.target_pairs():
            for variable, target_variable in zip(main.variables.values(), target.variables.values(), strict=True):
                target_variable.assign(polyak * target_variable + (1 - polyak) * variable)

    # Observations and acting ----------------------------------------------------------------------------------

    def normalize(self, obs: tf.Tensor) -> tf.Tensor:
        return obs if self.normalizer is None else self.normalizer.normalize(obs)

    def normalizer_update(self, batch: Batch) -> None:
        """Count the batch's `obs` and `obs_next`; nothing without `obs_normalization`."""
        if self.normalizer is not None:
            fields = check_batch(batch, dict.fromkeys(("obs", "obs_next"), observations("B", *self.obs_dims)), {}, CPU)
            self.normalizer.update(tf.constant(np.concatenate([value.numpy() for value in fields.values()])))

    def step(self, obs: np.ndarray, explore: bool = False, test_info: bool = False):
        """Choose an action for one raw observation (O,), or one for each of (N, O)."""
        rows, single = check_observations(obs, self.obs_dims, CPU)
        noise = self.random.normal((len(rows), self.act_dim)) if explore else np.zeros((len(rows), self.act_dim))
        acts, info = self._act(tf.constant(rows.numpy()), tf.constant(noise, tf.float32))
        action = acts.numpy()[0] if single else acts.numpy()
        return (action, self.unbatched(info, single)) if test_info else action

    def unbatched(self, info: Info, single: bool) -> dict[str, np.ndarray]:
        return {name: value.numpy()[0] if single else value.numpy() for name, value in info.items()}

    @tf.function(reduce_retracing=True)
    def _act(self, obs: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, Info]:
        return self.act(self.normalize(obs), noise)

    def explore_metrics(self) -> dict[str, float]:
        """The present amount of exploration: the metrics of `explore_info`."""
        return {}

    # Variables ------------------------------------------------------------------------------------------------

    def model_variables(self) -> Variables:
        """Weights, targets, log alpha and normaliser by the original's names."""
        parts = [*([self.normalizer] if self.normalizer else []), *self.networks]
        return {name: variable for part in parts for name, variable in part.variables.items()}

    def all_variables(self) -> Variables:
        """All that the original's `save_model` wrote: `model_variables` and the optimisers' variables."""
        variables, taken = self.model_variables(), 0
        for optimizer in self.optimizers.values():
            suffix = f"_{taken}" if taken else ""               # TensorFlow 1 numbered equal names
            variables |= optimizer.slots | {name + suffix: power for name, power in optimizer.powers.items()}
            taken += bool(optimizer.powers)
        return variables

    def tf_variables(self) -> dict[str, np.ndarray]:
        """Copies of `model_variables`."""
        return {name: variable.numpy() for name, variable in self.model_variables().items()}

    def load_tf_variables(self, variables: dict[str, np.ndarray]) -> None:
        """Assign variables by name, all of `all_variables` or some of them.

        Raises:
            ValueError: a name is unknown, or a shape or dtype is wrong; the agent is unchanged.
        """
        own, updates = self.all_variables(), self._updates_of(variables)
        load_variables({name: own[name] for name in variables if name in own}, variables, own)
        self.updates = updates

    def save_model(self, path: str | Path) -> None:
        """Write `all_variables` as a checkpoint with the prefix `path`, in the original's format."""
        write_checkpoint(path, {name: variable.numpy() for name, variable in self.all_variables().items()})

    def load_model(self, path: str | Path) -> None:
        """Read a checkpoint of `save_model`, or of the original.

        Raises:
            CheckpointError: it cannot be read, or its variables do not fit; the agent is unchanged.
        """
        arrays = read_checkpoint(path)
        try:
            updates = self._updates_of(arrays)
            load_variables(self.all_variables(), arrays)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from None
        self.updates = updates

    def _updates_of(self, arrays: Mapping[str, np.ndarray]) -> int:
        """The number of updates, from the power of the critics' Adam. RMSProp has none; then it stays the same.

        Raises:
            ValueError: the value is not a power of beta.
        """
        power = self.optimizers["critic"].powers.get("beta2_power")
        name = next((name for name, variable in self.all_variables().items() if variable is power), None)
        # `load_variables` reports a wrong shape or dtype.
        if name not in arrays or np.shape(arrays[name]) or np.asarray(arrays[name]).dtype.kind not in "fiu":
            return self.updates
        try:
            return count_of(0.999, float(arrays[name]))
        except ValueError as error:
            raise ValueError(f"variables[{name!r}]: {error}") from None
