"""--seeds: every seed equals its single run to the bit, and none affects another."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import threading
import time
import weakref
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from runs import SMALL, SMALL_RRD, Finished, refusal, run, run_on_terminal
from tiny_envs import Match

import train
from learner import Evaluator, Learner, training
from utils.cores import count_cores
from utils.errors import ConfigError
from utils.seeding import stream_seed
from utils.settings.cli import parse_args
from utils.settings.resolve import resolve

ROOT = Path(__file__).resolve().parent.parent.parent
MATCH = [*SMALL_RRD, "--env=Match-v0"]


class FailsOnSeed1(Match):
    """Fails at the training of seed 1, in the way of its name."""

    def __init__(self, how: str):
        super().__init__()
        self.how, self.steps, self.weak = how, 0, False

    def reset(self, *, seed=None, options=None):
        self.weak |= seed == stream_seed(1, "env")
        return super().reset(seed=seed)

    def step(self, action):
        self.steps += 1
        if self.weak and self.steps == 50:
            if self.how == "exit":
                sys.exit(3)
            raise {"raise": ValueError, "disk": OSError}[self.how]("the arm\nfell \x1b[31moff")
        return super().step(action)


for how in ("raise", "disk", "exit"):
    gym.register(f"FailsOnSeed1-{how}-v0", FailsOnSeed1, kwargs={"how": how})


@pytest.fixture
def cores(monkeypatch):
    """Sets how many cores there seem to be."""
    def set_cores(count: int) -> None:
        monkeypatch.setattr("learner.seeds.count_cores", lambda: count)
    set_cores(3)
    return set_cores


@pytest.fixture
def jumpy():
    """Switch threads as often as possible, so that shared state would be noticed."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(*argv: str, returns: int = 0) -> dict[int, Finished]:
    """Run train.py with --seeds among `argv`; the run of each seed that did not fail."""
    before = set(Path("outputs").glob("*"))
    assert train.main(list(argv)) == returns
    new = set(Path("outputs").glob("*")) - before
    runs = [Finished(directory) for directory in new if not (directory / "error.txt").exists()]
    return {finished.config["seed"]: finished for finished in runs}


def assert_same(ours: Finished, single: Finished, rows: int = 3) -> None:
    assert ours.untimed() == single.untimed()
    assert len(ours.untimed()) == rows
    assert ours.config == single.config
    for name in ("last", "best"):
        mine, theirs = ours.tensors(name), single.tensors(name)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    env = single.config["env"]
    np.testing.assert_array_equal(ours.returns(env), single.returns(env))


# The same numbers -----------------------------------------------------------------------------------------------

CASES = {
    "rrd-sac": MATCH,
    "rrd-ddpg": [*MATCH, "--basis_alg=ddpg"],                   # which normalises observations
    "ircr-td3": ["--alg=ircr", "--basis_alg=td3", *SMALL, "--env=Match-v0"],
    "uniform-sac": ["--alg=uniform", *SMALL, "--env=Match-v0"],
    "autograd": [*MATCH, "--engine=eager"],
    "bf16": [*SMALL_RRD, "--env=Hopper-v4", "--precision=bf16", "--kernels=bf16-1x1"],
    "dqn": ["--alg=dqn", *SMALL, "--env=CartPole-v1"],
    "processes": [*SMALL_RRD, "--env=Pendulum-v1", "--num_envs=2"],
}


@pytest.mark.usefixtures("cores", "jumpy")
@pytest.mark.parametrize("argv", CASES.values(), ids=CASES)
@pytest.mark.sampled(2)
def test_every_seed_equals_its_single_run_to_the_bit(argv):
    found = together(*argv, "--seeds=5,0-1")
    assert set(found) == {0, 1, 5}
    for seed, ours in found.items():
        assert_same(ours, run(*argv, f"--seed={seed}"))
    assert found[0].untimed() != found[1].untimed() != found[5].untimed()


@pytest.mark.slow
def test_every_seed_of_a_game_equals_its_single_run(cores):
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    argv = ["--alg=dqn", *SMALL, "--env=Pong", "--test_eps=0.2", "--timesteps=10", "--iterations=1",
            "--total_timesteps=10", "--warmup=10", "--train_batches=1", "--batch_size=2", "--test_rollouts=1"]
    assert_same(together(*argv, "--seeds=0,1")[1], run(*argv, "--seed=1"), rows=1)


@pytest.mark.usefixtures("cores")
@pytest.mark.slow
def test_seeds_neither_read_nor_touch_the_generators_of_the_whole_program():
    def states():
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()
    first, before = together(*MATCH, "--seeds=0,1"), states()
    again = together(*MATCH, "--seeds=0,1")
    assert states() == before
    for seed in (0, 1):
        assert_same(first[seed], again[seed])


