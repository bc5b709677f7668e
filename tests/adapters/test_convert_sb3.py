"""Models of Stable-Baselines3 converted: the same answers, from saved cases and from models made here."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from reference_cases import FOLDER

import return_decomposition as rd
from adapters.convert_sb3 import convert_files, main
from algorithm.model_file import read_model, read_stats, read_tensors, stats_path
from algorithm.replay import main as replay
from evaluate import main as evaluate
from utils.errors import CheckpointError

CASES = FOLDER / "convert"
NAMES = ("convert_ppo", "convert_ppo_dict", "convert_recurrent", "convert_dqn")


def converted(tmp_path: Path, name: str) -> Path:
    out = tmp_path / f"{name}.pt"
    assert main([str(CASES / f"{name}.zip"), "--vecnormalize", str(CASES / f"{name}_vecnormalize.pkl"), "--out",
                 str(out)]) == 0
    return out


# Saved cases --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_a_case_is_met(tmp_path, name):
    assert replay([str(CASES / f"{name}.npz"), "--out", str(tmp_path / "out.npz")]) == 0
    case, out = np.load(CASES / f"{name}.npz"), np.load(tmp_path / "out.npz")
    for key in ("normalized_obs", "logits", "values", "actions", "obs_mean", "obs_var", "obs_count", "ret_var"):
        if key in case:
            np.testing.assert_allclose(out[key], case[key], rtol=1e-5, atol=1e-5, err_msg=key)
    if name != "convert_ppo":                           # whose actions are continuous
        np.testing.assert_array_equal(out["actions"], case["actions"])
    assert np.abs(case["normalized_obs"]).max() == 1.5                # clip_obs of these, reached
    assert len(np.unique(case["actions"])) > 1


def test_the_memory_of_a_recurrent_case_is_zeroed_at_starts_alone(tmp_path):
    case = dict(np.load(CASES / "convert_recurrent.npz"))
    assert case["episode_starts"].sum() == 3
    for suffix in (".zip", "_vecnormalize.pkl"):
        shutil.copy(CASES / f"convert_recurrent{suffix}", tmp_path / f"case{suffix}")
    np.savez(tmp_path / "case.npz", **{**case, "episode_starts": np.ones(12, bool)})
    assert replay([str(tmp_path / "case.npz"), "--out", str(tmp_path / "out.npz")]) == 0
    out = np.load(tmp_path / "out.npz")
    same = np.isclose(out["values"], case["values"], atol=1e-5)
    np.testing.assert_array_equal(same, case["episode_starts"])


def test_the_agent_and_its_files_are_read_back(tmp_path):
    path, case = converted(tmp_path, "convert_ppo"), np.load(CASES / "convert_ppo.npz")
    agent = rd.load(path)
    low, high = np.array([-2.0, 0.0]), np.array([2.0, 5.0])
    np.testing.assert_allclose(low + (agent.step(case["raw_obs"]) + 1) / 2 * (high - low), case["actions"], atol=1e-5)
    stats = read_stats(stats_path(path))
    assert sorted(stats) == ["obs_count", "obs_mean", "obs_var", "ret_count", "ret_mean", "ret_var"]
    assert [len(stats[f"{of}_{what}"]) for of in ("obs", "ret") for what in ("mean", "var")] == [5, 5, 1, 1]
    np.testing.assert_allclose(stats["obs_var"], case["obs_var"])
    assert read_tensors(path.read_bytes(), "")["format"] == "return-decomposition/model-1"


def test_statistics_can_be_replaced_by_another_file(tmp_path):
    path, case = converted(tmp_path, "convert_dqn"), np.load(CASES / "convert_dqn.npz")
    stats = json.loads(stats_path(path).read_text())
    stats_path(path).write_text(json.dumps(stats | {"obs_mean": [0.0] * 5, "obs_var": [4.0] * 5}))
    found = rd.load(path).normalize(torch.from_numpy(case["raw_obs"]))
    np.testing.assert_allclose(found, np.clip(case["raw_obs"] / 2, -1.5, 1.5), rtol=1e-6)


def test_a_model_without_statistics_reads_raw_observations(tmp_path):
    assert main([str(CASES / "convert_dqn.zip"), "--out", str(tmp_path / "m.pt")]) == 0
    assert not (tmp_path / "m_normalization.json").exists()
    agent, obs = rd.load(tmp_path / "m.pt"), torch.randn(3, 5)
    assert torch.equal(agent.normalize(obs), obs)


# Models made here ---------------------------------------------------------------------------------------------------

class Task(gym.Env):
    """Random observations; actions that are no [-1, 1]."""

    observation_space = gym.spaces.Box(-9, 9, (3,), np.float32)

    def __init__(self, discrete: bool = False):
        self.action_space = gym.spaces.Discrete(4) if discrete else gym.spaces.Box(
            np.array([-2, 0], np.float32), np.array([2, 5], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 1.0, False, False, {}


KINDS = {
    "ppo": ("PPO", False, {}), "ppo-shared": ("PPO", True, {"net_arch": []}), "a2c": ("A2C", True, {"net_arch": [6]}),
    "sac": ("SAC", False, {"net_arch": [6, 5]}), "td3": ("TD3", False, {"net_arch": dict(pi=[6], qf=[5, 4])}),
    "ddpg": ("DDPG", False, {"net_arch": [6], "activation_fn": torch.nn.ELU}),
    "dqn": ("DQN", True, {"net_arch": [6, 5], "activation_fn": torch.nn.Tanh})}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_each_algorithm_answers_as_before(tmp_path, kind):
    sb3 = pytest.importorskip("stable_baselines3")
    name, discrete, networks = KINDS[kind]
    memory = {"PPO": {"n_steps": 64}, "A2C": {}}.get(name, {"buffer_size": 10})
    model = getattr(sb3, name)("MlpPolicy", Task(discrete), seed=3, policy_kwargs=networks, device="cpu", **memory)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save(tmp_path / "m.zip")
    assert main([str(tmp_path / "m.zip"), "--out", str(tmp_path / "m.pt")]) == 0
    agent, obs = rd.load(tmp_path / "m.pt"), np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    wanted, acts = model.predict(obs, deterministic=True)[0], agent.step(obs)
    if discrete:
        np.testing.assert_array_equal(acts, wanted)
        assert len(np.unique(wanted)) > 1
    else:
        low, high = model.action_space.low, model.action_space.high
        np.testing.assert_allclose(low + (acts + 1) / 2 * (high - low), wanted, atol=1e-5)
    if name in ("SAC", "TD3", "DDPG"):
        scaled = torch.from_numpy(model.policy.scale_action(wanted))
        theirs = torch.cat(model.critic(torch.from_numpy(obs), scaled), dim=1).amin(1).detach()
        ours = torch.cat([critic(torch.from_numpy(obs), scaled) for critic in agent.critics.values()], dim=1).amin(1)
        torch.testing.assert_close(ours, theirs)


def test_exploration_of_a_rollout_policy_has_the_same_spread(tmp_path):
    sb3 = pytest.importorskip("stable_baselines3")
    model = sb3.PPO("MlpPolicy", Task(), n_steps=64, seed=3, device="cpu")
    with torch.no_grad():
        model.policy.log_std.copy_(torch.tensor([-0.5, 0.25]))
    model.save(tmp_path / "m.zip")
    policy, obs = convert_files(tmp_path / "m.zip").agent.policy, torch.randn(6, 3)
    acts = torch.randn(6, 2)
    half = torch.tensor([2.0, 2.5])
    ours = policy.evaluate_actions(obs, (acts - torch.tensor([0.0, 2.5])) / half)[0]
    theirs = model.policy.evaluate_actions(obs, acts)[1]
    torch.testing.assert_close(ours - half.log().sum(), theirs)             # the density of a scaled variable


# Errors -------------------------------------------------------------------------------------------------------------

def changed_zip(target: Path, name: str, **members: bytes | None) -> Path:
    """A copy of a case's zip with other members; None: without that one."""
    with zipfile.ZipFile(CASES / f"{name}.zip") as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            data = members.get(member.replace(".", "_"), old.read(member))
            if data is not None:
                new.writestr(member, data)
    return target


