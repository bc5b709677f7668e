"""The replay of Stable-Baselines3 that a decomposition pays: every draw, every payment, saved and loaded."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from counting import Counting
from gymnasium.spaces import Box, Discrete, MultiBinary
from stable_baselines3 import DDPG, DQN, SAC, TD3
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import return_decomposition as rd
from algorithm import create_agent_for_spaces
from algorithm.replay_buffer import create_buffer
from utils.errors import ConfigError

RRD = dict(decomposition="rrd", rrd_batch_size=8, rrd_sample_size=4, batch_size=8)
RUDDER = dict(decomposition="rudder", cell_size=4, fit_every=10, fit_updates=2, fit_episodes=2, batch_size=8)
SPACES = (Box(-1000, 1000, (2,)), Box(-2, 2, (1,)))


class Feed:
    """Adds steps of `Counting` to a buffer as Stable-Baselines3 does; `seen` holds each environment's transitions."""

    def __init__(self, buffer, parts: bool = False, discrete: bool = False, seed: int = 0):
        self.buffer, self.discrete, self.rng = buffer, discrete, np.random.default_rng(seed)
        self.envs = [Counting(discrete, parts) for _ in range(buffer.n_envs)]
        self.obs, self.seen = [env.reset()[0] for env in self.envs], [[] for _ in self.envs]

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            acts = self.rng.integers(0, 3, (len(self.envs), 1)) if self.discrete else np.float32(
                self.rng.uniform(-1, 1, (len(self.envs), 1)))
            after, rews, dones, infos = [], [], [], []
            for i, env in enumerate(self.envs):
                obs_next, rew, terminated, truncated, info = env.step(acts[i])
                self.seen[i].append((self.obs[i], acts[i], obs_next, rew, terminated))
                after.append(obs_next)
                rews.append(rew)
                dones.append(terminated or truncated)
                infos.append(info | {"TimeLimit.truncated": truncated and not terminated})
            self.buffer.add(stacked(self.obs), stacked(after), acts, np.array(rews), np.array(dones), infos)
            self.obs = [env.reset()[0] if over else obs for env, over, obs in zip(self.envs, dones, after, strict=True)]


def stacked(obs: list):
    if isinstance(obs[0], dict):
        return {name: np.stack([one[name] for one in obs]) for name in obs[0]}
    return np.stack(obs)


def make(steps: int = 40, n_envs: int = 1, size: int = 64, parts: bool = False, discrete: bool = False, **kwargs):
    env = Counting(discrete, parts)
    buffer = rd.sb3.DecomposedReplayBuffer(size, env.observation_space, env.action_space, device="cpu", n_envs=n_envs,
                                           **kwargs if "decomposition" in kwargs else RRD | kwargs)
    feed = Feed(buffer, parts, discrete)
    feed(steps)
    return buffer, feed


def known(buffer):
    """Make the model pay 100 episode + 10 t' + action, t' the number of the observation after the step."""
    buffer.decomposition.predict = lambda obs, acts, obs_next: (
        100 * obs_next[..., -2:-1] + 10 * obs_next[..., -1:] + (acts[..., :1] if acts.is_floating_point()
                                                                else acts[..., None]))
    buffer.learner.model.opts = []


# Draws and payments -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("parts", "n_envs", "discrete"), [(False, 1, False), (False, 3, True), (True, 2, False)])
def test_batches_are_those_of_the_library_but_for_their_rewards(parts, n_envs, discrete):
    ours, _ = make(40, n_envs, parts=parts, discrete=discrete)
    env = Counting(discrete, parts)
    theirs = (DictReplayBuffer if parts else ReplayBuffer)(64, env.observation_space, env.action_space, "cpu", n_envs)
    Feed(theirs, parts, discrete)(40)
    np.random.seed(3)
    one = ours.sample(16)
    np.random.seed(3)
    other = theirs.sample(16)
    assert type(one) is type(other)
    for name in ("observations", "actions", "next_observations", "dones"):
        a, b = getattr(one, name), getattr(other, name)
        pairs = [(a[key], b[key]) for key in a] if isinstance(a, dict) else [(a, b)]
        assert all(torch.equal(*pair) for pair in pairs), name
    assert one.rewards.shape == other.rewards.shape
    assert one.rewards.dtype == other.rewards.dtype
    assert not torch.equal(one.rewards, other.rewards)


