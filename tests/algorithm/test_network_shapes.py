"""The shapes of an agent's networks: from settings, in checkpoints, and refused by the TensorFlow reference."""

from __future__ import annotations

import re
from argparse import Namespace

import pytest
import torch
from agents import A, O, make_agent, make_batch
from runs import ROOT, SMALL, SMALL_RRD, refusal, run
from torch import nn

import algorithm.create
import train
from algorithm import create_agent, register_algorithm
from algorithm.basis_alg.sac_torch import SAC
from algorithm.create import NETWORKS
from utils.checkpoint import read_identity
from utils.errors import CheckpointError, ConfigError

NAMES = ["hidden_sizes", "activation", "critic_hidden_sizes", "critic_activation", "reward_hidden_sizes",
         "reward_activation", "max_grad_norm", "obs_clip", "obs_eps", "lr_schedule", "lr_end", "lr_decay", "lr_start",
         "lr_warmup"]
OF_A_SCHEDULE = ("lr_end", "lr_decay", "lr_start", "lr_warmup")


def make_game(alg: str = "dqn", basis: str | None = None, **settings):
    return create_agent(Namespace(alg=alg, basis_alg=basis, obs_dims=(16, 16, 2), acts_dims=3, device="cpu",
                                  **settings))


def widths(network: nn.Module) -> list[int]:
    """The outputs of the dense layers of a network but for the last one, in order."""
    return [layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)][:-1]


def shapes(agent) -> dict[str, tuple[list[int], str]]:
    """The hidden layers and the activation of each network of the agent, by its name."""
    found = {name.rpartition(".")[2]: network for name, network in agent.nets.named_modules()
             if hasattr(network, "activation") and not name.startswith("target")}
    return {name: (widths(network), network.activation) for name, network in found.items()}


# From settings -------------------------------------------------------------------------------------------------------

DEFAULT = ([256, 256], "relu")


@pytest.mark.parametrize(("alg", "basis", "expected"), [
    ("sac", None, {"policy": DEFAULT, "q_value_1": DEFAULT, "q_value_2": DEFAULT}),
    ("td3", None, {"policy": DEFAULT, "value_1": DEFAULT, "value_2": DEFAULT}),
    ("rrd", "ddpg", {"policy": ([400, 300], "relu"), "value": ([400, 300], "relu"), "rrd": DEFAULT}),
    ("dqn", None, {"value": DEFAULT}),
])
def test_without_settings_they_are_the_originals(alg, basis, expected):
    assert shapes(make_agent(alg, basis)) == expected


@pytest.mark.parametrize(("settings", "policy", "critic", "reward"), [
    (dict(hidden_sizes=(7,)), ([7], "relu"), ([7], "relu"), ([7], "relu")),
    (dict(activation="tanh"), ([256, 256], "tanh"), ([256, 256], "tanh"), ([256, 256], "tanh")),
    (dict(hidden_sizes="7,6", critic_hidden_sizes="5", critic_activation="elu"), ([7, 6], "relu"), ([5], "elu"),
     ([7, 6], "relu")),
    (dict(activation="gelu", reward_hidden_sizes=[4, 4, 4], reward_activation="silu"), ([256, 256], "gelu"),
     ([256, 256], "gelu"), ([4, 4, 4], "silu")),
])
def test_critics_and_reward_follow_the_policy_unless_they_have_settings_of_their_own(settings, policy, critic, reward):
    assert shapes(make_agent("rrd", "sac", **settings)) == {
        "policy": policy, "q_value_1": critic, "q_value_2": critic, "rrd": reward}


def test_a_setting_of_one_part_does_not_change_ddpgs_other_parts():
    agent = make_agent("rrd", "ddpg", critic_hidden_sizes="9")
    assert shapes(agent) == {"policy": ([400, 300], "relu"), "value": ([9], "relu"), "rrd": DEFAULT}
    assert agent.nets["main"]["value"].layers[1].in_features == 9 + A                  # where the action joins


def test_over_pictures_they_apply_after_the_convolutions():
    assert shapes(make_game("rrd", "dqn")) == {"value": ([512], "relu"), "rrd": ([512], "relu")}
    agent = make_game("rrd", "dqn", hidden_sizes="20,10", activation="silu", reward_hidden_sizes="7", dueling=True)
    assert shapes(agent) == {"value": ([20, 10, 3, 20, 10], "silu"), "rrd": ([7], "silu")}


@pytest.mark.parametrize(("alg", "basis"), [("sac", None), ("td3", None), ("rrd", "ddpg"), ("rrd", "td3")])
@pytest.mark.parametrize("hidden", ["8", "8,7,6"])
def test_agents_of_any_depth_learn_act_save_and_load(alg, basis, hidden, tmp_path):
    agents = [make_agent(alg, basis, hidden_sizes=hidden, activation="elu", seed=seed) for seed in (1, 2)]
    agents[0].train(make_batch())
    agents[0].train(make_batch())
    agents[0].save_model(tmp_path / "model")
    agents[1].load_model(tmp_path / "model")
    acts = [agent.step([0.1] * O) for agent in agents]
    assert acts[0].tolist() == acts[1].tolist()
    variables = agents[0].tf_variables()
    assert "main/policy/net/pi_dense1/kernel" in variables
    assert ("main/policy/net/pi_dense3/kernel" in variables) == (hidden == "8,7,6")
    agents[1].load_tf_variables(variables)


def test_the_same_weights_are_drawn_where_the_default_is_written_out():
    one, other = make_agent("rrd", "sac"), make_agent("rrd", "sac", hidden_sizes="256,256", activation="relu")
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    assert one.identity() == other.identity()


