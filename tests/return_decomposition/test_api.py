"""The Python API: `import return_decomposition as rd`."""

from __future__ import annotations

import ast
import copy
import inspect
import subprocess
import sys
import typing

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from runs import ROOT

import return_decomposition as rd
from algorithm.replay_buffer.episode import OpenEpisode

TINY = dict(total_timesteps=80, timesteps=20, iterations=2, warmup=20, batch_size=8, train_batches=2, test_rollouts=1,
            test_timesteps=20, buffer_size=200, device="cpu")
TINY_RRD = TINY | dict(alg="rrd", rrd_batch_size=8, rrd_sample_size=4)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Directories of finished runs by name: rrd and ircr and sac on Pendulum-v1, dqn under rrd on CartPole-v1."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        made = {"rrd": rd.train(env="Pendulum-v1", basis_alg="sac", **TINY_RRD),
                "ircr": rd.train(env="Pendulum-v1", alg="ircr", **TINY),
                "uniform": rd.train(env="Pendulum-v1", alg="uniform", **TINY),
                "sac": rd.train(env="Pendulum-v1", alg="sac", **TINY),
                "cart": rd.train(env="CartPole-v1", basis_alg="dqn", **TINY_RRD)}
        return {name: (root / run.directory).resolve() for name, run in made.items()}


def play(env: gym.Env, steps: int = 12) -> dict[str, np.ndarray]:
    """An episode of random actions, as `store_episode` takes it; actions in [-1, 1] or indices."""
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    episode = OpenEpisode(obs)
    for _ in range(steps):
        action = env.action_space.sample()
        obs, reward, terminated, *_ = env.step(action)
        high = getattr(env.action_space, "high", None)
        episode.add(action if high is None else action / high, float(reward), terminated, obs)
    return episode.columns()


# Importing ------------------------------------------------------------------------------------------------------

