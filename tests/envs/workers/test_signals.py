"""Workers and signals: they end with the main process, leave no process and print nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import SMALL

import envs.workers.pool

ROOT = Path(__file__).resolve().parent.parent.parent.parent


class Session:
    """train.py in its own session, with two environments and a long way to go."""

    def __init__(self, env: str = "Pendulum-v1", *flags: str):
        argv = [sys.executable, str(ROOT / "train.py"), *SMALL, "--alg=sac", f"--env={env}", "--num_envs=2",
                "--test_rollouts=0", "--total_timesteps=1e6", "--train_batches=1", *flags]
        self.process = subprocess.Popen(argv, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, env=os.environ | {"OMP_NUM_THREADS": "1",
                                                                     "PYTHONPATH": str(ROOT / "tests")})
        self.pid = self.process.pid

    def read_to(self, begins: str) -> None:
        assert any(line.startswith(begins) for line in self.process.stdout), self.process.communicate()[1]

    def others(self) -> set[int]:
        """The living processes other than the first one."""
        found = set()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            except OSError:                                     # it has ended meanwhile
                continue
            if int(session) == self.pid and state != "Z":
                found.add(int(stat.parent.name))
        return found - {self.pid}

    def disturb_each_as_it_starts(self, count: int) -> None:
        seen = set()
        while len(seen) < count:
            new = self.others() - seen
            self.disturb(new)
            seen |= new

    def disturb(self, pids: set[int]) -> None:
        """Send them what a terminal or a scheduler sends to a whole group of processes."""
        for pid in pids:
            for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                os.kill(pid, one)

    def kill(self) -> None:
        for pid in self.others():
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def session(request):
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    session = Session(*getattr(request, "param", ()))
    yield session
    session.kill()


def errors_of(session: Session, code: int, patience: float = 2) -> str:
    """Its standard error; it must end within 20 s with that code, and soon no other process may be left."""
    session.process.wait(20)
    end = time.monotonic() + patience
    while session.others() and time.monotonic() < end:
        time.sleep(0.02)
    assert not session.others()
    err = session.process.communicate()[1]
    assert session.process.returncode == code
    return err


def test_ctrl_c_while_workers_start_gives_a_one_line_error_and_leaves_no_process(session):
    session.read_to("env ")
    while len(session.others()) < 2:
        time.sleep(0.01)
    os.killpg(session.pid, signal.SIGINT)                       # as a terminal does
    assert errors_of(session, 130) == "train.py: interrupted\n"


@pytest.mark.parametrize("session", [("Pendulum-v1", "--worker_restarts=0")], indirect=True)
def test_workers_leave_signals_to_the_main_process_and_end_with_it(session):
    session.read_to("env ")
    session.disturb_each_as_it_starts(3)                        # one is Python's own, for shared memory
    session.read_to("Epoch")
    before = session.others()
    session.disturb(before)
    for _ in range(5):
        session.read_to("Epoch")
    assert session.others() == before
    os.killpg(session.pid, signal.SIGINT)
    assert errors_of(session, 130) == "train.py: interrupted\n"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.sampled(1)
def test_workers_whose_main_process_was_ended_end_quietly(session, how):
    session.read_to("Epoch")
    assert len(session.others()) == 3
    if how == signal.SIGTERM:
        os.killpg(session.pid, how)                             # a scheduler means all of them; the run saves itself
        assert errors_of(session, 75) == "train.py: stopped by SIGTERM\n"
    else:
        os.kill(session.pid, how)
        assert errors_of(session, -how) == ""


@pytest.mark.parametrize("session", [("tiny_envs:Fails-hang-v0",)], indirect=True)
@pytest.mark.slow
def test_a_worker_that_hangs_ends_with_the_main_process_too(session):
    session.read_to("env ")
    while len(session.others()) < 3:
        time.sleep(0.01)
    time.sleep(3)                                               # until its third step
    os.kill(session.pid, signal.SIGKILL)
    assert errors_of(session, -signal.SIGKILL, patience=envs.workers.worker.GRACE + 2) == ""


@pytest.mark.parametrize("session", [("tiny_envs:Fails-hang-v0", "--worker_timeout=4")], indirect=True)
@pytest.mark.slow
def test_a_worker_that_is_replaced_leaves_no_process(session):
    session.read_to("note: env: 'tiny_envs:Fails-hang-v0', environment 2 of 2: its process has not answered for 4 s")
    session.read_to("Epoch")
    assert len(session.others()) == 3
    os.kill(session.pid, signal.SIGKILL)
    assert errors_of(session, -signal.SIGKILL) == ""


@pytest.mark.slow
def test_a_program_that_ends_while_a_thread_steps_leaves_no_process():
    code = """if True:
        import threading, time
        from envs import make_env
        from envs.workers.pool import Workers
        from utils.settings.resolve import resolve
        if __name__ == "__main__":
            config = resolve({"alg": "sac", "env": "tiny_envs:Fails-hang-v0", "num_envs": 2})
            env = make_env(config)
            def play():
                workers = Workers(config, env)
                workers.reset(seed=[0, stream])
                print(*(worker.process.pid for worker in workers.workers.values()), flush=True)
                while True:
                    workers.step([env.action_space.sample()] * 2)
            from utils.seeding import stream_seed
            stream = stream_seed(0, "env 1")
            threading.Thread(target=play, daemon=True).start()
            time.sleep(4)
    """
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True,
                           env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"})
    pids = [int(pid) for pid in found.stdout.split()]
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
