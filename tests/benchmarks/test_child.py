"""A contestant in a process of its own: what it answers, what its failures leave, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.child import Child, Lost, reply

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from benchmarks.child import serve


def say(text):
    print("what a library prints")
    os.system("echo what a program prints")
    return text


def fail():
    raise ValueError("two\\nlines")


def crash():
    print("the last words", file=sys.stderr, flush=True)
    os._exit(3)


serve(dict(say=say, fail=fail, crash=crash, pid=os.getpid, wait=lambda seconds: time.sleep(seconds),
           variable=lambda name: os.environ[name]))
"""


@pytest.fixture
def notes():
    return []


@pytest.fixture
def child(notes):
    """A program that is not started yet."""
    made = Child("fake", [sys.executable, "-c", PROGRAM], notes.append, env={"NPROC": "3"})
    yield made
    made.close()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that waits for its parent to read its exit code does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process ends within so many seconds."""
    limit = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < limit:
        time.sleep(0.02)
    return not is_alive(pid)


# Answers -------------------------------------------------------------------------------------------------------------

def test_it_answers_one_request_after_the_other_and_what_it_prints_is_no_answer(child, notes):
    assert [child.ask("say", text=text) for text in ("a", "b\nc")] == ["a", "b\nc"]
    assert notes == []


def test_it_starts_when_it_is_first_asked(child):
    assert child.process is None
    assert child.ask("pid") == child.process.pid != os.getpid()


def test_its_variables_are_those_given_and_ours(child):
    assert (child.ask("variable", name="NPROC"), child.ask("variable", name="PATH")) == ("3", os.environ["PATH"])


def test_an_error_is_the_reply_in_one_line():
    assert reply({"half": lambda n: n / 2}, {"ask": "half", "n": 3}) == {"found": 1.5}
    assert reply({"half": lambda n: n / 0}, {"ask": "half", "n": 3}) == {"error": "ZeroDivisionError: division by zero"}
    assert reply({}, {"ask": "half"}) == {"error": "KeyError: 'half'"}


# Failures ------------------------------------------------------------------------------------------------------------

def test_a_request_that_fails_is_a_note_and_others_are_answered(child, notes):
    with pytest.raises(Lost):
        child.ask("fail")
    assert notes == ["fake: fail: ValueError: two lines, so it is not compared"]
    assert child.ask("say", text="still here") == "still here"


def test_a_process_that_ended_is_one_note(child, notes):
    for request in ("crash", "pid"):
        with pytest.raises(Lost):
            child.ask(request)
    assert notes == ["fake: crash: the process ended with code 3 (the last words), so it is not compared"]


def test_a_process_that_was_killed_between_two_requests_is_a_note(child, notes):
    os.kill(child.ask("pid"), signal.SIGKILL)
    with pytest.raises(Lost):
        child.ask("say", text="a")
    assert notes[0].startswith("fake: say: the process ended by signal 9 (")


def test_a_program_that_cannot_start_is_a_note_of_its_last_line(notes):
    with pytest.raises(Lost):
        Child("fake", [sys.executable, "-c", "import nothing_of_this_name"], notes.append).ask("pid")
    assert notes == ["fake: pid: the process ended with code 1 (ModuleNotFoundError: No module named "
                     "'nothing_of_this_name'), so it is not compared"]


def test_a_late_reply_is_a_note_and_the_process_is_killed(child, notes):
    pid = child.ask("pid")
    child.limit = 0.1
    with pytest.raises(Lost):
        child.ask("wait", seconds=60)
    assert notes[0].startswith("fake: wait: no reply in 0.1 s (")
    assert not is_alive(pid)


# Its end -------------------------------------------------------------------------------------------------------------

def test_it_ends_when_it_is_closed_and_not_by_ctrl_c(child):
    pid = child.ask("pid")
    os.kill(pid, signal.SIGINT)
    assert child.ask("pid") == pid
    assert child.close() == 0
    assert not is_alive(pid)


PARENT = f"""
import json, os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from benchmarks.child import Child
child = Child("fake", [sys.executable, "-c", {PROGRAM!r}], print)
print(child.ask("pid"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_with_its_parent_however_that_ends():
    done = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert ends(json.loads(done.stdout))