def test_importing_it_imports_no_backend():
    code = ("import sys, return_decomposition as rd; assert set(rd.__all__) <= set(dir(rd)); "
            "print({'torch', 'tensorflow', 'gymnasium', 'numpy'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_every_name_is_there_typed_and_documented():
    for name in rd.__all__:
        value = getattr(rd, name)
        assert value.__doc__, name
        functions = [value] if inspect.isfunction(value) else [
            one for key, one in vars(value).items() if inspect.isfunction(one) and (key[0] != "_" or key == "__call__")]
        for function in functions:
            hints = set().union(*(one.__annotations__ for one in [function, *typing.get_overloads(function)]))
            wanted = {one for one in inspect.signature(function).parameters if one != "self"} | {"return"}
            assert wanted <= hints, (name, function.__name__, wanted - hints)
            assert function.__doc__, (name, function.__name__)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        rd.trian  # noqa: B018


def test_nothing_of_the_package_imports_it():
    for path in ROOT.rglob("*.py"):
        top = path.relative_to(ROOT).parts[0]
        if top in ("return_decomposition", "tests", "docs", "build") or top.startswith((".", "setup")):
            continue
        modules = {node.module or "" for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                   if isinstance(node, ast.ImportFrom)}
        assert not any(module.split(".")[0] == "return_decomposition" for module in modules), path


# Loading --------------------------------------------------------------------------------------------------------

def test_a_loaded_agent_acts_as_it_was_saved(runs):
    best, last = (rd.load(runs["rrd"], checkpoint=which) for which in ("best", "last"))
    obs = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    assert best.step(obs[0]).shape == (1,)
    assert best.step(obs).shape == (4, 1)
    by_file = rd.load(runs["rrd"] / "checkpoints" / "last.safetensors")
    np.testing.assert_array_equal(last.step(obs), by_file.step(obs))
    state, other = last.state_dict(), by_file.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert last.updates > 0


@pytest.mark.parametrize(("place", "checkpoint", "kind", "message"), [
    ("nowhere", "", rd.ConfigError, "'nowhere': expected a run's directory"),
    ("RUN", "lst", rd.CheckpointError, "lst: no such file"),
    ("RUN/checkpoints/last.safetensors", "best", rd.ConfigError, "checkpoint: got 'best'"),
    ("EMPTY", "", rd.CheckpointError, "the run has saved no checkpoint yet"),
    ("LAST", "", rd.CheckpointError, "best.safetensors: no such file; checkpoint='last' exists"),
    ("DAMAGED", "last", rd.CheckpointError, "last.safetensors: "),
    ("TENSORFLOW", "", rd.ConfigError, "utils.tf_checkpoint"),
])
def test_a_failed_load_gives_a_one_line_error(runs, tmp_path, place, checkpoint, kind, message):
    config = (runs["rrd"] / "config.json").read_text()
    model = (runs["rrd"] / "checkpoints" / "last.safetensors").read_bytes()
    for name in ("EMPTY", "LAST", "DAMAGED", "TENSORFLOW"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(config)
    (tmp_path / "TENSORFLOW" / "run.json").write_text('{"backend": "tensorflow"}')
    (tmp_path / "LAST" / "checkpoints" / "last.safetensors").write_bytes(model)
    (tmp_path / "DAMAGED" / "checkpoints" / "last.safetensors").write_bytes(model[:-1] + b"x")
    where = str(runs["rrd"]) + place.removeprefix("RUN") if place.startswith("RUN") else place
    with pytest.raises(kind) as error:
        rd.load(where, checkpoint=checkpoint)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_of_other_settings_does_not_take_the_checkpoint(runs, tmp_path):
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "config.json").write_text((runs["sac"] / "config.json").read_text())
    with pytest.raises(rd.CheckpointError, match=r"alg: got 'rrd', expected 'sac'"):
        rd.load("RUN", checkpoint=runs["rrd"] / "checkpoints" / "last.safetensors")


# The learned reward ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "env"), [("rrd", "Pendulum-v1"), ("cart", "CartPole-v1")])
def test_a_markov_reward_predicts_steps_and_redistributes_episodes(runs, name, env):
    reward, episode = rd.load_reward(runs[name]), play(gym.make(env), 8)
    steps = episode["obs"], episode["acts"], episode["obs_next"]
    rewards = reward(*steps)
    assert (rewards.shape, rewards.dtype) == ((8, 1), np.float32)
    assert reward.markov
    assert reward.unit == "reward"
    np.testing.assert_allclose(reward.redistribute(episode), rewards[:, 0], rtol=1e-6, atol=1e-7)
    tensors = reward(*map(torch.as_tensor, steps))
    assert isinstance(tensors, torch.Tensor)
    np.testing.assert_array_equal(tensors.numpy(), rewards)
    twice = reward(*(np.stack([one, one]) for one in steps))
    np.testing.assert_allclose(twice, np.stack([rewards, rewards]), rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="obs: got shape"):
        reward(steps[0][:, :-1], *steps[1:])


def test_uniform_and_ircr_redistribute_whole_episodes_only(runs):
    episode = play(gym.make("Pendulum-v1"))
    uniform = rd.load_reward(runs["uniform"])
    total = episode["rews"].astype(np.float64).sum()
    np.testing.assert_allclose(uniform.redistribute(episode), np.full(12, total / 12))
    for name in ("uniform", "ircr"):
        with pytest.raises(rd.ConfigError, match=r"use redistribute\(episode\)"):
            rd.load_reward(runs[name])(episode["obs"], episode["acts"], episode["obs_next"])
        with pytest.raises(rd.ConfigError, match="not Markov"):
            rd.LearnedReward(gym.make("Pendulum-v1"), rd.load_reward(runs[name]))


def test_ircr_redistributes_by_the_replay_of_its_run(runs):
    from learner.evaluation import load_replay
    episode = play(gym.make("Pendulum-v1"))
    rewards = rd.load_reward(runs["ircr"]).redistribute(episode)
    replay = load_replay(runs["ircr"], rd.load(runs["ircr"]).config)
    low, high = replay.range.tolist()
    assert high > low
    np.testing.assert_allclose(rewards, np.full(12, (episode["rews"].astype(np.float64).sum() - low) / (high - low)))


def test_a_run_that_learns_no_reward_gives_a_one_line_error(runs):
    with pytest.raises(rd.ConfigError, match="alg: got 'sac', which learns no reward"):
        rd.load_reward(runs["sac"])


# As the reward of an environment --------------------------------------------------------------------------------

@pytest.mark.filterwarnings("ignore::UserWarning")          # of the checker, about unwrapped environments
@pytest.mark.parametrize(("name", "env"), [("rrd", "Pendulum-v1"), ("cart", "CartPole-v1")])
def test_the_wrapper_pays_the_reward_of_each_step(runs, name, env):
    reward = rd.load_reward(runs[name])
    check_env(rd.LearnedReward(gym.make(env), reward), skip_render_check=True)
    learned, plain = rd.LearnedReward(gym.make(env), reward), gym.make(env)
    episode = play(gym.make(env), 8)
    high = getattr(plain.action_space, "high", 1)
    learned.reset(seed=0)
    plain.reset(seed=0)
    for t in range(8):
        action = episode["acts"][t] * high if name == "rrd" else int(episode["acts"][t])
        obs, paid, terminated, truncated, info = learned.step(action)
        expected, true, *over, _ = plain.step(action)
        np.testing.assert_array_equal(obs, expected)
        assert [terminated, truncated] == over
        assert info["true_reward"] == pytest.approx(float(true))
        step = (episode[field][t:t + 1] for field in ("obs", "acts", "obs_next"))
        assert paid == pytest.approx(float(reward(*step)[0, 0]), rel=1e-5, abs=1e-6)


def test_the_wrapper_can_be_copied(runs):
    env = rd.LearnedReward(gym.make("Pendulum-v1"), rd.load_reward(runs["rrd"]))
    env.reset(seed=0)
    other = copy.deepcopy(env)
    assert env.step(np.ones(1, np.float32))[1] == other.step(np.ones(1, np.float32))[1]


@pytest.mark.parametrize(("env", "message"), [
    ("CartPole-v1", "observation_space: got"), ("MountainCarContinuous-v0", "observation_space: got"),
])
def test_an_environment_of_other_spaces_is_refused(runs, env, message):
    with pytest.raises(rd.ConfigError, match=message):
        rd.LearnedReward(gym.make(env), rd.load_reward(runs["rrd"]))


def test_stable_baselines3_trains_on_the_learned_reward(runs):
    sb3 = pytest.importorskip("stable_baselines3")
    env = rd.LearnedReward(gym.make("Pendulum-v1"), rd.load_reward(runs["rrd"]))
    model = sb3.SAC("MlpPolicy", env, learning_starts=50, batch_size=16, device="cpu", seed=0)
    model.learn(200)
    assert model.num_timesteps == 200


# Agents by keyword ----------------------------------------------------------------------------------------------

def test_an_agent_from_spaces():
    env = gym.make("Pendulum-v1")
    agent = rd.create_agent(alg="rrd", observation_space=env.observation_space, action_space=env.action_space,
                            pi_lr=1e-4, device="cpu")
    assert agent.config.pi_lr == 1e-4
    assert agent.step(env.observation_space.sample()).shape == (1,)
    with pytest.raises(rd.ConfigError, match=r"pi_lrr: .*did you mean pi_lr"):
        rd.create_agent(alg="rrd", observation_space=env.observation_space, action_space=env.action_space, pi_lrr=1e-4)
