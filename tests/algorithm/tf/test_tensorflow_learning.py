"""The TensorFlow reference by itself: targets, the normaliser, learning, and TensorFlow 1's optimisers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from agents import A, B, O
from reference_agents import (
    CONTINUOUS,
    IMAGE,
    batch_for,
    everything,
    make,
)

tf = pytest.importorskip("tensorflow", reason="the extra `tensorflow` is not installed")

from algorithm.tf import layers as tf_utils  # noqa: E402
from algorithm.tf import optimizers  # noqa: E402


def moved_apart(alg: str, basis: str | None, **settings):
    """An agent whose networks are no longer their targets."""
    agent, random = make(alg, basis, **settings), np.random.default_rng(0)
    agent.load_tf_variables({name: random.standard_normal(value.shape, np.float32)
                             for name, value in agent.tf_variables().items() if name.startswith("main/")})
    return agent


def targets(agent) -> dict[str, np.ndarray]:
    return {name: value for name, value in agent.tf_variables().items() if name.startswith("target/")}


@pytest.mark.parametrize(("alg", "basis"), [*CONTINUOUS, ("rrd", "sac")])
def test_targets_start_equal_and_move_by_one_minus_polyak(alg, basis):
    fresh = make(alg, basis).tf_variables()
    assert targets(make(alg, basis))
    for name, value in targets(make(alg, basis)).items():
        np.testing.assert_array_equal(value, fresh[name.replace("target/", "main/", 1)])
    agent = moved_apart(alg, basis, polyak=0.9)
    before = agent.tf_variables()
    agent.target_update()
    after = agent.tf_variables()
    for name, value in after.items():
        expected = before[name]
        if name.startswith("target/"):
            expected = 0.9 * before[name] + 0.1 * before[name.replace("target/", "main/", 1)]
        np.testing.assert_allclose(value, expected, 1e-5, 1e-6, err_msg=name)


@pytest.mark.parametrize(("alg", "basis", "dims"), [("dqn", None, (O,)), ("rrd", "dqn", IMAGE)])
def test_dqns_target_is_copied_whole(alg, basis, dims):
    agent = moved_apart(alg, basis, obs_dims=dims)
    before = agent.tf_variables()
    agent.target_update()
    for name, value in agent.tf_variables().items():
        np.testing.assert_array_equal(value, before[name.replace("target/", "main/", 1)], err_msg=name)


def test_everything_is_finite_before_the_normalisers_first_update():
    agent = make("rrd", "ddpg", obs_normalization=True)
    obs = np.float32([[-70.0] * O])
    np.testing.assert_array_equal(agent.normalize(tf.constant(obs)), obs)       # the identity
    assert all(np.isfinite(value) for value in agent.train(batch_for(agent)).values())
    assert all(np.isfinite(value).all() for value in everything(agent).values())
    assert np.isfinite(agent.step(obs)).all()


def test_the_normaliser_counts_observations_and_next_ones():
    agent = make("ddpg")
    for seed in (0, 1):
        agent.normalizer_update(batch_for(agent, seed))
    seen = np.concatenate([batch_for(agent, seed)[name] for seed in (0, 1) for name in ("obs", "obs_next")])
    state = agent.tf_variables()
    for name, expected in (("cnt", [4 * B]), ("mean", seen.mean(0)), ("std", seen.std(0)), ("sum", seen.sum(0))):
        np.testing.assert_allclose(state[f"normalizer/normalizer_variables/{name}"], expected, 1e-4, 1e-5)
    assert np.abs(agent.normalize(tf.constant(100 * seen))).max() == 5


def test_a_variance_rounded_below_0_gives_no_nan():
    normalizer, rounded = tf_utils.Normalizer((1,)), []
    for _ in range(40):
        normalizer.update(tf.fill((7, 1), 1234.567))
        rounded.append(float((normalizer.sum_sqr / normalizer.cnt - tf.square(normalizer.mean))[0]))
        assert float(normalizer.std[0]) >= np.float32(1e-2)
    assert min(rounded) < 0                                     # it did happen


def test_dqn_learns_which_action_pays():
    agent, random = make("dqn", obs_dims=(A,), gamma=0.0, q_lr=3e-3), np.random.default_rng(0)
    for _ in range(150):
        places, acts = random.integers(A, size=(2, 32))
        obs = np.eye(A, dtype=np.float32)[places]
        agent.train({"obs": obs, "obs_next": obs, "acts": acts, "done": np.zeros((32, 1), np.float32),
                     "rews": np.float32(places == acts)[:, None]})
    assert agent.step(np.eye(A)).tolist() == [*range(A)]


# Optimisers ---------------------------------------------------------------------------------------------------------

def gradients_of_all_sizes(count: int) -> np.ndarray:
    """Far below the epsilons, around them, and far above, with a zero among them."""
    scales = np.array([1e-8, 1e-6, 1e-4, 1e-2, 1.0, 100.0, 0.0])
    return (np.random.default_rng(0).standard_normal((count, 7)) * scales).astype(np.float32)


def descend(optimizer, variable, gradients: np.ndarray) -> np.ndarray:
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)])
    return variable.numpy()


@pytest.mark.parametrize(("lr", "eps"), [(3e-4, 1e-8), (0.625e-4, 1.5e-4)])
def test_adam_follows_tensorflow_1s_formula(lr, eps):
    variable, gradients = tf.Variable(tf.zeros(7)), gradients_of_all_sizes(30)
    optimizer = optimizers.Adam({"x": variable}, lr, eps)
    x, m, v = np.zeros(7), np.zeros(7), np.zeros(7)
    for t, gradient in enumerate(gradients.astype(np.float64), start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        x -= lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + eps)
    np.testing.assert_allclose(descend(optimizer, variable, gradients), x, 1e-4, 1e-12)
    np.testing.assert_allclose(optimizer.slots["x/Adam"], m, 1e-4, 1e-14)
    np.testing.assert_allclose(optimizer.slots["x/Adam_1"], v, 1e-4, 1e-20)
    np.testing.assert_allclose([power.numpy() for power in optimizer.powers.values()], [0.9**31, 0.999**31], 1e-5)


@pytest.mark.parametrize(("decay", "eps"), [(0.95, 1e-2), (0.0, 1e-2), (0.9, 1e-10)])
def test_rmsprop_starts_its_mean_square_at_1_and_has_epsilon_inside_the_root(decay, eps):
    variable, gradients = tf.Variable(tf.zeros(7)), gradients_of_all_sizes(30)
    optimizer = optimizers.RMSProp({"x": variable}, 2.5e-4, decay, eps)
    x, mean_square = np.zeros(7), np.ones(7)
    for gradient in gradients.astype(np.float64):
        mean_square = decay * mean_square + (1 - decay) * gradient**2
        x -= 2.5e-4 * gradient / np.sqrt(mean_square + eps)
    np.testing.assert_allclose(descend(optimizer, variable, gradients), x, 1e-4, 1e-12)
    np.testing.assert_allclose(optimizer.slots["x/RMSProp"], mean_square, 1e-4)


@pytest.mark.parametrize(("optimizer", "settings"), [("adam", (0.625e-4, 1.5e-4)), ("rmsprop", (2.5e-4, 0.95, 1e-2))])
def test_dqns_optimiser_has_its_settings_and_the_reward_networks_is_adam(optimizer, settings):
    agent = make("rrd", "dqn", optimizer=optimizer)
    critic, reward = agent.optimizers["critic"], agent.optimizers["reward"]
    kind = optimizers.Adam if optimizer == "adam" else optimizers.RMSProp
    assert (type(critic), type(reward)) == (kind, optimizers.Adam)
    names = ("lr", "epsilon") if optimizer == "adam" else ("lr", "decay", "epsilon")
    assert tuple(getattr(critic, name) for name in names) == settings
    assert (reward.lr, reward.epsilon) == (3e-4, 1e-8)
    assert {name.partition("/")[0] for name in critic.trained} == {"main"}
    assert {name.partition("/")[0] for name in reward.trained} == {"rrd"}
