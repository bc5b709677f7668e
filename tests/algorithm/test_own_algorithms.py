"""Mistakes in a user's algorithm or decomposition give a one-line error that names them."""

from __future__ import annotations

import re
from argparse import Namespace

import pytest
import torch
from agents import A, B, K, N, O, make_batch
from runs import SMALL, run
from torch import nn

import train
from algorithm import create_agent, register_algorithm, register_decomposition
from algorithm.basis_alg.sac_torch import SAC
from algorithm.basis_alg.td3_torch import TD3
from algorithm.decomposition.base import Decomposition
from algorithm.decomposition.networks import MLPRewardNet
from algorithm.decomposition.rrd import RRD
from algorithm.engine import Engine
from algorithm.engine.by_hand.engine import ManualEngine
from algorithm.engine.seeds.stacked import StackedEngine
from algorithm.replay_buffer import create_buffer
from algorithm.replay_buffer.subsequence import SubsequenceReplay
from algorithm.replay_buffer.transition import TransitionReplay
from utils.errors import ConfigError

pytestmark = pytest.mark.usefixtures("forget")
READS = dict(r_lr=3e-4, rrd_batch_size=8, rrd_sample_size=4, rrd_bias_correction=False)
PENDULUM = ["--env=Pendulum-v1", *SMALL]


class Reward(nn.Module):
    """A reward network whose output is reshaped by `shape`."""

    def __init__(self, sizes, shape):
        super().__init__()
        self.net, self.shape = MLPRewardNet(*sizes), shape

    def forward(self, obs, acts, obs_next):
        return self.shape(self.net(obs, acts, obs_next))