def with_data(target: Path, name: str = "convert_ppo", **changes) -> Path:
    with zipfile.ZipFile(CASES / f"{name}.zip") as old:
        data = json.loads(old.read("data"))
    return changed_zip(target, name, data=json.dumps(data | changes).encode())


@pytest.mark.parametrize(("changes", "message"), [
    (dict(policy_class={"__module__": "sb3_contrib.tqc.policies"}), "policy_class: got one of 'sb3_contrib.tqc"),
    (dict(policy_class=3), "policy_class"), (dict(use_sde=True), "use_sde: got True, expected False"),
    (dict(policy_kwargs={"activation_fn": "<class 'torch.nn.modules.activation.Mish'>"}), "activation_fn: got"),
    (dict(policy_kwargs={"activation_fn": "<class 'os.system'>"}), "activation_fn: got"),
    (dict(policy_kwargs={"features_extractor_class": "<class 'mine.Extractor'>"}), "features_extractor_class: got"),
    (dict(action_space=None), "action_space: missing"),
    (dict(observation_space={":serialized:": 3}), "observation_space"),
    (dict(action_space={":serialized:": "gARLAy4="}), "action_space: got another object"),
], ids=["contrib", "no-class", "sde", "activation", "another-class", "extractor", "no-actions", "no-text", "number"])
def test_a_model_that_no_agent_here_computes_is_refused(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=message):
        convert_files(with_data(tmp_path / "m.zip", **changes))


