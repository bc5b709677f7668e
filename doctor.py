"""Check everything that training needs, and say how to mend what is wrong: `python doctor.py`.

Each check runs in a process of its own with a time limit, because a broken package may crash or hang. This file
itself needs nothing but Python, and an old one is enough.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from utils.installed import HERE, ROOT, as_called, called, pip_install, started_by

OURS = pip_install()
UNSET = "unset MUJOCO_GL"
LITTLE_DISK, LEAST_DISK = 5e9, 100e6
LEAST_MEMORY = 500e6

# status: ok, warn or fail; found: one line; mend: a command, "" if nothing is wrong.
Result = namedtuple("Result", "status found mend", defaults=("",))
# needed: without it no run is possible; mend: the command, if the check itself has no better one.
Check = namedtuple("Check", "look needed mend seconds")


class Trouble(Exception):
    """A check failed: what is wrong, and the command that mends it."""

    def __init__(self, found, mend=None, status=None):
        super().__init__(found)
        self.mend, self.status = mend, status


# The checks: each returns what it found, or raises -----------------------------------------------------------------

def python():
    if sys.version_info < (3, 11):                      # noqa: UP036 (it is what is asked)
        raise Trouble(f"{sys.version.split()[0]}, expected 3.11 or newer")
    return f"{sys.version.split()[0]} at {sys.executable}"


def project():
    from program import foreign_package
    if stranger := foreign_package():
        raise Trouble(stranger, f"cd {HERE}; unset PYTHONPATH")
    for name in ("gymnasium", "safetensors", "tensorboardX", "rich"):       # OpenCV has a check of its own
        __import__(name)
    found = [f"{name} {version(name)}" for name in ("numpy", "gymnasium", "safetensors", "tensorboardX", "rich")]
    return ", ".join(found)


def torch():
    import torch
    check_product(torch, "cpu")
    return f"{version('torch')}, multiplies on the CPU"


def cuda():
    import torch
    driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi")
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            check_product(torch, f"cuda:{i}")
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) + ", multiplies"
    if not driver:
        return "no GPU here, none is needed; runs use the CPU"
    if torch.version.cuda is None:
        raise Trouble("a driver is here, but this PyTorch was built without CUDA",
                      "pip install --force-reinstall torch")
    raise Trouble(f"a driver is here, but PyTorch (CUDA {torch.version.cuda}) does not get on with it", "nvidia-smi")


def check_product(torch, device):
    """A product of known numbers: `is_available` alone says little."""
    x = torch.arange(64 * 64, dtype=torch.float32, device=device).reshape(64, 64) % 7
    if not torch.equal((x @ x).cpu().long(), x.cpu().long() @ x.cpu().long()):
        raise Trouble(f"a product on {device} is wrong")


def tensorflow():
    import tensorflow as tf
    if float(tf.linalg.matmul(tf.ones((2, 3)), tf.ones((3, 2)))[0, 0]) != 3:
        raise Trouble("a product is wrong")
    return f"{tf.__version__}, multiplies"


def mujoco():
    try:
        for name in ("mujoco", "gymnasium"):            # what is missing is told by its name
            __import__(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) or not os.environ.get("MUJOCO_GL"):
            raise
        raise Trouble(f"cannot be imported with MUJOCO_GL={os.environ['MUJOCO_GL']}: {type(error).__name__}: {error}",
                      UNSET) from None
    from envs import make_env
    from utils.settings.resolve import resolve
    # Not Gymnasium's make: of MuJoCo's warnings it makes a file here.
    env = make_env(resolve({"alg": "sac", "env": "HalfCheetah-v4"}))
    env.reset(seed=0)
    for _ in range(10):
        obs, *_ = env.step(env.action_space.sample())
    if not abs(obs).max() < 1e6:
        raise Trouble(f"HalfCheetah-v4 observes {obs}")
    return f"{version('mujoco')}, steps HalfCheetah-v4"


RENDER = """
import gymnasium, mujoco
mujoco.set_mju_user_warning(lambda message: None)
env = gymnasium.make("HalfCheetah-v4", render_mode="rgb_array", disable_env_checker=True)
env.reset(seed=0)
frame = env.render()
assert frame.std() > 0, "the frame is blank"
print("%dx%d" % frame.shape[:2])
"""


def rendering():
    """MuJoCo's OpenGL is chosen when it is imported, and may end the process: each way has its own."""
    ways = [os.environ["MUJOCO_GL"]] if os.environ.get("MUJOCO_GL") else ["egl", "osmesa"]
    wrong = []
    for way in ways:
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", RENDER], env={**os.environ, "MUJOCO_GL": way},
                              capture_output=True, text=True, errors="replace", timeout=40, check=False)
        if done.returncode == 0:
            chosen = "" if os.environ.get("MUJOCO_GL") else f", with MUJOCO_GL={way}"
            return f"a frame of {done.stdout.split()[-1]} by {way}{chosen}"
        wrong.append(f"{way}: {last_line(done.stderr) or ended(done.returncode)}")
    raise Trouble("no frame; " + "; ".join(wrong), UNSET if os.environ.get("MUJOCO_GL") else None)