@pytest.mark.parametrize("kwargs", [{}, {"n_envs": 3}, {"parts": True, "n_envs": 2}, {"optimize_memory_usage": True},
                                    {"optimize_memory_usage": True, "n_envs": 2}, {"discrete": True, "n_envs": 2},
                                    {"handle_timeout_termination": False}])
@pytest.mark.parametrize("steps", [20, 100])
def test_every_step_is_paid_by_its_own_observations(kwargs, steps):
    buffer, _ = make(steps, size=48, **kwargs)          # 100 steps turn the ring
    known(buffer)
    batch = buffer.sample(200)
    obs = batch.observations["where"] if kwargs.get("parts") else batch.observations
    expected = 100 * obs[:, :1] + 10 * (obs[:, 1:] + 1) + batch.actions     # s' is step t + 1 of the same episode
    assert len(batch.rewards.unique()) > 5
    assert torch.equal(batch.rewards, expected.float())


def test_a_part_of_a_dict_is_read_in_alphabetical_order_and_categories_one_hot():
    buffer, feed = make(3, parts=True)
    (obs, *_), = feed.seen[0][2:]
    assert buffer.form.obs(stacked([obs])).tolist() == [[*np.eye(3)[obs["mod"]], *obs["where"]]]


@pytest.mark.parametrize("decomposition", ["rrd", "rd"])
def test_the_model_learns_and_pays_bit_by_bit_as_in_an_agent_of_this_package(decomposition):
    settings = RRD | dict(decomposition=decomposition)
    buffer, feed = make(60, **settings)
    given = {name: value for name, value in settings.items() if name != "decomposition"} | {"buffer_size": 64}
    agent = create_agent_for_spaces(alg=decomposition, basis_alg="sac", observation_space=SPACES[0],
                                    action_space=SPACES[1], device="cpu", **given)
    buffer.decomposition.load_state_dict(agent.decomposition.state_dict())
    replay = create_buffer(agent.config)
    for episode in episodes(feed.seen[0]):
        replay.store_episode(episode)
    for _ in range(5):
        drawn = buffer.sample(8)
        paid = agent.rewards(drawn.observations, drawn.actions, drawn.next_observations)
        assert torch.equal(drawn.rewards, paid)         # by the model as it was before the update
        agent.train(replay.sample())
    ours, theirs = buffer.decomposition.state_dict(), agent.decomposition.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert buffer.learner.updates == 5


def test_bursts_learn_and_pay_bit_by_bit_as_in_an_agent_of_this_package():
    buffer, feed = make(60, **RUDDER)
    given = {name: value for name, value in RUDDER.items() if name != "decomposition"} | {"buffer_size": 64}
    agent = create_agent_for_spaces(alg="rudder", basis_alg="sac", observation_space=SPACES[0], action_space=SPACES[1],
                                    device="cpu", **given)
    buffer.decomposition.load_state_dict(agent.decomposition.state_dict())
    replay = create_buffer(agent.config)
    held = episodes(feed.seen[0])
    for episode in held:
        replay.store_episode(episode)
    buffer.sample(8)
    list(agent.fit(replay, 0))
    agent.credit(replay, anew=True)
    paid = [buffer.credit[buffer._rows(number)[0], 0] for number in range(len(held))]
    assert np.array_equal(np.concatenate(paid), replay.credit[:replay.steps].numpy())
    assert buffer.learner.bursts == 1
    assert buffer.learner.updates == 2
    np.random.seed(1)
    rows = np.random.randint(0, 60, 8)
    np.random.seed(1)
    assert torch.equal(buffer.sample(8).rewards[:, 0], torch.as_tensor(buffer.credit[rows, 0])) or not buffer.over[
        rows, 0].all()


