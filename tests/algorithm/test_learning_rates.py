"""Schedules of the learning rates against their formulas, the limit of gradients against PyTorch's."""

from __future__ import annotations

import math
from argparse import Namespace

import pytest
import torch
from agents import make_agent, make_batch
from runs import SMALL, run

from algorithm import create_agent
from algorithm.learning_rates import LRSchedule, run_updates
from utils.errors import ConfigError
from utils.optimizers import TFAdam, TFRMSProp, limit_norm
from utils.settings.resolve import resolve
from utils.settings.setting import SCHEDULES

T = 100


def schedule(kind: str, end: float = 0.0, warmup: float = 0.0) -> LRSchedule:
    return LRSchedule(kind, end, warmup, T)


# Schedules -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("kind", "end", "expected"), [
    ("linear", 0.0, {1: 1, 26: 0.75, 51: 0.5, 100: 0.01, 101: 0, 1000: 0}),
    ("linear", 0.2, {1: 1, 26: 0.8, 51: 0.6, 101: 0.2, 1000: 0.2}),
    ("cosine", 0.0, {1: 1, 26: (1 + math.sqrt(0.5)) / 2, 51: 0.5, 76: (1 - math.sqrt(0.5)) / 2, 101: 0, 1000: 0}),
    ("cosine", 0.5, {1: 1, 51: 0.75, 101: 0.5}),
    ("exponential", 0.01, {1: 1, 51: 0.1, 101: 0.01, 1000: 0.01}),
])
def test_schedules_by_hand(kind, end, expected):
    found = {t: schedule(kind, end)(t) for t in expected}
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("kind", "expected"), [
    ("linear", {1: 0.05, 10: 0.5, 20: 1, 21: 1, 61: 0.5, 101: 0}),
    ("cosine", {1: 0.05, 10: 0.5, 20: 1, 21: 1, 41: (1 + math.sqrt(0.5)) / 2, 61: 0.5, 101: 0})])