@pytest.mark.usefixtures("cores")
def test_a_seed_has_one_thread_and_the_program_keeps_its_own():
    seen = []
    torch.set_num_threads(2)
    try:
        found = together(*MATCH, "--seeds=0,1")
        seen = [finished.facts["threads"] for finished in found.values()]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert seen == [1, 1]
    for seed, ours in found.items():
        assert_same(ours, run(*MATCH, f"--seed={seed}"))


@pytest.mark.slow
def test_the_config_of_one_seed_repeats_it_and_may_be_run_with_others(cores):
    found = together(*MATCH, "--seeds=3,4", "--tag=my tag")
    assert (found[4].config["seed"], "seeds" in found[4].config) == (4, False)
    assert re.fullmatch(r"my_tag-rrd-sac-Match-v0_seed4_\d{8}-\d{6}", found[4].directory.name)
    assert {path.name for path in found[4].directory.iterdir()} == {
        "config.json", "run.json", "metrics.csv", "tensorboard", "rews", "checkpoints"}
    path = str(found[4].directory / "config.json")
    assert_same(found[4], run("--config", path))
    assert set(together("--config", path, "--seeds=5")) == {5}


# Taking turns ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("lanes", [1, 2])
def test_as_many_at_a_time_as_there_are_cores(cores, monkeypatch, lanes):
    cores(lanes)
    meeting, lock, active, seen = threading.Barrier(lanes), threading.Lock(), [], []

    def learn(parts, view, stop):
        with lock:
            active.append(parts.config.seed)
            seen.append((parts.config.seed, len(active)))
        meeting.wait(timeout=10)                        # breaks unless so many are present together
        time.sleep(0.05)
        with lock:
            active.remove(parts.config.seed)
    monkeypatch.setattr("learner.training.learn", learn)
    assert train.main([*MATCH, "--seeds=0-3"]) == 0
    assert sorted(seed for seed, _ in seen) == [0, 1, 2, 3]
    assert max(count for _, count in seen) == lanes


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 5, 6}, raising=False)
    assert count_cores() == 3


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.sampled(1)
def test_the_replay_of_an_ended_seed_is_freed_before_the_next_is_made(cores, monkeypatch, on_gpu):
    cores(1)
    build, replays, held = training.build, [], []

    def watched(config):
        held.append(sum(replay() is not None for replay in replays))
        parts = build(config)
        parts.engine.itself = parts.engine              # whatever refers to itself outlives its run by a while
        replays.append(weakref.ref(parts.engine.buffer))
        return parts
    monkeypatch.setattr("learner.training.build", watched)
    monkeypatch.setattr("learner.seeds.on_gpu", lambda _: on_gpu)
    together(*MATCH, "--seeds=0-2")
    assert held == [0, 0, 0]


def test_on_gpu_seeds_run_one_after_another_in_the_main_thread(capsys, monkeypatch):
    monkeypatch.setattr("learner.seeds.on_gpu", lambda _: True)
    learn, threads = training.learn, []

    def watched(*args):
        threads.append(threading.current_thread())
        return learn(*args)
    monkeypatch.setattr("learner.training.learn", watched)
    found = together(*MATCH, "--seeds=0,1")
    assert threads == [threading.main_thread()] * 2
    assert capsys.readouterr().out.startswith("seeds 0, 1: one after the other on ")
    for seed, ours in found.items():
        assert_same(ours, run(*MATCH, f"--seed={seed}"))


# Display -------------------------------------------------------------------------------------------------------

def test_a_pipe_gets_a_line_for_each_cycle_and_seed(cores, capsys):
    together(*MATCH, "--seeds=0,7")
    out, err = capsys.readouterr()
    first, *lines = out.splitlines()
    assert err == ""
    assert first.startswith("seeds 0, 7: 2 at a time, ")
    for seed in (0, 7):
        own = [line.removeprefix(f"seed {seed}: ") for line in lines if line.startswith(f"seed {seed}: ")]
        assert [line.split()[0] for line in own] == ["env", "Epoch=0", "Epoch=0", "Epoch=0", "done;"]
    assert len(lines) == 10


def test_a_terminal_gets_rows_with_the_seed_and_a_bar_for_each():
    text = run_on_terminal(*MATCH, "--seeds=0,7")
    lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    assert len([line for line in lines if line.split()[:4] == ["run", "done", "steps", "return"]]) == 1
    for seed in (0, 7):
        rows = [line.split() for line in lines if re.match(rf"seed {seed} +\d+% +\d+", line)]
        assert [row[2:4] for row in rows] == [["33%", "40"], ["66%", "80"], ["100%", "120"]]
    assert [line[:21] for line in lines[-2:]] == ["seed 0: 120/120 steps", "seed 7: 120/120 steps"]


