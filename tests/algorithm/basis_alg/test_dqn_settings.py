"""DQN's settings and optimisers."""

from __future__ import annotations

import math
from argparse import Namespace

import numpy as np
import pytest
import torch
from agents import O, parameters
from dqn_agents import IMAGE, OVER, A, each_agent, each_kind, make, make_batch

from algorithm import create_agent
from utils.errors import ConfigError
from utils.optimizers import TFAdam, TFRMSProp
from utils.settings.resolve import resolve

COMMON = {"batch_size": 32, "train_batches": 25, "train_target": 8000, "eps_l": 1.0, "eps_r": 0.01,
          "eps_decay": 250_000, "double": False, "dueling": False, "obs_normalization": False, "buffer_size": 1_000_000}
ADAM = {"optimizer": "adam", "q_lr": 0.625e-4, "Adam_eps": 1.5e-4, "RMSProp_decay": None, "RMSProp_eps": None}
RMSPROP = {"optimizer": "rmsprop", "q_lr": 2.5e-4, "Adam_eps": None, "RMSProp_decay": 0.95, "RMSProp_eps": 1e-2}
OVER_IT = {"dqn": {"basis_alg": None, "r_lr": None}, "ircr": {"basis_alg": "dqn", "r_lr": None, "polyak": None},
           "rrd": {"basis_alg": "dqn", "r_lr": 3e-4, "rrd_batch_size": 32, "rrd_sample_size": 32,
                   "rrd_bias_correction": False}}


@pytest.mark.parametrize(("optimizer", "expected"), [(None, ADAM), ("adam", ADAM), ("rmsprop", RMSPROP)])
@each_agent
def test_defaults_are_the_originals_for_each_optimiser(alg, basis, optimizer, expected):
    expected = COMMON | expected | OVER_IT[alg]
    resolved = resolve({"alg": alg, "basis_alg": basis, "optimizer": optimizer})
    built = make(alg, basis, optimizer=optimizer).config
    for config in (resolved, built):
        assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(("optimizer", "name"), [("adam", "RMSProp_eps"), (None, "RMSProp_decay"),
                                                 ("rmsprop", "Adam_eps")])
@each_agent
def test_the_other_optimisers_settings_are_refused_on_the_command_line_and_not_read_from_an_object(
        alg, basis, optimizer, name):
    with pytest.raises(ConfigError, match=f"^{name}: not a setting of .*belongs to dqn with --optimizer="):
        resolve({"alg": alg, "basis_alg": basis, "optimizer": optimizer, name: 0.5})
    agent = make(alg, basis, optimizer=optimizer, **{name: "junk"})
    assert agent.config == make(alg, basis, optimizer=optimizer).config


@pytest.mark.parametrize("given", [{"q_lr": 0.5}, {"optimizer": "rmsprop", "RMSProp_decay": 0.5},
                                   {"Adam_eps": 0.5}, {"eps_decay": 7, "double": True}], ids=str)
def test_a_given_setting_wins_over_its_default(given):
    config = make(**given).config
    assert {name: getattr(config, name) for name in given} == given


@pytest.mark.parametrize("alg", ["rrd", "ircr"])
def test_settings_of_the_optimiser_are_read_where_dqn_is_the_basis_by_default(alg):
    """DQN is the default basis for games."""
    given = {"optimizer": "rmsprop", "RMSProp_eps": 0.5, "RMSProp_decay": 0.25}
    config = make(alg, env="Assault", obs_dims=IMAGE, **given).config
    assert config.basis_alg == "dqn"
    assert {name: getattr(config, name) for name in given} == given


@pytest.mark.parametrize("wrong", [{"optimizer": "sgd"}, {"optimizer": 3}, {"eps_l": 1.5}, {"eps_r": -0.1},
                                   {"eps_decay": 0}, {"double": "maybe"}, {"Adam_eps": 0}, {"q_lr": 0}], ids=str)
@each_agent
def test_a_wrong_setting_is_named(alg, basis, wrong):
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))}: got .*expected"):
        make(alg, basis, **wrong)


@pytest.mark.parametrize("left_over", [{}, {"basis_alg": "dqn"}, {"env": "dqn"}], ids=str)
@pytest.mark.parametrize("alg", ["sac", "td3", "ddpg"])
def test_other_algorithms_ignore_a_users_optimizer_attribute(alg, left_over):
    agent = create_agent(Namespace(alg=alg, obs_dims=O, acts_dims=A, device="cpu", optimizer=object(), **left_over))
    assert agent.config.optimizer is None


@pytest.mark.parametrize(("alg", "basis"), [("sac", None), ("td3", None), ("ddpg", None), ("rrd", "sac"),
                                            ("ircr", "td3"), ("sac", "dqn")])
def test_images_are_refused_where_no_network_takes_them(alg, basis):
    with pytest.raises(ConfigError, match=r"^obs_dims: got \(84, 84, 4\), expected the width of a vector") as caught:
        make(alg, basis, obs_dims=(84, 84, 4))
    assert "image" not in str(caught.value)


@pytest.mark.parametrize("dims", [(84, 84), (84, 84, 0), (84, 84, 4, 1), (84.0, 84, 4), (True, 84, 4)], ids=str)
@each_agent
def test_sizes_that_are_neither_a_vectors_nor_an_images_are_refused(alg, basis, dims):
    with pytest.raises(ConfigError, match=r"^obs_dims: got .*expected the width .*\(height, width, channels\)"):
        make(alg, basis, obs_dims=dims)


# Optimisers ---------------------------------------------------------------------------------------------------------

