"""Tell runs apart that share an algorithm and an environment, but not their settings: unlike runs are not averaged."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from results.curves import OF_A_RUN, Curve, run_length
from utils.settings.fields import FIELDS
from utils.text import printable

# Settings that make another task: returns with other values cannot be compared.
OF_A_TASK = ("test_timesteps", "sticky")
IN_ITS_NAME = ("env_kwargs", "eval_env_kwargs")         # the name of the environment has them already
LENGTH = "total_timesteps"
Values = dict[str, str]             # setting -> its value as text


def tell_apart(curves: Sequence[Curve]) -> tuple[list[Curve], list[str]]:
    """Give unlike runs names of their own, and say so.

    Runs of another task get another environment, `Hopper-v4, test_timesteps=200`; other settings make another
    algorithm, `RRD-SAC, q_lr=0.001`. Curves that the user has named, and files of the original, stay as they are.

    Returns: the curves in their order, and a line for each environment and algorithm that was split.
    """
    notes: list[str] = []
    for of_task in (True, False):
        groups: dict[tuple[str, ...], list[int]] = {}
        for i, curve in enumerate(curves):
            if curve.settings and not curve.named:
                groups.setdefault((curve.env,) if of_task else (curve.env, curve.algorithm), []).append(i)
        curves, found = _split(curves, groups.values(), of_task)
        notes += found
    return list(curves), notes


def _split(curves: Sequence[Curve], groups: Iterable[list[int]], of_task: bool) -> tuple[list[Curve], list[str]]:
    """Split each group of curves, given by their places."""
    curves, notes = list(curves), []
    for places in groups:
        group = [curves[i] for i in places]
        values, differ = _differences([one.settings for one in group], of_task)
        if not differ:
            continue
        names = _telling(values, differ)
        for i, value in zip(places, values, strict=True):
            more = printable("".join(f", {name}={value[name]}" for name in names if value.get(name)))
            curves[i] = curves[i]._replace(**{"env" if of_task else "algorithm": (
                curves[i].env if of_task else curves[i].algorithm) + more})
        notes.append(_note(group[0], [printable(name) for name in differ], of_task))
    return curves, notes


def _note(curve: Curve, differ: list[str], of_task: bool) -> str:
    if of_task:
        return f"{curve.env}: the runs differ in {', '.join(differ)}; each value is an environment of its own here"
    return (f"{curve.algorithm} on {curve.env}: the runs differ in {', '.join(differ)} and are not averaged: each "
            "value has a curve of its own (--by=tag or NAME=PATH groups them otherwise)")


def _differences(settings: Sequence[dict[str, Any]], of_task: bool) -> tuple[list[Values], list[str]]:
    """The settings of each run that may tell it apart, as text; and those that have several values.

    A setting that an older run lacks has its default, or what most of the others have.
    """
    shown = [_shown(one, of_task) for one in settings]
    names = list(dict.fromkeys(name for one in shown for name in one))
    usual = {name: Counter(one[name] for one in shown if name in one).most_common(1)[0][0] for name in names}
    values = [{name: one.get(name, _default(name) or usual[name]) for name in names} for one in shown]
    return values, [name for name in names if len({one[name] for one in values}) > 1]


def _shown(settings: dict[str, Any], of_task: bool) -> Values:
    if of_task:
        return {name: _text(settings[name]) for name in OF_A_TASK if name in settings}
    length = run_length(settings)
    elsewhere = {*OF_A_RUN, *OF_A_TASK, *IN_ITS_NAME}
    others = {name: _text(value) for name, value in settings.items() if name not in elsewhere}
    return others | ({LENGTH: str(length)} if length else {})


def _default(name: str) -> str:
    default = FIELDS[name].default if name in FIELDS else None
    return "" if default is None or name == LENGTH else _text(default)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return ",".join(map(_text, value)) if isinstance(value, list | tuple) else json.dumps(value)


def _telling(values: Sequence[Values], differ: Sequence[str]) -> list[str]:
    """A few of the settings that differ, which together tell all kinds of runs apart."""
    def kinds(names: Sequence[str]) -> int:
        return len({tuple(one[name] for name in names) for one in values})
    chosen: list[str] = []
    while kinds(chosen) < kinds(differ):
        chosen.append(max((name for name in differ if name not in chosen), key=lambda name: kinds([*chosen, name])))
    return [name for name in differ if name in chosen]