@pytest.mark.parametrize(("alg", "basis", "name"), [
    ("dqn", None, "critic_hidden_sizes"), ("sac", None, "reward_activation"), ("ircr", "sac", "reward_hidden_sizes"),
    ("rrd", "dqn", "critic_activation"), ("uniform", "td3", "reward_hidden_sizes")])
def test_a_setting_that_an_algorithm_lacks_is_refused_on_the_command_line(alg, basis, name, capsys):
    flags = [f"--alg={alg}", f"--{name}={'tanh' if name.endswith('tion') else '8,8'}"]
    message = refusal([*flags, *([f"--basis_alg={basis}"] if basis else [])], capsys)
    assert re.match(rf"{name}: not a setting of {alg}.*; it belongs to ", message)


@pytest.mark.usefixtures("forget")
def test_a_registered_algorithm_has_them_and_may_have_other_defaults():
    register_algorithm("wide", like="sac", hidden_sizes="12,12", max_grad_norm=3)(SAC)
    agent = make_agent("wide")
    assert set(map(str, shapes(agent).values())) == {"([12, 12], 'relu')"}
    assert {group["max_grad_norm"] for _, group in agent.groups()} == {3.0, None}
    assert make_agent("wide", hidden_sizes="5").identity()["hidden_sizes"] == "5"


# In checkpoints ------------------------------------------------------------------------------------------------------

def saved(tmp_path, **settings):
    path = tmp_path / "model.safetensors"
    make_agent("rrd", "sac", **settings).save_model(path)
    return path


def test_a_checkpoint_does_not_record_default_shapes(tmp_path):
    path = saved(tmp_path, hidden_sizes="256,256", max_grad_norm=1.0, lr_schedule="linear")
    assert set(read_identity(path)) == {"alg", "basis_alg", "obs_dims", "acts_dims"}
    make_agent("rrd", "sac").load_model(path)


@pytest.mark.parametrize(("theirs", "ours", "message"), [
    (dict(hidden_sizes="64,64"), {}, "hidden_sizes: got '64,64', expected the default"),
    ({}, dict(hidden_sizes="64,64"), "hidden_sizes: got the default, expected '64,64'"),
    (dict(activation="tanh"), {}, "activation: got 'tanh', expected the default"),
    ({}, dict(activation="tanh"), "activation: got the default, expected 'tanh'"),
    (dict(activation="tanh"), dict(activation="elu"), "activation: got 'tanh', expected 'elu'"),
    (dict(critic_hidden_sizes="9"), {}, "critic_hidden_sizes: got '9', expected the default"),
    (dict(critic_activation="silu"), {}, "critic_activation: got 'silu', expected the default"),
    (dict(reward_hidden_sizes="9"), dict(reward_hidden_sizes="8"), "reward_hidden_sizes: got '9', expected '8'"),
    (dict(activation="silu"), dict(activation="silu", reward_activation="relu"),
     "reward_activation: got 'silu', expected the default"),
])
def test_a_checkpoint_of_another_shape_is_refused_by_the_settings_name(theirs, ours, message, tmp_path):
    path, agent = saved(tmp_path, **theirs), make_agent("rrd", "sac", **ours)
    before = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        agent.load_model(path)
    assert str(error.value) == f"{path}: {message}"
    assert all(torch.equal(tensor, before[name]) for name, tensor in agent.state_dict().items())


def test_a_checkpoint_of_the_present_format_still_loads(tmp_path):
    """The run in tests/reference was written before these settings existed."""
    run_directory = ROOT / "tests" / "reference" / "run-1"
    path = run_directory / "checkpoints" / "last.safetensors"
    identity = read_identity(path)
    assert not set(NAMES) & set(identity)


def test_a_run_is_resumed_with_its_own_shapes_only(capsys):
    found = run("--env=Hopper-v4", *SMALL_RRD, "--hidden_sizes=8,8,8", "--activation=tanh")
    directory = str(found.directory)
    flags = [f"--resume={directory}", "--total_timesteps=140"]
    assert train.main([*flags, "--activation=relu"]) == 2
    assert "was run with other settings: activation tanh -> relu" in capsys.readouterr().err
    assert train.main(flags) == 0


# The TensorFlow reference --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_the_tensorflow_reference_refuses_each(name, monkeypatch):
    monkeypatch.setattr(algorithm.create, "check_backend", lambda args: "tensorflow")
    values = {"max_grad_norm": 1.0, "lr_schedule": "linear", "obs_clip": 0.1, "obs_eps": 0.1}
    values |= dict.fromkeys(OF_A_SCHEDULE, 0.1)
    value = "relu" if name.endswith("activation") else values.get(name, "256,256")
    schedule = "exponential" if name == "lr_decay" else "linear"
    given = {name: value} | ({"lr_schedule": schedule} if name in OF_A_SCHEDULE else {})
    given |= {"lr_warmup": 0.1} if name == "lr_start" else {}
    given |= {"obs_normalization": True} if name in ("obs_clip", "obs_eps") else {}
    with pytest.raises(ConfigError) as error:
        make_agent("rrd", "sac", **given)
    first = "lr_schedule" if name in OF_A_SCHEDULE else name
    assert str(error.value) == (f"{first}: got {given[first]}, not read by the TensorFlow reference (USE_PYTORCH=0), "
                                f"which has the original's networks and optimisers; expected no {first}")
    assert NETWORKS == NAMES


def test_a_run_of_the_tensorflow_reference_refuses_them_with_exit_code_2(monkeypatch, capsys):
    pytest.importorskip("tensorflow")
    monkeypatch.setenv("USE_PYTORCH", "0")
    message = refusal(["--env=Pendulum-v1", "--alg=sac", *SMALL, "--hidden_sizes=8,8"], capsys)
    assert message.startswith("hidden_sizes: got 8,8, not read by the TensorFlow reference (USE_PYTORCH=0)")