# Failures -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize(("how", "line"), [
    ("raise", r"ValueError: the arm fell \x1b[31moff; "), ("disk", r"the arm fell \x1b[31moff; "),
])
@pytest.mark.sampled(1)
def test_a_failing_seed_gives_a_one_line_error_and_the_others_continue(cores, capsys, monkeypatch, how, line, on_gpu):
    monkeypatch.setattr("learner.seeds.on_gpu", lambda _: on_gpu)
    argv = [*SMALL_RRD, f"--env=FailsOnSeed1-{how}-v0"]
    found = together(*argv, "--seeds=0-2", returns=1)
    err = capsys.readouterr().err
    path = re.fullmatch(rf"train.py: seed 1: {re.escape(line)}traceback in (.*/error.txt)\n", err)[1]
    assert "in step" in Path(path).read_text()
    assert set(found) == {0, 2}
    for seed, ours in found.items():
        assert_same(ours, run(*argv, f"--seed={seed}"))


def test_a_seed_whose_environment_exits_gives_a_one_line_error(cores, capsys):
    argv = [*SMALL_RRD, "--env=FailsOnSeed1-exit-v0"]
    assert train.main([*argv, "--seeds=0-2"]) == 1
    assert capsys.readouterr().err == "train.py: seed 1: SystemExit: 3\n"
    assert all(len(Finished(directory).rows) == 3 for directory in Path("outputs").glob("*_seed[02]_*"))


def test_a_seed_that_cannot_be_built_does_not_stop_the_others(cores, capsys, monkeypatch):
    build = training.build

    def breaks(config):
        if config.seed == 1:
            raise RuntimeError("no more memory")
        return build(config)
    monkeypatch.setattr("learner.training.build", breaks)
    assert set(together(*MATCH, "--seeds=0-2", returns=1)) == {0, 2}
    assert capsys.readouterr().err == "train.py: seed 1: RuntimeError: no more memory\n"


@pytest.mark.parametrize(("during", "rollouts"), [(Learner, 0), (Evaluator, 20_000)])
def test_ctrl_c_stops_all_seeds_and_closes_their_records(cores, monkeypatch, capsys, during, rollouts):
    """It comes while both train, or while both are in an evaluation that would take minutes."""
    cores(2)
    arrived, there = threading.Barrier(2, lambda: os.kill(os.getpid(), signal.SIGINT)), []
    name = {Learner: "_train", Evaluator: "evaluate"}[during]
    original = getattr(during, name)

    def interrupted(self, *args):
        if self not in there:
            there.append(self)
            arrived.wait(timeout=10)
        return original(self, *args)
    monkeypatch.setattr(during, name, interrupted)
    start = time.perf_counter()
    long = [*MATCH, "--total_timesteps=50000", f"--test_rollouts={rollouts}"]
    assert train.main([*long, "--seeds=0-5"]) == 130
    assert time.perf_counter() - start < 5
    assert capsys.readouterr().err == "train.py: interrupted\n"
    assert len(list(Path("outputs").iterdir())) == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("seed")]
    assert not [path for path in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if "/outputs/" in path]


# Refusals -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("text", "seeds"), [
    ("0,1,2", (0, 1, 2)), ("0-4", (0, 1, 2, 3, 4)), ("7", (7,)), ("5, 0-2 ,9", (5, 0, 1, 2, 9)), ("3-3", (3,)),
    (str(2**63 - 1), (2**63 - 1,)), ("0-999", tuple(range(1000))), ("007", (7,)),
])
def test_seeds_are_a_list_or_a_range(text, seeds):
    assert parse_args([f"--seeds={text}"]).seeds == seeds
    assert parse_args(["--seeds", text]).seeds == seeds


@pytest.mark.parametrize("text", ["", ",", "1,", "1,x", "1,1", "0-4,2", "-1", "0,-1", "4-0", "1-", "0-1-2", "1.5",
                                  "1e3", "0..4", "0-1000", "0-999,1000", "0-99999999999999", str(2**63), "\u0663",
                                  "1 2", "1\n", "9" * 5000])
def test_a_wrong_list_of_seeds_is_refused_in_one_line(text, capsys):
    with pytest.raises(ConfigError):                    # or refusal would train them
        parse_args([f"--seeds={text}"])
    line = refusal([*MATCH, f"--seeds={text}"], capsys)
    assert line.startswith("seeds: got ")
    assert line.endswith("expected at most 1000 seeds, each once and at least 0, such as 0,1,2 or 0-4")


@pytest.mark.parametrize(("value", "seeds"), [([2, 0], (2, 0)), ("0-1", (0, 1)), (None, None)])
def test_a_file_may_hold_seeds(value, seeds):
    Path("settings.json").write_text(json.dumps({"seeds": value}))
    config = parse_args(["--config=settings.json"])
    assert config.seeds == seeds
    assert resolve(json.loads(json.dumps(config.settings()))) == config


