"""An agent over a decomposition equals its basis except for rewards: overrides of a basis take effect."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from agents import A, O, make_agent, make_batch, parameters
from replays import build, store

from algorithm import register_algorithm
from algorithm.basis_alg.sac_torch import SAC
from algorithm.basis_alg.td3_torch import TD3
from algorithm.decomposition.networks import MLPRewardNet
from algorithm.engine import create_engine
from utils.errors import ConfigError

pytestmark = pytest.mark.usefixtures("forget")
SCALE = 4.0              # division by it is exact


def scaled(name, value):
    return value / SCALE if name.endswith(("obs", "obs_next")) else value


class Prepares(SAC):
    def prepare(self, name, value):
        return scaled(name, super().prepare(name, value))


class Checks(SAC):
    def checked(self, batch, spec):
        return {name: scaled(name, value) for name, value in super().checked(batch, spec).items()}


class Normalizes(SAC):
    def normalize(self, obs):
        return super().normalize(obs) / SCALE


class Acts(SAC):
    def act(self, obs, explore):
        return 0 * super().act(obs, explore) + 0.5

    def evaluate_step(self, obs):
        return {name: 0 * value for name, value in super().evaluate_step(obs).items()}


class Draws(SAC):
    def draw_noise(self, rows):
        return 0 * super().draw_noise(rows)


class Loses(SAC):
    def losses(self, batch, policy):
        loss, info = super().losses(batch, policy)
        return 0 * loss, info


class Follows(TD3):
    def target_update(self):
        for _, target in self.target_pairs():
            for parameter in target.parameters():
                parameter.data.zero_()


class Waits(TD3):
    def train_pi(self, batch):
        raise RuntimeError("the basis' own")


def over(kind: type, **settings):
    """RRD over a basis of this class, and over one of the parent class."""
    register_algorithm("mine", like=kind.__bases__[0].__name__.lower())(kind)
    return (make_agent("rrd", "mine", **settings), make_agent("rrd", kind.__bases__[0].__name__.lower(), **settings))


@pytest.mark.parametrize("kind", [Prepares, Checks, Normalizes])
def test_a_basis_that_prepares_observations_takes_effect(kind):
    """With observations four times as large, all networks compute the same as in the plain basis."""
    mine, plain = over(kind)
    batch = make_batch()
    large = {name: value * SCALE if name.endswith(("obs", "obs_next")) else value for name, value in batch.items()}
    for _ in range(3):
        torch.testing.assert_close(mine.train(large), plain.train(batch))
    theirs = parameters(plain)
    for name, tensor in parameters(mine).items():
        torch.testing.assert_close(tensor, theirs[name])


@pytest.mark.parametrize("kind", [Prepares, Normalizes])
def test_a_basis_that_prepares_observations_takes_effect_in_rewards(kind):
    mine, plain = over(kind)
    batch = make_batch()
    torch.testing.assert_close(mine.rewards(batch["obs"] * SCALE, batch["acts"], batch["obs_next"] * SCALE),
                               plain.rewards(batch["obs"], batch["acts"], batch["obs_next"]))
    episode = {name: batch[name] for name in ("obs", "acts", "obs_next", "rews")}
    torch.testing.assert_close(mine.redistribute(episode | {"obs": batch["obs"] * SCALE,
                                                            "obs_next": batch["obs_next"] * SCALE}),
                               plain.redistribute(episode))


def test_methods_that_are_patched_on_one_basis_take_effect():
    agent, plain = make_agent("rrd", "sac"), make_agent("rrd", "sac")
    agent.basis.normalize = lambda obs: obs / SCALE
    obs, acts = torch.randn(4, O), torch.rand(4, A)
    torch.testing.assert_close(agent.rewards(obs * SCALE, acts, obs), plain.rewards(obs, acts, obs / SCALE))
    torch.testing.assert_close(agent.step(np.ones(O)), plain.step(np.ones(O) / SCALE))


def test_a_basis_that_acts_differently_takes_effect():
    mine, _ = over(Acts)
    action, info = mine.step(np.zeros((3, O)), explore=True, test_info=True)
    np.testing.assert_array_equal(action, np.full((3, A), 0.5))
    assert not info["Q_average"].any()


def test_a_basis_that_draws_other_noise_takes_effect():
    mine, plain = over(Draws)
    batch = make_batch()
    silent = batch | {name: torch.zeros_like(batch[name]) for name in ("pi_noise", "pi_next_noise")}
    bare = {name: value for name, value in batch.items() if not name.endswith("noise")}
    torch.testing.assert_close(mine.train(bare), plain.train(silent))


def test_a_basis_with_other_losses_takes_effect_and_the_reward_still_learns():
    mine, plain = over(Loses)
    before = parameters(mine)
    mine.train(make_batch())
    plain.train(make_batch())
    after, theirs = parameters(mine), parameters(plain)
    for name in before:
        if name.startswith("nets.rrd"):
            torch.testing.assert_close(after[name], theirs[name], rtol=0, atol=0)
        elif name.startswith("nets.main"):
            torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)


def test_a_basis_with_other_targets_and_policy_updates_takes_effect():
    mine, _ = over(Follows)
    mine.target_update()
    assert not any(parameter.any() for parameter in mine.nets["target"].parameters())
    mine, _ = over(Waits)
    with pytest.raises(RuntimeError, match="the basis' own"):
        mine.train_pi(make_batch())


@pytest.mark.parametrize("alg", ["rrd", "ircr", "uniform"])
@pytest.mark.parametrize("kind", [Prepares, Checks, Normalizes])
def test_a_changed_basis_is_not_computed_by_hand(alg, kind):
    register_algorithm("mine")(kind)
    agent = make_agent(alg, "mine")
    engine, why = create_engine(agent.config, agent, build(alg))
    assert (engine.name, why) == ("eager", f"no gradients are written by hand for {kind.__name__}")


def test_a_basis_with_its_own_check_is_not_captured(no_graphs):
    register_algorithm("mine")(Checks)
    agent = make_agent("rrd", "mine", rrd_sample_size=4, rrd_batch_size=8)
    with pytest.raises(ConfigError, match="engine: got 'cudagraph', but Decomposed has its own checked"):
        no_graphs(agent, build("rrd", K=4))


@pytest.mark.parametrize("alg", ["ircr", "uniform"])
def test_a_decomposition_that_learns_nothing_does_not_change_the_basis(alg):
    """State, metrics and fields of a batch; `rews` are the replay's."""
    for basis in ("sac", "td3", "ddpg"):
        mine, plain = make_agent(alg, basis), make_agent(basis, **{"polyak": 0.999} if alg == "ircr" else {})
        assert (mine.train_info, mine.q_spec()) == (plain.train_info, plain.q_spec())
        for _ in range(3):
            assert mine.train(make_batch()) == plain.train(make_batch())
            mine.target_update(), plain.target_update()
        torch.testing.assert_close(parameters(mine), parameters(plain), rtol=0, atol=0)


