"""Policies by name: densities, memories, encoders, initialisation, and policies of one's own."""

from __future__ import annotations

import math

import pytest
import torch
from rollouts import ACTS, OBS, fill, finish, make, make_config
from torch import nn

from algorithm.policy import create_policy, register_policy
from algorithm.policy.base import Policy
from algorithm.policy.distributions import Categorical, Gaussian
from algorithm.policy.layers import run_lstm
from utils.errors import ConfigError


def make_policy(**settings):
    return create_policy(make_config(**settings))


# Distributions --------------------------------------------------------------------------------------------------

def test_a_gaussian_is_pytorchs():
    mean, log_std, acts = torch.randn(7, ACTS), torch.randn(ACTS), torch.randn(7, ACTS)
    theirs = torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)
    ours = Gaussian(mean, log_std)
    torch.testing.assert_close(ours.log_prob(acts), theirs.log_prob(acts))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())


def test_a_categorical_is_pytorchs():
    logits, acts = torch.randn(2, 7, ACTS), torch.randint(ACTS, (2, 7))
    theirs, ours = torch.distributions.Categorical(logits=logits), Categorical(logits)
    torch.testing.assert_close(ours.log_prob(acts), theirs.log_prob(acts))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    assert ours.mode().tolist() == logits.argmax(-1).tolist()


def test_draws_follow_the_distribution():
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(20_000, 3)
    shares = torch.bincount(Categorical(logits).sample(generator), minlength=3) / 20_000
    torch.testing.assert_close(shares, logits[0].softmax(0), rtol=0, atol=0.02)
    drawn = Gaussian(torch.ones(20_000, 2), torch.tensor([0.0, -1.0])).sample(generator)
    torch.testing.assert_close(drawn.mean(0), torch.ones(2), rtol=0, atol=0.03)
    torch.testing.assert_close(drawn.std(0), torch.tensor([1.0, math.exp(-1)]), rtol=0.03, atol=0)


@pytest.mark.parametrize(("log_std", "used", "gradient"), [(-7.0, -5.0, 0.0), (3.0, 2.0, 0.0), (0.5, 0.5, None)])
def test_the_log_std_is_clamped(log_std, used, gradient):
    policy = make_policy()
    policy.log_std.data.fill_(log_std)
    obs, acts = torch.randn(4, OBS), torch.randn(4, ACTS)
    log_prob, entropy, _ = policy.evaluate_actions(obs, acts)
    assert entropy[0].item() == pytest.approx(ACTS * (0.5 + 0.5 * math.log(2 * math.pi) + used), rel=1e-5)
    log_prob.sum().backward()
    assert gradient is None or policy.log_std.grad.abs().sum() == gradient


# Initialisation -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("given", "actor", "critic"), [({}, 0.01, 1.0),
                                                       (dict(actor_gain=1.4, critic_gain=0.5), 1.4, 0.5)])
def test_orthogonal_layers_are_orthogonal_with_their_gains(given, actor, critic):
    policy = make_policy(hidden_sizes=(8, 8), **given)
    for layers, last in ((policy.actor, actor), (policy.critic, critic)):
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        for layer, gain in zip(linear, (math.sqrt(2), math.sqrt(2), last), strict=True):
            rows, columns = layer.weight.shape
            product = layer.weight @ layer.weight.T if rows <= columns else layer.weight.T @ layer.weight
            torch.testing.assert_close(product, gain ** 2 * torch.eye(len(product)), rtol=1e-4, atol=1e-6)
            assert not layer.bias.any()


def test_other_layers_are_initialised_as_pytorchs():
    policy = make_policy(orthogonal=False, hidden_sizes=(400, 300))
    theirs = nn.Linear(400, 300)
    ours = policy.actor[2]
    for one, other in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        assert one.abs().max().item() == pytest.approx(1 / 20, rel=0.05)
        assert one.std().item() == pytest.approx(other.std().item(), rel=0.1)


def test_the_first_weights_follow_from_the_seed_alone():
    one, same, other = make_policy(seed=1), make_policy(seed=1), make_policy(seed=2)
    torch.manual_seed(5)
    assert torch.equal(one.actor[0].weight, same.actor[0].weight)
    assert not torch.equal(one.actor[0].weight, other.actor[0].weight)


# Layouts --------------------------------------------------------------------------------------------------------