@pytest.mark.parametrize("value", [[], [1, 1], [-1], [True], ["1"], [1.5], [[1]], {"0": 1}, 3, True, "1,x", [2**63]])
def test_wrong_seeds_in_a_file_are_refused(value, capsys):
    Path("settings.json").write_text(json.dumps({"seeds": value}))
    assert refusal(["--config=settings.json"], capsys).startswith("seeds: got ")


def test_seed_and_seeds_exclude_each_other_and_a_flag_wins_over_the_file(capsys):
    message = "seed: not read with --seeds; give one of the two"
    assert refusal([*MATCH, "--seed=0", "--seeds=0,1"], capsys) == message
    Path("both.json").write_text('{"seed": 0, "seeds": [1]}')
    assert refusal(["--config=both.json"], capsys) == message
    Path("seeds.json").write_text('{"seeds": [1, 2]}')
    config = parse_args(["--config=seeds.json", "--seed=3"])
    assert (config.seed, config.seeds) == (3, None)
    Path("seed.json").write_text('{"seed": 5}')
    config = parse_args(["--config=seed.json", "--seeds=1,2"])
    assert (config.seed, config.seeds) == (0, (1, 2))


@pytest.mark.slow
def test_replays_that_do_not_fit_side_by_side_are_refused(cores, capsys, monkeypatch):
    one = training.build(parse_args(MATCH)).engine.buffer.bytes_needed
    monkeypatch.setattr("learner.seeds.available_bytes", lambda _: 2 * one)
    line = refusal([*MATCH, "--seeds=0-4"], capsys)
    assert line.startswith("buffer_size: 3 replays of 200 steps, one for each seed that trains at a time, need ")
    size = re.search(r"--buffer_size=(\d+) would fit, or name fewer --seeds$", line)[1]
    line = refusal([*MATCH, "--seeds=0,1", "--num_envs=2"], capsys)
    assert "with the processes of their environments need 160 MB on " in line
    assert line.endswith("free; name fewer --seeds")
    monkeypatch.setattr("learner.training.learn", lambda *_: None)
    assert train.main([*MATCH, "--seeds=0-4", f"--buffer_size={size}"]) == 0
    assert train.main([*MATCH, "--seeds=0,1"]) == 0
    cores(2)
    assert train.main([*MATCH, "--seeds=0-4"]) == 0


@pytest.mark.parametrize(("argv", "begins"), [
    (["--engine=compile"], "engine: got 'compile' with --seeds"), (["--env=NoSuch-v1"], "env: got 'NoSuch-v1'"),
    (["--buffer_size=1e15"], "buffer_size: 1000000000000000 steps need "),
])
def test_an_error_for_all_seeds_is_reported_once(argv, begins, capsys):
    assert refusal([*MATCH, "--seeds=0-2", *argv], capsys).startswith(begins)


def test_the_tensorflow_reference_takes_one_seed_at_a_time(capsys, monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.setenv("USE_PYTORCH", "0")
    assert refusal([*MATCH, "--seeds=0,1"], capsys).startswith("seeds: not read by the TensorFlow reference")


# On one GPU -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("env", ["Match-v0", "FailsOnSeed1-raise-v0"])
def test_seeds_on_one_gpu_share_an_update_and_learn_what_each_would_alone(env, no_graphs, monkeypatch, capfd):
    """Computed on the CPU, without graphs; after one seed fails, the others continue by themselves."""
    monkeypatch.setattr("learner.seeds.on_gpu", lambda seeds: True)
    fails = env != "Match-v0"
    argv = [*SMALL_RRD, f"--env={env}"]
    assert train.main([*argv, "--seeds=0-2", "--engine=cudagraph"]) == fails
    said = capfd.readouterr()
    assert "seeds 0, 1, 2: together on cpu, in one captured update" in said.out
    assert "engine shared (one update for 3 seeds)" in said.out
    assert ("seed 1: ValueError" in said.err) == fails
    together = {json.loads((path / "config.json").read_text())["seed"]: Finished(path)
                for path in Path("outputs").glob("*")}
    for seed in (0, 2) if fails else (0, 1, 2):
        alone = run(*argv, f"--seed={seed}", "--engine=cudagraph")
        assert len(together[seed].rows) == len(alone.rows)
        for ours, theirs in zip(together[seed].untimed(), alone.untimed(), strict=True):
            assert ours.keys() == theirs.keys()
            for name in ("Timesteps", "Episodes", "Q_loss", "R_loss", "Rewards"):
                assert float(ours[name] or 0) == pytest.approx(float(theirs[name] or 0), rel=1e-2, abs=1e-3), name