def test_a_warm_up_rises_to_the_initial_rate_and_the_rest_follows(kind, expected):
    assert {t: schedule(kind, 0.0, 0.2)(t) for t in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("warmup", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("kind", [kind for kind in SCHEDULES if kind != "constant"])
def test_a_count_on_the_device_gives_the_same_rates(kind, warmup):
    """The captured engine counts in a float64 tensor."""
    one = schedule(kind, 0.1, warmup)
    for t in (1, 2, 19, 20, 21, 60, 100, 101, 500):
        found = one(torch.tensor(float(t), dtype=torch.float64))
        assert isinstance(found, torch.Tensor)
        assert float(found) == pytest.approx(one(t), rel=1e-14)
        assert 0 <= one(t) <= 1


def test_adam_takes_the_rate_of_the_step():
    (first,), group = (torch.zeros(1),), dict(name="x", lr=0.5)
    plain = TFAdam([group | dict(params=[first])])
    other = TFAdam([group | dict(params=[torch.zeros(1)], schedule=schedule("linear"))])
    for t in (1, 26, 51):
        assert other.rate(other.param_groups[0], t) == pytest.approx(
            plain.rate(plain.param_groups[0], t) * (1 - (t - 1) / 100), rel=1e-12)


@pytest.mark.parametrize("of_tensors", [False, True])
def test_rmsprop_takes_the_rate_of_the_step(of_tensors):
    parameter, gradient = torch.ones(3), torch.tensor([1.0, -2.0, 3.0])
    opt = TFRMSProp([dict(name="x", lr=0.5, params=[parameter], schedule=schedule("linear"))], 0.9, 1e-2)
    (group,) = opt.param_groups
    t = torch.tensor(51.0, dtype=torch.float64) if of_tensors else 51
    rate = opt.rate(group, t)
    opt.step_group(group, {parameter: gradient}, rate.float() if of_tensors else rate)
    expected = 1 - 0.25 * gradient / (0.9 + 0.1 * gradient.square() + 1e-2).sqrt()
    torch.testing.assert_close(parameter, expected)


def test_the_updates_of_a_run_are_counted_from_warmup_on():
    def updates(**settings) -> int:
        return run_updates(resolve({"alg": "sac"} | settings))
    assert updates() == (3_000_000 - 9_900)                         # 100 updates after each 100 steps from 10 000 on
    assert updates(total_timesteps=20_000, warmup=0) == 20_000
    assert updates(total_timesteps=20_050, warmup=5_000, train_batches=1) == 152
    assert updates(total_timesteps=100) == 1                        # a run that learns nothing


def test_the_schedule_of_a_run_ends_where_the_run_does():
    """Pendulum's episodes are of one length, so learning begins when `warmup` steps are over."""
    flags = [flag for flag in SMALL if not flag.startswith(("--test_timesteps", "--total"))]
    found = run("--env=Pendulum-v1", "--alg=td3", *flags, "--test_timesteps=20", "--total_timesteps=200",
                "--lr_schedule=linear", "--test_rollouts=0", "--pi_delay_freq=2")
    config = resolve(found.config)
    assert (config.lr_end, config.lr_warmup) == (0.0, 0.0)
    counts = {name: int(tensor) for name, tensor in found.tensors().items() if name.endswith(".t")}
    assert counts == {"opt.critic.t": run_updates(config), "opt.policy.t": run_updates(config) // 2}


def test_each_group_has_its_own_number_of_steps():
    agent = make_agent("td3", lr_schedule="cosine", pi_delay_freq=3, total_timesteps=10_000, warmup=1000)
    steps = {group["name"]: group["schedule"].steps for _, group in agent.groups()}
    assert steps == {"policy": 9100 // 3, "critic": 9100}
    assert "lr_schedule" not in make_agent("td3").config.settings()
    assert all(group["schedule"] is None for _, group in make_agent("td3").groups())


@pytest.mark.parametrize(("alg", "basis"), [("sac", None), ("rrd", "sac"), ("rrd", "ddpg"), ("dqn", None)])
def test_every_group_follows_the_settings(alg, basis):
    agent = make_agent(alg, basis, lr_schedule="exponential", max_grad_norm=2.0)
    for _, group in agent.groups():
        assert group["schedule"](10**9) == 0.01
        assert group["max_grad_norm"] == (None if group["name"] == "alpha" else 2.0)


def test_after_the_last_step_of_a_schedule_that_ends_at_0_nothing_moves():
    agent = make_agent("rrd", "sac", lr_schedule="linear", total_timesteps=1, warmup=0, timesteps=1, train_batches=2)
    for _ in range(2):
        agent.train(make_batch())
    before = [parameter.clone() for _, group in agent.groups() for parameter in group["params"]]
    agent.train(make_batch(1))
    after = [parameter for _, group in agent.groups() for parameter in group["params"]]
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("settings", "message"), [
    (dict(lr_end=0.1), "lr_end: not a setting of sac; it belongs to --lr_schedule=linear, "),
    (dict(lr_schedule="constant", lr_warmup=0.1), "lr_warmup: not a setting of sac; it belongs to --lr_schedule=line"),
    (dict(lr_schedule="exponential", lr_warmup=0.1), "lr_warmup: not a setting of sac; it belongs to --lr_schedule=li"),
    (dict(lr_schedule="exponential", lr_end=0), "lr_end: got 0 with --lr_schedule=exponential, expected a fraction ab"),
    (dict(lr_schedule="linear", lr_end=1.5), "lr_end: got 1.5, expected"),
    (dict(lr_schedule="linear", lr_warmup=-0.1), "lr_warmup: got -0.1, expected"),
    (dict(lr_schedule="step"), "lr_schedule: got 'step', expected one of constant, linear, cosine, exponential"),
    (dict(max_grad_norm=0), "max_grad_norm: got 0.0, expected a finite number above 0"),
])
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError) as error:
        resolve({"alg": "sac"} | settings)
    assert str(error.value).startswith(message)


def test_a_wrong_schedule_is_refused_by_create_agent_too():
    args = Namespace(alg="sac", obs_dims=3, acts_dims=1, device="cpu", lr_schedule="linear", total_timesteps="many")
    with pytest.raises(ConfigError, match=r"^total_timesteps: got 'many'"):
        create_agent(args)
    args.lr_schedule = None
    assert create_agent(args).config.total_timesteps is None            # a user's own loop has its own length


# Gradients -----------------------------------------------------------------------------------------------------------

def draw(*shapes: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("most", [0.1, 1.0, 100.0])
def test_gradients_are_limited_as_pytorch_limits_them(most):
    gradients = draw((4, 3), (4,), ())
    parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(parameters, most)
    for ours, parameter in zip(limit_norm(gradients, most), parameters, strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-6, atol=0)
    assert torch.equal(gradients[0], draw((4, 3), (4,), ())[0])         # they are left as they are


def test_agents_of_a_stack_are_limited_apart():
    of_agents = [draw((4, 3), (4,), (), seed=seed) for seed in range(3)]
    of_agents[1] = [100 * gradient for gradient in of_agents[1]]
    stacked = [torch.stack(same) for same in zip(*of_agents, strict=True)]
    found = limit_norm(stacked, 1.5, stacked=True)
    for i, own in enumerate(of_agents):
        for ours, alone in zip(found, limit_norm(own, 1.5), strict=True):
            torch.testing.assert_close(ours[i], alone)


@pytest.mark.parametrize("make", [TFAdam, lambda groups: TFRMSProp(groups, 0.9, 1e-2)])
def test_an_optimiser_steps_by_the_limited_gradient(make):
    (gradient,) = draw((4, 3))
    results = []
    for given, most in ((gradient, 0.5), (limit_norm([gradient], 0.5)[0], None)):
        parameter = torch.nn.Parameter(torch.ones(4, 3))
        opt = make([dict(name="x", params=[parameter], lr=0.1, max_grad_norm=most)])
        parameter.grad = given.clone()
        opt.step()
        results.append([parameter.detach(), *opt.state[parameter].values()])
        assert torch.equal(parameter.grad, given)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_an_agents_groups_are_limited_apart():
    """Adam's first moment after one update is a tenth of the gradient that it stepped by."""
    plain, limited = (make_agent("rrd", "sac", max_grad_norm=most) for most in (None, 1e-3))
    for agent in (plain, limited):
        agent.train(make_batch())
    for (opt, group), (other, theirs) in zip(plain.groups(), limited.groups(), strict=True):
        whole, found = ([10 * state["exp_avg"] for state in (of.state[p] for p in each["params"])]
                        for of, each in ((opt, group), (other, theirs)))
        expected = whole if group["name"] == "alpha" else limit_norm(whole, 1e-3)
        for one, two in zip(found, expected, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-9)
        norm = float(torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in found])))
        assert (norm > 1e-2) if group["name"] == "alpha" else norm == pytest.approx(1e-3, rel=1e-2)


def test_the_settings_reach_a_run():
    found = run("--env=Pendulum-v1", "--alg=rrd", "--rrd_batch_size=8", "--rrd_sample_size=4", *SMALL,
                "--hidden_sizes=16,8,8", "--reward_activation=tanh", "--max_grad_norm=0.5", "--lr_schedule=cosine")
    assert found.config["hidden_sizes"] == [16, 8, 8]
    assert found.tensors()["nets.main.policy.pi_dense3.weight"].shape == (8, 8)
    again = run(f"--config={found.directory}/config.json", "--tag=again")
    assert again.untimed() == found.untimed()
