"""plot.py: the runs it reads, the figures and files it writes, and its errors."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shlex
import struct
import subprocess
import sys
import traceback
import xml.etree.ElementTree
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import DENSE, ORIGINAL, RRD, SAC, make_run, make_runs, make_study

import plot
import results
from results import curves, figures, labels, reading, scores, statistics, styles

ROOT = Path(__file__).resolve().parent.parent.parent


def touch(figure, path: Path) -> None:
    for kind in ("png", "svg"):
        path.with_name(f"{path.name}.{kind}").touch()


@pytest.fixture(autouse=True)
def _not_drawn(request, monkeypatch):
    """Figures are made but not drawn, except in tests that use `drawn`: drawing takes most of a program's time."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(figures, "save", touch)


@pytest.fixture
def drawn():
    """Figures are drawn as users see them."""


def read_csv(name: str) -> list[dict[str, str]]:
    with open(Path("plots") / name, newline="") as file:
        return list(csv.DictReader(file))


def column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name] or "nan") for row in rows])


def rows(*pairs) -> np.ndarray:
    return np.array(pairs, dtype=float)


# Numbers ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("last", "score"), [(0.01, 5), (0.2, 5), (0.4, 4.5), (1, 3)])
def test_a_final_score_is_the_mean_of_the_last_evaluations(last, score):
    assert curves.final_score(rows((1, 1), (2, 2), (3, 3), (4, 4), (5, 5)), last) == score


def test_smoothing_looks_back():
    np.testing.assert_allclose(curves.smooth(np.array([1.0, 2, 6, 4]), 3), [1, 1.5, 3, 4])
    np.testing.assert_array_equal(curves.smooth(np.array([0.1, 0.3]), 1), [0.1, 0.3])


def test_a_run_is_interpolated_but_not_extrapolated():
    found = curves.on_grid(rows((10, 0), (20, 100)), np.array([5, 10, 15, 20, 25]))
    np.testing.assert_array_equal(found, [np.nan, 0, 50, 100, np.nan])


def test_the_grid_has_all_steps_unless_these_are_too_many():
    np.testing.assert_array_equal(curves.common_grid([rows((1, 0), (3, 0)), rows((2, 0), (3, 0))]), [1, 2, 3])
    many = [np.column_stack([np.arange(i, 5000, 7), np.zeros(len(range(i, 5000, 7)))]) for i in range(7)]
    np.testing.assert_allclose(curves.common_grid(many), np.linspace(0, 4999, 500))


def curve(*pairs, run: str = "seed 0") -> curves.Curve:
    return curves.Curve("A", "E", run, rows(*pairs), {})


def test_the_iqm_of_four_runs_is_drawn_where_three_continue():
    runs = [curve((1, 0), (2, 0), (3, 0), (4, 9)), curve((1, 1), (3, 3)), curve((1, 5), (2, 5), (3, 6)),
            curve((1, 100), (2, 100))]
    line, rest = curves.lines("A", runs, resamples=100)
    assert (line.kind, rest.kind) == ("IQM", curves.FEWER)
    np.testing.assert_array_equal(line.steps, [1, 2, 3])
    np.testing.assert_array_equal(line.runs, [4, 4, 3])
    np.testing.assert_allclose(line.value, [3, (2 + 5) / 2, 3])     # the mean of the middle two; of 0, 3, 6
    assert (line.low <= line.value).all()
    assert (line.value <= line.high).all()
    expected = statistics.bootstrap(statistics.interquartile_mean, [np.array([0.0, 3, 6])], resamples=100)
    np.testing.assert_allclose([line.low[2], line.high[2]], expected)


    np.testing.assert_array_equal([rest.steps, rest.runs, rest.value], [[4], [1], [9]])
    assert np.isnan([rest.low, rest.high]).all()


def test_where_fewer_than_three_of_them_go_on_their_mean_goes_on_thin():
    runs = [curve((1, 0), (2, 2), (3, 4), (4, 6)), curve((1, 0), (2, 0), (3, 0)), curve((1, 6)), curve((1, 6))]
    average, rest = lines = curves.lines("A", runs, resamples=10)
    np.testing.assert_array_equal(average.steps, [1])
    np.testing.assert_array_equal([rest.steps, rest.runs, rest.value], [[2, 3, 4], [2, 2, 1], [1, 2, 6]])
    figure = figures.learning_curves("E", lines, figures.Styles(["A"]))
    (axes,) = figure.axes
    thick, thin = axes.lines[:2]
    assert thick.get_linewidth() > thin.get_linewidth()
    np.testing.assert_array_equal(thin.get_xydata(), [[1, average.value[0]], [2, 1], [3, 2], [4, 6]])    # joined
    assert axes.texts[0].get_text() == "A (n=1 of 4)"
    low, high = axes.get_ylim()
    assert axes.texts[0].xyann[1] == pytest.approx((6 - low) / (high - low), abs=0.1)         # beside the end
    assert "mean of fewer than 3" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert curves.lines("A", runs[:1] * 3, resamples=10)[1:] == []