def atari():
    import ale_py
    import gymnasium
    gymnasium.register_envs(ale_py)
    env = gymnasium.make("ALE/Assault-v5")
    env.reset(seed=0)
    env.step(0)
    return f"ale-py {version('ale-py')}, steps Assault"


def opencv():
    import cv2
    import numpy
    small = cv2.resize(numpy.full((210, 160), 7, numpy.uint8), (84, 84), interpolation=cv2.INTER_AREA)
    if not (small == 7).all():
        raise Trouble("a resized picture is wrong")
    return f"{cv2.__version__}, resizes"


def matplotlib():
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    with tempfile.TemporaryFile() as file:
        Figure().savefig(file)
    return f"{matplotlib.__version__}, draws"


def module(name, package):
    """Whether a module can be imported."""
    def look():
        __import__(name)
        return f"{version(package)}"
    return look


def disk():
    place = next(path for path in (Path("outputs"), Path()) if path.is_dir())
    free = shutil.disk_usage(place).free
    start = time.perf_counter()
    with tempfile.TemporaryFile(dir=place) as file:
        file.write(bytes(2**20))
        file.flush()
        os.fsync(file.fileno())
    seconds, found = time.perf_counter() - start, f"{free / 1e9:.1f} GB free in {place.resolve()}"
    if free < LITTLE_DISK:
        raise Trouble(f"{found}; a run with its replay may want more", "df -h .; du -sh outputs/*",
                      "fail" if free < LEAST_DISK else "warn")
    if seconds > 1:
        raise Trouble(f"{found}; writing 1 MB took {seconds:.1f} s, and every checkpoint waits for it",
                      "python train.py --checkpoint_every=10", "warn")
    return f"{found}, 1 MB safely written in {1000 * seconds:.0f} ms"


def memory():
    """Free memory beside what the default replay takes: a million steps of Ant-v2, 111 observations and 8 actions."""
    import torch

    from algorithm.replay_buffer import create_buffer
    from utils.errors import ConfigError
    from utils.memory import available_bytes
    from utils.settings.resolve import resolve
    from utils.settings.sizes import with_sizes
    from utils.text import human_bytes
    free = available_bytes(torch.device("cpu"))
    if free is None:
        return "unknown how much is free"
    config = with_sizes(resolve({"device": "cpu"}), 111, 8)
    try:
        needed = create_buffer(config).bytes_needed
    except ConfigError as error:
        fits = re.search(r"--buffer_size=\d+", str(error))
        raise Trouble(str(error), f"python train.py {fits[0] if fits else '--buffer_size=100000'}",
                      "fail" if free < LEAST_MEMORY else "warn") from None
    return f"{human_bytes(free)} free, of which the default replay takes up to {human_bytes(needed)}"