def test_nothing_is_copied_of_the_basis():
    agent = make_agent("rrd", "td3")
    assert set(vars(agent)) == {"basis", "decomposition"}
    agent.basis.counters, agent.basis.policy_batch = {"updates": 7}, False
    assert (agent.updates, agent.policy_batch) == (7, False)
    agent.counters = {"updates": 8}
    assert agent.basis.updates == 8


def test_weights_are_drawn_after_those_of_the_basis_and_have_the_originals_name():
    agent = make_agent("rrd", "sac", seed=3)
    generator = make_agent("sac", seed=3).weights_generator
    torch.testing.assert_close(agent.nets.state_dict()["rrd.r_dense1.weight"],
                               MLPRewardNet(O, A, generator).r_dense1.weight.detach(), rtol=0, atol=0)
    assert "rrd/net/r_dense1/kernel" in agent.tf_variables()


def test_a_batch_drawn_from_the_replay_trains_it():
    for alg in ("rrd", "ircr", "uniform"):
        replay = build(alg, K=4, obs_dim=O, act_dim=A, batch_size=8)
        for one in store(build(alg), [5, 9], [1.0, 2.0]).values():
            wide = np.float32(np.random.default_rng(0).normal(size=(len(one["rews"]), O)))
            replay.store_episode(one | {"obs": wide, "obs_next": wide})
        agent = make_agent(alg, "sac")
        assert set(agent.update(replay.sample)) == set(agent.train_info)