def test_runs_that_overlap_at_one_step_have_no_mean_of_one_dot():
    lines = curves.lines("A", [curve((1, 0), (2, 5), (3, 9)), curve((1, 4), run="seed 1")])
    assert [line.kind for line in lines] == ["seed 0", "seed 1"]
    figure = figures.learning_curves("E", lines, figures.Styles(["A"]))
    assert figure.axes[0].texts[0].get_text() == "A (n=1 of 2)"
    assert [line.kind for line in curves.lines("A", [curve((1, 0)), curve((1, 4), run="seed 1")])][-1] == "mean"


def test_a_long_title_has_several_lines_within_the_figure():
    name = "MarineNav-v0, min_start_goal_dis=30.0, num_cores=0, num_obstacles=0, num_robots=3"
    figure = figures.learning_curves(name, curves.lines("A", [curve((1, 0), (2, 5))]), figures.Styles(["A"]))
    figure.draw_without_rendering()
    title = figure.axes[0]._left_title
    assert title.get_text().replace("\n", " ") == name
    assert title.get_window_extent().x1 <= figure.bbox.x1


def test_a_curve_that_ends_early_is_led_to_its_label():
    lines = [*curves.lines("A", [curve((1, 0), (100, 5))]),
             *curves.lines("B", [curve((1, 0), (30, 3))._replace(algorithm="B")])]
    axes = figures.learning_curves("E", lines, figures.Styles(["A", "B"])).axes[0]
    (leader,) = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert leader.get_xdata()[0] == pytest.approx(0.3)
    assert leader.get_ydata()[1] == axes.texts[1].xyann[1]


def test_two_runs_are_drawn_with_their_mean_where_both_continue():
    first, second, average = curves.lines("A", [curve((1, 0), (3, 4)), curve((2, 10), (4, 20), run="seed 1")])
    assert [first.kind, second.kind, average.kind] == ["seed 0", "seed 1", "mean"]
    np.testing.assert_array_equal(average.steps, [2, 3])
    np.testing.assert_array_equal(average.value, [6, 9.5])
    assert np.isnan(average.low).all()


def test_runs_that_do_not_overlap_are_drawn_alone():
    runs = [curve((10 * i + 1, 0), (10 * i + 2, 0), run=f"seed {i}") for i in range(3)]
    assert [line.kind for line in curves.lines("A", runs)] == ["seed 0", "seed 1", "seed 2"]


def test_anchors_are_sacs_with_episodic_and_with_dense_rewards():
    make_study()
    make_runs("rrd", RRD, [1], "Swimmer-v4")
    make_runs("ep", SAC, [5, 7], "Ant-v4")
    make_runs("dense", DENSE, [4], "Ant-v4")
    said = []
    groups = curves.group(reading.read_curves(["outputs"], said.append))
    anchors = scores.anchors_of_runs(groups, 0.1, said.append)
    assert anchors == {"Hopper-v4": (100, 300), "Walker2d-v4": (1000, 3000)}
    assert said == ["Ant-v4: not normalised: SAC is no better with dense rewards (4) than with episodic ones (6)"]
    found = scores.normalized(scores.final_scores(groups, 0.1), anchors, said.append)
    assert list(found) == ["SAC (dense reward)", "SAC", "RRD-SAC"]
    np.testing.assert_allclose(found["RRD-SAC"], [[0.5, 0.5, 1], [0.5, 0.5, 1]])


def test_an_algorithm_that_lacks_an_environment_is_left_out():
    said = []
    values = {"E": {"A": np.ones(3), "B": np.ones(3)}, "F": {"A": np.ones(3)}}
    assert list(scores.normalized(values, {"E": (0, 1), "F": (0, 1)}, said.append)) == ["A"]
    assert said == ["B: not in the figures over all environments: no run on F"]


# Reading ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("settings", "name"), [
    (SAC, "SAC"), (DENSE, "SAC (dense reward)"), (RRD, "RRD-SAC"),
    (RRD | dict(rrd_bias_correction=True, basis_alg="td3"), "RRD-L(RD)-TD3"),
    (dict(alg="ircr", basis_alg="dqn", env_type="ep_rews"), "IRCR-DQN")])
def test_an_algorithms_name_follows_from_its_settings(settings, name):
    assert reading.read_run(make_run("a", settings, [1])).algorithm == name


def test_the_originals_file_joins_the_runs_of_its_task():
    make_run("a", RRD, [1], "HalfCheetah-v2")
    make_run("b", RRD, [2], "HalfCheetah-v4", seed=1)
    found = reading.read_curves(["outputs", f"RRD (TF) a=b={ORIGINAL}"], pytest.fail)
    groups = curves.group(found)
    assert list(groups) == ["HalfCheetah-v4"]
    assert {name: len(runs) for name, runs in groups["HalfCheetah-v4"].items()} == {"RRD-SAC": 2, "RRD (TF) a=b": 1}
    original = found[-1]
    assert original.run == "seed 1"
    np.testing.assert_allclose(original.rows[-1], [100_000, 3266.93366], rtol=1e-8)
    assert reading.read_curves([str(ORIGINAL)], pytest.fail)[0].algorithm == "original_rews"


