"""How engines compute the updates of a user's own agents and decompositions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engines import SAME, build_buffer, float64
from extending import RRD_READS, ByReplay, args, filled

import algorithm.engine
from algorithm import create_agent, register_algorithm, register_decomposition
from algorithm.basis_alg.sac_torch import SAC
from algorithm.basis_alg.td3_torch import TD3
from algorithm.decomposition.networks import MLPRewardNet
from algorithm.decomposition.rrd import RRD
from algorithm.engine import create_engine
from algorithm.replay_buffer import create_buffer
from algorithm.replay_buffer.subsequence import SubsequenceReplay
from algorithm.replay_buffer.transition import TransitionReplay
from utils.errors import ConfigError

pytestmark = pytest.mark.usefixtures("forget")

class Doubled(RRD):
    """The paper's network, and twice its loss."""

    def loss(self, batch):
        loss, info = super().loss(batch)
        return 2 * loss, info


class Lazy(SAC):
    """A policy whose loss is 0."""

    def pi_loss(self, batch):
        loss, info = super().pi_loss(batch)
        return 0 * loss, info


class OtherReward(MLPRewardNet):
    def forward(self, obs, acts, obs_next):
        return -super().forward(obs, acts, obs_next)


def patched(config):
    basis = SAC(config) if config.basis_alg == "patched" else TD3(config)
    plain = basis.pi_loss

    def lazy(batch):
        loss, info = plain(batch)
        return 0 * loss, info
    basis.pi_loss = lazy
    return basis


def other_policy(config):
    basis = SAC(config)
    basis.policy = type("Other", (type(basis.policy),), {})(5, 2, basis.weights_generator)
    basis.nets["main"]["policy"] = basis.policy
    basis.opts = [basis.make_optimizer(basis.policy, basis.critics)]
    return basis


class OwnPay(ByReplay):
    """Pays by itself, so that the field `rews` of a batch differs from its payments."""

    def pay(self, batch):
        return 2 * batch["rews"]


def register_all() -> None:
    register_algorithm("lazy")(Lazy)
    register_algorithm("patched")(patched)
    register_algorithm("patched_td3", like="td3")(patched)
    register_algorithm("other_policy")(other_policy)
    register_decomposition("doubled", replay=SubsequenceReplay, **RRD_READS)(Doubled)
    register_decomposition("other_reward", replay=SubsequenceReplay, **RRD_READS)(
        lambda config, generator: RRD(config, generator, OtherReward(5, 2, generator)))
    register_decomposition("own_pay")(OwnPay)


OTHERS = [("lazy", None), ("doubled", "sac"), ("doubled", "td3"), ("other_reward", "sac"),
          ("uniform", "patched"), ("uniform", "patched_td3"), ("uniform", "other_policy"), ("rrd", "lazy"),
          ("uniform", "lazy"), ("own_pay", "sac")]


@pytest.mark.parametrize(("alg", "basis"), OTHERS, ids=str)
def test_parts_of_a_users_own_are_not_computed_by_hand(alg, basis):
    register_all()
    given = args(alg, basis_alg=basis)
    agent, replay = create_agent(given), filled(create_buffer(given))
    engine, why = create_engine(agent.config, agent, replay)
    assert engine.name == "eager"
    assert why.startswith("no gradients are written by hand for ")
    for precision in ("fp32", "bf16"):
        with pytest.raises(ConfigError, match="engine: got 'manual'"):
            create_engine(create_agent(args(alg, basis_alg=basis, engine="manual", precision=precision)).config,
                          agent, replay)


def test_a_subclass_that_changes_nothing_learns_what_rrd_learns():
    """RRD by hand equals its subclass by autograd; another loss gives another result."""
    register_all()
    register_decomposition("same", replay=SubsequenceReplay, **RRD_READS)(type("Same", (RRD,), {}))
    learned = {}
    for alg in ("rrd", "same", "doubled"):
        given = args(alg, basis_alg="sac", rrd_batch_size=8, rrd_sample_size=4)
        with float64():                     # its docstring explains why
            agent, replay = create_agent(given), filled(build_buffer(given))
            create_engine(agent.config, agent, replay)[0].run(5)
        learned[alg] = agent.decomposition.reward.r.weight
    torch.testing.assert_close(learned["rrd"], learned["same"], rtol=SAME, atol=SAME)
    # Adam divides by the size of the gradient, so that only its epsilon distinguishes a loss from twice the loss.
    assert not torch.equal(learned["same"], learned["doubled"])


@pytest.mark.parametrize(("alg", "basis"), OTHERS, ids=str)
def test_the_captured_loss_is_the_users(alg, basis, no_graphs):
    """The CUDA engine's computation, on the CPU, equals that of autograd, with an actor of the same settings."""
    register_all()
    if basis in ("patched_td3", "td3"):
        pytest.skip("a policy with a batch of its own is captured by hand only")
    learned = []
    for kind in (None, no_graphs):
        given = args(alg, basis_alg=basis, hidden=3)
        agent, replay = create_agent(given), filled(create_buffer(given))
        engine = kind(agent, replay) if kind else create_engine(agent.config, agent, replay)[0]
        engine.run(3)
        engine.actor.step(np.zeros(5, np.float32))
        learned.append(agent.state_dict())
    for name, tensor in learned[0].items():
        torch.testing.assert_close(learned[1][name], tensor, msg=name)


@pytest.mark.parametrize(("alg", "basis"), [("sac", None), ("rrd", "td3"), ("uniform", "sac"), ("recency", "sac"),
                                            *OTHERS], ids=str)
def test_auto_captures_only_parts_of_the_package(alg, basis):
    """Agent and replay claim to be on a GPU; nothing is computed."""
    register_all()
    register_decomposition("recency", replay=type("Recency", (TransitionReplay,), {}))(ByReplay)
    agent, replay = create_agent(args(alg, basis_alg=basis)), create_buffer(args(alg, basis_alg=basis))
    agent.device = replay.device = torch.device("cuda")
    name, _ = algorithm.engine._fastest(agent, replay)
    assert name == {"sac": "cudagraph", "recency": "manual"}.get(alg, "eager" if (alg, basis) in OTHERS
                                                                 else "cudagraph")


def test_a_users_update_is_not_captured(no_graphs):
    class Twice(SAC):
        def update(self, sample):
            super().update(sample)
            return super().update(sample)
    register_algorithm("twice")(Twice)
    agent, replay = create_agent(args("twice")), filled(create_buffer(args("twice")))
    with pytest.raises(ConfigError, match="engine: got 'cudagraph', but Twice has its own update, which is not"):
        no_graphs(agent, replay)
