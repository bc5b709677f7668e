"""Atari games: names, preprocessing to the pixel, no-ops, ends, rewards, random actions at evaluation, whole runs."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from runs import run

import train
from algorithm import create_agent
from envs import env_kwargs, make_env
from envs.atari import FrameStack
from envs.names import resolve_env
from envs.wrappers import TrueReward
from learner import Evaluator, training
from utils.errors import ConfigError
from utils.settings.fields import Config
from utils.settings.games import ATARI, GAMES
from utils.settings.resolve import resolve

ale_py = pytest.importorskip("ale_py")
cv2 = pytest.importorskip("cv2")


def make(game: str = "Assault", **settings) -> gym.Env:
    return make_env(resolve({"alg": "dqn", "env": game} | settings))


def play(env: gym.Env, steps: int = 10**6, seed: int | None = 0) -> list[tuple]:
    """(observation, reward, terminated, truncated, info) of a reset and of up to `steps` steps, the actions in turn."""
    obs, info = env.reset(seed=seed)
    played = [(obs, 0.0, False, False, info)]
    while len(played) <= steps and not (played[-1][2] or played[-1][3]):
        played.append(env.step(7 * len(played) % int(env.action_space.n)))
    return played


def raw_game(game: str, seed: int = 0, noops: int = 0) -> gym.Env:
    """The game as ale-py returns it, at its start."""
    gym.register_envs(ale_py)
    raw = gym.make(f"ALE/{game}-v5", frameskip=4, repeat_action_probability=0.0)
    raw.reset(seed=seed)
    for _ in range(noops):
        raw.step(0)
    return raw


def grey(screen: np.ndarray) -> np.ndarray:
    """The expected frame of a screen."""
    assert screen.shape == (210, 160, 3)
    return cv2.resize(cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY), (84, 84), interpolation=cv2.INTER_AREA)


# Names ----------------------------------------------------------------------------------------------------------

def test_the_originals_game_names_are_there():
    assert len(set(GAMES)) == len(GAMES) == 62
    assert {"Assault", "Pong", "MsPacman", "Zaxxon"} < set(GAMES)


@pytest.mark.parametrize("game", GAMES)
def test_every_game_is_known_to_ale_py_under_both_names(game):
    spec = gym.spec(f"ALE/{game}-v5")
    assert resolve_env(game).id == resolve_env(f"ALE/{game}-v5").id == spec.id
    assert ale_py.roms.get_rom_path(spec.kwargs["game"]).is_file()


@pytest.mark.parametrize(("name", "acts"), [
    ("Assault", 7), ("ALE/Assault-v5", 7), ("Pong", 6), ("MsPacman", 9), ("Boxing", 18), ("ALE/Tetris-v5", 5),
])
def test_a_game_gives_four_grey_frames_under_either_name(name, acts):
    env = make(name)
    obs, _ = env.reset(seed=0)
    assert env.observation_space == Box(0, 255, (84, 84, 4), np.uint8)
    assert env.action_space == Discrete(acts)
    assert env.observation_space.contains(obs)
    assert env.spec.id == resolve_env(name).id


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_another_number_of_frames_can_be_stacked(frames):
    env = make(frames=frames)
    assert env.observation_space.shape == env.reset(seed=0)[0].shape == (84, 84, frames)


@pytest.mark.parametrize(("name", "nearest"), [
    ("Asault", "Assault"), ("assault", "Assault"), ("Pongg", "Pong"), ("SpaceInvader", "SpaceInvaders"),
    ("ALE/Asault-v5", "ALE/Assault-v5"), ("ALE/Assault-v4", "ALE/Assault-v5"), ("ALE/pong-v5", "ALE/Pong-v5"),
])
def test_an_unknown_game_suggests_the_nearest(name, nearest):
    with pytest.raises(ConfigError, match=rf"^env: got '{name}'; did you mean {nearest}\?") as error:
        make(name)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["ALE/", "ALE/xyzzy", "ALE/x:y", "ALE/a:b:c", "ALE/Pong-v5:x"])
def test_no_name_of_a_game_causes_a_traceback(name, capsys):
    assert train.main(["--alg=dqn", f"--env={name}"]) == 2
    assert re.fullmatch(rf"train.py: env: got '{name}'.*\n", capsys.readouterr().err)


@pytest.mark.parametrize("options", [["--alg=sac"], ["--alg=td3"], ["--alg=rrd", "--basis_alg=sac"],
                                     ["--alg=ircr", "--basis_alg=ddpg"]], ids=" ".join)
def test_an_algorithm_for_continuous_actions_gets_an_error_that_names_what_a_game_needs(options, capsys):
    assert train.main([*options, "--env=Assault"]) == 2
    line = capsys.readouterr().err
    assert re.fullmatch(r"train.py: env: 'Assault' .*--alg=dqn, .*, or --basis_alg=dqn, .* with rrd, ircr, uniform, "
                        r".* or grd\n", line)
    assert not Path("outputs").exists()


@pytest.mark.parametrize("missing", ["ale_py", "cv2"])
@pytest.mark.parametrize("game", ["Assault", "ALE/Assault-v5", "Asault"])
def test_without_ale_py_or_opencv_one_line_names_what_installs_it(missing, game, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, missing, None)
    assert train.main(["--alg=dqn", f"--env={game}"]) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1
    if game == "Asault":                        # a wrong name is reported with or without them
        assert "did you mean Assault?" in message
    else:
        hint = {"ale_py": "pip install -e '.[atari]'", "cv2": "pip install -e ."}[missing]
        assert message.endswith(f"need {missing}, which is not installed; {hint} installs it\n")
    assert not Path("outputs").exists()


def test_the_extra_that_the_message_names_exists():
    setup = Path(train.__file__).with_name("setup.py").read_text()
    (extra,) = re.findall(r'"atari": \[(.*?)\]', setup, re.DOTALL)
    assert "ale-py" in extra
    assert "opencv-python-headless" in re.search(r"install_requires=\[(.*?)\n    \]", setup, re.DOTALL)[1]


@pytest.mark.parametrize("missing", ["ale_py", "cv2"])
@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1"])
def test_other_discrete_environments_need_neither(missing, name, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    env = make(name)
    assert env.reset(seed=0)[0].dtype == np.float32


# Settings -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["Assault", "ALE/Assault-v5"])
def test_the_defaults_are_the_originals_for_atari(name):
    config = resolve({"env": name})
    values = {name: getattr(config, name) for name in ATARI} | {"basis_alg": config.basis_alg}
    assert values == {"sticky": False, "noop": 30, "frames": 4, "test_eps": 0.001, "epochs": 10, "cycles": 20,
                    "iterations": 500, "test_rollouts": 5, "test_timesteps": 27000, "warmup": 30000,
                    "basis_alg": "dqn"}
    assert (config.batch_size, config.buffer_size) == (32, 1_000_000)
    assert (config.rrd_batch_size, config.rrd_sample_size, config.rews_scale) == (32, 32, None)
    assert resolve({"env": name, "env_type": "normal"}).rews_scale == 1.0
    assert resolve({"env": name, "alg": "ircr"}).buffer_size == 1_000_000


def test_mujoco_keeps_its_own_defaults():
    config = resolve({})
    assert (config.epochs, config.cycles, config.iterations, config.test_rollouts) == (3, 100, 100, 10)
    assert (config.test_timesteps, config.warmup, config.batch_size, config.basis_alg) == (1000, 10_000, 256, "sac")
    assert {config.sticky, config.noop, config.frames, config.test_eps, config.rews_scale} == {None}
    assert not set(config.settings()) & {"sticky", "noop", "frames", "test_eps", "rews_scale", "eps_l"}


@pytest.mark.parametrize(("flag", "env", "belongs"), [
    ("sticky=True", "Ant-v2", "the Atari games"), ("noop=3", "CartPole-v1", "the Atari games"),
    ("test_eps=0.1", "Ant-v2", "the Atari games"), ("frames=2", "CartPole-v1", "the Atari games"),
    ("rews_scale=2", "Assault", "the Atari games with --env_type=normal"),
])
def test_a_flag_that_would_not_be_read_is_refused(flag, env, belongs, capsys):
    alg = "dqn" if env == "CartPole-v1" else "rrd"
    assert train.main([f"--alg={alg}", f"--env={env}", f"--{flag}"]) == 2
    assert f"it belongs to {belongs}\n" in capsys.readouterr().err


# Pixels ---------------------------------------------------------------------------------------------------------

GOLDEN = {
    "Assault": "5b206f75f3f4478c1030279a3e1260dd30d03e8fc3d15719813191428111e7bc",
    "Pong": "187a93659e11896344ac797997d22c1b0cf6db4832d7edd47c02921de217d092",
}


@pytest.mark.parametrize("game", GOLDEN)
def test_the_frames_of_a_game_are_these(game):
    """Of the first observation and 120 more; ale-py 0.10.2 with OpenCV 4.10 gives the same as 0.12.1 with 5.0."""
    hashed = hashlib.sha256()
    for obs, *_ in play(make(game, noop=0), 120):
        hashed.update(np.ascontiguousarray(obs))
    assert hashed.hexdigest() == GOLDEN[game]


@pytest.mark.parametrize(("game", "noop"), [("Assault", 0), ("Pong", 0), ("Assault", 30), ("MsPacman", 30)])
def test_each_observation_is_the_raw_screens_in_grey_at_84_x_84_and_the_newest_is_last(game, noop):
    env = make(game, noop=noop)
    played = play(env, 60)
    raw = raw_game(game, noops=0)
    screens = [grey(raw.reset(seed=0)[0])] * 4
    screens += [grey(raw.step(0)[0]) for _ in range(played[0][4]["episode_frame_number"] // 4)]
    for t, (obs, *_) in enumerate(played):
        if t:
            screens.append(grey(raw.step(7 * t % int(raw.action_space.n))[0]))
        np.testing.assert_array_equal(obs, np.stack(screens[-4:], axis=-1))
    assert not np.array_equal(screens[-1], screens[-4])


def test_the_resize_is_the_mean_over_the_area_of_a_pixel():
    """By hand: of each source pixel the share that lies in the target's; to within OpenCV's rounding."""
    def shares(source):                         # (84, source)
        edges = np.linspace(0, source, 85)
        left, right = np.arange(source), np.arange(1, source + 1)
        overlap = np.minimum(edges[1:, None], right) - np.maximum(edges[:-1, None], left)
        return overlap.clip(0) * 84 / source
    raw = raw_game("Assault")
    for action in range(30):
        screen = raw.step(action % 7)[0]
    luma = np.rint(screen @ np.array([0.299, 0.587, 0.114]))
    env = make(noop=0)
    env.reset(seed=0)
    for action in range(30):
        obs = env.step(action % 7)[0]
    wanted = shares(210) @ luma @ shares(160).T
    assert np.abs(obs[..., -1] - wanted).max() <= 1.5
    assert np.ptp(wanted) > 50


def test_a_returned_observation_does_not_change_later():
    env = make(noop=0)
    given = [obs for obs, *_ in play(env, 20)]
    copies = [obs.copy() for obs in given]
    play(env, 20, seed=None)
    assert all(np.array_equal(obs, copy) for obs, copy in zip(given, copies, strict=True))


# The game's clock -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("sticky", "chance"), [(False, 0.0), (True, 0.25)])
@pytest.mark.parametrize("name", ["Assault", "ALE/Assault-v5"])
def test_four_frames_a_step_and_sticky_actions_only_if_asked_for(sticky, chance, name):
    env = make(name, sticky=sticky)
    assert env.unwrapped.ale.getFloat("repeat_action_probability") == chance
    assert env.unwrapped.spec.kwargs["repeat_action_probability"] == chance
    assert env.unwrapped.spec.kwargs["frameskip"] == 4
    kwargs = env_kwargs(resolve({"alg": "dqn", "env": name, "sticky": sticky}))           # the entry of run.json
    assert kwargs == {"frameskip": 4, "repeat_action_probability": chance, "max_num_frames_per_episode": 0}
    assert kwargs.items() <= env.unwrapped.spec.kwargs.items()
    clock = [info["episode_frame_number"] for *_, info in play(env, 10)]
    assert set(np.diff(clock)) == {4}


def test_sticky_actions_change_the_game():
    plain, sticky = (np.stack([obs for obs, *_ in play(make("Breakout", sticky=sticky, noop=0), 40)])
                     for sticky in (False, True))
    assert not np.array_equal(plain, sticky)


def test_no_clock_of_ale_py_ends_an_episode():
    """`ALE/...-v5` itself allows 108 000 frames."""
    env = make(test_timesteps=30_000)
    assert env.unwrapped.spec.kwargs["max_num_frames_per_episode"] == 0
    assert env.unwrapped.ale.getInt("max_num_frames_per_episode") == 0
    assert env.spec.max_episode_steps == 30_000


@pytest.mark.parametrize("noop", [0, 30])
@pytest.mark.parametrize("env_type", ["ep_rews", "normal"])
def test_the_time_limit_counts_the_agents_steps_after_the_no_ops_and_truncates(noop, env_type):
    env = make(test_timesteps=12, noop=noop, env_type=env_type)
    for seed in (0, None, None):
        played = play(env, seed=seed)
        assert [step[2:4] for step in played[1:]] == [(False, False)] * 11 + [(False, True)]
        frames = [info["episode_frame_number"] for *_, info in played]
        assert frames[-1] - frames[0] == 48
        assert (frames[0] == 0) == (noop == 0)


def test_a_game_that_is_lost_terminates():
    played = play(make("Breakout", test_timesteps=2000))
    assert len(played) < 2000
    assert played[-1][2:4] == (True, False)
    assert played[-1][4]["lives"] == 0
    assert {info["lives"] for *_, info in played} == {0, 1, 2, 3, 4, 5}        # a life lost is no end


# No-ops and the first stack -------------------------------------------------------------------------------------

def noops(env: gym.Env, resets: int, seed: int | None = 0) -> list[int]:
    infos = [env.reset(seed=seed)[1]] + [env.reset()[1] for _ in range(resets - 1)]
    return [info["episode_frame_number"] // 4 for info in infos]


def test_the_number_of_no_ops_is_random_from_1_to_noop_and_follows_from_the_seed():
    first, again, other = (noops(make(noop=3), 25, seed) for seed in (0, 0, 1))
    assert set(first) == {1, 2, 3}
    assert first == again != other
    env = make(noop=3)
    assert noops(env, 25) == noops(env, 25) == first
    assert max(first.count(n) for n in (1, 2, 3)) < 18


def test_there_are_none_with_noop_0():
    assert noops(make(noop=0), 3) == [0, 0, 0]


@pytest.mark.parametrize("noop", [0, 1, 2, 5])
def test_the_first_stack_is_the_first_frame_and_those_of_the_no_ops(noop):
    game = Frames(length=100)
    env = FrameStack(game, frames=4, noop=noop)
    for seed in (0, None, None):
        obs, info = env.reset(seed=seed)
        count = info["t"]
        assert 1 <= count <= noop or count == noop == 0
        np.testing.assert_array_equal(obs[0, 0], [0, 0, 0, 0, *range(1, count + 1)][-4:])
        assert game.actions == [0] * count
        for t in range(count + 1, count + 6):
            obs, *_ = env.step(1)
            assert obs.shape == (2, 3, 4)
            np.testing.assert_array_equal(obs[0, 0], [0, 0, 0, 0, *range(1, t + 1)][-4:])


class Frames(gym.Env):
    """Grey frames that show the time; ends after `length` steps."""

    def __init__(self, length):
        self.observation_space, self.action_space = Box(0, 255, (2, 3), np.uint8), Discrete(5)
        self.length, self.resets = length, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.actions, self.resets = 0, [], self.resets + 1
        return np.full((2, 3), 0, np.uint8), {"t": 0}

    def step(self, action):
        self.t += 1
        self.actions.append(int(action))
        return np.full((2, 3), self.t % 256, np.uint8), 1.0, self.t >= self.length, False, {"t": self.t}


def test_a_game_that_ends_during_the_no_ops_starts_again_with_a_stack_of_its_own():
    game = Frames(length=3)
    env = FrameStack(game, frames=4, noop=6)
    for seed in range(10):
        resets = game.resets
        obs, info = env.reset(seed=seed)
        assert 1 <= info["t"] < 3
        np.testing.assert_array_equal(obs[0, 0], [0, 0, 0, 0, *range(1, info["t"] + 1)][-4:])
        assert game.resets > resets
    assert game.resets > 12


def test_a_seed_fixes_an_episode_and_another_changes_it():
    def seen(env, seed):
        return np.stack([obs for obs, *_ in play(env, 40, seed)])
    env = make(sticky=True)
    first = seen(env, 3)
    np.testing.assert_array_equal(first, seen(env, 3))
    np.testing.assert_array_equal(first, seen(make(sticky=True), 3))
    assert not np.array_equal(first, seen(env, 4))


def test_without_a_seed_the_next_episode_is_another():
    env = make(noop=30, sticky=True)
    first, second = (np.stack([obs for obs, *_ in play(env, 40, seed)]) for seed in (0, None))
    assert not np.array_equal(first, second)


# Rewards --------------------------------------------------------------------------------------------------------

def rewards(**settings):
    """(what the agent is paid, the true rewards) of each step of the same 300 steps."""
    played = play(make(noop=0, test_timesteps=300, **settings))[1:]
    return [reward for _, reward, *_ in played], [info["true_reward"] for *_, info in played]


def test_the_episodes_return_is_paid_at_its_end():
    paid, true = rewards(game="SpaceInvaders")
    assert sum(true) > 50
    assert paid == [0] * (len(true) - 1) + [sum(true)]


@pytest.mark.parametrize(("scale", "game"), [(None, "SpaceInvaders"), (0.5, "SpaceInvaders"), (12, "SpaceInvaders"),
                                             (None, "Pong"), (0.25, "Pong")])
def test_the_reward_of_a_step_is_clipped_and_the_true_one_is_not(scale, game):
    paid, true = rewards(game=game, env_type="normal", **({"rews_scale": scale} if scale else {}))
    limit = scale or 1.0
    assert paid == [min(max(reward, -limit), limit) for reward in true]
    assert set(true) >= ({0.0, -1.0} if game == "Pong" else {0.0, 5.0, 10.0, 15.0})
    assert {type(reward) for reward in paid + true} == {float}


# Random actions at evaluation -----------------------------------------------------------------------------------

class Greedy:
    """Always takes action 0, and returns no metrics."""

    def step(self, obs, explore=False, test_info=False):
        assert not explore
        assert test_info
        return 0, {}

    def add(self, info):
        """It is the logger as well."""


def evaluated(test_eps: float | None, seed: int = 0, length: int = 3000) -> np.ndarray:
    """The actions that the evaluator takes."""
    env = Frames(length)
    config = Config(seed=seed, test_eps=test_eps, test_rollouts=1)
    Evaluator(config, TrueReward(env), Greedy()).evaluate(Greedy())
    assert len(env.actions) == length
    return np.array(env.actions)


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_a_share_of_the_actions_at_evaluation_is_random(share):
    """One in five of the random ones is the greedy one, too."""
    actions = evaluated(share)
    spread = 5 * np.sqrt(3000 * 0.8 * share * (1 - 0.8 * share))
    assert abs((actions != 0).sum() - 3000 * 0.8 * share) < spread
    assert len(set(np.bincount(actions, minlength=5)[1:] > 10)) == 1
    np.testing.assert_array_equal(actions, evaluated(share))
    assert not np.array_equal(actions, evaluated(share, seed=1))


@pytest.mark.parametrize("share", [0.0, None])
def test_none_is_random_without_test_eps(share):
    assert not evaluated(share).any()


# Runs -----------------------------------------------------------------------------------------------------------

TINY = ["--device=cpu", "--total_timesteps=60", "--timesteps=10", "--iterations=6", "--test_timesteps=10",
        "--warmup=40", "--buffer_size=60", "--batch_size=4", "--train_batches=1", "--test_rollouts=1",
        "--eps_decay=100"]
ALGS = {"dqn": ["--alg=dqn"], "rrd": ["--alg=rrd", "--basis_alg=dqn", "--rrd_batch_size=4", "--rrd_sample_size=4"],
        "ircr": ["--alg=ircr", "--basis_alg=dqn"]}


@pytest.fixture
def _tidy():
    """The network of 84 x 84 pixels has four million weights; a checkpoint is 67 MB."""
    yield
    shutil.rmtree("outputs")


@pytest.fixture
def built(monkeypatch):
    """The agents that runs build."""
    agents, build = [], training.build

    def create(config):
        agents.append(create_agent(config))
        return agents[-1]
    monkeypatch.setattr(training, "build", lambda config: build(config, create))
    return agents


def assert_same_run(first, second):
    assert first.untimed() == second.untimed()
    ours, theirs = first.tensors(), second.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def assert_record_of(done, alg: str):
    """One cycle of 60 steps in six iterations; the last three of them trained."""
    (row,) = done.rows
    assert float(row["Epsilon"]) == pytest.approx(1 - 0.99 * np.mean([10, 20, 30, 40, 50, 60]) / 100)
    assert float(row["Q_loss"]) >= 0
    assert ("R_loss" in row) == (alg == "rrd")
    assert done.returns(done.config["env"]).shape == (1, 2)
    assert (int(done.tensors()["steps"]), int(done.tensors()["updates"])) == (60, 3)


@pytest.mark.parametrize("alg", ALGS)
@pytest.mark.usefixtures("_tidy")
@pytest.mark.sampled(1)
def test_a_run_on_a_game_writes_its_record_and_its_config_repeats_it(alg, built, capsys):
    first = run(*ALGS[alg], *TINY, f"--tag={alg.upper()} Assault", "--env=Assault", "--sticky", "--test_eps=0.3")
    shown = capsys.readouterr()
    assert "84x84x4 observations, 7 actions" in shown.out
    assert shown.err == ""
    over = "" if alg == "dqn" else "-dqn"
    assert first.directory.name.startswith(f"{alg.upper()}_Assault-{alg}{over}-Assault_")
    assert (first.facts["env_id"], first.facts["obs_dims"]) == ("ALE/Assault-v5", [84, 84, 4])
    assert first.facts["env_kwargs"] == {"frameskip": 4, "repeat_action_probability": 0.25,
                                         "max_num_frames_per_episode": 0}
    assert_record_of(first, alg)
    assert built[0].config.obs_scale == 255                 # pixels are divided when it acts, too
    assert_same_run(first, run("--config", str(first.directory / "config.json")))


@pytest.mark.parametrize("alg", ALGS)
def test_a_run_on_cartpole_writes_its_record_and_the_same_seed_repeats_it(alg, built):
    options = [*ALGS[alg], *TINY, "--env=CartPole-v1"]
    first, second, other = (run(*options, f"--seed={seed}") for seed in (1, 1, 2))
    assert (first.facts["env_id"], first.facts["obs_dims"]) == ("CartPole-v1", [4])
    assert_record_of(first, alg)
    assert built[0].config.obs_scale == 1
    assert_same_run(first, second)
    assert first.untimed() != other.untimed()


def test_a_replay_that_does_not_fit_is_refused_with_a_size_before_the_run_starts(monkeypatch, capsys):
    monkeypatch.setattr("algorithm.replay_buffer.transition.available_bytes", lambda device: 3 * 10**9)
    assert train.main(["--alg=dqn", "--env=Assault"]) == 2
    message = capsys.readouterr().err
    size = int(re.fullmatch(r"train.py: buffer_size: 1000000 steps need 7.1\d GB .* 3 GB free; "
                            r"--buffer_size=(\d+) would fit\n", message)[1])
    assert 2.5e9 < size * 7200 < 3e9
    assert not Path("outputs").exists()


def test_the_limit_of_episodes_is_named_if_no_episode_of_a_game_fits(monkeypatch, capsys):
    monkeypatch.setattr("algorithm.replay_buffer.transition.available_bytes", lambda device: 10**8)
    assert train.main(["--alg=dqn", "--env=Assault"]) == 2
    assert re.fullmatch(r"train.py: buffer_size: 1000000 steps need 7.1\d GB on \w+, which has 100 MB free, too little "
                        r"for one episode of test_timesteps \(27000\); .*lower --test_timesteps and --buffer_size\n",
                        capsys.readouterr().err)