def test_layers_are_shared_as_the_settings_say():
    policy = make_policy(shared_sizes=(16, 12), hidden_sizes=(8,), critic_hidden_sizes=(7, 6), activation="silu",
                         critic_activation="tanh", last_activation="tanh")
    widths = {name: [layer.out_features for layer in part if isinstance(layer, nn.Linear)]
              for name, part in (("shared", policy.shared), ("actor", policy.actor), ("critic", policy.critic))}
    assert widths == {"shared": [16, 12], "actor": [8, ACTS], "critic": [7, 6, 1]}
    assert isinstance(policy.shared[-1], nn.SiLU)
    assert isinstance(policy.critic[1], nn.Tanh)
    assert isinstance(policy.actor[-1], nn.Tanh)
    policy.get_action(torch.randn(3, OBS))


@pytest.mark.parametrize(("settings", "parts"), [
    ({"shared_encoder": None}, 1), ({"shared_encoder": False}, 2)])
@pytest.mark.parametrize("policy", ["conv", "keyed"])
def test_encoders_are_shared_unless_the_settings_say_otherwise(policy, settings, parts):
    shape = {"obs_dims": (20, 20, 2)} if policy == "conv" else {"obs_parts": (("a", (2,)), ("b", (3,)))}
    given = {name: value for name, value in settings.items() if value is not None}
    net = make_policy(policy=policy, hidden_sizes=(8,), **given, **shape)
    obs = torch.rand(3, *net.obs_dims)
    actor, critic = net.features(obs)
    assert (actor is critic) == (parts == 1)
    assert net.evaluate_actions(obs, torch.zeros(3, ACTS))[2].shape == (3,)


def test_each_part_of_a_dict_has_an_encoder_of_its_own():
    parts = (("arm", (2,)), ("camera", (8, 8, 1)), ("goal", (3,)))
    net = make_policy(policy="keyed", obs_dims=69, obs_parts=parts, encoder_size=6)
    obs = torch.rand(4, 69, requires_grad=True)
    net.encoders[2](obs[:, 66:]).sum().backward()
    assert obs.grad[:, :66].abs().sum() == 0
    actor, _ = net.features(obs)
    assert actor.shape == (4, 6 + net.encoders[1].features + 6)


