"""Errors of a user's own decomposition: payments, batches and parameters that are wrong."""

from __future__ import annotations

import pytest
import torch
from extending import RRD_READS, ByReplay, args, filled, run
from runs import SMALL

import evaluate
import train
from algorithm import create_agent, register_decomposition
from algorithm.decomposition.judge import create_judge
from algorithm.decomposition.networks import MLPRewardNet
from algorithm.decomposition.rrd import RRD
from algorithm.replay_buffer import create_buffer
from algorithm.replay_buffer.subsequence import SubsequenceReplay
from algorithm.replay_buffer.transition import TransitionReplay
from utils.errors import NotFiniteError

pytestmark = pytest.mark.usefixtures("forget")

@pytest.mark.parametrize(("found", "reported"), [
    (torch.ones(10, 1), "got shape (10, 1) from {} for an episode of 10 steps, expected one number for each step"),
    (torch.ones(1), "got shape (1,) from {} for an episode of 10 steps, expected one number for each step"),
    (None, "got shape () from {} for an episode of 10 steps, expected one number for each step"),
    ({"rews": 1}, "got a dict that does not hold numbers from {}, expected a tensor or array of one number for each "
                  "step"),
], ids=["column", "one", "none", "mapping"])
def test_payments_that_are_not_one_a_step_give_a_one_line_error(found, reported, capsys):
    mine = type("Mine", (RRD,), {"redistribute": lambda *given: found})
    register_decomposition("mine", replay=SubsequenceReplay, **RRD_READS)(mine)
    assert train.main(["--alg=mine", "--env=Pendulum-v1", *SMALL, "--diagnose_every=1"]) == 2
    assert capsys.readouterr().err == f"train.py: redistribute: {reported.format('Mine')}\n"


def test_a_credit_of_another_shape_gives_a_one_line_error(capsys):
    class Flat(ByReplay):
        def credit(self, episodes, mask):
            return episodes["rews"]
    register_decomposition("mine")(Flat)
    assert train.main(["--alg=mine", "--env=Pendulum-v1", *SMALL, "--diagnose_every=1"]) == 2
    assert capsys.readouterr().err == ("train.py: credit: got shape (1, 10, 1) from Flat, expected (1, 10), one "
                                       "payment for each step\n")


class Broken(RRD):
    """Predicts a NaN, for the third step of ten."""

    def redistribute(self, episode, mask=None):
        rewards = super().redistribute(episode, mask)
        rewards[2] = torch.nan
        return rewards


class Endless(ByReplay):
    """Pays infinity for the last step."""

    def credit(self, episodes, mask):
        return torch.tensor([[0.0] * (mask.shape[1] - 1) + [torch.inf]])


@pytest.mark.parametrize(("build", "replay", "reported"), [
    (Broken, SubsequenceReplay, "nan in evaluation, at step 3 of an episode"),
    (Endless, TransitionReplay, "inf in evaluation, at step 10 of an episode"),
], ids=["by step", "by episode"])
def test_payments_that_are_not_finite_give_a_one_line_error(build, replay, reported, capsys):
    register_decomposition("mine", replay=replay, **RRD_READS)(build)
    flags = ["--alg=mine", "--env=Pendulum-v1", *SMALL]
    assert train.main([*flags, "--diagnose_every=1", "--tag=diagnosed"]) == 1
    line = f"predicted reward: got {reported}; expected a finite float32\n"
    assert capsys.readouterr().err.endswith(f"train.py: {line}")
    plain = run(*flags, "--tag=plain").directory
    capsys.readouterr()
    assert evaluate.main([str(plain), "--diagnose"]) == 1
    assert capsys.readouterr().err == f"evaluate.py: {line}"


def test_a_prediction_for_the_replay_that_is_not_finite_is_named():
    replay = create_buffer(args("rrd"))
    for _ in range(4):
        filled(replay)
    register_decomposition("mine", replay=SubsequenceReplay, **RRD_READS)(Broken)
    with pytest.raises(NotFiniteError, match=r"^predicted reward: got nan at step 3 of episode 3 of 4 in the replay; "):
        create_judge(create_agent(args("mine")), replay).replay_error()


def test_a_batch_that_is_wrong_gives_a_one_line_error_with_every_engine(capsys):
    class Flat(TransitionReplay):
        def sample(self, batch_size=None):
            batch = super().sample(batch_size)
            return batch | {"rews": batch["rews"][:, 0]}
    register_decomposition("mine", replay=Flat)(ByReplay)
    for engine in ("manual", "eager"):
        assert train.main(["--alg=mine", "--env=Pendulum-v1", *SMALL, f"--engine={engine}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("train.py: alg: 'mine' cannot learn from its replay, a Flat: batch['rews']: got shape "
                               "(8,), expected (B, 1)")


def test_parameters_that_would_not_be_saved_give_a_one_line_error(capsys):
    class Forgets(RRD):
        def parts(self):
            return {"rrd": MLPRewardNet(3, 1)}

    class Adam(RRD):
        def __init__(self, config, generator):
            super().__init__(config, generator)
            self.opts = [torch.optim.Adam(self.parameters())]
    for build, message in ((Forgets, "its optimisers step parameters that are not in its nets, so they would not be "
                                     "saved; expected them in both"),
                           (Adam, "its optimisers are a Adam, expected utils.optimizers.TFAdam or TFRMSProp")):
        register_decomposition("mine", replay=SubsequenceReplay, **RRD_READS)(build)
        assert train.main(["--alg=mine", "--env=Pendulum-v1", *SMALL]) == 2
        assert capsys.readouterr().err == f"train.py: alg: 'mine': {message}\n"
