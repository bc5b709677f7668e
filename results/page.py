"""The page of report.py: a study as tables and images, rendered from page.html by Jinja."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from results import figures
from results.credit import credit_figure, credits_of
from results.curves import final_score
from results.records import Record, newest_picture
from results.study import Study
from utils.text import printable

NOT_COMPARED = {"tag", "seed", "seeds", "env"}      # settings that identify a run, not an algorithm
FACTS = ("processor", "cores", "threads", "device", "platform", "python", "backend", "git_commit")


class Picture(NamedTuple):
    """An image inside the page."""

    caption: str
    source: str                         # a data: URI


class Table(NamedTuple):
    """A table of cells as text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: range = range(0)           # the columns that hold numbers
    best: int = -1                      # the row that is marked, from 0


def render(study: Study, last: float, smooth: int, about: dict[str, str]) -> str:
    """Render the page as HTML that fetches nothing and runs no script.

    Args:
        last: the share of evaluations in a final score.
        smooth: the number of evaluations whose mean is drawn as a point.
        about: `title`, `command` and `made` (the date) of the page's head.
    """
    styles, credits = figures.Styles(study.algorithms), credits_of(study.records)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
                                     undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html").render(
        about=about, last=f"{last:.0%}", summary=summary(study),
        notes=[*study.notes, *figures.notes(study.algorithms, [*study.groups], study.improvements),
               *(f"not shown: {line}" for line in study.unread)],
        scores=score_tables(study),
        curves=[drawn(f"Learning curves on {env}", figures.learning_curves(env, lines, styles, smooth, study.metric))
                for env, lines in study.lines.items()],
        overall=overall(study, styles), tasks=study.tasks,
        rewards=[(drawn(f"The learned reward on {env}", figures.reward_numbers(env, study.reward_lines[env], styles)),
                  reward_table(numbers, last)) for env, numbers in study.rewards.items()],
        credits=[drawn(f"What the steps of an episode are paid on {env}, by method", credit_figure(env, some))
                 for env, some in credits.items()],
        episodes=episodes(record for record in study.records
                          if record.curve.algorithm not in credits.get(record.curve.env, {})),
        common=common_settings(study.records),
        own=own_settings(study.records), runs=run_table(study.records, last), failures=failures(study.records),
        systems=systems(study.records))


def drawn(caption: str, figure) -> Picture:
    """A figure as SVG, which is sharp at any size."""
    data = io.BytesIO()
    with figures.styled():
        figure.savefig(data, format="svg", metadata={"Date": None})
    return Picture(caption, _uri("image/svg+xml", data.getvalue()))


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def summary(study: Study) -> str:
    """The numbers of runs, algorithms, environments, steps and hours, in one line."""
    seconds = sum(sum(record.seconds) for record in study.records)
    steps = sum(record.steps for record in study.records)
    parts = [_count(len(study.records), "run"), _count(len(study.algorithms), "algorithm"),
             _count(len(study.groups), "environment"), f"{steps:,} environment steps".replace(",", "\u202f")]
    return ", ".join(parts + ([f"{seconds / 3600:.1f} hours of training and evaluation"] if seconds else []))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


# Results ------------------------------------------------------------------------------------------------------------

def score_tables(study: Study) -> list[tuple[str, Table]]:
    """The final scores on each environment."""
    head = ("algorithm", "runs", "score", "95 % interval", "normalised")
    rows = {env: [(one.algorithm, str(one.runs), _score(one.value) + _of_few(one),
                   _interval(one.low, one.high, _score), _number(one.normalized, "z.3f"))
                  for one in study.scores if one.env == env] for env in study.groups}
    return [(env, Table(head, some, range(1, 5), _first(some))) for env, some in rows.items()]


def _first(rows: Sequence) -> int:
    """The row of the best of several, which are sorted; none of a single one."""
    return 0 if len(rows) > 1 else -1


def _of_few(one) -> str:
    return " (mean)" if one.statistic == "mean" and one.runs > 1 else ""


def overall(study: Study, styles) -> dict[str, Any]:
    """Table and figures over all environments; {} if scores are not normalised."""
    if not study.estimates:
        return {}
    names = list(dict.fromkeys(one.statistic for one in study.estimates))
    rows = [(algorithm, *(f"{_share(one.value)} {_interval(one.low, one.high, _share, '')}" for one in study.estimates
                          if one.algorithm == algorithm))
            for algorithm in dict.fromkeys(one.algorithm for one in study.estimates)]
    pictures = [drawn("Statistics of normalised scores", figures.aggregates(study.estimates, styles)),
                drawn("Performance profiles", figures.profiles(study.profiles, styles))]
    if study.improvements:
        pictures.append(drawn("Probability of improvement", figures.improvements(study.improvements, styles)))
    return {"table": Table(("algorithm", *names), rows, range(1, 1 + len(names)), _first(rows)), "pictures": pictures}