def episodes(steps: list) -> list[dict]:
    """Whole episodes of the transitions of one environment, as `store_episode` takes them."""
    found, begin = [], 0
    for end in range(1, len(steps) + 1):
        if end == len(steps) or steps[end][0][0] != steps[begin][0][0]:
            obs, acts, obs_next, rews, done = zip(*steps[begin:end], strict=True)
            found.append({"obs": np.stack(obs), "acts": np.stack(acts), "obs_next": np.stack(obs_next),
                          "rews": np.float32(rews)[:, None], "done": np.float32(done)[:, None]})
            begin = end
    return found if len(found[-1]["rews"]) == 3 + int(found[-1]["obs"][0, 0]) % 3 else found[:-1]


def test_bursts_come_every_so_many_steps_of_whole_episodes():
    buffer, feed = make(3, **RUDDER)                    # one episode of three steps
    assert buffer.sample(4).rewards.shape == (4, 1)
    assert buffer.learner.bursts == 1
    buffer.sample(4)
    assert buffer.learner.bursts == 1
    feed(12)
    buffer.sample(4)
    assert buffer.learner.bursts == 2


@pytest.mark.parametrize("kwargs", [{}, {"n_envs": 2}, {"optimize_memory_usage": True}])
def test_a_model_of_whole_episodes_pays_steps_of_whole_episodes_alone(kwargs):
    buffer, feed = make(8, size=24, **RUDDER | kwargs)
    buffer.decomposition.credit = lambda episodes, mask: (episodes["obs_next"] * torch.tensor([100.0, 10.0])).sum(-1)
    drawn = set()
    for _ in range(70):                                 # the ring turns, and payments stay with their steps
        feed(1)
        batch = buffer.sample(60)
        open_now = {steps[0][0][0] for steps in buffer.open.steps if steps}
        assert not open_now & set(batch.observations[:, 0].tolist())
        assert torch.equal(batch.rewards[:, 0], 100 * batch.observations[:, 0] + 10 * (batch.observations[:, 1] + 1))
        drawn |= set(map(tuple, batch.observations.tolist()))
    assert len(drawn) > 60


def test_uniform_and_ircr_pay_by_the_return_of_the_episode():
    uniform, _ = make(24, decomposition="uniform")
    assert set(uniform.sample(50).rewards.flatten().tolist()) == {1.0}      # T is paid for an episode of T steps
    ircr, _ = make(24, decomposition="ircr")
    batch = ircr.sample(100)
    lengths = 3 + batch.observations[:, 0] % 3
    assert torch.equal(batch.rewards[:, 0], (lengths - 3) / 2)


def test_before_an_episode_has_ended_nothing_is_paid_and_nothing_learned():
    for settings in (RRD, RUDDER):
        buffer, _ = make(2, **settings)
        assert buffer.sample(4).rewards.tolist() == [[0.0]] * 4
        assert (buffer.learner.updates, buffer.learner.bursts) == (0, 0)


def test_vecnormalize_changes_neither_what_the_model_reads_nor_what_it_pays():
    env = VecNormalize(DummyVecEnv([Counting]), norm_reward=True)
    env.obs_rms.mean[:], env.ret_rms.var = 2.0, 4.0
    buffer, _ = make(30)
    known(buffer)
    np.random.seed(0)
    raw = buffer.sample(9)
    np.random.seed(0)
    normalized = buffer.sample(9, env)
    assert torch.equal(raw.rewards, normalized.rewards)
    assert not torch.equal(raw.observations, normalized.observations)


