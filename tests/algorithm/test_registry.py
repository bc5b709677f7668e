"""Registering algorithms and decompositions: names, defaults, replays, and the settings that they read."""

from __future__ import annotations

import re

import pytest
import torch
from extending import RRD_READS, ByReplay, args, run
from runs import SMALL

import train
from algorithm import create_agent, register_algorithm, register_decomposition
from algorithm.basis_alg.sac_torch import SAC
from algorithm.decomposition.rrd import RRD
from algorithm.replay_buffer import create_buffer
from algorithm.replay_buffer.subsequence import SubsequenceReplay
from algorithm.replay_buffer.transition import TransitionReplay
from utils.errors import ConfigError
from utils.settings.algorithms import ALGORITHMS
from utils.settings.cli import parse_args

pytestmark = pytest.mark.usefixtures("forget")

@pytest.mark.parametrize("name", ["", "a b", "-x", "sac", "dqn", "rrd", None, 3, "a/b", "a\n"])
def test_a_wrong_name_of_a_decomposition_is_refused(name):
    with pytest.raises(ConfigError, match=r"^name: got .*, expected a word other than ddpg, td3, sac, dqn, .*"
                                          r"ppo, a2c, grpo, rrd, ircr"):
        register_decomposition(name)


def test_algorithms_and_decompositions_cannot_share_a_name():
    register_algorithm("one")(SAC)
    register_decomposition("other")(ByReplay)
    with pytest.raises(ConfigError, match=r"^name: got 'one'"):
        register_decomposition("one")
    with pytest.raises(ConfigError, match=r"^name: got 'other'"):
        register_algorithm("other")


@pytest.mark.parametrize("replay", [dict, 3, "TransitionReplay", lambda config: None, TransitionReplay.sample],
                         ids=["dict", "3", "name", "function", "method"])
def test_a_wrong_replay_is_refused(replay):
    with pytest.raises(ConfigError, match=r"^replay: got ") as caught:
        register_decomposition("mine", replay=replay)
    assert "expected a subclass of algorithm.replay_buffer.transition" in str(caught.value)
    assert "mine" not in ALGORITHMS


@pytest.mark.parametrize(("defaults", "message"), [
    ({"gama": 1}, "gama: unknown setting; did you mean gamma?"), ({"gamma": 2}, "gamma: got 2.0, expected"),
    ({"alg": "sac"}, "alg: not a setting whose default an algorithm has"),
    ({"basis_alg": "sac"}, "basis_alg: not a setting whose"), ({"seed": 1}, "seed: not a setting whose"),
    ({"env": "Ant-v4"}, "env: not a setting whose"),
])
@pytest.mark.parametrize("register", [register_algorithm, register_decomposition])
def test_wrong_defaults_are_refused(register, defaults, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        register("mine", **defaults)


def test_objects_other_than_classes_and_functions_are_refused():
    for register in (register_algorithm, register_decomposition):
        with pytest.raises(ConfigError, match=r"^mine: @register_.* got a int, expected a class or a function"):
            register("mine")(3)
    with pytest.raises(ConfigError, match=r"^like: got 'rrd', expected one of ddpg"):
        register_algorithm("mine", like="rrd")
    assert "mine" not in ALGORITHMS


@pytest.mark.parametrize("result", [None, 3, torch.nn.Linear(1, 1)], ids=str)
def test_a_decomposition_that_builds_no_model_gives_a_one_line_error(result, capsys):
    register_decomposition("mine")(lambda config, generator: result)
    assert train.main(["--alg=mine", "--env=Pendulum-v1", *SMALL]) == 2
    assert capsys.readouterr().err == (f"train.py: alg: 'mine' builds a {type(result).__name__}, expected a subclass "
                                       "of algorithm.decomposition.base.Decomposition\n")


def test_an_algorithm_that_builds_no_agent_gives_a_one_line_error(capsys):
    register_algorithm("mine")(lambda config: object())
    assert train.main(["--alg=mine", "--env=Pendulum-v1", *SMALL]) == 2
    assert capsys.readouterr().err == ("train.py: alg: 'mine' builds a object, expected a subclass of "
                                       "algorithm.basis_alg.base_torch.Agent\n")


@pytest.mark.parametrize("missing", ["r_lr", "rrd_batch_size", "rrd_sample_size"])
def test_an_undeclared_setting_of_rrd_gives_a_one_line_error(missing, capsys):
    reads = {name: value for name, value in RRD_READS.items() if name != missing}
    register_decomposition("mine", replay=SubsequenceReplay, **reads)(RRD)
    assert train.main(["--alg=mine", "--env=Pendulum-v1", *SMALL]) == 2
    assert capsys.readouterr().err == (f"train.py: {missing}: not a setting of mine, but a part of mine reads it; "
                                       "expected it among the defaults that mine is registered with\n")


def test_defaults_become_flags_and_others_stay_refused():
    register_decomposition("mine", r_lr=0.5, gamma=0.9)(ByReplay)
    assert (config := parse_args(["--alg=mine", "--r_lr=0.25"])).r_lr == 0.25
    assert (config.gamma, config.basis_alg, config.train_batches) == (0.9, "sac", 100)
    over_dqn = parse_args(["--alg=mine", "--basis_alg=dqn"])
    assert (over_dqn.r_lr, over_dqn.gamma, over_dqn.train_batches) == (0.5, 0.9, 25)
    with pytest.raises(ConfigError, match=r"^rrd_sample_size: not a setting of mine over sac; it belongs to rrd"):
        parse_args(["--alg=mine", "--rrd_sample_size=4"])


def test_a_users_classes_get_attributes_of_their_own():
    class Seen(TransitionReplay):
        def __init__(self, config):
            super().__init__(config)
            self.hidden = config.hidden

    @register_decomposition("mine", replay=Seen)
    def mine(config, generator):
        model = ByReplay(config, generator)
        model.hidden = config.hidden
        return model
    agent, replay = create_agent(args("mine", hidden=7)), create_buffer(args("mine", hidden=7))
    assert agent.decomposition.hidden == replay.hidden == 7


def test_an_algorithm_like_dqn_has_discrete_actions():
    from algorithm.basis_alg.dqn_torch import DQN
    register_algorithm("my_dqn", like="dqn", eps_decay=100)(DQN)
    flags = ["--env=CartPole-v1", *SMALL]
    assert run("--alg=my_dqn", *flags).config["eps_decay"] == 100
    assert run("--alg=rrd", "--basis_alg=my_dqn", "--rrd_batch_size=8", *flags, "--rrd_sample_size=4").rows
    register_algorithm("my_dqn")(SAC)                   # anew, and not discrete any more
    assert not parse_args(["--alg=my_dqn"]).discrete
