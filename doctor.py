"""Check everything that training needs, and say how to mend what is wrong: `python doctor.py`.

Each check runs in a process of its own with a time limit, because a broken package may crash or hang. This file
itself needs nothing but Python.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import python_check  # noqa: F401 (first: it exits where Python is too old)
from machine_checks import CHECKS, PACKAGES, Trouble, ended, last_line, numbers, oldest, one_line, version
from utils.installed import as_called, called, started_by

# status: ok, warn or fail; found: one line; mend: a command, "" if nothing is wrong.
Result = namedtuple("Result", "status found mend", defaults=("",))


# One check ---------------------------------------------------------------------------------------------------------

def judge(name):
    """Run the check in this process; every error becomes a result."""
    check = CHECKS[name]
    wrong = "fail" if check.needed else "warn"
    try:
        found = check.look()
    except Trouble as trouble:
        return Result(trouble.status or wrong, one_line(trouble), trouble.mend or check.mend)
    except ModuleNotFoundError as error:
        return Result(wrong, f"{error.name} is not installed", check.mend)
    except BaseException as error:
        return Result(wrong, one_line(f"{type(error).__name__}: {error}"), check.mend)
    floor = oldest(PACKAGES[name]) if name in PACKAGES else None
    if floor and numbers(version(PACKAGES[name])) < numbers(floor) and version(PACKAGES[name])[0].isdigit():
        return Result("warn", f"{found}; older than {floor}, the oldest that is tested", check.mend)
    return Result("ok", found)


def examine(name, command=None):
    """Run the check in another process, which may crash, hang or write anything."""
    check = CHECKS[name]
    wrong = "fail" if check.needed else "warn"
    command = command or [sys.executable, *started_by("doctor"), "--check", name]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    except OSError as error:
        return Result(wrong, one_line(f"no process could be started: {error}"), check.mend)
    with process:
        try:
            out, err = process.communicate(timeout=check.seconds)
        except subprocess.TimeoutExpired:
            return Result(wrong, f"no answer within {check.seconds} seconds", check.mend)
        finally:
            stop(process)
    try:
        return Result(*json.loads(out.decode()))
    except (ValueError, TypeError):
        line = last_line(err.decode(errors="replace"))
        return Result(wrong, ended(process.returncode) + f": {line}" * bool(line), check.mend)


def stop(process):
    """The process with all that it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def answer(name):
    """The other process: its result, as JSON, is all that reaches standard output."""
    import warnings
    warnings.simplefilter("ignore")
    out = os.dup(1)
    os.dup2(2, 1)                       # libraries write where they like
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.write(out, json.dumps(judge(name)).encode())
    os._exit(0)                         # some libraries hang or crash at the end


class Parser(argparse.ArgumentParser):
    def error(self, message):
        print(f"{called('doctor.py')}: {message}", file=sys.stderr)
        sys.exit(2)


# All of them -------------------------------------------------------------------------------------------------------

def main(argv=None):
    """Returns 0 if all that is needed works, 1 if something does not, 2 for a wrong flag."""
    parser = Parser(prog=called("doctor.py"), allow_abbrev=False,
                    description="Check all that training needs, and say how to mend what is wrong.")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of lines")
    parser.add_argument("--only", metavar="NAMES", help=f"only these, by commas: {','.join(CHECKS)}")
    parser.add_argument("--check", choices=CHECKS, metavar="NAME", help=argparse.SUPPRESS)
    from utils.errors import ConfigError
    from utils.settings.completion import add_completion
    add_completion(parser)
    try:
        given = parser.parse_args(argv)
    except ConfigError as error:                        # the package that writes completions is not installed
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    if given.check:
        answer(given.check)
    names = given.only.split(",") if given.only else list(CHECKS)
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"{parser.prog}: only: got {unknown[0]!r}, expected some of {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    try:
        return report(names, given.json)
    except KeyboardInterrupt:
        print(f"{called('doctor.py')}: interrupted", file=sys.stderr)
        os._exit(130)                   # without waiting for the checks under way


def report(names, as_json):
    results = {}
    with ThreadPoolExecutor(2) as pool:
        for name, given in zip(names, pool.map(examine, names), strict=True):
            results[name] = result = given._replace(found=as_called(given.found), mend=as_called(given.mend))
            if not as_json:
                say(f"{result.status:4}  {name}: {result.found}" + f"\n      {result.mend}" * bool(result.mend))
    if as_json:
        say(json.dumps([{"name": name, **result._asdict()} for name, result in results.items()], indent=2))
    return int(any(result.status == "fail" for result in results.values()))


def say(line):
    """Print a line; if the reader has closed the pipe, only the exit code remains."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