@pytest.mark.parametrize("first", [True, False])
def test_stacked_pictures_are_read_with_their_channels_last(first):
    size, frames = (2, 12, 12), np.random.default_rng(0).integers(0, 256, (30, 12, 12), np.uint8)
    space = Box(0, 255, size if first else size[1:] + size[:1], np.uint8)
    buffer = rd.sb3.DecomposedReplayBuffer(40, space, Discrete(3), device="cpu", **RRD)
    stacks = np.stack([frames[t:t + 2] if first else np.moveaxis(frames[t:t + 2], 0, -1) for t in range(29)])
    for t in range(28):                                 # an episode of seven steps, and so on
        buffer.add(stacks[t][None], stacks[t + 1][None], np.array([t % 3]), np.ones(1), np.array([t % 7 == 6]), [{}])
    batch = buffer.sample(8)
    raw = [np.moveaxis(one.numpy(), 1, -1) if first else one.numpy() for one in (batch.observations,
                                                                                 batch.next_observations)]
    assert raw[0].shape == (8, 12, 12, 2)
    assert buffer.learner.updates == 1
    assert buffer.learner.replay.episodes == 4
    paid = buffer.decomposition.rewards(raw[0], batch.actions[:, 0].numpy(), raw[1])
    assert torch.equal(buffer._pay(*found(buffer, batch)), paid)


def found(buffer, batch):
    """The rows of a batch in a replay of one environment, and their fields as `_pay` takes them."""
    rows = np.array([next(t for t in range(buffer.pos) if np.array_equal(buffer.observations[t, 0], one.numpy()))
                     for one in batch.observations])
    envs = np.zeros_like(rows)
    return rows, envs, buffer.observations[rows, envs], buffer.actions[rows, envs], buffer.next_observations[rows, envs]


# In the library -----------------------------------------------------------------------------------------------------

class Late(gym.Wrapper):
    """Pays the whole return with the last step."""

    def reset(self, **kwargs):
        self.sum = 0.0
        return self.env.reset(**kwargs)

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.sum += float(reward)
        over = terminated or truncated
        return obs, self.sum * over, terminated, truncated, {**info, "true_reward": reward}


def pendulum():
    return Late(gym.make("Pendulum-v1", max_episode_steps=20))


@pytest.mark.parametrize(("kind", "settings"), [(SAC, {}), (TD3, {}), (DDPG, {}), (DQN, {}),
                                                (SAC, {"optimize_memory_usage": True}), (TD3, {"train_freq": 5})])
def test_agents_learn_from_it_and_the_model_in_step_with_them(kind, settings, tmp_path):
    env = Late(gym.make("CartPole-v1", max_episode_steps=20)) if kind is DQN else pendulum()
    model = kind("MlpPolicy", env, learning_starts=30, buffer_size=200, batch_size=8, gradient_steps=1, seed=0,
                 replay_buffer_class=rd.sb3.DecomposedReplayBuffer, replay_buffer_kwargs=dict(RRD), device="cpu",
                 policy_kwargs=dict(net_arch=[8]), **settings)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(90, callback=rd.sb3.DecompositionCallback(), log_interval=1)
    assert model.replay_buffer.learner.updates == model._n_updates > 5
    model.logger.close()
    header = (tmp_path / "progress.csv").read_text().splitlines()[0].split(",")
    expected = ["R_loss", "updates", "std_within"] + ["pearson_within"] * (kind is not DQN)    # CartPole pays 1 always
    assert {f"decomposition/{name}" for name in expected} <= set(header)


