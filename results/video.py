"""Record an episode as an mp4: play it again and render each step."""

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

from results.reward_plots import Strip, caption
from utils.installed import pip_install

BLOCK = 16              # pixels of a block of H.264; imageio would stretch other sizes
LEAST = 320             # pixels of width that captions need; smaller frames are enlarged
# Without a display GLFW makes a context with warnings only; using the context fails.
PROBE = """import mujoco
context = mujoco.GLContext(16, 16)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_100)
"""


def missing_extra() -> str | None:
    """One line that names the package that writing videos needs and that is not installed, or None."""
    for name in ("imageio", "imageio_ffmpeg"):
        if importlib.util.find_spec(name) is None:
            return f"{name.replace('_', '-')} is not installed; {pip_install('video')} installs it"
    return None


def choose_gl() -> str | None:
    """Set MUJOCO_GL to a way of rendering that works: without a display EGL, or OSMesa if only that works.

    A given MUJOCO_GL that cannot render is ignored, except `disabled`. Call this before MuJoCo is imported, because
    MuJoCo reads the variable then; for the same reason each way is tried in a process of its own.

    Returns: a line that says that the given value is ignored, or None.
    """
    if importlib.util.find_spec("mujoco") is None:
        return None
    note, given = None, os.environ.get("MUJOCO_GL", "")
    if given and (given == "disabled" or renders_by(given)):
        return None
    if given:
        del os.environ["MUJOCO_GL"]
        note = f"MUJOCO_GL: got {given!r}, which cannot render on this machine; ignored"
    shown = given != "glfw" and any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if not shown and sys.platform == "linux":
        os.environ["MUJOCO_GL"] = next((name for name in ("egl", "osmesa") if renders_by(name)), "egl")
    return note


def renders_by(name: str) -> bool:
    """Whether MuJoCo can render on this machine with this MUJOCO_GL."""
    try:
        done = subprocess.run([sys.executable, "-P", "-c", PROBE], env=os.environ | {"MUJOCO_GL": name},
                              capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Silence errors in `__del__` of viewers that were only partly made because rendering failed."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda args: None
    try:
        yield
    finally:
        gc.collect()
        sys.unraisablehook = hook


def record(path: Path, env: gym.Env, title: str, seed: int, acts: np.ndarray,
           make_strip: Callable[[int], Strip] | None = None) -> None:
    """Play the episode of `seed` with its actions again, and write a frame of its start and of each step.

    Args:
        env: its `render()` returns RGB, uint8 (H, W, 3), and its `info` has `true_reward`.
        title: written below each frame.
        acts: (T, A), or indices (T,).
        make_strip: makes the plot below the frames, given their width.
    Raises:
        Exception: anything that an environment, an OpenGL driver or an encoder may raise; then no file is left.
    """
    env.reset(seed=seed)
    frame, total = rendered(env), 0.0
    strip = make_strip(frame.shape[1]) if make_strip else None
    with writer(path, env.metadata.get("render_fps") or 30) as write:
        write(composed(frame, title, total, strip, 0))
        for step, action in enumerate(acts, 1):
            *_, info = env.step(action)
            total += info["true_reward"]
            write(composed(rendered(env), title, total, strip, step))


def rendered(env: gym.Env) -> np.ndarray:
    """Render the environment, uint8 (H, W, 3); a small picture is enlarged by a whole factor.

    Raises:
        ValueError: `render()` returns something else.
    """
    frame = np.asarray(env.render())
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"render: got {frame.dtype} {frame.shape}, expected uint8 (H, W, 3)")
    factor = -(-LEAST // max(frame.shape[1], 1))
    return frame.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else frame


def composed(frame: np.ndarray, title: str, total: float, strip: Strip | None, step: int) -> np.ndarray:
    """A frame with its caption and the plot below it, padded with black to whole blocks of the encoder."""
    below = [caption(title, f"step {step}  return {total:.5g}", frame.shape[1])]
    picture = np.concatenate([frame, *below, *([strip.until(step)] if strip else [])])
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)))


@contextlib.contextmanager
def writer(path: Path, fps: float) -> Iterator[Callable[[np.ndarray], Any]]:
    """Write images of one size, uint8 (H, W, 3), to an mp4; a failure leaves no file."""
    import imageio.v2 as imageio
    temporary = path.with_name(f".{os.getpid()}.{path.name}")               # the suffix sets the format
    try:
        with imageio.get_writer(temporary, format="FFMPEG", mode="I", fps=fps, codec="libx264",
                                macro_block_size=BLOCK) as video:
            yield video.append_data
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
