"""When policy and targets are due, the roles of groups of parameters, and the step counts of optimisers."""

from __future__ import annotations

import math
from argparse import Namespace

import pytest
from engines import build

from algorithm import create_agent, register_algorithm
from algorithm.basis_alg.sac_torch import SAC
from algorithm.engine import Engine
from algorithm.engine.by_hand.engine import ManualEngine
from algorithm.schedule import Schedule, is_policys
from utils.optimizers import TFAdam

CUDA = pytest.param("cuda", marks=pytest.mark.cuda)


def test_the_updates_in_which_policy_and_targets_are_due():
    schedule = Schedule(pi_delay_freq=3, train_target=2)
    assert [n for n in range(1, 10) if schedule.policy_due(n)] == [3, 6, 9]
    assert [n for n in range(1, 10) if schedule.targets_due(n)] == [2, 4, 6, 8]
    assert not any(Schedule(math.inf, 1).policy_due(n) for n in range(1, 10))


@pytest.mark.parametrize(("pair", "expected"), [
    (("td3", None), (2, 2)), (("rrd", "td3"), (2, 2)), (("rrd", "sac"), (1, 2)), (("dqn", None), (math.inf, 2)),
], ids=str)
def test_the_schedule_of_an_agent(pair, expected):
    agent = create_agent(Namespace(alg=pair[0], basis_alg=pair[1], obs_dims=4, acts_dims=2, device="cpu",
                                   train_target=2))
    assert Schedule.of(agent) == expected


def test_groups_of_parameters_name_their_role():
    agent, _ = build("rrd", "sac")
    roles = {group["name"]: group["role"] for _, group in agent.groups()}
    assert roles == {"policy": "policy", "critic": "critic", "alpha": "policy", "reward": "reward"}
    assert [group["name"] for _, group in agent.groups() if is_policys(group)] == ["policy", "alpha"]
    assert not is_policys({"name": "policy"})           # the name alone has no meaning


# Counts of optimisers -------------------------------------------------------------------------------------------

class Delayed(SAC):
    """A SAC whose policy learns in each third update, by an optimiser of its own with an unusual name."""

    pi_delay_freq = 3

    def __init__(self, config):
        super().__init__(config)
        self.opts = [TFAdam([dict(name="value", params=self.critics.parameters(), lr=config.q_lr)]),
                     TFAdam([dict(name="actor", params=self.policy.parameters(), lr=config.pi_lr)])]


def delayed(device: str):
    register_algorithm("delayed", train_target=2, pi_lr=1e-3, q_lr=1e-3, alpha_lr=0.0, alpha_init=1.0, polyak=0.9,
                       obs_normalization=False, train_batches=1)(Delayed)
    args = Namespace(alg="delayed", obs_dims=11, acts_dims=3, device=device, buffer_size=500, batch_size=16, seed=3)
    return create_agent(args), build("sac", None, device=device)[1]


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("runs", [(7,), (2, 5), (3, 1, 3)], ids=str)
def test_a_captured_engine_counts_the_steps_that_were_taken(device, runs, request):
    """A user's agent is computed by autograd: its delayed group has another name than "policy", and no role."""
    from algorithm.engine.captured import CapturedEngine
    captured = CapturedEngine if device == "cuda" else request.getfixturevalue("no_graphs")
    counts = []
    for kind in (Engine, captured):
        agent, buffer = delayed(device)
        engine = kind(agent, buffer)
        for updates in runs:
            engine.run(updates)
        counts.append({group["name"]: group["t"] for _, group in agent.groups()})
    assert counts[0] == {"value": 7, "actor": 2}
    assert counts[1] == counts[0]
    assert all(type(count) is int for count in counts[1].values())


@pytest.mark.parametrize("kind", [ManualEngine, None])
@pytest.mark.parametrize(("pair", "settings", "counts"), [
    (("rrd", "td3"), dict(pi_delay_freq=3), {"policy": 2, "critic": 7, "reward": 7}),
    (("rrd", "sac"), {}, {"policy": 7, "critic": 7, "alpha": 7, "reward": 7}),
], ids=str)
def test_the_step_counts_of_optimisers_by_hand(kind, pair, settings, counts, no_graphs):
    agent, buffer = build(*pair, **settings)
    engine = (kind or no_graphs)(agent, buffer)
    engine.run(4)
    engine.run(3)
    assert {group["name"]: group["t"] for _, group in agent.groups()} == counts
    assert agent.updates == 7
