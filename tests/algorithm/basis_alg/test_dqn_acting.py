"""Acting by DQN: the scale of observations, greedy actions, and exploration by epsilon."""

from __future__ import annotations

import math
from argparse import Namespace

import numpy as np
import pytest
import torch
from agents import B, O, parameters
from dqn_agents import IMAGE, A, assert_unchanged, each_agent, each_kind, make, make_batch, set_constant, value_of
from runs import SMALL, run

from algorithm import create_agent


@each_kind
@each_agent
def test_step_divides_pixels_by_255_and_a_batch_holds_them_divided(alg, basis, dims):
    agent = make(alg, basis, obs_dims=dims, obs_scale=255 if dims == (O,) else None)
    g = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (64, *dims), dtype=torch.uint8, generator=g)
    for layer in value_of(agent).modules():                     # without biases the scale would not change the action
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)):
            torch.nn.init.normal_(layer.bias, generator=g)
    acts, info = agent.step(pixels.numpy(), test_info=True)
    with torch.no_grad():
        q, undivided = value_of(agent)(pixels.float() / 255), value_of(agent)(pixels.float())
    torch.testing.assert_close(info["Q_average"], q.amax(1))
    assert acts.tolist() == q.argmax(1).tolist() != undivided.argmax(1).tolist()


@each_kind
def test_another_obs_scale_replaces_the_default(dims):
    agent, obs = make(obs_scale=2.0, obs_dims=dims), make_batch(dims=dims)["obs"]
    with torch.no_grad():
        average = agent.step(2 * obs.numpy(), test_info=True)[1]["Q_average"]
        torch.testing.assert_close(average, agent.value(obs).amax(1))


@each_agent
def test_step_chooses_the_greatest_value_that_train_fits_to_vectors(alg, basis):
    agent = make(alg, basis, gamma=0.0, q_lr=3e-3)
    batches = [make_batch(seed) for seed in range(20)]
    for batch in batches:
        agent.train(batch)
    obs = torch.cat([3 * batch["obs"] for batch in batches])
    with torch.no_grad():
        fitted, shrunk = agent.nets["main"]["value"](obs), agent.nets["main"]["value"](obs / 255)
    assert agent.step(obs.numpy()).tolist() == fitted.argmax(1).tolist() != shrunk.argmax(1).tolist()


def test_a_checkpoint_of_a_run_on_vectors_loads_in_a_users_loop():
    done = run("--alg=dqn", "--env=CartPole-v1", *SMALL)
    agent = create_agent(Namespace(alg="dqn", obs_dims=4, acts_dims=2, device="cpu"))
    agent.load_model(done.directory / "checkpoints" / "last.safetensors")
    torch.testing.assert_close(agent.state_dict(), done.tensors(), rtol=0, atol=0)


def test_pixels_in_a_batch_may_be_bytes_which_are_divided_by_255():
    agent, twin = (make("rrd", "dqn", obs_dims=IMAGE, obs_normalization=True) for _ in range(2))
    pixels = {name: (100 * value.abs()).clamp(0, 255).byte() for name, value in make_batch(dims=IMAGE).items()
              if name.endswith(("obs", "obs_next"))}
    for one, convert in ((agent, lambda x: x.numpy()), (twin, lambda x: x.float() / 255)):
        batch = make_batch(dims=IMAGE) | {name: convert(value) for name, value in pixels.items()}
        one.normalizer_update(batch)
        one.train(batch)
    assert_unchanged(twin, parameters(agent))


def test_the_normaliser_sees_observations_as_a_batch_holds_them():
    agent, batch = make(obs_normalization=True), make_batch()
    agent.normalizer_update(batch)
    _, info = agent.step(batch["obs"].numpy(), test_info=True)
    with torch.no_grad():
        expected = agent.value(agent.normalizer.normalize(batch["obs"])).amax(1)
    torch.testing.assert_close(info["Q_average"], expected, rtol=1e-4, atol=1e-6)


def test_one_observation_gives_an_int_and_several_give_an_array():
    agent, obs = make(), make_batch()["obs"].numpy()
    for explore in (False, True):
        assert type(agent.step(obs[0], explore)) is int
        acts = agent.step(obs, explore)
        assert (acts.shape, acts.dtype) == ((B,), np.int64)
    assert agent.step(obs).tolist() == [agent.step(one) for one in obs]
    assert agent.step(obs[0], test_info=True)[1]["Q_average"].shape == ()
    assert agent.step(obs, test_info=True)[1]["Q_average"].shape == (B,)


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("test_info", [False, True])
def test_no_observations_give_no_actions(explore, test_info):
    result = make().step(np.zeros((0, O)), explore, test_info)
    assert (result[0] if test_info else result).shape == (0,)


def test_the_metrics_of_an_exploring_step_are_those_of_the_greedy_action():
    agent, obs = make(eps_l=1.0), make_batch()["obs"].numpy()
    torch.testing.assert_close(agent.step(obs, True, True)[1], agent.step(obs, False, True)[1])


def favour(agent, action: int) -> None:
    """Make this the greedy action for any observation."""
    set_constant(value_of(agent).q, [float(i == action) for i in range(A)])