def test_weights_of_other_networks_are_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(CASES / "convert_ppo.zip") as old:
        weights = read_tensors(old.read("policy.pth"), "")
    torch.save({**weights, "features_extractor.cnn.0.weight": torch.zeros(2, 2)}, buffer)
    with pytest.raises(CheckpointError, match=r"policy.pth: got features_extractor.cnn.0.weight, which no agent here"):
        convert_files(changed_zip(tmp_path / "m.zip", "convert_ppo", policy_pth=buffer.getvalue()))


def test_errors_of_the_command_are_one_line(tmp_path, capsys):
    zip_, pickle = str(CASES / "convert_ppo.zip"), str(CASES / "convert_ppo_vecnormalize.pkl")
    dict_pickle = str(CASES / "convert_ppo_dict_vecnormalize.pkl")
    out = ["--out", str(tmp_path / "m.pt")]
    for argv, message in (
            ([zip_, "--out", str(tmp_path / "m.zip")], "out: got"), (["none.zip", *out], "none.zip: no such file"),
            ([pickle, *out], "expected a zip with data and policy.pth"), ([zip_], "--out"),
            ([zip_, "--vecnormalize", zip_, *out], "zip: "),
            ([zip_, "--vecnormalize", dict_pickle, *out], "norm_obs_keys: got")):
        assert main(argv) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert len(said.err.splitlines()) == 1
        assert message in said.err
    assert not (tmp_path / "m.pt").exists()


def test_a_damaged_model_file_is_refused(tmp_path):
    path = converted(tmp_path, "convert_dqn")
    stats_path(path).write_text("{}")
    with pytest.raises(CheckpointError, match="obs_mean: missing, expected numbers of shape"):
        rd.load(path)
    stats_path(path).unlink()
    with pytest.raises(CheckpointError, match="expected the statistics of the model beside it"):
        rd.load(path)
    torch.save({"format": "another"}, path)
    with pytest.raises(CheckpointError, match="got format 'another'"):
        rd.load(path)
    torch.save({"format": "return-decomposition/model-1", "settings": "{", "sizes": "{}", "nets": {}}, path)
    with pytest.raises(CheckpointError, match="damaged"):
        rd.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="got no file of weights alone"):
        rd.load(path)


def test_a_tensor_that_claims_more_than_it_holds_is_refused(tmp_path):
    path = converted(tmp_path, "convert_dqn")
    found = read_tensors(path.read_bytes(), "")
    found["nets"]["main.value.q.bias"] = torch.zeros(1).expand(2**40)
    torch.save(found, path)
    with pytest.raises(CheckpointError, match=r"main.value.q.bias: got Tensor, expected a tensor of numbers"):
        read_model(path)


# Evaluation ---------------------------------------------------------------------------------------------------------

def test_evaluate_plays_a_model_file(tmp_path, capsys):
    path = tmp_path / "m.pt"
    assert main([str(CASES / "convert_dqn.zip"), "--out", str(path)]) == 0
    assert evaluate([str(path)]) == 2
    assert "env: " in capsys.readouterr().err
    assert evaluate([str(path), "--env=CartPole-v1", "--test_timesteps=3"]) == 2
    assert "nets: main.value.q_dense1.weight: got shape (6, 5), expected (6, 4)" in capsys.readouterr().err
    path = converted(tmp_path, "convert_recurrent")
    gym.register("Converted-v0", lambda: FiveNumbers(discrete=True))
    try:
        assert evaluate([str(path), "--env=Converted-v0", "--test_timesteps=9", "--episodes=2", "--explore"]) == 0
    finally:
        gym.registry.pop("Converted-v0")
    found = json.loads(next((tmp_path / "evaluations").glob("*.json")).read_text())
    assert (found["lengths"], found["metrics"]["length"]["mean"]) == ([9, 9], 9)


class FiveNumbers(Task):
    observation_space = gym.spaces.Box(-9, 9, (5,), np.float32)
