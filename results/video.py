"""An episode as an mp4: played once more, with a picture of each step."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from results.reward_plots import Strip
from utils.installed import pip_install

BLOCK = 16              # H.264 works on squares of so many pixels; other sizes imageio would stretch
# GLFW makes a context without a display, with no more than warnings; only what uses it fails.
PROBE = """import mujoco
context = mujoco.GLContext(16, 16)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_100)
"""


def missing_extra() -> str | None:
    """One line if what writes videos is not installed."""
    for name in ("imageio", "imageio_ffmpeg"):
        if importlib.util.find_spec(name) is None:
            return f"{name.replace('_', '-')} is not installed; {pip_install('video')} installs it"
    return None


def choose_gl() -> str | None:
    """Where there is no display, and nothing was chosen, MuJoCo renders by EGL; by OSMesa if only that works.

    A MUJOCO_GL by which MuJoCo cannot render here is not heeded, but for `disabled`; returns a line that says so. To be
    called before MuJoCo is imported: it reads MUJOCO_GL then. Hence the trials in processes of their own.
    """
    if importlib.util.find_spec("mujoco") is None:
        return None
    note, given = None, os.environ.get("MUJOCO_GL", "")
    if given and (given == "disabled" or renders_by(given)):
        return None
    if given:
        del os.environ["MUJOCO_GL"]
        note = f"MUJOCO_GL: got {given!r}, by which MuJoCo cannot render here; not heeded"
    shown = given != "glfw" and any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if not shown and sys.platform == "linux":
        os.environ["MUJOCO_GL"] = next((name for name in ("egl", "osmesa") if renders_by(name)), "egl")
    return note


def renders_by(name: str) -> bool:
    """Whether MuJoCo can render here with MUJOCO_GL of this name."""
    try:
        done = subprocess.run([sys.executable, "-P", "-c", PROBE], env=os.environ | {"MUJOCO_GL": name},
                              capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Nothing is told of viewers that were made here by halves, whose `__del__` fails where rendering does."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda told: None
    try:
        yield
    finally:
        gc.collect()
        sys.unraisablehook = hook


def record(path: Path, env: gym.Env, seed: int, acts: np.ndarray,
           make_strip: Callable[[int], Strip] | None = None) -> None:
    """Play the episode of `seed` with its actions once more, and write a frame of its start and of each step.

    Args:
        env: one whose `render()` gives RGB, uint8 (H, W, 3).
        acts: (T, A), or indices (T,).
        make_strip: given a width, what is shown under the frames.
    Raises:
        Exception: anything that an environment, an OpenGL driver or an encoder may raise; no file is left then.
    """
    env.reset(seed=seed)
    frame = rendered(env)
    strip = make_strip(frame.shape[1]) if make_strip else None
    with writer(path, env.metadata.get("render_fps") or 30) as write:
        write(composed(frame, strip, 0))
        for step, action in enumerate(acts, 1):
            env.step(action)
            write(composed(rendered(env), strip, step))


def rendered(env: gym.Env) -> np.ndarray:
    """The environment as it is now, uint8 (H, W, 3)."""
    frame = np.asarray(env.render())
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"render: got {frame.dtype} {frame.shape}, expected uint8 (H, W, 3)")
    return frame


def composed(frame: np.ndarray, strip: Strip | None, step: int) -> np.ndarray:
    """A frame with its strip below, filled up with black to whole blocks of the encoder."""
    picture = np.concatenate([frame, strip.until(step)]) if strip else frame
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)))


@contextlib.contextmanager
def writer(path: Path, fps: float) -> Iterator[Callable[[np.ndarray], Any]]:
    """Write pictures of one size, uint8 (H, W, 3), to an mp4: all of it, or no file."""
    import imageio.v2 as imageio
    temporary = path.with_name(f".{os.getpid()}.{path.name}")               # the ending tells the kind of file
    try:
        with imageio.get_writer(temporary, format="FFMPEG", mode="I", fps=fps, codec="libx264",
                                macro_block_size=BLOCK) as video:
            yield video.append_data
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
