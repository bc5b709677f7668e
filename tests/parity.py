"""Compare the PyTorch agents, the TensorFlow 2 reference and the original TensorFlow 1.12 program.

`make parity` prints three tables: each backend against the figures of the original; both backends over 50 updates from
the same variables on the same batches; and runs of train.py by both from one seed. The tests assert the numbers of the
tables.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from engines import float64
from reference_cases import NAMES, Case, call_with_gradients, thin

from algorithm import create_agent
from algorithm.tf.importing import import_tensorflow

BACKENDS = ("pytorch", "tensorflow")
KINDS = (*BACKENDS, "float64")          # PyTorch in float64, whose figures are the same on every processor

SIZES = {"small": (5, 2), "Ant": (27, 8), "Humanoid": (376, 17)}         # observations, actions
BATCH, SEQUENCES, STEPS = 32, 2, 8
UPDATES = 50


# The original's cases ------------------------------------------------------------------------------------------------

class Played:
    """A case that is run from start to end."""

    def __init__(self, case: Case, kind: str):
        self.case, self.kind, self.backend = case, kind, "pytorch" if kind == "float64" else kind
        self.agent = case.agent(self.backend)
        self.normalizer = self.agent.tf_variables()
        self.infos: list[tuple[int, str, float]] = []
        self.gradients: dict[str, np.ndarray] = {}
        for step, calls in enumerate(case.calls):
            for call in calls:
                self.call(step, call)
            if step == 0:
                self.after_1 = self.agent.tf_variables()
        self.after_last = self.agent.tf_variables()

    def call(self, step: int, name: str) -> None:
        if name == "target_update":
            return self.agent.target_update()
        info, gradients = call_with_gradients(self.agent, name, self.case.batch(step))
        self.infos += [(step, metric, float(value)) for metric, value in info.items()]
        self.gradients = gradients | self.gradients             # the first call's stay


def play(name: str, kind: str) -> Played:
    with computing(kind):
        return Played(Case(name), kind)


def computing(kind: str) -> contextlib.AbstractContextManager:
    """Where agents of this kind are built and used."""
    return float64() if kind == "float64" else contextlib.nullcontext()


def gradient_networks(played: Played) -> dict[str, float]:
    """By network: the relative distance of the first call's gradients from the original's (Euclidean norms)."""
    networks: dict[str, list[str]] = {}
    for name in played.gradients:
        networks.setdefault(name.rpartition("/net/")[0] or name, []).append(name)
    distances = {}
    for network, names in networks.items():
        ours = np.concatenate([thin(played.gradients[name]) for name in names])
        theirs = np.concatenate([played.case.sample("grad_1", name) for name in names])
        distances[network] = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
    return distances


def deviations(played: Played) -> tuple[float, float, float, float]:
    """The largest differences: of the first and of the later losses, of the first gradients, of the variables.

    Losses are relative, but to no less than 0.1 (a policy's loss is a difference, and may be near 0); gradients
    relative; variables absolute, after the last step.
    """
    case, last = played.case, len(played.case.calls)
    losses = [(step, abs(value - case.metric(metric, step)) / max(abs(case.metric(metric, step)), 0.1))
              for step, metric, value in played.infos]
    variables = max(float(np.abs(thin(played.after_last[name]) - case.sample(f"after_{last}", name)).max())
                    for name in case.shapes)
    return (max(loss for step, loss in losses if step == 0), max(loss for step, loss in losses if step > 0),
            max(gradient_networks(played).values()), variables)


# Both backends side by side -----------------------------------------------------------------------------------------

class Pair(NamedTuple):
    """An algorithm, its basis, where it differs from their defaults, and the size of the task."""

    alg: str
    basis: str
    size: str = "Ant"
    options: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        name = self.alg if self.alg == self.basis else f"{self.alg}-{self.basis}"
        return " ".join([name, self.size, *(f"{name}={value}" for name, value in self.options)])


def pairs() -> list[Pair]:
    """Every algorithm over every basis at every size, and every option of each at one size."""
    bases = ("ddpg", "td3", "sac", "dqn")
    plain = [Pair(alg, basis, size) for basis in bases for alg in (basis, "rrd", "ircr") for size in SIZES]
    options = [("obs_normalization", True)], [("rrd_bias_correction", True)], [("alpha_lr", 0)], [("double", True)], \
        [("optimizer", "rmsprop")], [("obs_normalization", False)]
    reads = {"rrd_bias_correction": "rrd", "alpha_lr": "sac", "double": "dqn", "optimizer": "dqn"}
    varied = [Pair(alg, basis, "Ant", tuple(option)) for basis in bases for alg in (basis, "rrd") for option in options
              if reads.get(option[0][0], alg) in (alg, basis) and not _is_default(basis, *option[0])]
    images = [Pair("dqn", "dqn", "images"), Pair("dqn", "dqn", "images", (("double", True), ("dueling", True))),
              Pair("rrd", "dqn", "images", (("optimizer", "rmsprop"), ("rrd_bias_correction", True)))]
    return plain + varied + images


def _is_default(basis: str, option: str, value: object) -> bool:
    return option == "obs_normalization" and value is (basis == "ddpg")


class Together:
    """Both backends' agents, from the same variables, fed the same batches and noise."""

    def __init__(self, pair: Pair, seed: int = 0, copy: bool = True):
        """copy: start TensorFlow from PyTorch's variables, rather than both from their seed."""
        self.images = pair.size == "images"
        self.obs_dims, self.acts = ((36, 44, 2), 4) if self.images else ((SIZES[pair.size][0],), SIZES[pair.size][1])
        self.random, self.discrete = np.random.default_rng(seed), pair.basis == "dqn"
        settings = dict(pair.options) | {"alg": pair.alg, "basis_alg": pair.basis if pair.alg != pair.basis else None,
                                         "obs_dims": self.obs_dims, "acts_dims": self.acts, "device": "cpu",
                                         "obs_scale": 255}      # the original's DQN divides vectors, too
        self.agents = [create_agent(Namespace(**settings, use_pytorch=flag)) for flag in (True, False)]
        if copy:
            self.agents[1].load_tf_variables(self.agents[0].tf_variables(optimizer=True))
        self.start = self.agents[0].tf_variables()
        # With 376 unit normals the first actions saturate tanh, where float32 does not know log(1 - a^2); real tasks
        # have many numbers near 0. So the observations are as long at every size as Ant's.
        self.scale = 1 if self.images else min(1, (27 / self.obs_dims[0]) ** 0.5)
        self.first, self.early, self.losses, self.noise = None, None, 0.0, True

    def play(self, updates: int = UPDATES) -> Together:
        for batch in (self.batch() for _ in range(2)):
            for agent in self.agents:
                agent.normalizer_update(batch)
        for update in range(updates):
            batches = [self.batch() for _ in range(2)]
            infos = [agent.update(iter(batches).__next__) for agent in self.agents]
            self._compare(*infos)
            if self.agents[0].updates % 2 == 0:
                for agent in self.agents:
                    agent.target_update()
            if update == 4:
                self.early = self.variables
        return self

    def _compare(self, ours: dict, theirs: dict) -> None:
        assert set(ours) == set(theirs)
        # An absolute difference of 1 is allowed beside the relative one: policy losses cross 0.
        worst = max(abs(float(ours[name]) - float(theirs[name])) / max(abs(float(theirs[name])), 1) for name in ours)
        self.first = worst if self.first is None else self.first
        self.losses = max(self.losses, worst)

    @property
    def variables(self) -> float:
        """The distance of both, relative to the way from the start (Euclidean norms), in the worst of the networks."""
        ours, theirs = (agent.tf_variables() for agent in self.agents)
        assert ours.keys() == theirs.keys() == self.start.keys()
        networks: dict[str, list[str]] = {}
        for name in ours:
            networks.setdefault(name.partition("/net/")[0], []).append(name)

        def distance(some: dict, others: dict, names: list[str]) -> float:
            return sum(float(np.square(some[name] - others[name], dtype=np.float64).sum()) for name in names) ** 0.5
        ways = {network: distance(theirs, self.start, names) for network, names in networks.items()
                if not network.startswith("normalizer")}
        return max(distance(ours, theirs, networks[network]) / way for network, way in ways.items() if way > 0)

    @property
    def normalizer(self) -> float:
        """The largest relative difference of the normaliser's state."""
        ours, theirs = (agent.tf_variables() for agent in self.agents)
        return max((float((np.abs(ours[name] - theirs[name]) / np.maximum(1, np.abs(theirs[name]))).max())
                    for name in ours if name.startswith("normalizer")), default=0.0)

    @property
    def actions(self) -> float:
        """The largest difference of a greedy action or, where actions are indices, of its value."""
        obs = self._obs(16) * (255 if self.discrete else 1)
        results = [agent.step(obs, test_info=True) for agent in self.agents]
        (ours, theirs) = (np.asarray(info["Q_average"]) if self.discrete else acts for acts, info in results)
        return float(np.abs(ours - theirs).max())

    def batch(self) -> dict[str, np.ndarray]:
        acts = (lambda *shape: self.random.integers(self.acts, size=shape)) if self.discrete else \
            (lambda *shape: np.tanh(self._normal(*shape, self.acts)))
        rrd = (SEQUENCES, STEPS)
        noise = {
            "pi_noise": self._normal(BATCH, self.acts), "pi_next_noise": self._normal(BATCH, self.acts),
            "target_noise": (0.2 * self._normal(BATCH, self.acts)).clip(-0.5, 0.5),
        }
        return (noise if self.noise else {}) | {
            "obs": self._obs(BATCH), "obs_next": self._obs(BATCH),
            "acts": acts(BATCH), "rews": self._normal(BATCH, 1),
            "done": np.float32(self.random.random((BATCH, 1)) < 0.1),
            "rrd_obs": self._obs(*rrd), "rrd_obs_next": self._obs(*rrd),
            "rrd_acts": acts(*rrd), "rrd_rews": self._normal(SEQUENCES, 1),
            "rrd_var_coef": np.full((SEQUENCES, 1), 0.9, np.float32),
        }

    def _obs(self, *leading: int) -> np.ndarray:
        return np.float32(self.scale) * self._normal(*leading, *self.obs_dims)

    def _normal(self, *shape: int) -> np.ndarray:
        return self.random.standard_normal(shape, np.float32)


# Runs of train.py ---------------------------------------------------------------------------------------------------

def evaluation_returns(backend: str, *flags: str, nudge: bool = False) -> np.ndarray:
    """The mean return of each cycle's evaluation, of a run by that backend in a directory of its own.

    nudge: move every weight up or down by one unit in its last place before the run.
    """
    import train

    def nudged(args):
        agent = create_agent(args)
        for weight in agent.nets.parameters():
            towards = torch.where(torch.rand_like(weight) < 0.5, -torch.inf, torch.inf)
            weight.data = torch.nextafter(weight.data, towards)
        return agent

    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(mock.patch.dict(os.environ, USE_PYTORCH="1" if backend == "pytorch" else "0"))
        if nudge:
            create = stack.enter_context(mock.patch("learner.training.create_agent", side_effect=nudged))
        assert train.main([*flags, "--device=cpu"]) == 0
        assert not nudge or create.called
        (file,) = Path("outputs").glob("*/rews/*.npz")
        with np.load(file) as data:
            return data["info"][:, 1]


def run_flags(alg: str, basis: str, env: str, cycles: int) -> list[str]:
    """A short run: 100 updates a cycle after the first, evaluated on two episodes of 100 steps."""
    small = ["--timesteps=100", "--iterations=1", "--train_batches=100", "--test_timesteps=100", "--warmup=200",
             "--test_rollouts=2", "--buffer_size=10000", "--batch_size=64", f"--total_timesteps={100 * cycles}"]
    over = [f"--basis_alg={basis}"] if alg != basis else []
    rrd = ["--rrd_batch_size=64", "--rrd_sample_size=16"] if alg == "rrd" else []
    return [f"--alg={alg}", *over, f"--env={env}", *small, *rrd]


def agree_for(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> int:
    """How many evaluations, from the first, agree to `tolerance`, relative."""
    differs = np.abs(ours - theirs) > tolerance * np.maximum(1, np.abs(theirs))
    return int(differs.argmax()) if differs.any() else len(differs)


# The tables ---------------------------------------------------------------------------------------------------------

def original_table() -> Table:
    table = _table("Against the original's figures: largest differences (losses relative, to no less than 0.1; "
                   "gradients relative; variables absolute)",
                   "case", "computed by", "losses, step 0", "later losses", "first gradients", "variables")
    for name in NAMES:
        for kind in KINDS:
            table.add_row(name, kind, *(f"{value:.1e}" for value in deviations(play(name, kind))))
    return table


def side_by_side_table() -> Table:
    table = _table(f"PyTorch against TensorFlow 2, same batches and noise: largest relative differences of losses, "
                   f"distance of the variables relative to the way they went, over {UPDATES} updates",
                   "algorithm", "first losses", "all losses", "variables after 5", f"after {UPDATES}", "greedy actions")
    for pair in pairs():
        played = Together(pair).play()
        table.add_row(str(pair), *(f"{value:.1e}" for value in
                                   (played.first, played.losses, played.early, played.variables, played.actions)))
    return table


def runs_table(cycles: int = 10) -> Table:
    table = _table("Runs of train.py from one seed: for how many updates the evaluation returns agree to 1e-3",
                   "run", "PyTorch against TensorFlow 2", "PyTorch against itself, weights moved by one ulp")
    for env in ("Pendulum-v1", "Hopper-v4", "HalfCheetah-v4"):
        for alg, basis in (("rrd", "sac"), ("rrd", "td3"), ("rrd", "ddpg"), ("ircr", "sac")):
            flags = run_flags(alg, basis, env, cycles)
            ours = evaluation_returns("pytorch", *flags)
            others = evaluation_returns("tensorflow", *flags), evaluation_returns("pytorch", *flags, nudge=True)
            # The first evaluation comes before any update, and each one after 100 more.
            table.add_row(f"{alg}-{basis} {env}", *(_updates(agree_for(ours, other, 1e-3)) for other in others))
    return table


def _updates(evaluations: int) -> str:
    return f"{100 * (evaluations - 1)}" if evaluations else "none, not before them either"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def main() -> None:
    torch.set_num_threads(1)                    # small matrices, and nothing waits for a busy core
    import_tensorflow().get_logger().setLevel("ERROR")          # it warns of functions compiled for many agents
    console = Console(width=max(120, Console().width))
    for make in (original_table, side_by_side_table, runs_table):
        console.print(make(), "")


if __name__ == "__main__":
    main()