def gradients_of_all_sizes(count: int, seed: int = 0) -> np.ndarray:
    """Far below the epsilons, around them, and far above, with a zero among them."""
    scales = np.array([1e-6, 1e-4, 1e-2, 1.0, 100.0, 0.0])
    return (np.random.default_rng(seed).standard_normal((count, 6)) * scales).astype(np.float32)


def descend(optimizer, parameter, gradients) -> np.ndarray:
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return parameter.detach().numpy()


@pytest.mark.parametrize(("decay", "eps"), [(0.95, 1e-2), (0.9, 1e-10), (0.0, 1e-2)])
def test_rmsprop_starts_its_mean_square_at_1_and_has_epsilon_inside_the_root(decay, eps):
    parameter, gradients = torch.nn.Parameter(torch.zeros(6)), gradients_of_all_sizes(30)
    optimizer = TFRMSProp([dict(name="x", params=[parameter], lr=2.5e-4)], decay, eps)
    x, mean_square = np.zeros(6), np.ones(6)
    for gradient in gradients.astype(np.float64):
        mean_square = decay * mean_square + (1 - decay) * gradient**2
        x -= 2.5e-4 * gradient / np.sqrt(mean_square + eps)
    np.testing.assert_allclose(descend(optimizer, parameter, gradients), x, rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(optimizer.state[parameter]["square_avg"], mean_square, rtol=1e-4)


def test_rmsprops_first_step_by_hand():
    """g = 2: the mean square is 0.95 + 0.05 * 4 = 1.15, the step 0.1 * 2 / sqrt(1.15 + 0.01)."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    moved = descend(TFRMSProp([dict(name="x", params=[parameter], lr=0.1)], 0.95, 1e-2), parameter, [np.float32([2])])
    assert float(moved[0]) == pytest.approx(-0.1856953, rel=1e-6)


def test_adam_with_dqns_epsilon_adds_it_before_the_bias_correction():
    parameter, gradients = torch.nn.Parameter(torch.zeros(6)), gradients_of_all_sizes(30)
    optimizer = TFAdam([dict(name="x", params=[parameter], lr=0.625e-4, eps=1.5e-4)])
    x, m, v = np.zeros(6), np.zeros(6), np.zeros(6)
    for t, gradient in enumerate(gradients.astype(np.float64), start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        x -= 0.625e-4 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1.5e-4)
    np.testing.assert_allclose(descend(optimizer, parameter, gradients), x, rtol=1e-4, atol=1e-12)


def test_adams_first_step_by_hand():
    """g = 1e-2: m = 1e-3, sqrt(v) = 1e-2 sqrt(0.001) = 3.1623e-4, so epsilon takes a third of the step away."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = TFAdam([dict(name="x", params=[parameter], lr=1.0, eps=1.5e-4)])
    moved = descend(optimizer, parameter, [np.float32([1e-2])])
    assert float(moved[0]) == pytest.approx(-math.sqrt(0.001) / 0.1 * 1e-3 / (3.16227766e-4 + 1.5e-4), rel=1e-5)
    assert float(moved[0]) == pytest.approx(-0.67826, rel=1e-4)


def test_rmsprop_skips_a_group_without_gradients():
    first, second = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = TFRMSProp([dict(name=name, params=[x], lr=0.1) for name, x in (("a", first), ("b", second))], 0.5, 1e-2)
    descend(optimizer, first, [np.ones(1, np.float32)])
    assert float(second.detach()) == float(optimizer.state[second]["square_avg"]) == 1.0
    assert [group["t"] for group in optimizer.param_groups] == [1, 0]


def first_step(gradient: np.ndarray, optimizer: str, lr: float, eps: float) -> np.ndarray:
    if optimizer == "rmsprop":
        return lr * gradient / np.sqrt(0.95 + 0.05 * gradient**2 + eps)
    return lr * math.sqrt(0.001) / 0.1 * 0.1 * gradient / (math.sqrt(0.001) * np.abs(gradient) + eps)


@pytest.mark.parametrize(("optimizer", "lr", "eps"), [("adam", 0.625e-4, 1.5e-4), ("rmsprop", 2.5e-4, 1e-2)])
@each_kind
def test_the_chosen_optimiser_moves_the_q_network_and_adam_the_reward_network(dims, optimizer, lr, eps):
    agent = make("rrd", "dqn", obs_dims=dims, optimizer=optimizer)
    assert [type(opt) for opt in agent.opts] == [TFRMSProp if optimizer == "rmsprop" else TFAdam, TFAdam]
    before = parameters(agent)
    agent.train(make_batch(dims=dims))
    for scope, how in (("main.value", (optimizer, lr, eps)), ("rrd", ("adam", 3e-4, 1e-8))):
        found = [(name, value) for name, value in agent.nets.named_parameters() if name.startswith(scope)]
        assert len(found) == (6 if dims == (O,) else 10)
        for name, value in found:
            moved = (before[f"nets.{name}"] - value.detach()).double().numpy()
            expected = first_step(value.grad.double().numpy(), *how)
            np.testing.assert_allclose(moved, expected, rtol=1e-3, atol=2e-8, err_msg=name)


def test_every_trained_parameter_is_in_exactly_one_optimiser():
    for alg, basis in OVER:
        for optimizer in ("adam", "rmsprop"):
            agent = make(alg, basis, optimizer=optimizer)
            trained = [parameter for _, group in agent.groups() for parameter in group["params"]]
            wanted = [value for name, value in agent.nets.named_parameters() if not name.startswith("target.")]
            assert len(trained) == len({id(x) for x in trained}) == len(wanted)
            assert {id(x) for x in trained} == {id(x) for x in wanted}