def random_share(acts: np.ndarray) -> tuple[float, float]:
    """The shares of actions 1 and 2 where 0 is the greedy one."""
    return float((acts == 1).mean()), float((acts == 2).mean())


@each_agent
def test_epsilon_is_among_the_metrics_of_exploring(alg, basis):
    agent = make(alg, basis, eps_l=0.75)
    assert agent.explore_metrics() == {"Epsilon": 0.75}
    assert agent.explore_info == ("Epsilon",)


@each_agent
def test_epsilon_falls_linearly_from_the_first_exploring_step_and_then_stays(alg, basis):
    agent = make(alg, basis, warmup=0, eps_l=0.9, eps_r=0.1, eps_decay=8)
    basis_agent, seen = getattr(agent, "basis", agent), []
    for _ in range(12):
        seen.append(basis_agent.epsilon)
        agent.step(np.zeros(O), explore=True)
    assert seen == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1])


def test_random_steps_of_the_warmup_count_for_epsilon_too():
    agent = make(warmup=10, eps_l=1.0, eps_r=0.0, eps_decay=20)
    for _ in range(10):
        agent.step(np.zeros(O), explore=True)
    assert agent.epsilon == pytest.approx(0.5)


def test_epsilon_may_also_rise_or_stay_constant():
    agent = make(warmup=0, eps_l=0.0, eps_r=1.0, eps_decay=4)
    agent.step(np.zeros((2, O)), explore=True)
    assert agent.epsilon == pytest.approx(0.5)
    assert make(eps_l=0.3, eps_r=0.3).epsilon == pytest.approx(0.3)


def test_the_first_warmup_exploring_steps_are_random_whatever_epsilon():
    agent = make(warmup=300, eps_l=0.0, eps_r=0.0)
    favour(agent, 0)
    warm = np.array([agent.step(np.zeros(O), explore=True) for _ in range(300)])
    assert random_share(warm) == pytest.approx((1 / 3, 1 / 3), abs=5 * math.sqrt(2 / 9 / 300))
    assert [agent.step(np.zeros(O), explore=True) for _ in range(300)] == [0] * 300


def test_the_warmup_ends_on_time():
    """The third step may be any action, the fourth only the greedy one, whatever the seed."""
    acts = []
    for seed in range(20):
        agent = make(warmup=3, eps_l=0.0, eps_r=0.0, seed=seed)
        favour(agent, 0)
        acts.append([agent.step(np.zeros(O), explore=True) for _ in range(4)])
    *_, third, fourth = zip(*acts, strict=True)
    assert set(third) == {0, 1, 2}
    assert set(fourth) == {0}


def test_greedy_steps_do_not_count_and_draw_nothing():
    agent, obs = make(eps_l=1.0, warmup=5), np.zeros((3, O))
    drawn = agent.generator.get_state()
    for observation in (obs, obs[0]):
        agent.step(observation)
        agent.step(observation, test_info=True)
    assert agent.counters["steps"] == 0
    assert torch.equal(agent.generator.get_state(), drawn)
    agent.step(obs, explore=True)
    agent.step(obs[0], explore=True, test_info=True)
    assert agent.counters["steps"] == 4


@pytest.mark.parametrize("at_once", [1, 20, 20_000])
def test_the_share_of_random_actions_is_epsilon_and_all_actions_are_equally_likely(at_once):
    """0.3 of the actions are random; a third of those is the greedy one. Five standard deviations either way."""
    agent, count = make(warmup=0, eps_l=0.3, eps_r=0.3), max(4_000, at_once)
    favour(agent, 0)
    acts = np.concatenate([agent.step(np.zeros((at_once, O)), explore=True) for _ in range(count // at_once)])
    assert random_share(acts) == pytest.approx((0.1, 0.1), abs=5 * math.sqrt(0.1 * 0.9 / count))


@pytest.mark.parametrize(("epsilon", "share"), [(0.0, 0.0), (1.0, 1 / 3)])
def test_epsilon_0_is_greedy_and_1_is_random(epsilon, share):
    agent = make(warmup=0, eps_l=epsilon, eps_r=epsilon)
    favour(agent, 0)
    acts = agent.step(np.zeros((3_000, O)), explore=True)
    assert random_share(acts) == pytest.approx((share, share), abs=5 * math.sqrt(2 / 9 / 3_000) * (epsilon > 0))


def test_several_observations_explore_independently():
    agent, obs = make(warmup=0, eps_l=0.5, eps_r=0.5), np.zeros((64, O))
    favour(agent, 0)
    acts = agent.step(obs, explore=True)
    assert set(acts.tolist()) == {0, 1, 2}
    assert not np.array_equal(acts, agent.step(obs, explore=True))
    assert agent.counters["steps"] == 128


@each_agent
def test_the_same_seed_gives_the_same_actions_and_another_seed_others(alg, basis):
    def actions(seed: int) -> list[int]:
        agent = make(alg, basis, seed=seed, warmup=10, eps_l=0.9, eps_r=0.1, eps_decay=50)
        return [agent.step(np.full(O, float(i)), explore=True) for i in range(60)]
    assert actions(1) == actions(1) != actions(2)