def test_runs_are_found_below_a_directory_and_counted_once():
    made = make_run("deep/er/run", RRD, [1])
    np.savez("outputs/Hopper-v4.npz", info=rows((1, 2)))
    found = reading.read_curves([str(made), "outputs", "X=outputs/deep"], pytest.fail)
    assert [(one.algorithm, one.env) for one in found] == [("RRD-SAC", "Hopper-v4"), ("outputs", "Hopper-v4")]


def test_a_name_may_hold_what_a_path_may_hold():
    Path("a=b").mkdir()
    assert reading.split_name("a=b") == (None, Path("a=b"))
    assert reading.split_name("x=y=a=b") == ("x=y", Path("a=b"))
    assert reading.split_name("x=gone") == ("x", Path("gone"))


def test_notes_report_what_a_curve_mixes():
    make_run("a", RRD | dict(q_lr=1e-3, engine="eager"), [1, 2])
    make_run("b", RRD | dict(q_lr=1e-4, engine="manual"), [1, 2, 3])
    make_run("c", RRD, [1, 2], seed=2)
    found = list(curves.notes(curves.group(reading.read_curves(["outputs"], pytest.fail))))
    where = "RRD-SAC on Hopper-v4: "
    assert found == [where + "the runs differ in q_lr; --by=tag or NAME=PATH tells them apart",
                     where + "several runs of seed 0; they are counted as independent runs",
                     where + "the runs end after 2000 to 3000 steps; each run is scored at its end"]


def split(*flags: str) -> dict:
    """(environment, algorithm) -> its number of runs, as plot.py groups them."""
    assert plot.main(["outputs", "--resamples=10", *flags]) == 0
    return {(row["env"], row["algorithm"]): int(row["runs"]) for row in read_csv("scores.csv")}


def test_runs_of_other_settings_are_not_averaged(capsys):
    for seed in range(2):
        make_run(f"a{seed}", RRD | dict(q_lr=1e-3, gamma=0.9), [1, 2], seed=seed)
        make_run(f"b{seed}", RRD | dict(q_lr=1e-4, gamma=0.8), [5, 6], seed=seed)
    make_run("older", RRD | dict(gamma=0.9), [3, 4], seed=2)             # has what most have
    make_run("dense", DENSE, [9, 9])
    assert split() == {("Hopper-v4", "SAC (dense reward)"): 1, ("Hopper-v4", "RRD-SAC, q_lr=0.001"): 3,
                       ("Hopper-v4", "RRD-SAC, q_lr=0.0001"): 2}
    told = capsys.readouterr()
    assert ("note: RRD-SAC on Hopper-v4: the runs differ in q_lr, gamma and are not averaged: each value has a curve "
            "of its own (--by=tag or NAME=PATH groups them otherwise)\n") in told.err
    assert split("--by=tag").keys() == {("Hopper-v4", name) for name in ("a0", "a1", "b0", "b1", "older", "dense")}
    assert plot.main([*(f"mine=outputs/{name}" for name in ("a0", "b0")), "--out=named"]) == 0
    assert "note: mine on Hopper-v4: the runs differ in q_lr, gamma; --by=tag" in capsys.readouterr().err
    with open("named/scores.csv", newline="") as file:
        assert [row["runs"] for row in csv.DictReader(file)] == ["2"]


def test_runs_of_another_length_are_not_averaged_but_unfinished_ones_are(capsys):
    make_run("short", SAC | dict(total_timesteps=2000), [1, 2])
    make_run("long", SAC | dict(epochs=1, cycles=5, iterations=10, timesteps=100), range(5))
    make_run("unfinished", SAC | dict(total_timesteps=5000), [0, 1, 2], seed=1)
    assert split() == {("Hopper-v4", "SAC, total_timesteps=5000"): 2, ("Hopper-v4", "SAC, total_timesteps=2000"): 1}
    assert "differ in epochs" not in capsys.readouterr().err


def test_other_limits_of_an_episode_are_other_tasks(capsys):
    for limit in (50, 1000):
        make_run(f"rrd{limit}", RRD | dict(test_timesteps=limit), [limit, limit])
        make_run(f"ep{limit}", SAC | dict(test_timesteps=limit), [limit, limit])
    make_run("default", SAC, [1, 2], seed=1)                            # the limit of an older record is the default
    make_run("other", SAC | dict(test_timesteps=50), [1], "Walker2d-v4")
    assert split() == {("Hopper-v4, test_timesteps=50", "RRD-SAC"): 1, ("Hopper-v4, test_timesteps=50", "SAC"): 1,
                       ("Hopper-v4, test_timesteps=1000", "RRD-SAC"): 1, ("Hopper-v4, test_timesteps=1000", "SAC"): 2,
                       ("Walker2d-v4", "SAC"): 1}
    assert ("note: Hopper-v4: the runs differ in test_timesteps; each value is an environment of its own here\n"
            ) in capsys.readouterr().err
    assert Path("plots/curves-Hopper-v4_test_timesteps=50.png").exists()


def test_the_seed_the_device_and_how_often_one_looks_tell_no_runs_apart():
    make_run("a", SAC | dict(seed=0, device="cpu", num_envs=1, test_rollouts=5, checkpoint_every=1), [1])
    make_run("b", SAC | dict(device="cuda", num_envs=1, test_rollouts=10, checkpoint_every=3), [1], seed=1)
    assert split() == {("Hopper-v4", "SAC"): 2}