def reward_table(numbers: dict[str, dict], last: float) -> Table:
    """The metrics of a diagnosis at the end of the runs, as means over runs."""
    algorithms = list(dict.fromkeys(algorithm for of_name in numbers.values() for algorithm in of_name))
    rows = [(name, *(_number(_mean(final_score(run.rows, last) for run in of_name.get(algorithm, ())), ".3g")
                     for algorithm in algorithms)) for name, of_name in numbers.items()]
    return Table(("number", *algorithms), rows, range(1, 1 + len(algorithms)))


def episodes(records: Iterable[Record]) -> list[Picture]:
    """For each algorithm on each environment, the last image of an episode's rewards that evaluate.py drew, if any."""
    found: dict[tuple[str, str], Picture] = {}
    for curve in (record.curve for record in records):
        if (curve.env, curve.algorithm) not in found and (data := newest_picture(curve.path)):
            caption = f"{curve.algorithm} on {curve.env}, {curve.run}: rewards along an episode"
            found[curve.env, curve.algorithm] = Picture(caption, _uri("image/png", data))
    return list(found.values())


# Settings, runs and systems -----------------------------------------------------------------------------------------

def common_settings(records: Sequence[Record]) -> Table:
    """The settings that are equal in all runs."""
    values = _values(records)
    return Table(("setting", "value"), [(name, *shown) for name, shown in values.items() if len(shown) == 1
                                        and len(_having(records, name)) == len(_configured(records))])


def own_settings(records: Sequence[Record]) -> Table:
    """The settings that differ between runs or that only some algorithms read, in a column for each algorithm."""
    common = {row[0] for row in common_settings(records).rows}
    groups: dict[str, list[Record]] = {}
    for record in _configured(records):
        groups.setdefault(record.curve.algorithm, []).append(record)
    rows = []
    for name in (name for name in _values(records) if name not in common):
        rows.append((name, *(", ".join(_values(group).get(name, ["\u2013"])) for group in groups.values())))
    return Table(("setting", *groups), rows)


def _values(records: Iterable[Record]) -> dict[str, list[str]]:
    """Setting -> its distinct values, as JSON."""
    values: dict[str, dict[str, None]] = {}
    for record in _configured(records):
        for name, value in record.curve.settings.items():
            if name not in NOT_COMPARED:
                values.setdefault(printable(name), {})[_shown(value)] = None
    return {name: list(several) for name, several in sorted(values.items())}


def _configured(records: Iterable[Record]) -> list[Record]:
    """The runs with settings; files of the original program have none."""
    return [record for record in records if record.curve.settings]


def _having(records: Iterable[Record], name: str) -> list[Record]:
    return [record for record in _configured(records) if name in map(printable, record.curve.settings)]


def _shown(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value))[:200]


def run_table(records: Iterable[Record], last: float) -> Table:
    """A row for each run."""
    rows = []
    for record in records:
        train, test = record.seconds
        curve = record.curve
        rows.append((curve.env, curve.algorithm, curve.run, record.state, f"{record.steps:,}",
                     _score(final_score(curve.rows, last)), _score(curve.rows[:, 1].max()),
                     _number(train / 60 or math.nan, ".1f"), _number(test / 60 or math.nan, ".1f"),
                     _number(record.steps / train if train else math.nan, ".0f"), printable(str(curve.path))))
    return Table(("environment", "algorithm", "run", "state", "steps", "score", "best", "training, min",
                  "evaluation, min", "steps/s", "where"), rows, range(4, 10))


def failures(records: Iterable[Record]) -> list[tuple[str, str]]:
    """(path, error) of each run that failed."""
    return [(printable(str(record.curve.path)), record.error) for record in records if record.error]


def systems(records: Iterable[Record]) -> list[tuple[str, Table]]:
    """The machines, versions and code of the runs; equal ones share a table."""
    groups: dict[str, tuple[dict[str, str], int]] = {}
    for facts in (_system(record.facts) for record in records if record.facts):
        key = json.dumps(facts)
        groups[key] = (facts, groups.get(key, (facts, 0))[1] + 1)
    return [(_count(count, "run"), Table(("", ""), list(facts.items()))) for facts, count in groups.values()]


def _system(facts: dict[str, Any]) -> dict[str, str]:
    versions = facts.get("versions")
    found = {name.replace("_", " "): _shown(facts[name]) for name in FACTS if facts.get(name) is not None}
    if facts.get("git_clean") is False:
        found["git commit"] = f"{found.get('git commit', 'unknown')}, with uncommitted changes"
    if isinstance(versions, dict):
        found |= {printable(name): _shown(version) for name, version in versions.items() if version is not None}
    return found


# Text ---------------------------------------------------------------------------------------------------------------

def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return math.fsum(values) / len(values) if values else math.nan


def _number(value: float, form: str) -> str:
    return f"{value:{form}}" if math.isfinite(value) else "\u2013"


def _score(value: float) -> str:
    """A return with four digits, or with all digits before the point."""
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:#.4g}"


def _share(value: float) -> str:
    """A normalised score."""
    return f"{value:z.3f}"


def _interval(low: float, high: float, shown: Callable[[float], str], none: str = "\u2013") -> str:
    return none if math.isnan(low) else f"[{shown(low)}, {shown(high)}]"
