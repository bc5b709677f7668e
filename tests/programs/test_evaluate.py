"""evaluate.py: its numbers, its files, and its one-line errors."""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import tiny_envs
from runs import SMALL, SMALL_RRD, run

import evaluate
from algorithm.decomposition.diagnosis import NAMES
from learner.episodes import Player
from results import reward_plots, video
from results.reward_plots import (
    CAPTION,
    INK,
    MARGIN,
    PAPER,
    PLOT,
    PREDICTED,
    SIDE,
    STRIP,
    TOP,
    TRUE,
    Strip,
    caption,
    draw_png,
    text_width,
)
from results.statistics import interquartile_mean, summary

ROOT = Path(__file__).resolve().parent.parent.parent
FEW = "--episodes=3"


class Shown(tiny_envs.Match):
    """Renders pictures of an odd size; their first column is as bright as the step, the others as the observation."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}        # noqa: RUF012 (Gymnasium's way)

    def __init__(self, render_mode=None):
        super().__init__()
        self.render_mode = render_mode

    def render(self):
        picture = np.full((21, 37, 3), np.uint8(100 + 100 * self.obs[0]))
        picture[:, 0] = self.t
        return picture


gym.register("Shown-v0", Shown)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function that makes a run of some flags, each once, and gives its directory."""
    @functools.cache
    def make(*flags: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path_factory.mktemp("made"))
            return run(*flags).directory.absolute()
    return make


@pytest.fixture
def trained(request, made):
    """The directory of a copy of a small run, RRD unless the test's parameter says otherwise."""
    source = made(*getattr(request, "param", [*SMALL_RRD, "--env=Match-v0"]))
    return Path(shutil.copytree(source, Path("outputs") / source.name))


def results_of(directory: Path) -> dict:
    """The only JSON file of the run's evaluations."""
    (path,) = (directory / "evaluations").glob("*.json")
    return json.loads(path.read_text())


# Statistics -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("values", "expected"), [
    ([1, 2, 3, 100], 2.5), ([4, 1, 3, 2, 100], 3), ([7], 7), ([1, 2, 6], 3), ([0, 0, 3, 4, 5, 6, 90, 99], 4.5)])
def test_the_inter_quartile_mean(values, expected):
    assert interquartile_mean([np.array(values, float)]) == expected


def test_intervals_are_those_of_the_bootstrap(monkeypatch):
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = summary(values, 0)
    assert found["mean"]["value"] == values.mean()
    assert found["median"]["value"] == np.median(values)
    low, high = found["mean"]["interval"]
    error = values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)
    assert summary(values, 0) == found != summary(values, 1)
    monkeypatch.setattr("results.statistics.BLOCK", 400 * 7)          # however many are drawn at once
    assert summary(values, 0) == found


def test_one_return_has_no_interval_and_equal_returns_have_an_empty_one():
    assert summary([3.0], 0)["iqm"] == {"value": 3, "interval": None}
    assert summary([3.0, 3.0], 0)["mean"] == {"value": 3, "interval": [3, 3]}


# Numbers and files ------------------------------------------------------------------------------------------------

