"""What is wrong in an algorithm or a decomposition of one's own ends in one line that names it."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch
from agents import A, B, K, N, O, make_batch
from runs import SMALL
from torch import nn

import train
from algorithm import create_agent, register_decomposition
from algorithm.engine import Engine
from algorithm.engine.manual import ManualEngine
from algorithm.engine.stacked import StackedEngine
from algorithm.replay_buffer import create_buffer
from algorithm.replay_buffer.subsequence import SubsequenceReplay
from algorithm.replay_buffer.transition import TransitionReplay
from algorithm.rrd_torch import RRD, MLPRewardNet
from utils.config import ConfigError

pytestmark = pytest.mark.usefixtures("forget")
READS = dict(r_lr=3e-4, rrd_batch_size=8, rrd_sample_size=4, rrd_bias_correction=False)
PENDULUM = ["--env=Pendulum-v1", *SMALL]


class Reward(nn.Module):
    """A reward network whose output `shape` brings into another one."""

    def __init__(self, sizes, shape):
        super().__init__()
        self.net, self.shape = MLPRewardNet(*sizes), shape

    def forward(self, obs, acts, obs_next):
        return self.shape(self.net(obs, acts, obs_next))


SHAPES = {"(...)": lambda rews: rews[..., 0], "(..., 2)": lambda rews: rews.repeat_interleave(2, dim=-1),
          "()": lambda rews: rews.mean(), "(1, 1)": lambda rews: rews.reshape(-1, 1)[:1]}
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def refused(capsys, *argv: str) -> str:
    """What train.py says, in one line, where it ends with 2."""
    assert train.main(list(argv)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("train.py: ")


# Rewards of another shape, which would broadcast ------------------------------------------------------------------

@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@each_shape
@pytest.mark.parametrize("engine", ["eager", "compile"])
def test_a_reward_network_of_a_wrong_shape_is_one_line(shape, engine, capsys):
    register_decomposition("mine", replay=SubsequenceReplay, **READS)(
        lambda config, basis: RRD(config, basis, Reward((3, 1), shape)))
    line = refused(capsys, "--alg=mine", *PENDULUM, f"--engine={engine}")
    got = tuple(shape(torch.zeros(8, 1)).shape)
    assert line == (f"predict: RRD with the reward network Reward gives shape {got}, wants (8, 1), one reward for each "
                    "step")


@each_shape
@pytest.mark.parametrize("bias_correction", [False, True])
def test_so_it_is_in_a_loop_of_ones_own_and_for_the_sub_sequences_alone(shape, bias_correction):
    agent = create_agent(Namespace(alg="rrd", obs_dims=O, acts_dims=A, device="cpu",
                                   rrd_bias_correction=bias_correction))
    agent.reward = Reward((O, A), shape)
    with pytest.raises(ConfigError, match=r"^predict: RRD with .* Reward gives shape .*, wants \(8, 1\), one reward"):
        agent.train(make_batch())
    wants = rf"wants \({N}, {K}, 1\), one reward for each step$"
    with pytest.raises(ConfigError, match=wants):
        agent.reward_loss(make_batch())
    with pytest.raises(ConfigError, match=wants):
        agent.predict_reward(*(make_batch()[f"rrd_{name}"] for name in ("obs", "acts", "obs_next")))


def test_a_subclass_whose_predict_gives_a_wrong_shape_is_one_line():
    @register_decomposition("mine", replay=SubsequenceReplay, **READS)
    class Squeezed(RRD):
        def predict(self, obs, acts, obs_next):
            return super().predict(obs, acts, obs_next).squeeze(-1)
    agent = create_agent(Namespace(alg="mine", obs_dims=O, acts_dims=A, device="cpu"))
    with pytest.raises(ConfigError, match=rf"^predict: Squeezed with .* MLPRewardNet gives shape \({B},\), wants"):
        agent.train(make_batch())


@pytest.mark.parametrize("basis", ["sac", "td3", "ddpg", "dqn"])
def test_a_basis_takes_no_rewards_of_another_shape(basis):
    agent = create_agent(Namespace(alg="rrd", basis_alg=basis, obs_dims=O, acts_dims=A, device="cpu"))
    batch = make_batch()
    if basis == "dqn":
        batch = {name: torch.zeros(value.shape[:-1], dtype=torch.int64) if name.endswith("acts") else value
                 for name, value in batch.items()}
    fields = agent.checked(batch, agent.q_spec())
    agent.add_noise(fields, agent.q_noise)
    with pytest.raises(ConfigError, match=rf"^batch\['rews'\]: a decomposition gives shape \({B},\), wants \({B}, 1\)"):
        agent.basis.q_loss(fields | {"rews": torch.ones(B)})


# Replays of other number types ------------------------------------------------------------------------------------

def averages(convert):
    """A replay that pays R/T, where `convert` makes what it likes of a batch."""
    class Averages(TransitionReplay):
        def sample(self, batch_size=None):
            rows = self.draw(batch_size)
            returns, lengths, _ = self.of_episode(rows)
            return convert(self.storage.read(rows) | {"rews": (returns / lengths)[:, None]})
    return Averages


def doubles(batch):
    return {name: value.double() for name, value in batch.items()}


PLAIN = averages(lambda batch: batch | {"rews": batch["rews"].float()})
TYPES = {"double rews": lambda batch: batch, "doubles": doubles,
         "arrays": lambda batch: {name: value.numpy() for name, value in doubles(batch).items()},
         "bool done": lambda batch: batch | {"done": batch["done"].bool()},
         "a text": lambda batch: batch | {"note": "paid R/T"}}


def learned(replay, engine) -> dict:
    """What the first of two agents has become after five updates."""
    register_decomposition("mine", replay=replay)(lambda config, basis: basis)
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
def test_a_replay_of_ones_own_may_give_any_number_type(engine, convert, no_graphs):
    engine = {"manual": ManualEngine, "eager": Engine, "stacked": StackedEngine, "captured": no_graphs}[engine]
    torch.testing.assert_close(learned(averages(convert), engine), learned(PLAIN, engine), rtol=0, atol=0)