def test_the_model_is_saved_with_the_agent_and_with_the_replay(tmp_path):
    model = SAC("MlpPolicy", pendulum(), learning_starts=30, buffer_size=200, batch_size=8, seed=0, device="cpu",
                replay_buffer_class=rd.sb3.DecomposedReplayBuffer, replay_buffer_kwargs=dict(RRD),
                policy_kwargs=dict(net_arch=[8]))
    model.learn(60, callback=rd.sb3.DecompositionCallback())
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "replay")
    steps = [np.ones((4, size), np.float32) for size in (3, 1, 3)]
    expected = model.replay_buffer.decomposition.rewards(*steps)
    loaded = SAC.load(tmp_path / "model", env=pendulum(), device="cpu")
    assert torch.equal(loaded.replay_buffer.decomposition.rewards(*steps), expected)
    loaded.load_replay_buffer(tmp_path / "replay")
    for one in (model, loaded):
        np.random.seed(0)
        one.replay_buffer.sample(8)                     # one more update of each
    after = [one.replay_buffer.decomposition.rewards(*steps) for one in (model, loaded)]
    assert torch.equal(*after)
    assert not torch.equal(after[0], expected)
    loaded.learn(30, reset_num_timesteps=False)


@pytest.mark.parametrize("decomposition", ["rrd", "uniform"])
def test_an_episode_that_another_call_of_learn_cuts_off_is_dropped(decomposition):
    given = RRD if decomposition == "rrd" else {"decomposition": "uniform"}
    model = SAC("MlpPolicy", Counting(), learning_starts=100, buffer_size=60, device="cpu",
                replay_buffer_class=rd.sb3.DecomposedReplayBuffer, replay_buffer_kwargs=dict(given),
                policy_kwargs=dict(net_arch=[8]))
    model.learn(8)                                      # episodes of three and four steps, and one step of the third
    model.learn(8)                                      # which a reset ends: the fourth has three steps, the fifth four
    replay = model.replay_buffer.learner.replay
    lengths = [len(replay.held_episode(number)[0]) for number in range(replay.episodes)]
    assert lengths == [3, 4, 3, 4]
    assert model.replay_buffer.open.dropped == 1
    assert model.replay_buffer.over[:16, 0].tolist() == [True] * 7 + [False] + [True] * 7 + [False]


def test_a_model_that_is_built_is_taken_as_it_is():
    model = rd.create_decomposition("rrd", observation_space=SPACES[0], action_space=SPACES[1], rrd_batch_size=8,
                                    rrd_sample_size=4, device="cpu")
    buffer = rd.sb3.DecomposedReplayBuffer(64, *SPACES, device="cpu", decomposition=model)
    assert buffer.decomposition is model
    with pytest.raises(ConfigError, match="r_lr: got a setting beside a decomposition that is built, expected none"):
        rd.sb3.DecomposedReplayBuffer(64, *SPACES, decomposition=model, r_lr=1e-3)
    with pytest.raises(ConfigError, match=r"got one of observations \(2,\) and 1 actions, expected \(2,\) and 3 disc"):
        rd.sb3.DecomposedReplayBuffer(64, SPACES[0], Discrete(3), decomposition=model)


@pytest.mark.parametrize(("spaces", "settings", "message"), [
    (SPACES, {"decomposition": "rdd"}, "alg: got 'rdd'; did you mean"), (SPACES, {"cell_size": 3}, "cell_size: not a"),
    ((SPACES[0], MultiBinary(3)), {}, "action_space: got .*, expected Discrete, or a Box of floats"),
    ((SPACES[0], Box(-np.inf, 1, (1,))), {}, "action_space: got .*, expected finite bounds"),
    (SPACES, {"decomposition": "rd", "outcome_credit": "residual"}, "fit_every: got 0, but rd pays whole episodes"),
])
def test_what_cannot_be_is_refused(spaces, settings, message):
    with pytest.raises(ConfigError, match=message):
        rd.sb3.DecomposedReplayBuffer(64, *spaces, device="cpu", **settings)


def test_without_a_decomposing_buffer_the_callback_is_refused():
    with pytest.raises(ConfigError, match="model: got a SAC with a ReplayBuffer, expected replay_buffer_class="):
        SAC("MlpPolicy", pendulum(), buffer_size=10, device="cpu").learn(1, callback=rd.sb3.DecompositionCallback())