SHAPES = {"(...)": lambda rews: rews[..., 0], "(..., 2)": lambda rews: rews.repeat_interleave(2, dim=-1),
          "()": lambda rews: rews.mean(), "(1, 1)": lambda rews: rews.reshape(-1, 1)[:1]}
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def refused(capsys, *argv: str) -> str:
    """The one-line error of train.py, which must end with 2."""
    assert train.main(list(argv)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("train.py: ")


# Rewards of another shape, which would broadcast ------------------------------------------------------------------

@each_shape
@pytest.mark.parametrize("engine", ["eager", "compile"])
def test_a_reward_network_of_a_wrong_shape_gives_a_one_line_error(shape, engine, capsys):
    register_decomposition("mine", replay=SubsequenceReplay, **READS)(
        lambda config, generator: RRD(config, generator, Reward((3, 1), shape)))
    line = refused(capsys, "--alg=mine", *PENDULUM, f"--engine={engine}")
    got = tuple(shape(torch.zeros(8, 1)).shape)
    assert line == f"predict: got shape {got} from RRD, expected (8, 1), one reward for each step"


@each_shape
@pytest.mark.parametrize("bias_correction", [False, True])
def test_a_users_loop_reports_a_wrong_shape_and_so_do_sub_sequences_alone(shape, bias_correction):
    agent = create_agent(Namespace(alg="rrd", obs_dims=O, acts_dims=A, device="cpu",
                                   rrd_bias_correction=bias_correction))
    agent.decomposition.reward = Reward((O, A), shape)
    with pytest.raises(ConfigError, match=r"^predict: got shape .* from RRD, expected \(8, 1\), one reward"):
        agent.train(make_batch())
    expected = rf"expected \({N}, {K}, 1\), one reward for each step$"
    with pytest.raises(ConfigError, match=expected):
        agent.decomposition.loss(make_batch())
    with pytest.raises(ConfigError, match=expected):
        agent.rewards(*(make_batch()[f"rrd_{name}"] for name in ("obs", "acts", "obs_next")))


def test_a_subclass_whose_predict_gives_a_wrong_shape_gives_a_one_line_error():
    @register_decomposition("mine", replay=SubsequenceReplay, **READS)
    class Squeezed(RRD):
        def predict(self, obs, acts, obs_next):
            return super().predict(obs, acts, obs_next).squeeze(-1)
    agent = create_agent(Namespace(alg="mine", obs_dims=O, acts_dims=A, device="cpu"))
    with pytest.raises(ConfigError, match=rf"^predict: got shape \({B},\) from Squeezed, expected"):
        agent.train(make_batch())


@pytest.mark.parametrize("basis", ["sac", "td3", "ddpg", "dqn"])
def test_a_basis_refuses_rewards_of_another_shape(basis):
    agent = create_agent(Namespace(alg="rrd", basis_alg=basis, obs_dims=O, acts_dims=A, device="cpu"))
    batch = make_batch()
    if basis == "dqn":
        batch = {name: torch.zeros(value.shape[:-1], dtype=torch.int64) if name.endswith("acts") else value
                 for name, value in batch.items()}
    fields = agent.checked(batch, agent.q_spec())
    agent.add_noise(fields, agent.q_noise)
    with pytest.raises(ConfigError, match=rf"^batch\['rews'\]: got shape "
                                           rf"\({B},\) from a decomposition, expected \({B}, 1\)"):
        agent.basis.q_loss(fields | {"rews": torch.ones(B)})


# Replays of other number types ------------------------------------------------------------------------------------

def averages(convert):
    """A replay that pays R/T, and converts its batches by `convert`."""
    class Averages(TransitionReplay):
        def sample(self, batch_size=None):
            rows = self.draw(batch_size)
            returns, lengths, _ = self.of_episode(rows)
            return convert(self.storage.read(rows) | {"rews": (returns / lengths)[:, None]})
    return Averages


class ByReplay(Decomposition):
    """Pays the rewards of the replay."""

    markov = joint = False


def doubles(batch):
    return {name: value.double() for name, value in batch.items()}


PLAIN = averages(lambda batch: batch | {"rews": batch["rews"].float()})
TYPES = {"double rews": lambda batch: batch, "doubles": doubles,
         "arrays": lambda batch: {name: value.numpy() for name, value in doubles(batch).items()},
         "bool done": lambda batch: batch | {"done": batch["done"].bool()},
         "a text": lambda batch: batch | {"note": "paid R/T"}}


def learned(replay, engine) -> dict:
    """The state of the first of two agents after five updates."""
    register_decomposition("mine", replay=replay)(ByReplay)
    settings = dict(alg="mine", obs_dims=O, acts_dims=A, device="cpu", batch_size=B, buffer_size=100)
    args = [Namespace(seed=seed, **settings) for seed in (0, 1)]
    agents, buffers = [create_agent(one) for one in args], [create_buffer(one) for one in args]
    batch = make_batch()
    for buffer in buffers:
        buffer.store_episode({name: batch[name] for name in ("obs", "acts", "rews", "obs_next", "done")})
    (engine(agents, buffers) if engine is StackedEngine else engine(agents[0], buffers[0])).run(5)
    return agents[0].state_dict()


@pytest.mark.parametrize("convert", TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("engine", ["manual", "eager", "stacked", "captured"])
@pytest.mark.sampled(6)
def test_a_users_replay_may_return_any_number_type(engine, convert, no_graphs):
    engine = {"manual": ManualEngine, "eager": Engine, "stacked": StackedEngine, "captured": no_graphs}[engine]
    torch.testing.assert_close(learned(averages(convert), engine), learned(PLAIN, engine), rtol=0, atol=0)


# Losses and metrics -----------------------------------------------------------------------------------------------

EXPECTED = "expected (a 0-d tensor, a dict of 0-d tensors, the metrics)"
LOSSES = {
    "the loss alone": (lambda loss, info: loss, "a tensor of shape ()"),
    "nothing": (lambda loss, info: None, "None"),
    "three things": (lambda loss, info: (loss, info, loss), "(a tensor of shape (), a dict, a tensor of shape ())"),
    "two losses": (lambda loss, info: (loss, loss), "(a tensor of shape (), a tensor of shape ())"),
    "a loss for each step": (lambda loss, info: (loss.expand(8), info), "a tensor of shape (8,) as the loss"),
    "a float as the loss": (lambda loss, info: (loss.item(), info), "a float as the loss"),
    "a float as a metric": (lambda loss, info: (loss, info | {"Q_loss": loss.item()}),
                            "a float as the metric 'Q_loss'"),
    "a metric for each step": (lambda loss, info: (loss, info | {"Q_loss": loss.expand(8, 1)}),
                               "a tensor of shape (8, 1) as the metric 'Q_loss'"),
}
each_loss = pytest.mark.parametrize(("change", "got"), LOSSES.values(), ids=LOSSES)


def changed(kind: type, method: str, change) -> type:
    """A subclass whose method returns `change` of the loss and the metrics."""
    return type("Mine", (kind,), {method: lambda self, batch: change(*getattr(super(type(self), self), method)(batch))})


@each_loss
@pytest.mark.parametrize("method", ["q_loss", "pi_loss"])
@pytest.mark.parametrize("alg", ["mine", "uniform"])
def test_a_wrong_loss_gives_a_one_line_error(alg, method, change, got, capsys):
    register_algorithm("mine")(changed(SAC, method, change))
    basis = ["--basis_alg=mine"] if alg == "uniform" else []
    assert refused(capsys, f"--alg={alg}", *basis, *PENDULUM) == f"{method}: got {got} from Mine, {EXPECTED}"


@each_loss
def test_a_wrong_loss_of_a_decomposition_or_its_basis_gives_a_one_line_error(change, got):
    register_algorithm("mine", like="td3")(changed(TD3, "q_loss", change))
    register_decomposition("rewards", replay=SubsequenceReplay, **READS)(changed(RRD, "loss", change))
    for alg, basis, method in (("rrd", "mine", "q_loss"), ("rewards", "sac", "loss")):
        agent = create_agent(Namespace(alg=alg, basis_alg=basis, obs_dims=O, acts_dims=A, device="cpu"))
        with pytest.raises(ConfigError, match="^" + re.escape(f"{method}: got {got} from Mine, {EXPECTED}") + "$"):
            agent.train(make_batch())


@each_loss
def test_a_wrong_policy_loss_with_its_own_batch_gives_a_one_line_error(change, got):
    register_algorithm("mine", like="td3")(changed(TD3, "pi_loss", change))
    agent = create_agent(Namespace(alg="mine", obs_dims=O, acts_dims=A, device="cpu"))
    with pytest.raises(ConfigError, match="^" + re.escape(f"pi_loss: got {got} from Mine, {EXPECTED}") + "$"):
        agent.train_pi(make_batch())


NAMED = ("metric 'Extra': not among those that the algorithm names; expected it in train_info, if q_loss or pi_loss "
         "gives it, in step_info (evaluate_step) or explore_info (explore_metrics)")


def test_a_metric_that_is_not_named_gives_a_one_line_error(capsys):
    register_algorithm("mine")(changed(SAC, "q_loss", lambda loss, info: (loss, info | {"Extra": loss.detach()})))
    assert refused(capsys, "--alg=mine", *PENDULUM) == NAMED


@pytest.mark.parametrize("method", ["evaluate_step", "explore_metrics"])
def test_an_unnamed_metric_of_acting_gives_a_one_line_error(method, capsys):
    class Mine(SAC):
        def evaluate_step(self, obs):
            return super().evaluate_step(obs) | ({"Extra": torch.zeros(len(obs))} if method == "evaluate_step" else {})

        def explore_metrics(self):
            return {"Extra": 0.0} if method == "explore_metrics" else {}
    register_algorithm("mine")(Mine)
    assert refused(capsys, "--alg=mine", *PENDULUM) == NAMED


def test_a_metric_that_is_named_is_recorded():
    kind = changed(SAC, "q_loss", lambda loss, info: (loss, info | {"Extra": 2 * loss.detach()}))
    kind.train_info = (*SAC.train_info, "Extra")
    register_algorithm("mine")(kind)
    rows = [row for row in run("--alg=mine", *PENDULUM).rows if row["Q_loss"]]
    assert rows
    assert all(float(row["Extra"]) == pytest.approx(2 * float(row["Q_loss"]), rel=1e-5) for row in rows)
