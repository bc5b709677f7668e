"""Each algorithm solves a task of seconds: a few hundred steps, episodic rewards for the decompositions."""

from __future__ import annotations

import pytest
from agents import IDS, PAIRS
from runs import run

FAST = ["--device=cpu", "--test_timesteps=10", "--timesteps=100", "--iterations=6", "--total_timesteps=600",
        "--warmup=100", "--buffer_size=2000", "--batch_size=64", "--gamma=0", "--q_lr=3e-3", "--pi_lr=1e-3",
        "--polyak=0.95", "--test_rollouts=50"]
PLAIN = ["--env=Match-v0", "--env_type=normal"]
RRD = ["--env=Match-v0", "--rrd_batch_size=64", "--rrd_sample_size=4", "--r_lr=3e-3"]
IRCR = ["--env=MatchConstant-v0"]
# The return of always doing nothing, and what counts as solved.
NOTHING = {"plain": -4.0, "rrd": -4.0, "ircr": -1.2, "uniform": -1.2}
SOLVED = {"plain": -1.0, "rrd": -2.5, "ircr": -0.6, "uniform": -0.6}


@pytest.mark.parametrize(("alg", "basis"), PAIRS, ids=IDS)
@pytest.mark.sampled(2)
def test_solves_a_task_of_seconds(alg, basis):
    kind = alg if basis else "plain"
    options = {"plain": PLAIN, "rrd": RRD, "ircr": IRCR, "uniform": IRCR}[kind]
    bases = (alg, basis)
    options = options + (["--alpha_init=0.1"] if "sac" in bases else ["--std_act=0.5"])
    options = options + (["--q_reg=0"] if "ddpg" in bases else [])
    finished = run(f"--alg={alg}", *([f"--basis_alg={basis}"] if basis else []), *FAST, *options)
    assert NOTHING[kind] < SOLVED[kind] < float(finished.rows[-1]["Rewards"])
