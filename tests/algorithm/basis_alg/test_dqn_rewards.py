"""Return decomposition over DQN: what the Q-network learns from, and the rewards of discrete actions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from agents import B, K, N, parameters
from dqn_agents import IMAGE, A, assert_unchanged, each_kind, make, make_batch, value_of

from algorithm.basis_alg.dqn_torch import DQN


def test_ircr_over_dqn_is_dqn():
    agent = make("ircr", "dqn")
    assert type(agent.basis) is DQN
    assert_unchanged(agent, parameters(make()))


@each_kind
def test_the_q_network_learns_from_the_predicted_reward_held_constant(dims):
    agent, twin, batch = make("rrd", "dqn", obs_dims=dims), make(obs_dims=dims), make_batch(dims=dims)
    rews = agent.rewards(batch["obs"], batch["acts"], batch["obs_next"])
    loss, info = agent.losses(agent.checked(batch, agent.q_spec()), policy=False)
    gradients = torch.autograd.grad(loss - info["R_loss"], list(agent.decomposition.reward.parameters()))
    assert not any(gradient.any() for gradient in gradients)
    agent.train({name: value for name, value in batch.items() if name != "rews"})
    plain = twin.train(batch | {"rews": rews})
    assert float(info["Q_loss"].detach()) == pytest.approx(float(plain["Q_loss"]), rel=1e-5)
    torch.testing.assert_close(value_of(agent).state_dict(), value_of(twin).state_dict(), rtol=0, atol=1e-7)


def test_the_reward_of_images_depends_on_the_output_of_the_action_alone():
    agent, batch = make("rrd", "dqn", obs_dims=IMAGE), make_batch(dims=IMAGE)
    batch |= {"acts": torch.full((B,), 1), "rrd_acts": torch.full((N, K), 1)}

    def reward():
        return agent.rewards(batch["obs"], batch["acts"], batch["obs_next"])
    before = reward()
    for action, shift in ((0, 5.0), (2, -7.0)):
        agent.decomposition.reward.r_act.weight.data[action] += shift
        agent.decomposition.reward.r_act.bias.data[action] += shift
    torch.testing.assert_close(reward(), before, rtol=0, atol=0)
    agent.decomposition.reward.r_act.bias.data[1] += 3.0
    torch.testing.assert_close(reward(), before + 3.0)
    agent.train(batch)
    last = agent.decomposition.reward.r_act
    for gradient in (last.weight.grad, last.bias.grad[:, None]):
        assert gradient.any(1).tolist() == [False, True, False]


def test_the_reward_of_images_is_the_networks_output_at_the_action():
    agent, batch = make("rrd", "dqn", obs_dims=IMAGE), make_batch(dims=IMAGE)
    net, obs, obs_next = agent.decomposition.reward, batch["rrd_obs"].flatten(0, 1), batch["rrd_obs_next"].flatten(0, 1)
    with torch.no_grad():
        outputs = net.r_act(net.r_dense_act(net.trunk(torch.cat([obs, obs - obs_next], -1))).relu())
    expected = outputs[torch.arange(N * K), batch["rrd_acts"].flatten()].reshape(N, K, 1)
    pred = agent.rewards(batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"])
    torch.testing.assert_close(pred, expected)


def test_the_reward_of_vectors_takes_the_one_hot_action_as_an_input():
    agent, batch = make("rrd", "dqn"), make_batch()
    obs, obs_next = batch["obs"], batch["obs_next"]
    with torch.no_grad():
        expected = agent.decomposition.reward(obs, torch.eye(A)[batch["acts"]], obs_next)
    torch.testing.assert_close(agent.rewards(obs, batch["acts"], obs_next), expected)


@each_kind
def test_bias_correction_subtracts_the_variance_of_a_mean(dims):
    agent, batch = make("rrd", "dqn", obs_dims=dims, rrd_bias_correction=True), make_batch(dims=dims)
    batch["rrd_var_coef"] = torch.tensor([[1.0], [0.5], [0.0]])
    pred = agent.rewards(batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"]).double().numpy()[..., 0]
    r_loss = np.mean((pred.mean(1) - batch["rrd_rews"].numpy()[:, 0]) ** 2)
    r_var = np.mean([1.0, 0.5, 0.0] * pred.var(1, ddof=1) / K)
    loss, info = agent.decomposition.loss(agent.checked(batch, agent.q_spec()))
    assert float(info["R_loss"].detach()) == pytest.approx(r_loss, rel=1e-5)
    assert float(info["R_var"].detach()) == pytest.approx(r_var, rel=1e-5)
    assert float(loss.detach()) == pytest.approx(r_loss - r_var, rel=1e-5)
    assert set(agent.train(batch)) == {"Q_loss", "R_loss", "R_var"} == set(agent.train_info)


@each_kind
def test_rewards_are_predicted_for_any_leading_dimensions(dims):
    agent, batch = make("rrd", "dqn", obs_dims=dims), make_batch(dims=dims)
    obs, acts, obs_next = batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"]
    whole = agent.rewards(obs, acts, obs_next)
    assert whole.shape == (N, K, 1)
    for parts in ((obs[0], acts[0], obs_next[0]), (obs[0].numpy(), acts[0].tolist(), obs_next[0].numpy())):
        torch.testing.assert_close(agent.rewards(*parts), whole[0])
    single = agent.rewards(obs[0, 0], acts[0, 0], obs_next[0, 0])
    assert single.shape == (1,)
    torch.testing.assert_close(single, whole[0, 0])


def test_rewards_are_predicted_of_pixels_as_a_batch_holds_them():
    agent, batch = make("rrd", "dqn", obs_dims=IMAGE), make_batch(dims=IMAGE)
    obs, obs_next = ((100 * batch[name].abs()).clamp(0, 255).byte() for name in ("obs", "obs_next"))
    expected = agent.rewards(obs / 255, batch["acts"], obs_next / 255)
    torch.testing.assert_close(agent.rewards(obs.numpy(), batch["acts"], obs_next), expected)


@pytest.mark.parametrize(("name", "spoil"), [
    ("obs", lambda x: x[..., :-1]), ("obs_next", lambda x: x[..., :-1]), ("obs_next", lambda x: x[:-1]),
    ("obs", lambda x: x.long()), ("acts", lambda x: x[:-1]), ("acts", lambda x: x[:, None]),
    ("acts", lambda x: torch.eye(A)[x]), ("acts", lambda x: x.float()), ("acts", lambda x: x > 0),
    ("acts", lambda x: torch.full_like(x, A)), ("acts", lambda x: torch.full_like(x, -1)),
], ids=["narrow obs", "narrow obs_next", "short obs_next", "integer obs", "short acts", "column of acts",
        "one-hot acts", "float acts", "boolean acts", "acts too large", "negative acts"])
def test_rewards_of_steps_that_do_not_fit_are_refused_in_one_line(name, spoil):
    agent, batch = make("rrd", "dqn"), make_batch()
    steps = {field: spoil(batch[field]) if field == name else batch[field] for field in ("obs", "acts", "obs_next")}
    with pytest.raises(ValueError, match=f"^{name}: got .*, expected ") as caught:
        agent.rewards(**steps)
    assert "\n" not in str(caught.value)