@pytest.mark.parametrize(("settings", "message"), [
    ({"policy": "conv"}, r"policy: 'conv' got observations of shape \(5,\), expected pictures"),
    ({"policy": "actor_critic", "obs_dims": (9, 9, 1)}, "expected vectors; for pictures --policy=conv"),
    ({"policy": "keyed"}, "expected a dict of observations"),
    ({"policy": "keyed", "obs_dims": 4, "obs_parts": (("eye", (2, 2, 1)),), "obs_normalization": True},
     "expected vectors alone with --obs_normalization=True"),
    ({"policy": "recurrent", "obs_dims": (9, 9, 1)}, "expected vectors"),
])
def test_a_policy_that_does_not_fit_is_one_line(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_policy(**settings)


# Memory ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("layers", [1, 2])
def test_an_lstm_is_pytorchs_between_starts_and_forgets_at_them(layers):
    lstm = nn.LSTM(3, 4, layers)
    x, starts = torch.randn(9, 2, 3), torch.zeros(9, 2)
    starts[4, 0] = starts[6, 1] = 1
    state = torch.randn(2, layers, 2, 4)
    found, end = run_lstm(lstm, x, starts, state)
    zeros = torch.zeros(2, layers, 1, 4)
    for row, start in ((0, 4), (1, 6)):
        h, c = state[:, :, row:row + 1].contiguous()
        first, _ = lstm(x[:start, row:row + 1], (h, c))
        second, last = lstm(x[start:, row:row + 1], tuple(zeros))
        torch.testing.assert_close(found[:, row:row + 1], torch.cat([first, second]))
        torch.testing.assert_close(end[:, :, row:row + 1], torch.stack(last))


def test_a_start_at_the_first_step_zeroes_the_state_that_is_given():
    lstm = nn.LSTM(3, 4)
    x, state = torch.randn(2, 1, 3), torch.randn(2, 1, 1, 4)
    starts = torch.tensor([[1.0], [0.0]])
    torch.testing.assert_close(run_lstm(lstm, x, starts, state)[0],
                               run_lstm(lstm, x, torch.zeros(2, 1), torch.zeros_like(state))[0])


@pytest.mark.parametrize("shared", [False, True])
def test_sequences_repeat_what_was_acted_step_by_step(shared):
    """Over several rollouts the memory is carried; log-probabilities of whole sequences are those of the steps."""
    agent, buffer = make(policy="recurrent", lstm_size=6, shared_encoder=shared, batch_size=16)
    fill(agent, buffer, ends=0.2)
    finish(agent, buffer)
    assert buffer.sequence == 8
    batch = agent.checked(buffer.read(torch.arange(4)), agent.spec())
    log_prob, _, value = agent.evaluate(batch)
    torch.testing.assert_close(log_prob, buffer["log_prob"])
    torch.testing.assert_close(value, buffer["values"])


def test_short_sequences_begin_with_the_memory_of_the_rollout():
    agent, buffer = make(policy="recurrent", lstm_size=6, batch_size=4)
    fill(agent, buffer, ends=0.2)
    finish(agent, buffer)
    assert (buffer.sequence, buffer.count, buffer.per_epoch) == (4, 8, 8)
    batch = agent.checked(buffer.read(torch.arange(8)), agent.spec())
    log_prob, _, _ = agent.evaluate(batch)
    expected = torch.cat([buffer["log_prob"][:4], buffer["log_prob"][4:]], 1)      # row k N + n
    torch.testing.assert_close(log_prob, expected)


def test_step_remembers_until_the_next_episode():
    agent, _ = make(policy="recurrent", lstm_size=6)
    obs = torch.randn(OBS).numpy()
    first, second = agent.step(obs), agent.step(obs)
    assert (first != second).any()
    agent.begin_episode()
    assert (agent.step(obs) == first).all()


# Policies of one's own ------------------------------------------------------------------------------------------


class Mine(Policy):
    def __init__(self, config, generator):
        super().__init__()
        self.mean = nn.Linear(config.obs_dims[0], config.acts_dims[0])
        self.worth = nn.Linear(config.obs_dims[0], 1)

    def get_action(self, obs, deterministic=False):
        acts = self.mean(obs).detach()
        if not deterministic:
            acts = acts + torch.randn(acts.shape, generator=self.generator)
        return acts, self.evaluate_actions(obs, acts)[0].detach(), self.get_value(obs)

    def get_value(self, obs):
        return self.worth(obs)[:, 0].detach()

    def evaluate_actions(self, obs, actions):
        chosen = Gaussian(self.mean(obs), torch.zeros(actions.shape[-1]))
        return chosen.log_prob(actions), chosen.entropy(), self.worth(obs)[..., 0]


@pytest.mark.usefixtures("forget")
def test_a_policy_of_ones_own_learns():
    register_policy("mine")(Mine)
    agent, buffer = make(policy="mine")
    finish(agent, fill(agent, buffer))
    before = agent.policy.mean.weight.clone()
    agent.update(buffer.sample)
    assert not torch.equal(before, agent.policy.mean.weight)


@pytest.mark.usefixtures("forget")
def test_a_wrong_registration_is_one_line():
    with pytest.raises(ConfigError, match="policy: got the name 'conv'"):
        register_policy("conv")
    with pytest.raises(ConfigError, match="got a int, expected a class"):
        register_policy("mine")(3)
    register_policy("mine")(lambda config, generator: nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="policy: 'mine' builds a Linear"):
        make_policy(policy="mine")


@pytest.mark.parametrize("policy", ["actor_critic", "recurrent"])
def test_a_rollouts_end_is_worth_what_the_policy_says_of_it_with_its_memory(policy):
    size = {"lstm_size": 6} if policy == "recurrent" else {}
    agent, buffer = make(policy=policy, normalize_advantages="none", gae_lambda=0.0, **size)
    fill(agent, buffer, ends=0.0)
    agent.finish_rollout(buffer, buffer.last_obs, buffer.last_memory)
    values = (agent.policy.get_value(buffer.last_obs) if policy == "actor_critic"
              else agent.policy.value_after(buffer.last_obs, buffer.last_memory))
    expected = buffer["rews"][-1] + agent.config.gamma * values - buffer["values"][-1]
    torch.testing.assert_close(buffer["advantages"][-1], expected)
    assert not torch.allclose(values, agent.policy.get_value(buffer.last_obs)) or policy == "actor_critic"
