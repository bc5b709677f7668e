"""What every agent is: networks, one optimiser, and the original's verbs over two losses.

A subclass builds `self.nets` and `self.opt` and says what its losses are. `q_loss` and `pi_loss` are pure functions
of parameters and a checked batch; they reach disjoint parameters, so their sum needs one backward pass, and every
gradient of a call is taken at the parameters before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from algorithm.batch import Batch, Spec, check_batch, to_tensor
from utils.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from utils.config import Config
from utils.seeding import stream_seed
from utils.torch_utils import Normalizer, TFAdam, resolve_device

Info = dict[str, Tensor]


class Agent:
    """The base of all agents. Continuous actions in [-1, 1], vector observations."""

    train_info: tuple[str, ...] = ()        # metrics of train, train_q and train_pi
    step_info: tuple[str, ...] = ()         # metrics of step(..., test_info=True)
    pi_delay_freq = 1                       # critic updates per policy update
    policy_batch = False                    # whether the policy learns from a batch of its own
    opt: TFAdam

    def __init__(self, config: Config):
        self.config = config
        (self.obs_dim,), (self.act_dim,) = config.obs_dims, config.acts_dims
        self.device = resolve_device(config.device)
        self.generator = torch.Generator(self.device).manual_seed(stream_seed(config.seed, "agent"))
        self.weights_generator = torch.Generator().manual_seed(stream_seed(config.seed, "weights"))
        self.nets = nn.ModuleDict()
        if config.obs_normalization:
            self.nets["normalizer"] = nn.ModuleDict({"normalizer_variables": Normalizer(self.obs_dim)})
        self.updates = 0                    # calls of train or train_q so far

    # What a subclass says -------------------------------------------------------------------------------------

    def q_spec(self) -> Spec:
        """The fields that the critics' update needs, with their shapes."""
        obs, column = ("B", self.obs_dim), ("B", 1)
        return {"obs": obs, "obs_next": obs, "acts": ("B", self.act_dim), "rews": column, "done": column}

    def pi_spec(self) -> Spec:
        """The fields that the policy's update needs, with their shapes."""
        return {"obs": ("B", self.obs_dim)}

    def noise_spec(self) -> Spec:
        """The noise that a batch may carry; what is missing is drawn."""
        return {}

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

    def target_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(network, its target) for each network that has one."""
        target = self.nets["target"]
        return [(self.nets["main"][name], target[name]) for name in target]

    # Training -------------------------------------------------------------------------------------------------

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
        checked = self._check(batch, self.q_spec() | self.pi_spec())
        loss, info = self.q_loss(checked)
        self.updates += 1
        if self.updates % self.pi_delay_freq == 0:
            pi_loss, pi_info = self.pi_loss(checked)
            loss, info = loss + pi_loss, pi_info | info
        return self._descend(loss, info)

    def train_q(self, batch: Batch) -> Info:
        """One update of the critics (and of the reward network, in RRD)."""
        loss, info = self.q_loss(self._check(batch, self.q_spec()))
        self.updates += 1
        return self._descend(loss, info)

    def train_pi(self, batch: Batch) -> Info:
        """One update of the policy (and of the temperature, in SAC)."""
        return self._descend(*self.pi_loss(self._check(batch, self.pi_spec())))

    def update(self, sample: Callable[[], Batch]) -> Info:
        """One update of a training loop, with batches from `sample`.

        It is `train(sample())`, but where the policy has a batch of its own (TD3): there the critics learn from
        one and then, each `pi_delay_freq`-th time, the policy from another.
        """
        if not self.policy_batch:
            return self.train(sample())
        info = self.train_q(sample())
        if self.updates % self.pi_delay_freq == 0:
            info |= self.train_pi(sample())
        return info

    def _check(self, batch: Batch, spec: Spec) -> dict[str, Tensor]:
        checked = check_batch(batch, spec, self.noise_spec(), self.device)
        return {name: self.normalize(value) if name.endswith(("obs", "obs_next")) else value
                for name, value in checked.items()}

    def _descend(self, loss: Tensor, info: Info) -> Info:
        self.opt.zero_grad(set_to_none=True)
        loss.backward()
        self.opt.step()
        return {name: value.detach() for name, value in info.items()}

    @torch.no_grad()
    def target_update(self) -> None:
        """target <- polyak target + (1 - polyak) main."""
        for main, target in self.target_pairs():
            torch._foreach_lerp_(list(target.parameters()), list(main.parameters()), 1 - self.config.polyak)

    def noise(self, batch: dict[str, Tensor], name: str) -> Tensor:
        """The batch's own noise, or standard normal noise, (B, A)."""
        return batch[name] if name in batch else self.randn(batch["obs"].shape[0])

    def randn(self, rows: int) -> Tensor:
        return torch.randn(rows, self.act_dim, device=self.device, generator=self.generator)

    def make_optimizer(self, policy: nn.Module, critics: nn.Module) -> TFAdam:
        """One optimiser over policy and critics, each with its own learning rate."""
        return TFAdam([dict(name="policy", params=policy.parameters(), lr=self.config.pi_lr),
                       dict(name="critic", params=critics.parameters(), lr=self.config.q_lr)])

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
            spec = dict.fromkeys(("obs", "obs_next"), ("B", self.obs_dim))
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
        obs = to_tensor("obs", obs, self.device, kinds="fiub")
        if obs.ndim not in (1, 2) or obs.shape[-1] != self.obs_dim:
            raise ValueError(f"obs: got shape {tuple(obs.shape)}, wants ({self.obs_dim},) or (N, {self.obs_dim})")
        rows = self.normalize(obs.reshape(-1, self.obs_dim))
        action = self.act(rows, explore).reshape(*obs.shape[:-1], self.act_dim).cpu().numpy()
        if not test_info:
            return action
        info = self.evaluate_step(rows)
        return action, {name: value[0] if obs.ndim == 1 else value for name, value in info.items()}

    # Saving and TensorFlow's names ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, targets, log alpha, normaliser, optimiser and counters: a flat dict of tensors, not copies."""
        state = {f"nets.{name}": tensor for name, tensor in self.nets.state_dict().items()}
        names = {parameter: name for name, parameter in self.nets.named_parameters()}
        for group in self.opt.param_groups:
            state[f"opt.{group['name']}.t"] = torch.tensor(group["t"])
            for parameter in group["params"]:
                slots = self.opt.state[parameter]
                state |= {f"opt.{names[parameter]}.{slot}": slots[slot] for slot in ("exp_avg", "exp_avg_sq", "step")}
        return state | {"updates": torch.tensor(self.updates)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs; nothing was changed.
        """
        own = self.state_dict()
        _check_same(state, own, "state")
        for name, tensor in own.items():
            tensor.copy_(state[name])
        for group in self.opt.param_groups:
            group["t"] = int(state[f"opt.{group['name']}.t"])
        self.updates = int(state["updates"])

    def save_model(self, path: str | Path) -> None:
        """Write `state_dict` to one safetensors file, whole or not at all."""
        write_checkpoint(path, self.state_dict(), self.identity())

    def load_model(self, path: str | Path) -> None:
        """Read what `save_model` wrote; no pickle is involved.

        Raises:
            CheckpointError: no such file, a damaged one, or one of another algorithm or size; the agent stays
                as it was.
        """
        state = read_checkpoint(path, self.identity())
        try:
            self.load_state_dict(state)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from None

    def identity(self) -> dict[str, str]:
        """What must agree between a checkpoint and the agent that loads it."""
        alg, basis = self.config.alg, self.config.basis_alg
        return {"alg": alg, "basis_alg": basis or alg,
                "obs_dims": f"({self.obs_dim},)", "acts_dims": f"({self.act_dim},)"}

    def tf_variables(self) -> dict[str, np.ndarray]:
        """Every variable by the original's name and layout (dense kernels are [in, out]); float32 copies."""
        return {name: view.detach().cpu().numpy().copy() for name, view in self._tf_views()}

    @torch.no_grad()
    def load_tf_variables(self, variables: dict[str, np.ndarray]) -> None:
        """Take over variables by the original's names, all or some of them.

        Raises:
            ValueError: an unknown name, or a wrong shape or dtype; nothing was changed.
        """
        views = dict(self._tf_views())
        arrays = {name: np.asarray(value) for name, value in variables.items()}
        _check_same(arrays, {name: views[name] for name in views if name in arrays}, "variables", known=views)
        for name, array in arrays.items():
            views[name].copy_(torch.as_tensor(array.astype(np.float32)))

    def _tf_views(self) -> Iterator[tuple[str, Tensor]]:
        """(TensorFlow's name, a view in TensorFlow's layout) of each variable; the tree of modules bears its names."""
        for path, module in self.nets.named_modules():
            scope = path.replace(".", "/")
            if isinstance(module, nn.Linear):
                parent, _, layer = scope.rpartition("/")
                yield f"{parent}/net/{layer}/kernel", module.weight.T
                yield f"{parent}/net/{layer}/bias", module.bias
            else:
                for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                    yield f"{scope}/{name}", tensor


def _check_same(given: dict, wanted: dict, what: str, known: dict | None = None) -> None:
    known = wanted if known is None else known
    for name in given:
        if name not in known:
            raise ValueError(f"{what}[{name!r}]: unknown; this agent has {', '.join(known)}")
    for name, tensor in wanted.items():
        if name not in given:
            raise ValueError(f"{what}[{name!r}]: missing")
        if tuple(given[name].shape) != tuple(tensor.shape):
            raise ValueError(f"{what}[{name!r}]: got shape {tuple(given[name].shape)}, wants {tuple(tensor.shape)}")
        if isinstance(given[name], np.ndarray) and given[name].dtype.kind not in "fiu":
            raise ValueError(f"{what}[{name!r}]: got dtype {given[name].dtype}, wants float32")
