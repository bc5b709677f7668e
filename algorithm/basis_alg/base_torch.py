"""The base of all agents: networks, optimisers, acting, the update, the observations' normaliser, saving and loading.

`off_policy_torch` and `on_policy_torch` say what an update computes. A subclass builds `self.nets` and `self.opts`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from algorithm import tf_names
from algorithm.batch import Batch, Spec, check_batch, check_observations, observations, prepared
from algorithm.batch_parts import Loss, add_up, in_parts, step
from algorithm.networks import OPTIONAL_NAMES, Shape, shape_identity, shape_of
from algorithm.schedule import Schedule
from utils.checkpoint import CheckpointError, check_same, read_checkpoint, write_checkpoint
from utils.normalizer import Normalizer, normalizer_of, upgraded
from utils.optimizers import TFAdam, TFRMSProp
from utils.seeding import stream_seed
from utils.settings.fields import Config
from utils.torch_state import methods_apart
from utils.torch_utils import resolve_device

Info = dict[str, Tensor]


@methods_apart("__init__", "step", "normalizer_update", "train", "train_q", "train_pi", "update", "target_update",
               "rewards", "redistribute", "state_dict", "load_state_dict", "save_model", "load_model", "tf_variables",
               "load_tf_variables")
class Agent:
    """An agent with continuous actions in [-1, 1]; a subclass may have discrete ones."""

    train_info: tuple[str, ...] = ()        # metrics of an update
    step_info: tuple[str, ...] = ()         # metrics of step(..., test_info=True)
    explore_info: tuple[str, ...] = ()      # metrics of explore_metrics
    default_sizes: tuple[int, ...] = (256, 256)     # widths of the hidden layers, where no setting says any
    checkpoint_suffix = ".safetensors"
    resumable = True                        # whether `state_dict` is enough to resume a run
    on_policy = False                       # whether it learns from rollouts, which it then forgets
    pi_delay_freq = 1                       # critic updates per policy update
    policy_batch = False                    # whether the policy learns from a batch of its own
    critic_first = False                    # whether the policy learns from critics that have stepped on its batch
    q_noise: tuple[str, ...] = ()           # the noise that the critics' loss reads
    pi_noise: tuple[str, ...] = ()          # the noise that the policy's loss reads
    policy_mask: Callable[[], Tensor] | None = None         # of the dimensions of observations that it sees, (O,)
    inspect: Callable[[Info], None] | None = None           # called with the metrics before an update's steps
    average: Callable[[], None] | None = None       # called before that, with the gradients in place, to average them
    opts: list[TFAdam | TFRMSProp]

    def __init__(self, config: Config):
        """Build what every agent has, from resolved settings with `obs_dims` and `acts_dims`."""
        self.config = config
        self.obs_dims, (self.act_dim,) = config.obs_dims, config.acts_dims
        self.acts_shape = ("B", self.act_dim)
        self.device = resolve_device(config.device)
        self.generator = torch.Generator(self.device).manual_seed(stream_seed(config.seed, "agent"))
        self.weights_generator = torch.Generator().manual_seed(stream_seed(config.seed, "weights"))
        self.nets = nn.ModuleDict()
        if config.obs_normalization:
            self.nets["normalizer"] = nn.ModuleDict({"normalizer_variables": normalizer_of(config)})
        self.counters = {"updates": 0}      # saved with the model; DQN also counts its steps

    @property
    def updates(self) -> int:
        """The number of updates so far: calls of `train` or `train_q`."""
        return self.counters["updates"]

    def randn(self, rows: int) -> Tensor:
        """Draw standard normal numbers, (N, A)."""
        return torch.randn(rows, self.act_dim, device=self.device, generator=self.generator)

    def shape(self, part: str) -> Shape:
        """Widths and activation of the networks of a part, "policy" or "critic", as the settings say."""
        return shape_of(self.config, part, self.default_sizes)

    # Observations ---------------------------------------------------------------------------------------------

    @property
    def normalizer(self) -> Normalizer | None:
        """The observations' normaliser; None without `obs_normalization`."""
        return self.nets["normalizer"]["normalizer_variables"] if "normalizer" in self.nets else None

    def normalize(self, obs: Tensor) -> Tensor:
        """Normalise observations, (..., O) -> (..., O); the identity without `obs_normalization`."""
        return self.normalizer.normalize(obs) if self.normalizer is not None else obs

    def seen(self, obs: Tensor) -> Tensor:
        """Return normalised observations with zeros where `policy_mask` hides them from policy and critics."""
        return obs if self.policy_mask is None else obs * self.policy_mask()

    def shown(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a checked batch with `obs` and `obs_next` as policy and critics see them; see `seen`."""
        if self.policy_mask is None:
            return batch
        return {name: self.seen(value) if name in ("obs", "obs_next") else value for name, value in batch.items()}

    def normalizer_update(self, batch: Batch) -> None:
        """Count the batch's `obs` and `obs_next`; do nothing without `obs_normalization`."""
        if self.normalizer is not None:
            spec = dict.fromkeys(("obs", "obs_next"), observations("B", *self.obs_dims))
            checked = check_batch(batch, spec, {}, self.device)
            self.normalizer.update(torch.cat([checked["obs"], checked["obs_next"]]))

    # Acting ---------------------------------------------------------------------------------------------------

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        """Map normalised observations (N, O) to actions in [-1, 1], (N, A)."""
        raise NotImplementedError

    def evaluate_step(self, obs: Tensor) -> Info:
        """Compute `step_info` of the greedy action: normalised observations (N, O) -> Q_average (N,), ..."""
        raise NotImplementedError

    @torch.inference_mode()
    def step(self, obs: np.ndarray, explore: bool = False, test_info: bool = False):
        """Choose an action.

        Args:
            obs: one observation (O,) or several (N, O), raw.
            explore: draw from the exploring policy; greedy otherwise.
            test_info: return the metrics of `step_info` as well.
        Returns:
            float32 action(s) in [-1, 1], (A,) or (N, A); with `test_info`, a pair of it and a dict of tensors,
            `Q_average` () or (N,) and, for SAC, `Pi_step_std` (A,) or (N, A).
        Raises:
            ValueError: the observation's shape is wrong, or it holds no numbers.
        """
        rows, single = check_observations(obs, self.obs_dims, self.device)
        rows = self.seen(self.normalize(rows))
        acts = self.act(rows, explore).cpu().numpy()
        action = acts[0] if single else acts
        return (action, self.step_metrics(rows, single)) if test_info else action

    def step_metrics(self, rows: Tensor, single: bool) -> Info:
        """Compute `step_info` of rows (N, O), or of the single row that they hold."""
        return {name: value[0] if single else value for name, value in self.evaluate_step(rows).items()}

    def explore_metrics(self) -> dict[str, float]:
        """Return how the agent explores at the moment: the metrics of `explore_info`."""
        return {}

    # Training -------------------------------------------------------------------------------------------------

    def spec(self) -> Spec:
        """Return the fields that `train` needs, with their shapes."""
        raise NotImplementedError

    def noise_spec(self) -> Spec:
        """Return the noise that a batch may carry; what is missing is drawn."""
        return dict.fromkeys(self.q_noise + self.pi_noise, ("B", self.act_dim))

    def draw_noise(self, rows: int) -> Tensor:
        """Draw standard normal noise, (B, A)."""
        return self.randn(rows)

    def losses(self, batch: dict[str, Tensor], policy: bool) -> tuple[Tensor, Info]:
        """Return the sum of the losses of a checked batch, (), and the metrics; draw nothing and step nothing.

        Args:
            policy: whether the policy takes part.
        """
        raise NotImplementedError

    def train(self, batch: Batch) -> Info:
        """Update everything once from one batch, with all gradients at the parameters before the update.

        The policy takes part in every `pi_delay_freq`-th call (1 but for TD3).

        Args:
            batch: the fields of `spec`, tensors or arrays, and any of `noise_spec`.
        Returns:
            the metrics of `train_info`, detached 0-d tensors.
        Raises:
            ValueError: a field is missing or has the wrong shape or dtype; nothing was changed.
        """
        policy = Schedule.of(self).policy_due(self.updates + 1)
        checked = self.checked(batch, self.spec())
        self.add_noise(checked, self.q_noise + self.pi_noise * policy)
        self.counters["updates"] += 1
        return self._learn(checked, lambda batch: self._loss(batch, policy))

    def update(self, sample: Callable[[], Batch]) -> Info:
        """Make one update of a training loop, with a batch from `sample`."""
        return self.train(sample())

    def enough(self) -> bool:
        """Return whether the training loop skips the updates that are left of this iteration, as PPO's KL stop does."""
        return False

    def checked(self, batch: Batch, spec: Spec) -> dict[str, Tensor]:
        """Return the batch's fields of `spec` and its noise, as the losses read them.

        Raises:
            ValueError: a field is missing or has the wrong shape or dtype.
        """
        checked = check_batch(batch, spec, self.noise_spec(), self.device)
        return {name: self.prepare(name, value) for name, value in checked.items()}

    def prepare(self, name: str, value: Tensor) -> Tensor:
        """Return a field as the losses read it: observations normalised, pixels in [0, 1]."""
        return prepared(name, value, self.normalize)

    def add_noise(self, batch: dict[str, Tensor], names: tuple[str, ...]) -> None:
        """Draw, in this order, the noise that the batch does not carry."""
        for name in names:
            if name not in batch:
                batch[name] = self.draw_noise(len(batch["obs"]))

    def _loss(self, batch: dict[str, Tensor], policy: bool) -> tuple[Tensor, Info]:
        with self.autocast():
            return self.losses(batch, policy)

    def autocast(self) -> torch.autocast:
        """Multiply in bfloat16 with `precision` bf16; uncached: PyTorch 2.10 loses gradients of cached weights."""
        return torch.autocast(self.device.type, torch.bfloat16, self.config.precision == "bf16", cache_enabled=False)

    def _learn(self, batch: dict[str, Tensor], loss: Loss) -> Info:
        """Step once on a checked batch with its noise; with `grad_accum_steps` its loss is computed part by part."""
        return step(self, add_up(self, batch, loss)) if in_parts(self) else self._descend(*loss(batch))

    def _descend(self, loss: Tensor, info: Info) -> Info:
        for opt in self.opts:
            opt.zero_grad(set_to_none=True)
        loss.backward()
        return step(self, info)

    # Saving and TensorFlow's names ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that is saved: weights, normaliser, optimisers, counters; a flat dict of tensors, not copies."""
        state = {f"nets.{name}": tensor for name, tensor in self.nets.state_dict().items()}
        names = {parameter: name for name, parameter in self.nets.named_parameters()}
        for opt, group in self.groups():
            state[f"opt.{group['name']}.t"] = torch.tensor(group["t"])
            for parameter in group["params"]:
                state |= {f"opt.{names[parameter]}.{slot}": value for slot, value in opt.state[parameter].items()}
        return state | {name: torch.tensor(count) for name, count in self.counters.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load what `state_dict` returned.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs; nothing was changed.
        """
        own, state = self.state_dict(), upgraded(state)
        check_same(state, own, "state")
        for name, tensor in own.items():
            tensor.copy_(state[name])
        for _, group in self.groups():
            group["t"] = int(state[f"opt.{group['name']}.t"])
        self.counters.update({name: int(state[name]) for name in self.counters})

    def groups(self) -> list[tuple[TFAdam | TFRMSProp, dict]]:
        """Return each (optimiser, one of its groups of parameters)."""
        return [(opt, group) for opt in self.opts for group in opt.param_groups]

    def save_model(self, path: str | Path) -> None:
        """Write `state_dict` to one safetensors file, atomically."""
        write_checkpoint(path, self.state_dict(), self.identity())

    def load_model(self, path: str | Path) -> None:
        """Read what `save_model` wrote; nothing is unpickled.

        Raises:
            CheckpointError: the file is missing, damaged, or of another algorithm or size; nothing was changed.
        """
        state = read_checkpoint(path, self.identity(), OPTIONAL_NAMES)
        try:
            self.load_state_dict(state)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from None

    def identity(self) -> dict[str, str]:
        """Return what must agree between a checkpoint and the agent that loads it."""
        alg, basis = self.config.alg, self.config.basis_alg
        scale = {"obs_scale": str(float(self.config.obs_scale))} if self.config.discrete else {}
        return {"alg": alg, "basis_alg": basis or alg,
                "obs_dims": str(self.obs_dims), "acts_dims": f"({self.act_dim},)", **scale,
                **shape_identity(self.config, self.default_sizes)}

    def tf_variables(self, optimizer: bool = False) -> dict[str, np.ndarray]:
        """Return every variable by the original's name and layout, float32 copies; see `algorithm.tf_names`.

        `optimizer` includes the optimisers' variables, as the original's `save_model` does.
        """
        return tf_names.variables(self, optimizer)

    def load_tf_variables(self, variables: dict[str, np.ndarray]) -> None:
        """Load variables by the original's names, all or some of them; the optimisers' variables are allowed.

        Raises:
            ValueError: an unknown name, or a wrong shape or dtype; nothing was changed.
        """
        tf_names.load(self, variables)