def test_the_printed_table_and_the_written_file(trained, capsys):
    assert evaluate.main([str(trained), FEW, "--seed=4"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    facts = results_of(trained)
    returns = facts["returns"]
    assert len(returns) == len(facts["lengths"]) == len(set(facts["seeds"])) == 3
    assert facts["lengths"] == [10] * 3
    assert facts["summary"] == summary(returns, 4)
    checkpoint = trained / "checkpoints" / "best.safetensors"
    assert facts["checkpoint"]["path"] == str(checkpoint)
    assert facts["checkpoint"]["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert facts["settings"]["env"] == "Match-v0"
    assert facts["system"]["versions"]["numpy"] == np.__version__
    assert "diagnosis" not in facts
    for name in ("mean", "median", "iqm", "length"):
        assert f"\n{name} " in out
    assert f"{np.mean(returns):.6g}" in out


@pytest.mark.parametrize("explore", [False, True])
def test_the_returns_can_be_reproduced_from_the_seeds(trained, explore):
    from learner.evaluation import load_trained
    from utils.stop import Stop
    assert evaluate.main([str(trained), FEW, *["--explore"] * explore]) == 0
    facts = results_of(trained)
    world = load_trained(trained, trained / "checkpoints" / "best.safetensors", {"env_type": "normal"}, Stop())
    if not explore:
        for seed, wanted in zip(facts["seeds"], facts["returns"], strict=True):
            (obs, _), over, total = world.env.reset(seed=seed), False, 0.0
            while not over:
                obs, reward, terminated, truncated, _ = world.env.step(world.agent.step(obs))
                total, over = total + reward, terminated or truncated
            assert total == pytest.approx(wanted)
    player = Player(world.env, world.agent)                         # in any order
    assert [player.play(seed, explore).true_return for seed in facts["seeds"][::-1]] == facts["returns"][::-1]


@pytest.mark.parametrize("trained", [[*SMALL_RRD, "--env=Match-v0"], [*SMALL, "--alg=dqn", "--env=CartPole-v1"]],
                         indirect=True, ids=["rrd", "dqn"])
def test_the_same_seed_gives_the_same_numbers_and_another_does_not(trained):
    found = []
    for flags in (["--seed=1"], ["--seed=1"], ["--seed=2"], ["--seed=1", "--explore"], ["--seed=1", "--explore"]):
        assert evaluate.main([str(trained), FEW, "--json=one.json", *flags]) == 0
        found.append({name: json.loads(Path("one.json").read_text())[name] for name in ("returns", "summary", "seeds")})
    assert found[0] == found[1] != found[2]
    assert found[3] == found[4] != found[0]


def test_more_episodes_begin_with_the_same_ones_and_a_diagnosis_changes_none(trained):
    returns = []
    for flags in (["--episodes=2"], ["--episodes=4"], ["--episodes=4", "--diagnose"]):
        assert evaluate.main([str(trained), "--json=one.json", "--explore", *flags]) == 0
        returns.append(json.loads(Path("one.json").read_text())["returns"])
    assert returns[1] == returns[2]
    assert returns[1][:2] == returns[0]


def test_any_checkpoint(trained):
    other = shutil.copy(trained / "checkpoints" / "last.safetensors", "mine.safetensors")
    inside = shutil.copy(other, trained / "kept.safetensors")
    places = [[str(trained)], [str(trained), "--checkpoint=last"], [str(trained), f"--checkpoint={other}"],
              [str(inside)], [str(trained / "checkpoints" / "best.safetensors")]]
    found = []
    for flags in places:
        assert evaluate.main([*flags, FEW, "--json=one.json"]) == 0
        found.append(json.loads(Path("one.json").read_text())["returns"])
    assert found[0] == found[4]
    assert found[1] == found[2] == found[3]
    assert not (trained / "evaluations").exists()


def test_variations(trained):
    assert evaluate.main([str(trained), FEW, "--env=tiny_envs:MatchConstant-v0", "--env-type=normal"]) == 0
    facts = results_of(trained)
    assert facts["lengths"] == [2] * 3
    assert (facts["settings"]["env"], facts["settings"]["env_type"]) == ("tiny_envs:MatchConstant-v0", "normal")
    assert evaluate.main([str(trained), FEW, "--test_timesteps=4", "--json=one.json"]) == 0
    assert json.loads(Path("one.json").read_text())["lengths"] == [4] * 3
    assert evaluate.main([str(trained), FEW, "--test_timesteps=500", "--json=one.json", "--diagnose"]) == 0


@pytest.mark.parametrize("trained", [[*SMALL_RRD, "--basis_alg=dqn", "--env=Film-v0"],
                                     [*SMALL, "--alg=ircr", "--basis_alg=dqn", "--env=Film-v0"]], indirect=True,
                         ids=["rrd", "ircr"])
def test_pictures(trained):
    assert evaluate.main([str(trained), FEW, "--diagnose"]) == 0
    assert results_of(trained)["returns"] == [55.0] * 3


# Diagnosis --------------------------------------------------------------------------------------------------------

def test_a_diagnosis(trained, capsys):
    assert evaluate.main([str(trained), FEW, "--diagnose"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = results_of(trained)["diagnosis"]
    assert list(found) == ["greedy", "exploring", "both"]
    assert all(list(numbers) == list(NAMES) for numbers in found.values())
    assert None not in found["both"].values()
    assert found["greedy"]["error_recent"] is None                  # the replay's episodes are of neither kind
    for name in NAMES:
        assert f"\n{name} " in out
    credit = results_of(trained)["credit"]
    assert len(credit["predicted"]) == len(credit["true"]) == results_of(trained)["lengths"][0]
    assert sum(credit["true"]) == pytest.approx(results_of(trained)["returns"][0])
    assert [len(numbers) for numbers in credit["by_step"].values()] == [10, 10, 10]
    (picture,) = (trained / "evaluations").glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("trained", [[*SMALL, "--alg=ircr", "--env=Match-v0"]], indirect=True, ids=["ircr"])
def test_a_diagnosis_of_ircr(trained, capsys):
    assert evaluate.main([str(trained), FEW, "--diagnose"]) == 0
    numbers = results_of(trained)["diagnosis"]["both"]
    assert {name for name, value in numbers.items() if value is None} == {
        "pearson_within", "spearman_within", "r2", "sum_error", "error_played", "error_recent", "error_old"}
    assert numbers["pearson_across"] == pytest.approx(1)            # all episodes are of one length
    shutil.rmtree(trained / "checkpoints" / "resume")
    capsys.readouterr()
    assert evaluate.main([str(trained), FEW, "--diagnose", "--json=one.json"]) == 0
    assert capsys.readouterr().err == (
        "evaluate.py: note: the run has saved no replay, without which ircr predicts no reward\n")
    assert set(json.loads(Path("one.json").read_text())["diagnosis"]["both"].values()) == {None}


def test_a_damaged_replay_is_reported(trained, capsys):
    for path in (trained / "checkpoints" / "resume").rglob("manifest.json"):
        path.write_bytes(path.read_bytes()[:-5])
    assert evaluate.main([str(trained), FEW, "--diagnose"]) == 0
    assert "note: the replay of the run cannot be read: " in capsys.readouterr().err
    numbers = results_of(trained)["diagnosis"]["both"]
    assert numbers["error_old"] is None
    assert numbers["pearson_within"] is not None


def test_without_matplotlib_a_line_names_the_extra(trained, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert evaluate.main([str(trained), FEW, "--diagnose"]) == 0
    assert "matplotlib is not installed; pip install -e '.[plot]' installs it" in capsys.readouterr().err


def test_the_png_holds_both_lines():
    image = pytest.importorskip("matplotlib.image")
    rewards = np.linspace(0, 1, 50)
    for same_unit in (True, False):
        Path("one.png").write_bytes(draw_png(rewards[::-1], rewards, same_unit, "an episode"))
        pixels = np.rint(image.imread("one.png")[..., :3] * 255)
        for color in (TRUE, PREDICTED):
            assert (np.abs(pixels - color).max(-1) < 3).sum() > 100


def test_the_strip_under_a_video():
    strip = Strip(np.array([0.0, 0.0, 4.0, 4.0]), np.array([4.0, 4.0, 4.0, 2.0]), True, SIDE + 80 + MARGIN)
    assert strip.until(4).shape == (STRIP, SIDE + 80 + MARGIN, 3)
    picture = strip.until(4)[strip.area]
    assert picture.shape == (PLOT, 80, 3)

    def row(column: int, color: tuple) -> int:
        return int(np.flatnonzero((picture[:, column] == color).all(-1))[0])
    assert row(5, PREDICTED) == PLOT - MARGIN - 2                   # the least value, at the bottom
    assert row(5, TRUE) == row(55, PREDICTED) == MARGIN             # the greatest, at the top
    assert row(75, TRUE) == pytest.approx(PLOT / 2, abs=2)
    half = strip.until(2)[strip.area]
    assert (half[:, 40:] == PAPER).all()                            # the steps after it
    assert (half[:, :40] == picture[:, :40]).all()
    apart = Strip(np.array([0.1, 0.1]), np.array([5.0, 7.0]), False, 320)
    assert (apart.until(2)[apart.area] == PREDICTED).all(-1).any()  # its own scale


def test_the_strip_has_axes_a_scale_and_a_legend(monkeypatch):
    written = []
    monkeypatch.setattr(reward_plots, "write", lambda picture, text, place, color, from_right=False:
                        written.append((text, color)) or place[0])
    width = 400
    Strip(np.array([0.5, 0.25]), np.array([5.0, 7.0]), False, width)
    assert written == [("1", INK), ("2", INK), ("step", INK), ("true reward", TRUE), ("predicted", PREDICTED),
                       ("7", TRUE), ("5", TRUE), ("0.5", PREDICTED), ("0.25", PREDICTED)]
    written.clear()
    Strip(np.array([-0.5, 1.0]), np.array([5.0, 7.0]), True, width)
    assert written[-2:] == [("7", INK), ("-0.5", INK)]


def coloured(picture: np.ndarray, color: tuple) -> bool:
    """Whether some pixels are nearly of this colour."""
    return bool((np.abs(picture.astype(int) - color).max(-1) < 40).any())


def test_letters_are_drawn_in_their_colours_and_do_not_leave_the_strip():
    strip = Strip(np.array([0.5, 0.25]), np.array([-1234.5, 7.0]), False, 320)
    blank = strip.until(0)
    assert (blank[strip.area] == PAPER).all()
    rows, columns = strip.area
    left, right = blank[rows, :columns.start - 1], blank[rows, columns.stop:]
    assert (coloured(left, TRUE), coloured(left, PREDICTED)) == (True, False)
    assert (coloured(right, TRUE), coloured(right, PREDICTED)) == (False, True)
    assert coloured(blank[:rows.start], TRUE)
    assert coloured(blank[:rows.start], PREDICTED)
    assert (blank[1:, 0] == PAPER).all()                            # the longest number has room


@pytest.mark.parametrize("title", ["E-v0", "a_module_with_a_long_name:AnEnvironmentWithALongName-v12", "\u6f22-v0", ""])
def test_a_caption_has_the_task_and_the_numbers(title):
    with_title, without = (caption(one, "step 12  return 345", 320) for one in (title, ""))
    assert with_title.shape == (CAPTION, 320, 3)
    differs = np.flatnonzero((with_title != without).any(-1).any(0))
    assert len(differs) > 20 or not title
    assert differs.max(initial=0) < 320 - text_width("step 12  return 345") - MARGIN         # it is cut before them


# Video ------------------------------------------------------------------------------------------------------------

@pytest.fixture
def films(monkeypatch):
    """A stand-in for imageio, which records its calls, and the pictures by file."""
    made = {}

    class Writer:
        def __init__(self, path, **given):
            self.path, made[Path(path)] = Path(path), (given, [])

        def __enter__(self):
            self.path.write_bytes(b"video")
            return self

        def append_data(self, picture):
            made[self.path][1].append(picture)

        def __exit__(self, *error):
            pass
    package, module = types.ModuleType("imageio"), types.ModuleType("imageio.v2")
    module.get_writer, package.v2 = Writer, module
    for name, one in (("imageio", package), ("imageio.v2", module), ("imageio_ffmpeg", types.ModuleType("x"))):
        one.__spec__ = types.SimpleNamespace(name=name)
        monkeypatch.setitem(sys.modules, name, one)
    return made


@pytest.mark.parametrize("trained", [[*SMALL_RRD, "--env=Shown-v0"]], indirect=True, ids=["shown"])
@pytest.mark.parametrize("diagnose", [False, True])
def test_a_video_has_a_frame_of_the_start_and_of_each_step(trained, films, diagnose, capsys):
    assert evaluate.main([str(trained), FEW, "--video", *["--diagnose"] * diagnose]) == 0
    assert capsys.readouterr().err == ""
    ((given, pictures),) = films.values()
    assert given == {"format": "FFMPEG", "mode": "I", "fps": 25, "codec": "libx264", "macro_block_size": 16}
    height, width = 9 * 21, 9 * 37                                  # a small picture is enlarged
    whole = height + CAPTION + STRIP * diagnose
    assert {picture.shape for picture in pictures} == {(whole + -whole % 16, width + -width % 16, 3)}
    assert {picture.dtype for picture in pictures} == {np.dtype(np.uint8)}
    assert [int(picture[0, 0, 0]) for picture in pictures] == list(range(11))
    env = Shown()                                                   # it is the episode that was evaluated first
    env.reset(seed=results_of(trained)["seeds"][0])
    seen = [env.render(), *(env.step(np.zeros(1)) and env.render() for _ in range(10))]
    assert all((picture[4:height:9, 13:width:9] == frame[:, 1:]).all()
               for picture, frame in zip(pictures, seen, strict=True))
    captions = [picture[height:height + CAPTION, :width] for picture in pictures]
    total = results_of(trained)["returns"][0]
    assert (captions[0] == caption("Shown-v0", "step 0  return 0", width)).all()
    assert (captions[10] == caption("Shown-v0", f"step 10  return {total:.5g}", width)).all()
    assert [path.read_bytes() for path in (trained / "evaluations").glob("*.mp4")] == [b"video"]
    if diagnose:
        inside = slice(2 * SIDE, width - 2 * SIDE)                      # of the axes, whose numbers may be long
        plots = slice(height + CAPTION + TOP, height + CAPTION + TOP + PLOT), inside
        blank = [(picture[plots] == PAPER).all(-1).mean() for picture in pictures]
        assert blank[0] == 1
        assert sorted(blank, reverse=True) == blank


# imageio-ffmpeg does not always wait for its process, nor close that one's pipes
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("trained", [[*SMALL_RRD, "--env=Shown-v0"]], indirect=True, ids=["shown"])
def test_a_real_video(trained):
    pytest.importorskip("imageio_ffmpeg")
    import imageio.v2
    assert evaluate.main([str(trained), FEW, "--video=mine.mp4", "--diagnose"]) == 0
    with imageio.v2.get_reader("mine.mp4", format="FFMPEG") as reader:
        assert reader.get_meta_data()["fps"] == 25
        assert {frame.shape for frame in reader} == {(352, 336, 3)}


def test_a_failed_rendering_gives_one_line_and_no_file(trained, films, capsys):
    assert evaluate.main([str(trained), FEW, "--video"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("evaluate.py: no video: ")
    assert err.count("\n") == 1
    assert len(results_of(trained)["returns"]) == 3
    assert not list((trained / "evaluations").glob("*.mp4"))


@pytest.mark.parametrize("trained", [[*SMALL_RRD, "--env=Shown-v0"]], indirect=True, ids=["shown"])
def test_a_renderer_that_fails_in_the_middle_gives_one_line_and_no_file(trained, films, capsys, monkeypatch):
    def render(self):
        if self.t == 4:
            raise RuntimeError("the driver\nis gone")
        return np.zeros((16, 16, 3), np.uint8)
    monkeypatch.setattr(Shown, "render", render)
    assert evaluate.main([str(trained), FEW, "--video"]) == 0
    assert capsys.readouterr().err == "evaluate.py: no video: RuntimeError: the driver is gone\n"
    assert [path.suffix for path in (trained / "evaluations").iterdir()] == [".json"]


def test_without_imageio_ffmpeg_a_line_names_the_extra(trained, capsys, monkeypatch):
    find = video.importlib.util.find_spec
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda name: None if "ffmpeg" in name else find(name))
    assert evaluate.main([str(trained), FEW, "--video"]) == 0
    assert capsys.readouterr().err == (
        "evaluate.py: no video: imageio-ffmpeg is not installed; "
        "pip install -e '.[video]' installs it\n")


@pytest.mark.parametrize(("works", "chosen"), [({"egl", "osmesa"}, "egl"), ({"osmesa"}, "osmesa"), (set(), "egl")])
def test_without_a_display_mujoco_renders_by_what_works(works, chosen, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(video, "renders_by", works.__contains__)
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.setenv(name, "")
    video.choose_gl()
    assert os.environ["MUJOCO_GL"] == chosen


@pytest.mark.parametrize("given", [{"MUJOCO_GL": "glfw"}, {"MUJOCO_GL": "disabled"}, {"DISPLAY": ":0"},
                                   {"WAYLAND_DISPLAY": "w"}])
def test_the_users_choice_and_a_display_are_kept(given, monkeypatch):
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.setenv(name, given.get(name, ""))
    monkeypatch.setattr(video, "renders_by", lambda name: name == "glfw" or pytest.fail("asked"))
    assert video.choose_gl() is None
    assert os.environ["MUJOCO_GL"] == given.get("MUJOCO_GL", "")


@pytest.mark.parametrize(("given", "display", "chosen"), [
    ("glfw", "", "egl"), ("glfw", ":0", "egl"), ("osmesa", "", "egl"), ("nope", "", "egl"), ("nope", ":0", ""),
])
def test_a_choice_that_cannot_render_here_is_ignored(given, display, chosen, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(video, "renders_by", "egl".__eq__)
    for name, value in (("MUJOCO_GL", given), ("DISPLAY", display), ("WAYLAND_DISPLAY", "")):
        monkeypatch.setenv(name, value)
    assert video.choose_gl() == f"MUJOCO_GL: got {given!r}, which cannot render on this machine; ignored"
    assert os.environ.get("MUJOCO_GL", "") == chosen


@pytest.mark.skipif(not video.renders_by("egl"), reason="no EGL")
@pytest.mark.skipif(bool(os.environ.get("DISPLAY")), reason="a display")
def test_glfw_without_a_display_cannot_render():
    assert not video.renders_by("glfw")


def test_a_wrong_way_to_render_is_ignored(trained):
    done = subprocess.run([sys.executable, ROOT / "evaluate.py", trained, FEW, "--video", "--env=Match-v0"],
                          env=os.environ | {"MUJOCO_GL": "nope"}, capture_output=True, text=True, check=False)
    assert "env: got 'Match-v0'" in done.stderr                     # of tests/tiny_envs.py, not found there
    assert done.stderr.startswith("evaluate.py: note: MUJOCO_GL: got 'nope', which cannot render on this machine; "
                                  "ignored\n")
    assert "Traceback" not in done.stderr


def test_a_partly_made_viewer_prints_nothing(trained, monkeypatch, capfd):
    class Viewer:
        def __del__(self):
            raise AttributeError("half-made")

    def shoot(*given):
        viewer = Viewer()
        viewer.itself = viewer
        raise RuntimeError("no EGL")
    monkeypatch.setattr(evaluate, "shoot", shoot)
    monkeypatch.setattr(video, "missing_extra", lambda: None)
    assert evaluate.main([str(trained), FEW, "--video"]) == 0
    gc.collect()
    assert capfd.readouterr().err == "evaluate.py: no video: RuntimeError: no EGL\n"


@pytest.mark.slow
def test_a_closed_pipe_does_not_prevent_the_file_of_numbers(trained):
    code = "import sys, tiny_envs, evaluate; sys.exit(evaluate.main(sys.argv[1:]))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code, trained, FEW, "--diagnose"], stdout=writer,
                          stderr=subprocess.PIPE, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"})
    os.close(writer)
    assert done.returncode == 0, done.stderr
    assert results_of(trained)["diagnosis"]
    assert list((trained / "evaluations").glob("*.png"))


# What is wrong ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("flags", "complaint"), [
    (["nowhere"], "'nowhere': expected a run's directory"), ([], "the following arguments are required"),
    (["RUN", "--episodes=0"], "episodes: got 0"), (["RUN", "--episodes=x"], "episodes: got 'x', expected an integer"),
    (["RUN", "--seed=-1"], "seed: got -1"), (["RUN", "--checkpoint=none.safetensors"], "no such file"),
    (["RUN", "--env=Nothing-v0"], "env: got 'Nothing-v0'"), (["RUN", "--env=Hopper-v4"], "obs_dims"),
    (["RUN", "--env_type=x"], "env_type: got 'x'"), (["RUN", "--test_timesteps=0"], "test_timesteps: got 0"),
    (["RUN", "--device=gpu"], "device: got 'gpu'"), (["RUN", "--json=no/where.json"], "json: got 'no/where.json'"),
    (["RUN", "--json=."], "json: got '.', expected a file's name that ends in .json"),
    (["RUN", "--json=x.png"], "json: got 'x.png', expected a file's name that ends in .json"),
    (["RUN", "--video=folder.mp4"], "video: got 'folder.mp4', expected a file's name that ends in .mp4"),
    (["RUN", "--video=x.avi"], "video: got 'x.avi'"), (["RUN", "--wrong"], "unrecognized arguments: --wrong"),
    (["RUN", "--env=CartPole-v1"], "expected --alg=dqn"),
    (["RUN/checkpoints/best.safetensors", "--checkpoint=last"], "checkpoint: got 'last'"),
    (["lonely.safetensors"], "expected a checkpoint inside a run's directory"),
])
def test_bad_input_gives_a_one_line_error_and_exit_code_2(trained, flags, complaint, capsys):
    Path("lonely.safetensors").write_bytes(b"")
    Path("folder.mp4").mkdir()
    before = set(trained.rglob("*"))
    assert evaluate.main([flag.replace("RUN", str(trained)) for flag in flags]) == 2
    err = capsys.readouterr().err
    assert err.startswith("evaluate.py: ")
    assert complaint in err
    assert err.count("\n") == 1
    assert before == set(trained.rglob("*"))


def test_a_damaged_checkpoint_or_run_gives_a_one_line_error(trained, capsys):
    path = trained / "checkpoints" / "best.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert evaluate.main([str(trained)]) == 2
    assert "damaged, its checksum does not match" in capsys.readouterr().err
    (trained / "config.json").write_text("{")
    assert evaluate.main([str(trained)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_runs_file_may_not_name_a_module(capsys):
    directory = run(*SMALL, "--alg=sac", "--env=tiny_envs:Match-v0").directory
    assert evaluate.main([str(directory), FEW]) == 2
    assert "names a module to import, which only a flag may" in capsys.readouterr().err
    assert evaluate.main([str(directory), FEW, "--env=tiny_envs:Match-v0"]) == 0
    assert evaluate.main([str(directory), FEW, "--env=tiny_envs:Match-v0", "--diagnose"]) == 2
    assert "diagnose: sac learns no reward; expected a run of rrd, ircr, uniform, rd, " in capsys.readouterr().err


def test_an_observation_that_is_not_finite_ends_with_1(trained, capsys, monkeypatch):
    monkeypatch.setattr(tiny_envs.Match, "_draw", lambda self: np.float32([np.nan]))
    assert evaluate.main([str(trained), FEW]) == 1
    assert capsys.readouterr().err.startswith("evaluate.py: observation[0]: got nan in evaluation")


@pytest.mark.parametrize(("number", "code", "line"), [(signal.SIGTERM, 75, "stopped by SIGTERM"),
                                                      (signal.SIGINT, 130, "interrupted")])
def test_signals(trained, number, code, line, capsys, monkeypatch):
    step = tiny_envs.Match.step
    monkeypatch.setattr(tiny_envs.Match, "step", lambda *given: signal.raise_signal(number) or step(*given))
    assert evaluate.main([str(trained)]) == code
    assert capsys.readouterr().err == f"evaluate.py: {line}\n"
    assert not (trained / "evaluations").exists()


def test_the_tensorflow_reference_is_not_evaluated(trained, capsys, monkeypatch):
    monkeypatch.setenv("USE_PYTORCH", "0")
    assert evaluate.main([str(trained)]) == 2
    assert "USE_PYTORCH: only PyTorch's checkpoints can be loaded; expected 1" in capsys.readouterr().err


def tensorflow_run(trained: Path) -> Path:
    """As if the TensorFlow reference had made the run."""
    (trained / "run.json").write_text('{"backend": "tensorflow"}')
    for name in ("best", "last"):
        (trained / "checkpoints" / f"{name}.safetensors").unlink()
        for part in (".index", ".data-00000-of-00001"):
            (trained / "checkpoints" / f"{name}.ckpt{part}").touch()
    return trained


@pytest.mark.parametrize(("place", "flags", "name"), [
    ("", [], "best"), ("", ["--checkpoint=last"], "last"), ("/checkpoints/best.ckpt", [], "best"),
    ("/checkpoints/last.ckpt.index", [], "last"), ("", ["--checkpoint=RUN/checkpoints/last.ckpt"], "last"),
    ("/checkpoints/best.ckpt.data-00000-of-00001", [], "best")])
def test_a_run_of_tensorflow_names_the_commands_that_convert_and_evaluate_it(place, flags, name, trained, capsys):
    checkpoints = tensorflow_run(trained) / "checkpoints"
    given = [flag.replace("RUN", str(trained)) for flag in flags]
    assert evaluate.main([f"{trained}{place}", *given]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    convert, then = re.findall("`(.*?)`", error)
    assert shlex.split(convert) == ["python", "-m", "utils.tf_checkpoint", f"{checkpoints}/{name}.ckpt", "--alg=rrd",
                                    "--basis_alg=sac", f"--out={checkpoints}/pytorch"]
    assert shlex.split(then) == ["python", "evaluate.py", str(trained), "--checkpoint",
                                 f"{checkpoints}/pytorch/model.safetensors"]


def test_a_converted_checkpoint_of_a_run_of_tensorflow_is_evaluated(trained):
    converted = trained / "checkpoints" / "pytorch" / "model.safetensors"
    converted.parent.mkdir()
    converted.write_bytes((trained / "checkpoints" / "best.safetensors").read_bytes())
    assert evaluate.main([str(tensorflow_run(trained)), FEW, "--checkpoint", str(converted)]) == 0


@pytest.mark.parametrize("trained", [[*SMALL_RRD, "--env=Match-v0", "--test_rollouts=0"]], indirect=True)
def test_of_a_run_without_evaluations_the_last_checkpoint_is_evaluated(trained, capsys):
    assert evaluate.main([str(trained), FEW]) == 0
    out, err = capsys.readouterr()
    assert err == "evaluate.py: note: the run has no evaluations, so no best checkpoint; evaluating the last one\n"
    assert "checkpoints/last.safetensors: 3 greedy episodes" in out
    assert evaluate.main([str(trained), FEW, "--checkpoint=best"]) == 2
    assert capsys.readouterr().err.endswith("best.safetensors: no such file; --checkpoint last exists\n")


def test_as_a_script_and_beside_a_foreign_package():
    done = subprocess.run([sys.executable, str(ROOT / "evaluate.py"), "--help"], capture_output=True, text=True,
                          check=True)
    for flag in ("--checkpoint", "--episodes", "--seed", "--explore", "--env", "--env_type", "--test_timesteps",
                 "--device", "--json", "--video", "--diagnose"):
        assert f"  {flag}" in done.stdout
    Path("utils").mkdir()
    Path("utils/__init__.py").touch()
    done = subprocess.run([sys.executable, "-m", "evaluate", "x"], env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("evaluate.py: the package `utils` at ")
    assert done.stderr.count("\n") == 1
