"""What every agent is: networks, optimisers, and the original's verbs over two losses.

A subclass builds `self.nets` and `self.opts` and says what its losses are. `q_loss` and `pi_loss` are pure functions
of parameters and a checked batch; they reach disjoint parameters, so their sum needs one backward pass, and every
gradient of a call is taken at the parameters before it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from algorithm import tf_names
from algorithm.batch import Batch, Spec, check_batch, check_observations, observations, transition_spec
from algorithm.checks import check_loss
from algorithm.networks import SHAPE_NAMES, Shape, shape_identity, shape_of
from algorithm.schedule import Schedule
from utils.checkpoint import CheckpointError, check_same, read_checkpoint, write_checkpoint
from utils.seeding import stream_seed
from utils.settings.fields import Config
from utils.torch_utils import Normalizer, TFAdam, TFRMSProp, resolve_device

Info = dict[str, Tensor]


class Agent:
    """The base of all agents; as it stands, of those with continuous actions in [-1, 1]."""

    train_info: tuple[str, ...] = ()        # metrics of train, train_q and train_pi
    step_info: tuple[str, ...] = ()         # metrics of step(..., test_info=True)
    pi_delay_freq = 1                       # critic updates per policy update
    policy_batch = False                    # whether the policy learns from a batch of its own
    explore_info: tuple[str, ...] = ()      # metrics of explore_metrics
    q_noise: tuple[str, ...] = ()           # what the critics' loss draws from
    pi_noise: tuple[str, ...] = ()          # what the policy's does
    default_sizes: tuple[int, ...] = (256, 256)     # widths of the hidden layers, where no setting says any
    checkpoint_suffix = ".safetensors"
    resumable = True                    # a run can be gone on with from its `state_dict`
    inspect: Callable[[Info], None] | None = None           # called with the metrics before an update's steps
    opts: list[TFAdam | TFRMSProp]

    def __init__(self, config: Config):
        self.config = config
        self.obs_dims, (self.act_dim,) = config.obs_dims, config.acts_dims
        self.acts_shape = ("B", self.act_dim)
        self.device = resolve_device(config.device)
        self.generator = torch.Generator(self.device).manual_seed(stream_seed(config.seed, "agent"))
        self.weights_generator = torch.Generator().manual_seed(stream_seed(config.seed, "weights"))
        self.nets = nn.ModuleDict()
        if config.obs_normalization:
            self.nets["normalizer"] = nn.ModuleDict({"normalizer_variables": Normalizer(self.obs_dims)})
        self.counters = {"updates": 0}      # saved with the model; DQN counts its steps, too

    # What a subclass says -------------------------------------------------------------------------------------

    def q_spec(self) -> Spec:
        """The fields that the critics' update needs, with their shapes."""
        return transition_spec(self.obs_dims, self.acts_shape)

    def pi_spec(self) -> Spec:
        """The fields that the policy's update needs, with their shapes."""
        return {"obs": ("B", *self.obs_dims)}

    def noise_spec(self) -> Spec:
        """The noise that a batch may carry; what is missing is drawn."""
        return dict.fromkeys(self.q_noise + self.pi_noise, ("B", self.act_dim))

    def draw_noise(self, rows: int) -> Tensor:
        """Standard normal, (B, A)."""
        return self.randn(rows)

    def q_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """What the critics minimise, and the metrics to report."""
        raise NotImplementedError

    def pi_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """What the policy minimises, and the metrics to report."""
        raise NotImplementedError

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        """(N, O) normalised observations -> (N, A) actions in [-1, 1]."""
        raise NotImplementedError

    def evaluate_step(self, obs: Tensor) -> Info:
        """`step_info` of the greedy action: (N, O) normalised observations -> Q_average (N,), ..."""
        raise NotImplementedError

    def encode_acts(self, acts: Tensor) -> Tensor:
        """A batch's actions as a network takes them, (..., A)."""
        return acts

    def target_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(network, its target) for each network that has one."""
        target = self.nets["target"]
        return [(self.nets["main"][name], target[name]) for name in target]

    # Training -------------------------------------------------------------------------------------------------

    @property
    def updates(self) -> int:
        """Calls of `train` or `train_q` so far."""
        return self.counters["updates"]

    def train(self, batch: Batch) -> Info:
        """One update of everything from one batch, all gradients at the parameters before it.

        The policy takes part in every `pi_delay_freq`-th call (1 but for TD3).

        Args:
            batch: the fields of `q_spec`, tensors or arrays, and any of `noise_spec`.
        Returns:
            the metrics of `train_info`, detached 0-d tensors.
        Raises:
            ValueError: a field is missing or has the wrong shape or dtype; nothing was changed.
        """
        policy = Schedule.of(self).policy_due(self.updates + 1)
        checked = self.checked(batch, self.q_spec() | self.pi_spec())
        self.add_noise(checked, self.q_noise + self.pi_noise * policy)
        self.counters["updates"] += 1
        return self._descend(*self._loss(checked, policy))

    def train_q(self, batch: Batch) -> Info:
        """One update of the critics (and of the reward network, in RRD)."""
        checked = self.checked(batch, self.q_spec())
        self.add_noise(checked, self.q_noise)
        self.counters["updates"] += 1
        return self._descend(*self._loss(checked, policy=False))

    def train_pi(self, batch: Batch) -> Info:
        """One update of the policy (and of the temperature, in SAC)."""
        checked = self.checked(batch, self.pi_spec())
        self.add_noise(checked, self.pi_noise)
        with self.autocast():
            loss, info = check_loss(self, "pi_loss", self.pi_loss(checked))
        return self._descend(loss, info)

    def update(self, sample: Callable[[], Batch]) -> Info:
        """One update of a training loop, with batches from `sample`.

        It is `train(sample())`, but where the policy has a batch of its own (TD3): there the critics learn from
        one and then, each `pi_delay_freq`-th time, the policy from another.
        """
        if not self.policy_batch:
            return self.train(sample())
        info = self.train_q(sample())
        if Schedule.of(self).policy_due(self.updates):
            info |= self.train_pi(sample())
        return info

    def checked(self, batch: Batch, spec: Spec) -> dict[str, Tensor]:
        """The batch's fields of `spec` and its noise, as the losses want them.

        Raises:
            ValueError: a field is missing or has the wrong shape or dtype.
        """
        checked = check_batch(batch, spec, self.noise_spec(), self.device)
        return {name: self.prepare(name, value) for name, value in checked.items()}

    def prepare(self, name: str, value: Tensor) -> Tensor:
        """A field of a batch as the losses want it: observations normalised, pixels in [0, 1]."""
        if not name.endswith(("obs", "obs_next")):
            return value
        return self.normalize(value / 255 if value.dtype == torch.uint8 else value)

    def add_noise(self, batch: dict[str, Tensor], names: tuple[str, ...]) -> None:
        """Draw, in this order, what of the noise the batch does not carry."""
        for name in names:
            if name not in batch:
                batch[name] = self.draw_noise(len(batch["obs"]))

    def _loss(self, batch: dict[str, Tensor], policy: bool) -> tuple[Tensor, Info]:
        with self.autocast():
            return self.losses(batch, policy)

    def losses(self, batch: dict[str, Tensor], policy: bool) -> tuple[Tensor, Info]:
        """The sum of `q_loss` and, where the policy takes part, `pi_loss`; nothing is drawn or stepped."""
        loss, info = check_loss(self, "q_loss", self.q_loss(batch))
        if policy:
            pi_loss, pi_info = check_loss(self, "pi_loss", self.pi_loss(batch))
            loss, info = loss + pi_loss, pi_info | info
        return loss, info

    def autocast(self) -> torch.autocast:
        """bfloat16 in the products of the losses, with `precision` bf16."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _descend(self, loss: Tensor, info: Info) -> Info:
        for opt in self.opts:
            opt.zero_grad(set_to_none=True)
        loss.backward()
        if self.inspect is not None:
            self.inspect(info)
        for opt in self.opts:
            opt.step()
        return {name: value.detach() for name, value in info.items()}

    @torch.no_grad()
    def target_update(self) -> None:
        """target <- polyak target + (1 - polyak) main."""
        for main, target in self.target_pairs():
            torch._foreach_lerp_(list(target.parameters()), list(main.parameters()), 1 - self.config.polyak)

    def randn(self, rows: int) -> Tensor:
        return torch.randn(rows, self.act_dim, device=self.device, generator=self.generator)

    def shape(self, part: str) -> Shape:
        """Widths and activation of the networks of a part, "policy" or "critic", as the settings say."""
        return shape_of(self.config, part, self.default_sizes)

    def make_optimizer(self, policy: nn.Module, critics: nn.Module) -> TFAdam:
        """One optimiser over policy and critics, each with its own learning rate."""
        return TFAdam([dict(name="policy", role="policy", params=policy.parameters(), lr=self.config.pi_lr),
                       dict(name="critic", role="critic", params=critics.parameters(), lr=self.config.q_lr)])

    def jitter(self, acts: Tensor) -> Tensor:
        """A deterministic policy's exploration: clip(a + std_act * normal, -1, 1), (N, A)."""
        return (acts + self.config.std_act * self.randn(len(acts))).clamp(-1, 1)

    # Observations ---------------------------------------------------------------------------------------------

    @property
    def normalizer(self) -> Normalizer | None:
        return self.nets["normalizer"]["normalizer_variables"] if "normalizer" in self.nets else None

    def normalize(self, obs: Tensor) -> Tensor:
        """(..., O) -> (..., O); the identity without `obs_normalization`."""
        return self.normalizer.normalize(obs) if self.normalizer is not None else obs

    def normalizer_update(self, batch: Batch) -> None:
        """Count the batch's `obs` and `obs_next`; nothing without `obs_normalization`."""
        if self.normalizer is not None:
            spec = dict.fromkeys(("obs", "obs_next"), observations("B", *self.obs_dims))
            checked = check_batch(batch, spec, {}, self.device)
            self.normalizer.update(torch.cat([checked["obs"], checked["obs_next"]]))

    # Acting ---------------------------------------------------------------------------------------------------

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
        rows = self.normalize(rows)
        acts = self.act(rows, explore).cpu().numpy()
        action = acts[0] if single else acts
        return (action, self.step_metrics(rows, single)) if test_info else action

    def step_metrics(self, rows: Tensor, single: bool) -> Info:
        """`step_info` of rows (N, O), or of the single one that they hold."""
        return {name: value[0] if single else value for name, value in self.evaluate_step(rows).items()}

    def explore_metrics(self) -> dict[str, float]:
        """How it explores at the moment: the metrics of `explore_info`."""
        return {}

    # Saving and TensorFlow's names ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, targets, log alpha, normaliser, optimisers and counters: a flat dict of tensors, not copies."""
        state = {f"nets.{name}": tensor for name, tensor in self.nets.state_dict().items()}
        names = {parameter: name for name, parameter in self.nets.named_parameters()}
        for opt, group in self.groups():
            state[f"opt.{group['name']}.t"] = torch.tensor(group["t"])
            for parameter in group["params"]:
                state |= {f"opt.{names[parameter]}.{slot}": value for slot, value in opt.state[parameter].items()}
        return state | {name: torch.tensor(count) for name, count in self.counters.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs; nothing was changed.
        """
        own = self.state_dict()
        check_same(state, own, "state")
        for name, tensor in own.items():
            tensor.copy_(state[name])
        for _, group in self.groups():
            group["t"] = int(state[f"opt.{group['name']}.t"])
        self.counters.update({name: int(state[name]) for name in self.counters})

    def groups(self) -> list[tuple[TFAdam | TFRMSProp, dict]]:
        """(optimiser, one of its groups of parameters)."""
        return [(opt, group) for opt in self.opts for group in opt.param_groups]

    def save_model(self, path: str | Path) -> None:
        """Write `state_dict` to one safetensors file, whole or not at all."""
        write_checkpoint(path, self.state_dict(), self.identity())

    def load_model(self, path: str | Path) -> None:
        """Read what `save_model` wrote; no pickle is involved.

        Raises:
            CheckpointError: no such file, a damaged one, or one of another algorithm or size; the agent stays
                as it was.
        """
        state = read_checkpoint(path, self.identity(), SHAPE_NAMES)
        try:
            self.load_state_dict(state)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from None

    def identity(self) -> dict[str, str]:
        """What must agree between a checkpoint and the agent that loads it."""
        alg, basis = self.config.alg, self.config.basis_alg
        scale = {"obs_scale": str(float(self.config.obs_scale))} if self.config.discrete else {}
        return {"alg": alg, "basis_alg": basis or alg,
                "obs_dims": str(self.obs_dims), "acts_dims": f"({self.act_dim},)", **scale,
                **shape_identity(self.config, self.default_sizes)}

    def tf_variables(self, optimizer: bool = False) -> dict[str, np.ndarray]:
        """Every variable by the original's name and layout; float32 copies. See `algorithm.tf_names`.

        Args:
            optimizer: with what the optimisers keep, which makes it all that the original's `save_model` wrote.
        """
        return tf_names.variables(self, optimizer)

    def load_tf_variables(self, variables: dict[str, np.ndarray]) -> None:
        """Take over variables by the original's names, all or some of them, the optimisers' among them.

        Raises:
            ValueError: an unknown name, or a wrong shape or dtype; nothing was changed.
        """
        tf_names.load(self, variables)