def cores():
    import torch

    from record.system import count_cores
    found = f"{count_cores()} of {os.cpu_count()}, {torch.get_num_threads()} threads"
    if not hasattr(os, "getloadavg"):
        return found
    load = os.getloadavg()[0]
    if load >= 0.75 * os.cpu_count() and torch.get_num_threads() > 1:
        raise Trouble(f"{found}, load {load:.1f}: others use them, and threads that wait for each other are slow",
                      "OMP_NUM_THREADS=1 python train.py ...")
    return f"{found}, load {load:.1f}"


CHECKS = {
    "python": Check(python, True, "python3.12 -m venv .venv" if ROOT else "make PYTHON=python3.12", 20),
    "project": Check(project, True, OURS, 60),
    "torch": Check(torch, True, OURS, 120),
    "cuda": Check(cuda, False, "python train.py --device=cpu", 120),
    "mujoco": Check(mujoco, True, OURS, 60),
    "disk": Check(disk, True, "chmod u+rwx . outputs", 60),
    "memory": Check(memory, True, OURS, 120),
    "cores": Check(cores, False, OURS, 120),
    "rendering": Check(rendering, False, "sudo apt-get install libegl1 libosmesa6", 100),
    "atari": Check(atari, False, pip_install("atari"), 60),
    "opencv": Check(opencv, True, OURS, 60),
    "tensorflow": Check(tensorflow, False, pip_install("tensorflow"), 180),
    "stable-baselines3": Check(module("stable_baselines3", "stable-baselines3"), False, pip_install("bench"), 180),
    "matplotlib": Check(matplotlib, False, pip_install("plot"), 60),
    "video": Check(module("imageio_ffmpeg", "imageio-ffmpeg"), False, pip_install("video"), 60),
    "tensorboard": Check(module("tensorboard", "tensorboard"), False, pip_install("tensorboard"), 60),
    "wandb": Check(module("wandb", "wandb"), False, pip_install("track"), 60),
    "ray": Check(module("ray", "ray"), False, pip_install("ray"), 60),
}
PACKAGES = {"torch": "torch", "mujoco": "mujoco", "tensorflow": "tensorflow", "atari": "ale-py",
            "opencv": "opencv-python-headless", "stable-baselines3": "stable-baselines3"}


def version(package):
    import importlib.metadata
    for name in (package, package + "-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "of unknown version"


def oldest(package):
    """The oldest version that is tested, where the list of them is at hand."""
    try:
        pins = (HERE / "constraints-oldest.txt").read_text()
    except OSError:
        return None
    pin = re.search(rf"(?m)^{re.escape(package)}(?:-cpu)?==(\S+)", pins)
    return pin[1] if pin else None


def numbers(text):
    return [int(number) for number in re.findall(r"\d+", text.partition("+")[0])[:3]]


# One check ---------------------------------------------------------------------------------------------------------

def judge(name):
    """Look, in this process; nothing that is raised gets out."""
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
    """Look, in another process that may crash, hang or write what it likes."""
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
        told = last_line(err.decode(errors="replace"))
        return Result(wrong, ended(process.returncode) + f": {told}" * bool(told), check.mend)


def stop(process):
    """The process with all that it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def ended(code):
    names = {number.value: number.name for number in signal.Signals}
    return f"its process died of {names.get(-code, -code)}" if code < 0 else f"its process ended with exit code {code}"


def last_line(text):
    lines = [one_line(line) for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def one_line(text):
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= 300 else line[:297] + "..."


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
    given = parser.parse_args(argv)
    if given.check:
        answer(given.check)
    names = given.only.split(",") if given.only else list(CHECKS)
    if unknown := [name for name in names if name not in CHECKS]:
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
        for name, given in zip(names, pool.map(examine, names)):        # noqa: B905 (Python 3.9 knows no strict)
            results[name] = result = given._replace(found=as_called(given.found), mend=as_called(given.mend))
            if not as_json:
                say(f"{result.status:4}  {name}: {result.found}" + f"\n      {result.mend}" * bool(result.mend))
    if as_json:
        say(json.dumps([{"name": name, **result._asdict()} for name, result in results.items()], indent=2))
    return int(any(result.status == "fail" for result in results.values()))


def say(line):
    """Once nobody reads any more, the exit code still tells."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