def test_a_scale_is_not_the_mean_of_unlike_runs(capsys):
    make_study()
    make_runs("other", SAC | dict(q_lr=1.0), [5])
    make_runs("one", SAC | dict(q_lr=2.0), [6])
    assert split()
    assert "note: Hopper-v4: not normalised: an anchor would be the mean of SAC, q_lr=" in capsys.readouterr().err
    assert {row["normalized"] != "" for row in read_csv("scores.csv") if row["env"] == "Hopper-v4"} == {False}


def test_the_table_is_sorted_and_its_best_marked(capsys):
    make_runs("rrd", RRD, [100, 200, 300])
    make_runs("ep", SAC, [500, 600, 700])
    make_runs("dense", DENSE, [50], "Walker2d-v4")
    assert list(split()) == [("Walker2d-v4", "SAC (dense reward)"), ("Hopper-v4", "SAC"), ("Hopper-v4", "RRD-SAC")]
    out = capsys.readouterr().out
    assert [line.split()[:3] for line in out.splitlines() if "SAC" in line] == [
        ["Walker2d-v4", "SAC", "(dense"], ["Hopper-v4", "*", "SAC"], ["RRD-SAC", "3", "200"]]
    assert "* the highest score of its environment" in out


def test_warnings_come_before_the_numbers():
    make_run("a", RRD | dict(q_lr=1e-3), [1, 2])
    make_run("b", RRD | dict(q_lr=1e-4), [1, 2])
    Path("plots").mkdir()
    Path("plots/curves-Old-v1.csv").touch()
    os.utime("plots/curves-Old-v1.csv", (0, 0))
    done = subprocess.run([sys.executable, str(ROOT / "plot.py"), "outputs"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=True)
    numbers = done.stdout.index("final scores")
    assert done.stdout.index("the runs differ in q_lr") < done.stdout.index("also holds older figures") < numbers
    assert "note: " not in done.stdout[numbers:]


def test_links_are_followed_and_a_loop_ends():
    made = make_run("a", RRD, [1])
    Path("few").mkdir()
    Path("few/linked").symlink_to(made.absolute())
    Path("few/loop").symlink_to(Path("few").absolute())
    (found,) = reading.read_curves(["few"], pytest.fail)
    assert found.path == Path("few/linked")
    assert len(reading.read_curves(["few", "outputs"], pytest.fail)) == 1


def test_a_runs_own_file_counts_as_the_run():
    made = make_run("a", RRD, [1, 2])
    (found,) = reading.read_curves(["outputs", str(made / "rews" / "Hopper-v4.npz")], pytest.fail)
    assert (found.algorithm, found.path) == ("RRD-SAC", made)


@pytest.mark.parametrize(("tag", "name"), [
    ("K=64 seed 3", "K=64"), ("SAC, dense, seed=10", "SAC, dense"), ("a_seed1", "a"), ("bseed1", "bseed1"),
    ("", "RRD-SAC"), ("seed 1", "RRD-SAC"), (5, "RRD-SAC"), ("a\x1b[1m seed 1", "a\\x1b[1m"),
    ("seed 1 of two", "seed 1 of two")])
def test_a_tag_names_a_curve_on_request(tag, name):
    directory = make_run("a", RRD, [1])
    (directory / "config.json").write_text(json.dumps(RRD | dict(env="Hopper-v4", tag=tag)))
    assert reading.read_run(directory, by="tag").algorithm == name
    assert reading.read_run(directory).algorithm == "RRD-SAC"
    assert reading.read_run(directory, "mine", by="tag").algorithm == "mine"


def test_runs_of_a_suite_are_distinguished_by_their_tags():
    for seed in range(3):
        make_run(f"K=32 seed {seed}", RRD | dict(rrd_sample_size=32), [1, 2], seed=seed)
        make_run(f"K=64 seed {seed}", RRD | dict(rrd_sample_size=64), [1, 2], seed=seed)
    assert plot.main(["outputs", "--by=tag"]) == 0
    assert [(row["algorithm"], row["runs"]) for row in read_csv("scores.csv")] == [("K=32", "3"), ("K=64", "3")]


def test_runs_come_in_the_order_of_their_numbers():
    for name in ("K=16", "K=8", "K=128", "J", "9"):
        make_run(name, RRD, [1])
    found = reading.read_curves(["outputs"], pytest.fail)
    assert [one.path.name for one in found] == ["9", "J", "K=8", "K=16", "K=128"]


def test_the_reason_why_a_run_has_no_returns_is_reported(capsys):
    (make_run("a", RRD, [1]) / "rews" / "Hopper-v4.npz").unlink()
    Path("outputs/a/error.txt").write_text("Traceback\nValueError: no air\n")
    assert plot.main(["outputs"]) == 2
    assert capsys.readouterr().err.startswith("plot.py: outputs/a: no files of evaluation returns in rews/, expected "
                                              "one; the run ended with ValueError: no air\n")


def test_of_a_message_of_several_lines_the_first_is_told(capsys):
    (make_run("a", RRD, [1]) / "rews" / "Hopper-v4.npz").unlink()
    try:
        raise RuntimeError("lost the simulator\nsee the manual\n  section 2")
    except RuntimeError as error:
        error.add_note("and a note")
        Path("outputs/a/error.txt").write_text("".join(traceback.format_exception(error)))
    assert plot.main(["outputs"]) == 2
    assert capsys.readouterr().err.splitlines()[0].endswith("; the run ended with RuntimeError: lost the simulator")


@pytest.mark.parametrize("row", [(1, 1e101), (1, -np.inf), (1e300, 0)])
def test_absurd_numbers_are_refused(row):
    np.savez("E.npz", info=rows(row))
    with pytest.raises(ValueError, match="too large"):
        reading.read_rows(Path("E.npz"))


BAD = {"object": np.array([None, {}], dtype=object), "flat": np.zeros(3), "empty": np.zeros((0, 2)),
       "text": np.array([["a", "b"]]), "nan": rows((1, np.nan)), "back": rows((2, 0), (1, 0)),
       "bool": np.ones((2, 2), bool)}


@pytest.mark.parametrize("name", BAD)
def test_a_file_without_returns_gives_a_one_line_error(name, capsys):
    np.savez("E.npz", info=BAD[name])
    assert plot.main(["E.npz"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert [line.startswith("plot.py: E.npz: ") for line in error] == [True, False]
    assert error[1] == "plot.py: no run could be read"
    assert not Path("plots").exists()


@pytest.mark.parametrize(("damage", "line"), [
    ("cut", "/E.npz: no evaluation returns: File is not a zip file"), ("noise", "/E.npz: no evaluation returns: "),
    ("other key", "/E.npz: no evaluation returns: "), ("bomb", "/E.npz: no evaluation returns: too long"),
    ("directory", ": contains no runs"), ("no evaluations", ": no files of evaluation returns in rews/, expected one"),
    ("no json", ": config.json cannot be read: "), ("list", ": config.json names no algorithm and environment")])
def test_damaged_runs_are_skipped_with_one_line(damage, line, capsys):
    make_run("good", RRD, [1, 2])
    bad = Path("outputs/bad")
    bad.mkdir()
    data = ORIGINAL.read_bytes()
    {"cut": lambda: (bad / "E.npz").write_bytes(data[:-30]),
     "noise": lambda: (bad / "E.npz").write_bytes(data[:60] + bytes(200) + data[260:]),
     "other key": lambda: np.savez(bad / "E.npz", other=np.zeros(2)),
     "bomb": lambda: np.savez_compressed(bad / "E.npz", info=np.zeros((2**23, 2))),
     "directory": lambda: None,
     "no evaluations": lambda: (bad / "config.json").write_text('{"alg": "sac", "env": "E"}'),
     "no json": lambda: (bad / "config.json").write_text('{"alg": '),
     "list": lambda: (bad / "config.json").write_text("[1]")}[damage]()
    assert plot.main(["outputs", "outputs/bad"]) == 0
    errors = [line for line in capsys.readouterr().err.splitlines() if "note: " not in line]
    assert len(errors) == 1
    assert errors[0].startswith(f"plot.py: outputs/bad{line}")


@given(st.integers(0, 421), st.integers(0, 255))
def test_no_flipped_byte_ends_in_a_traceback(place, value):
    data = bytearray(ORIGINAL.read_bytes())
    data[place] = value
    Path("E.npz").write_bytes(data)
    said = []
    assert len(reading.read_curves(["E.npz"], said.append)) + len(said) == 1
    assert not any("\n" in line for line in said)


# Many, and odd, names ------------------------------------------------------------------------------------------------

def test_only_pairs_with_the_best_algorithm_are_drawn_if_there_are_many(capsys):
    names = [f"A{i}" for i in range(50)]
    found = scores.improvements({name: [np.full(3, i / 50)] for i, name in enumerate(names)}, 10)
    assert len(found) == 50 * 49 / 2
    figure = figures.improvements(found, figures.Styles(names))
    assert {label.get_text().splitlines()[0] for label in figure.axes[0].get_yticklabels()} == {"A49"}
    assert figure.get_size_inches()[1] < 25
    assert list(figures.notes(names, [], found)) == [
        "50 algorithms share 32 kinds of lines; draw fewer at a time to tell them apart",
        "of 1225 probabilities of improvement only those of A49 are drawn; improvement.csv of plot.py has all"]
    assert list(figures.notes(names[:10], [], found[:45])) == []


def test_letters_that_no_font_has_give_a_note_and_no_warning(drawn, capsys):
    make_run("\ue000", RRD, [1, 2])                              # of private use: no font here has it
    assert plot.main([f"\ue000 \u00e9={Path('outputs').absolute()}"]) == 0
    assert styles.missing_letters(["\u0378", "A\u00e9", "\u03c4"]) == "\u0378"
    assert list(figures.notes(["\u0378"], ["E"], [])) == [
        "no installed font has \u0378, boxes are drawn instead; Noto Sans CJK has most letters"]
    make_run("b", RRD, [1, 2], seed=1)
    assert plot.main(["A\u4e2d=outputs/b", "--out=other"]) == 0          # warnings are errors here


def test_figures_are_complete_although_the_reader_closed_the_pipe():
    make_study()
    process = subprocess.Popen([sys.executable, str(ROOT / "plot.py"), "outputs"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    with process.stderr as errors:
        assert errors.read() == ""
    assert {"improvement.csv", "aggregates.png", "profiles.svg"} <= {path.name for path in Path("plots").iterdir()}


# Files ------------------------------------------------------------------------------------------------------------

def kept(monkeypatch, name: str) -> list:
    """The figures that a function of results.figures makes from here on."""
    made, make = [], getattr(figures, name)

    def keep(*given):
        made.append(make(*given))
        return made[-1]
    monkeypatch.setattr(figures, name, keep)
    return made


def test_the_csv_of_a_learning_curve_has_the_drawn_numbers(monkeypatch):
    make_runs("rrd", RRD, [10, 20, 40, 80])
    make_runs("ep", SAC, [1, 2])
    made = kept(monkeypatch, "learning_curves")
    assert plot.main(["outputs", "--smooth=2", "--resamples=50"]) == 0
    axes, = made[0].axes
    table = read_csv("curves-Hopper-v4.csv")
    lines = [(name, kind) for name, kind in dict.fromkeys((row["algorithm"], row["kind"]) for row in table)]
    assert lines == [("SAC", "seed 0"), ("SAC", "seed 1"), ("SAC", "mean"), ("RRD-SAC", "IQM")]
    for drawn, (name, kind) in zip(axes.lines, lines, strict=True):
        mine = [row for row in table if (row["algorithm"], row["kind"]) == (name, kind)]
        np.testing.assert_array_equal(drawn.get_xdata(), column(mine, "steps") / 1000)
        np.testing.assert_array_equal(drawn.get_ydata(), column(mine, "value"))
    corners = axes.collections[0].get_paths()[0].vertices[:, 1]     # the band of the last one
    assert {*corners} == {*column(mine, "low"), *column(mine, "high")}
    assert column(mine, "value")[0] == 0
    assert column(mine, "value")[-1] == pytest.approx((20 + 40) / 2 * 17 / 18)     # of the last two evaluations


def test_the_csvs_over_all_environments_have_the_drawn_numbers(monkeypatch, capsys):
    make_study()
    made = {name: kept(monkeypatch, name) for name in ("aggregates", "profiles", "improvements")}
    assert plot.main(["outputs", "--resamples=200"]) == 0
    table = read_csv("aggregates.csv")
    for axes, statistic in zip(made["aggregates"][0].axes, scores.AGGREGATES, strict=True):
        mine = [row for row in table if row["statistic"] == statistic]
        np.testing.assert_array_equal([line.get_xdata()[0] for line in axes.lines], column(mine, "value"))
        np.testing.assert_array_equal([bar.get_x() for bar in axes.patches], column(mine, "low"))
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches],
                                   column(mine, "high") - column(mine, "low"), atol=1e-15)
    rrd = {row["statistic"]: row for row in table if row["algorithm"] == "RRD-SAC"}
    # Of 0.5, 0.5, 1 on both: without the lowest and the highest of the six, 0.5, 0.5, 0.5, 1.
    assert float(rrd["IQM"]["value"]) == pytest.approx(2.5 / 4)
    assert float(rrd["mean"]["value"]) == float(rrd["median"]["value"]) == pytest.approx(2 / 3)
    assert float(rrd["optimality gap"]["value"]) == pytest.approx(1 / 3)
    profile = [row for row in read_csv("profiles.csv") if row["algorithm"] == "RRD-SAC"]
    drawn = made["profiles"][0].axes[0].lines[2]
    np.testing.assert_array_equal(drawn.get_xdata(), column(profile, "taus"))
    np.testing.assert_array_equal(drawn.get_ydata(), column(profile, "share"))
    np.testing.assert_allclose(column(profile, "share"), [1, 1, 1 / 3, 0, 0])      # below, 0, 0.5, 1, above
    pairs = {(row["x"], row["y"]): float(row["probability"]) for row in read_csv("improvement.csv")}
    assert pairs == pytest.approx({("SAC (dense reward)", "RRD-SAC"): 2.5 / 3, ("SAC (dense reward)", "SAC"): 1,
                                   ("RRD-SAC", "SAC"): 1})
    assert len(made["improvements"][0].axes[0].lines) == 3 + 1      # and the one at a half
    assert "normalised scores over 2 environments" in capsys.readouterr().out


def test_the_table_is_printed_and_written(capsys):
    make_study()
    assert plot.main(["outputs", "--last=0.2"]) == 0
    table = read_csv("scores.csv")
    row, = (row for row in table if (row["env"], row["algorithm"]) == ("Walker2d-v4", "RRD-SAC"))
    expected = (2000 + 2000 + 3000) / 3 * 17 / 18                   # the last two of ten evaluations on a straight line
    assert float(row["value"]) == pytest.approx(expected)
    assert (row["runs"], row["statistic"]) == ("3", "IQM")
    assert float(row["low"]) <= expected <= float(row["high"])
    assert float(row["normalized"]) == pytest.approx((expected - 1000 * 17 / 18) / (2000 * 17 / 18))
    shown = " ".join(capsys.readouterr().out.split())
    assert f"RRD-SAC 3 {expected:.5g} [{float(row['low']):.5g}, {float(row['high']):.5g}] 0.667" in shown


def test_all_evaluations_are_written():
    make_run("a", RRD, [1, 2.5], seed=7)
    make_run("b", SAC, [3], env="Walker2d-v4")
    assert plot.main(["outputs"]) == 0
    assert [[*row.values()] for row in read_csv("evaluations.csv")] == [
        ["Hopper-v4", "RRD-SAC", "seed 7", "1000.0", "1.0"], ["Hopper-v4", "RRD-SAC", "seed 7", "2000.0", "2.5"],
        ["Walker2d-v4", "SAC", "seed 0", "1000.0", "3.0"]]


def test_figures_are_png_of_200_dpi_and_svg_and_the_same_each_time(drawn):
    make_study()
    for out in ("plots", "again"):
        assert plot.main(["outputs", "--out", out]) == 0
    names = {path.name for path in Path("plots").iterdir()}
    stems = {"curves-Hopper-v4", "curves-Walker2d-v4", "aggregates", "profiles", "improvement"}
    tables = {"scores.csv", "evaluations.csv"}
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg", "csv")} | tables
    data = Path("plots/curves-Hopper-v4.png").read_bytes()
    assert struct.unpack(">I", data[16:20])[0] == round(200 * figures.WIDTH)
    assert xml.etree.ElementTree.parse("plots/aggregates.svg").getroot().tag.endswith("svg")
    for name in names:
        assert Path("plots", name).read_bytes() == Path("again", name).read_bytes(), name


def test_without_anchors_there_are_curves_and_a_note(capsys):
    make_runs("rrd", RRD, [1, 2, 3])
    assert plot.main(["outputs"]) == 0
    assert {path.name for path in Path("plots").iterdir()} == {
        "scores.csv", "evaluations.csv", *(f"curves-Hopper-v4.{kind}" for kind in ("png", "svg", "csv"))}
    assert "note: raw returns only for Hopper-v4" in capsys.readouterr().err


def test_anchors_may_be_given_by_any_name_of_the_task():
    make_runs("rrd", RRD, [100, 200, 300], "HalfCheetah-v4")
    Path("anchors.json").write_text('{"HalfCheetah-v2": [100, 300]}')
    assert plot.main(["outputs", "--normalize=anchors.json"]) == 0
    assert float(read_csv("scores.csv")[0]["normalized"]) == 0.5
    assert not Path("plots/improvement.csv").exists()               # over whom?


def test_anchors_of_no_run_are_reported_and_a_task_has_one_scale(capsys):
    make_runs("rrd", RRD, [100, 200, 300])
    Path("anchors.json").write_text('{"Hoper-v4": [100, 300]}')
    assert plot.main(["outputs", "--normalize=anchors.json"]) == 0
    assert "note: --normalize: no run is of Hoper-v4; there are Hopper-v4\n" in capsys.readouterr().err
    Path("anchors.json").write_text('{"Hopper-v2": [100, 300], "Hopper-v4": [0, 1]}')
    assert plot.main(["outputs", "--normalize=anchors.json"]) == 2
    assert capsys.readouterr().err == ("plot.py: --normalize: 'anchors.json': Hopper-v4: a second scale for Hopper-v4, "
                                       "expected one\n")


def test_figures_of_an_earlier_call_are_reported(capsys):
    make_study()
    assert plot.main(["outputs", "--resamples=20"]) == 0
    assert "older figures" not in capsys.readouterr().err
    for path in Path("plots").iterdir():
        os.utime(path, (0, 0))
    Path("plots/notes.txt").touch()
    runs = [str(path) for path in Path("outputs").glob("rrd-Hopper*")]
    assert plot.main([*runs, "--resamples=20"]) == 0
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("plot.py: note: plots also holds older figures, perhaps of other runs: aggregates.csv, ")
    assert "curves-Walker2d-v4.svg" in line
    assert "curves-Hopper" not in line
    assert "notes" not in line


def test_one_task_of_few_runs_leaves_no_interval_over_all():
    values = {"A": [np.arange(5.0), np.arange(2.0)]}
    assert all(math.isnan(one.low) and math.isnan(one.high) for one in scores.estimates(values, 20))
    assert not any(math.isnan(one.low) for one in scores.estimates({"A": [np.arange(5.0), np.arange(3.0)]}, 20))


def test_few_runs_have_no_intervals(capsys):
    make_runs("rrd", RRD, [100, 200])
    Path("anchors.json").write_text('{"Hopper-v4": [0, 100]}')
    assert plot.main(["outputs", "--normalize=anchors.json"]) == 0
    assert [row["low"] + row["high"] for name in ("scores.csv", "aggregates.csv", "profiles.csv")
            for row in read_csv(name)] == [""] * (1 + 4 + 4)
    assert "150 (mean)" in capsys.readouterr().out


def test_names_are_drawn_as_they_are(drawn, recwarn):
    make_runs("rrd", RRD, [1, 2, 3])
    make_runs("ep", SAC, [2, 3, 4])
    Path("anchors.json").write_text('{"Hopper-v4": [0, 10]}')
    names = [rf"_$\x_{i}$ [red]" for i in range(2)]          # as mathematics an error, as markup a colour
    arguments = [f"{names[0]}={path}" for path in Path("outputs").glob("rrd*")]
    assert plot.main([*arguments, f"{names[1]}=outputs", "--normalize=anchors.json"]) == 0
    assert {row["algorithm"] for row in read_csv("scores.csv")} == {*names}
    assert not recwarn.list


@given(st.lists(st.tuples(st.floats(-1, 2), st.floats(0.01, 0.2)), max_size=6))
def test_labels_do_not_overlap_and_keep_their_order(things):
    wanted, sizes = [place for place, _ in things], [size for _, size in things]
    places = labels.spread(wanted, sizes)
    order = sorted(range(len(things)), key=lambda index: places[index])
    for one, other in pairwise(order):
        assert places[other] - places[one] >= (sizes[one] + sizes[other]) / 2 - 1e-9
        assert wanted[one] <= wanted[other] or max(wanted[one], 0) == max(wanted[other], 0)
    if sum(sizes) <= 1:
        assert all(size / 2 - 1e-9 <= place <= 1 - size / 2 + 1e-9 for place, size in zip(places, sizes, strict=True))


def test_labels_with_enough_room_keep_their_positions():
    assert labels.spread([0.8, 0.2, 0.5], [0.1] * 3) == pytest.approx([0.8, 0.2, 0.5])
    assert labels.spread([0.5, 0.5], [0.2, 0.2]) == pytest.approx([0.4, 0.6])


# The command line ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("arguments", "line"), [
    ([], "the following arguments are required: RUN"), (["outputs", "--lst=1"], "unrecognized arguments: --lst=1"),
    (["outputs", "--last=0"], "--last: got '0', expected a number above 0 and at most 1"),
    (["outputs", "--last=1.5"], "--last: got '1.5', expected a number above 0 and at most 1"),
    (["outputs", "--last=nan"], "--last: got 'nan', expected a number above 0 and at most 1"),
    (["outputs", "--smooth=0"], "--smooth: got '0', expected a whole number of at least 1"),
    (["outputs", "--normalize=gone.json"], "--normalize: 'gone.json' cannot be read: No such file or directory"),
    (["outputs", "--normalize=bad.json"], "--normalize: 'bad.json': Hopper-v4: got [3, 1], expected two numbers, the "
                                          "smaller one first"),
])
def test_a_wrong_argument_gives_a_one_line_error(arguments, line, capsys):
    make_runs("rrd", RRD, [1])
    Path("bad.json").write_text('{"Hopper-v4": [3, 1]}')
    assert plot.main(arguments) == 2
    assert capsys.readouterr().err == f"plot.py: {line}\n"


def test_nothing_to_read_is_exit_code_2(capsys):
    assert plot.main(["gone"]) == 2
    assert capsys.readouterr().err == "plot.py: gone: does not exist\nplot.py: no run could be read\n"


def test_an_unwritable_output_is_exit_code_1(capsys):
    make_runs("rrd", RRD, [1])
    Path("file").touch()
    assert plot.main(["outputs", "--out=file/plots"]) == 1
    assert "plot.py: file/plots: Not a directory" in capsys.readouterr().err


def test_without_matplotlib_one_line_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("figures", "styles"):
        monkeypatch.delitem(sys.modules, f"results.{name}")
        monkeypatch.delattr(results, name)
    assert plot.main(["outputs"]) == 2
    assert capsys.readouterr().err == "plot.py: matplotlib is not installed; pip install -e '.[plot]' installs it\n"


def test_help_and_errors_import_nothing_large():
    code = ("import sys, plot; plot.main(['x', '--last=2']); "
            "sys.exit(bool({'torch', 'matplotlib', 'gymnasium'} & {*sys.modules}))")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0


DOCUMENTS = (ROOT / "README.md").read_text(encoding="utf-8") + (ROOT / "docs" / "plots.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", re.findall(r"^ {4}python plot\.py (.*)$", DOCUMENTS, re.MULTILINE))
def test_commands_in_the_documents_are_understood(command):
    assert plot.parse(shlex.split(command)).runs


@pytest.mark.parametrize(("values", "low", "high"), [([-40.0, -30.0], -1.05, 1.05), ([-40.0, 0.5], -1.05, None),
                                                     ([0.2, 0.3], None, None)], ids=["below", "half", "within"])
def test_a_panel_of_r2_never_stands_on_its_head(values, low, high):
    value, nothing = np.array(values), np.full(2, np.nan)
    line = curves.Line("RRD", "seed 0", np.array([1.0, 2.0]), np.ones(2), value, nothing, nothing)
    axes, *_ = figures.reward_numbers("Hopper-v4", {"r2": [line]}, styles.Styles(["RRD"])).axes
    bottom, top = axes.get_ylim()
    assert bottom < top
    assert low is None or bottom == low
    assert high is None or top == high
