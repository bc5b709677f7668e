"""The checks of doctor.py: each returns what it found, or raises. It imports without packages."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

from utils.installed import HERE, ROOT, pip_install

OURS = pip_install()
UNSET = "unset MUJOCO_GL"
LITTLE_DISK, LEAST_DISK = 5e9, 100e6
LEAST_MEMORY = 500e6

# needed: without it no run is possible; mend: the command, if the check itself has no better one.
Check = namedtuple("Check", "look needed mend seconds")


class Trouble(Exception):
    """A check failed: what is wrong, and the command that mends it."""

    def __init__(self, found, mend=None, status=None):
        super().__init__(found)
        self.mend, self.status = mend, status


def python():
    """The version of Python."""
    if sys.version_info < (3, 11):                      # noqa: UP036 (this is the check)
        raise Trouble(f"{sys.version.split()[0]}, expected 3.11 or newer")
    return f"{sys.version.split()[0]} at {sys.executable}"


def project():
    """The project's own packages, and the small ones that it requires."""
    from program import foreign_package
    if stranger := foreign_package():
        raise Trouble(stranger, f"cd {HERE}; unset PYTHONPATH")
    for name in ("gymnasium", "safetensors", "tensorboardX", "rich"):       # OpenCV has a check of its own
        __import__(name)
    found = [f"{name} {version(name)}" for name in ("numpy", "gymnasium", "safetensors", "tensorboardX", "rich")]
    return ", ".join(found)


def torch():
    """PyTorch, by a product."""
    import torch
    check_product(torch, "cpu")
    return f"{version('torch')}, multiplies on the CPU"


def cuda():
    """Every GPU, by a product."""
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
    raise Trouble(f"a driver is here, but PyTorch (CUDA {torch.version.cuda}) does not work with it", "nvidia-smi")


def check_product(torch, device):
    """A product of known numbers: `is_available` alone says little."""
    x = torch.arange(64 * 64, dtype=torch.float32, device=device).reshape(64, 64) % 7
    if not torch.equal((x @ x).cpu().long(), x.cpu().long() @ x.cpu().long()):
        raise Trouble(f"a product on {device} is wrong")


def tensorflow():
    """TensorFlow, by a product."""
    import tensorflow as tf
    if float(tf.linalg.matmul(tf.ones((2, 3)), tf.ones((3, 2)))[0, 0]) != 3:
        raise Trouble("a product is wrong")
    return f"{tf.__version__}, multiplies"


def mujoco():
    """MuJoCo, by ten steps of HalfCheetah."""
    try:
        for name in ("mujoco", "gymnasium"):            # an error names the missing package
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
    """The Arcade Learning Environment, by a step."""
    import ale_py
    import gymnasium
    gymnasium.register_envs(ale_py)
    env = gymnasium.make("ALE/Assault-v5")
    env.reset(seed=0)
    env.step(0)
    return f"ale-py {version('ale-py')}, steps Assault"


def opencv():
    """OpenCV, by a picture that is resized."""
    import cv2
    import numpy
    small = cv2.resize(numpy.full((210, 160), 7, numpy.uint8), (84, 84), interpolation=cv2.INTER_AREA)
    if not (small == 7).all():
        raise Trouble("a resized picture is wrong")
    return f"{cv2.__version__}, resizes"


def matplotlib():
    """matplotlib, by an empty figure."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    with tempfile.TemporaryFile() as file:
        Figure().savefig(file)
    return f"{matplotlib.__version__}, draws"


def module(name, package):
    """Whether a module can be imported."""
    def look():
        """Import it."""
        __import__(name)
        return f"{version(package)}"
    return look


def disk():
    """The free space and the speed of the disk that runs are written to."""
    place = next(path for path in (Path("outputs"), Path()) if path.is_dir())
    free = shutil.disk_usage(place).free
    start = time.perf_counter()
    with tempfile.TemporaryFile(dir=place) as file:
        file.write(bytes(2**20))
        file.flush()
        os.fsync(file.fileno())
    seconds, found = time.perf_counter() - start, f"{free / 1e9:.1f} GB free in {place.resolve()}"
    if free < LITTLE_DISK:
        raise Trouble(f"{found}; a run with its replay may need more", "df -h .; du -sh outputs/*",
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
    """The cores, and whether other programs use them."""
    import torch

    from record.system import crowded
    from utils.cores import count_cores
    found = f"{count_cores()} of {os.cpu_count()}, {torch.get_num_threads()} threads"
    if not hasattr(os, "getloadavg"):
        return found
    found = f"{found}, load {os.getloadavg()[0]:.1f}"
    if crowded():
        raise Trouble(f"{found}: other programs use them, and training takes longer")
    return found


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
    """The installed version of a package."""
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
    """The first three numbers of a version."""
    return [int(number) for number in re.findall(r"\d+", text.partition("+")[0])[:3]]


def ended(code):
    """How a process ended, in words."""
    names = {number.value: number.name for number in signal.Signals}
    return f"its process died of {names.get(-code, -code)}" if code < 0 else f"its process ended with exit code {code}"


def last_line(text):
    """The last line that is not empty; "" if there is none."""
    lines = [one_line(line) for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def one_line(text):
    """Any object as one printable line of at most 300 characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= 300 else line[:297] + "..."
