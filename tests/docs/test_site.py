"""The documentation as a site: it builds without a warning, and its tables and links are right."""

from __future__ import annotations

import html.parser
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import pytest
from documents import DOCS, PAGES, ROOT, tables
from markdown_it import MarkdownIt
from shell import declared

from sweeps.suite import read_suite
from utils.settings.algorithms import ALGORITHMS, names
from utils.settings.fields import FIELDS, Config
from utils.settings.games import ATARI, REWS_SCALE
from utils.settings.json_files import read_object

BUILT_IN = {name: ALGORITHMS[name] for name in names()}         # before another test registers its own
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}


# The site ------------------------------------------------------------------------------------------------------------

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FLAGS = re.search(r"\$\(BIN\)/python (-m sphinx .*) docs build/docs\n", MAKEFILE)[1].split()


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` builds it."""
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    out = tmp_path_factory.mktemp("site")
    done = build(FLAGS, DOCS, out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return out


def build(flags: list[str], source: Path, out: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *flags, source, out], capture_output=True, text=True, check=False)


def test_no_page_has_a_warning(tmp_path):
    """All that `make docs` reads and links, without its pages of HTML."""
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    done = build([*FLAGS, "-b", "dummy"], DOCS, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_equation_is_one_that_is_drawn():
    """The builder that writes no pages draws none."""
    plugin = pytest.importorskip("mdit_py_plugins.dollarmath")
    mathml = runpy.run_path(str(DOCS / "_extensions" / "math_as_mathml.py"))
    parser, count = MarkdownIt("commonmark").enable("table").use(plugin.dollarmath_plugin, double_inline=True), 0
    for page in DOCS.rglob("*.md"):
        tokens = parser.parse(page.read_text(encoding="utf-8"))
        for token in (one for block in tokens for one in (block, *(block.children or []))):
            if token.type.startswith("math"):
                text = mathml["in_docutils_words"](token.content.strip())
                assert mathml["tex2mathml"](text, as_block=token.type == "math_block"), page
                count += 1
    assert count > 100


@pytest.mark.slow
def test_every_page_is_in_the_site(site):
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS).with_suffix(".html")).is_file()


class Links(html.parser.HTMLParser):
    """What a page links to and loads, and the names that can be linked to in it."""

    def __init__(self):
        super().__init__()
        self.links, self.loads, self.names = set(), set(), set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names |= {given.get("id"), given.get("name")}
        if tag == "a" and given.get("href"):
            self.links.add(given["href"])
        elif tag in ("script", "img", "link"):
            self.loads.add(given.get("src") or given.get("href"))


def read(path: Path) -> Links:
    page = Links()
    page.feed(path.read_text(encoding="utf-8"))
    return page


@pytest.mark.slow
def test_every_link_within_the_site_has_a_target(site):
    pages = {path: read(path) for path in site.rglob("*.html")}
    checked = 0
    for path, page in pages.items():
        for link in (link for link in page.links if not re.match(r"https?:|mailto:", link)):
            file, _, name = unquote(link).partition("#")
            target = Path(os.path.normpath(path.parent / file)) if file else path
            assert target.is_file(), f"{path.name}: {link}"
            assert not name or target.suffix != ".html" or name in pages[target].names, f"{path.name}: {link}"
            checked += 1
    assert checked > 500


@pytest.mark.slow
def test_the_site_needs_no_network(site):
    for path in site.rglob("*.html"):
        assert not {load for load in read(path).loads if load and re.match(r"(https?:)?//", load)}, path.name
    assert "<munderover>" in (site / "algorithms" / "rrd.html").read_text()         # equations, ready to be drawn


@pytest.mark.slow
def test_code_is_linked_by_its_line(site):
    page = (site / "algorithms" / "rrd.html").read_text()
    (line,) = re.findall(r'decomposition/rrd\.py\.html#line-(\d+)"[^/]*RRD\.loss', page)
    assert "def loss" in (ROOT / "algorithm" / "decomposition" / "rrd.py").read_text().splitlines()[int(line) - 1]


WRONG = ("[gone](nowhere.md)", "[gone](../algorithm/nothing.py)", "[gone](index.md#gone)", "{py:func}`gone`",
         r"$\nonsense{x}$")


def test_what_is_wrong_on_a_page_fails_the_build(tmp_path):
    pytest.importorskip("furo")
    for name in ("conf.py", "_extensions", "_static"):
        (tmp_path / name).symlink_to(DOCS / name)
    (tmp_path / "index.md").write_text("\n\n".join(["# A page", *WRONG, ""]))
    done = build(FLAGS, tmp_path, tmp_path / "out")
    assert done.returncode == 1
    warned = re.findall(r"index\.md:(\d+): WARNING", done.stderr)
    assert warned == [str(3 + 2 * number) for number in range(len(WRONG))]


def test_packages_that_build_the_site_are_declared_for_the_tests_and_pinned():
    extras = declared()
    pins = dict(re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert set(extras["docs"]) <= set(extras["test"])
    assert {entry.partition(">")[0].lower() for entry in extras["docs"]} <= {name.lower() for name in pins}


# Code ----------------------------------------------------------------------------------------------------------------

CODE = [(page, *found) for page, text in TEXTS.items() for found in re.findall(r"\[`([\w.]+)`\]\(([^)]+\.py)\)", text)]


@pytest.mark.parametrize(("page", "name", "path"), CODE, ids=str)
def test_code_that_a_page_names_exists(page, name, path):
    line_of = runpy.run_path(str(DOCS / "_extensions" / "repository.py"))["line_of"]
    assert line_of((ROOT / page).parent / path, name)


def test_every_algorithm_has_a_page_with_equations_and_code():
    for name in BUILT_IN:
        text = TEXTS[f"docs/algorithms/{name}.md"]
        assert text.count("$$") >= 2
        assert f"--alg={name}" in text
        assert len([page for page, *_ in CODE if page == f"docs/algorithms/{name}.md"]) >= 3


def test_names_of_code_are_found():
    line_of = runpy.run_path(str(DOCS / "_extensions" / "repository.py"))["line_of"]
    path = ROOT / "utils" / "settings" / "fields.py"
    lines = path.read_text().splitlines()
    for name in ("FIELDS", "Config.run_length", "all_settings"):
        assert re.match(rf" *(def )?{name.split('.')[-1]}\b", lines[line_of(path, name) - 1])
    assert line_of(path, "Config.nothing") is None


# Settings ------------------------------------------------------------------------------------------------------------

LEARNING = [name for name, setting in FIELDS.items() if setting.belongs == "learning"]
# Those of networks stand among the common ones, even if an algorithm has a default of its own.
OWN = {name for one in BUILT_IN.values() for defaults in (one.defaults, *one.by_optimizer.values())
       for name in defaults if FIELDS[name].belongs != "networks"}
GAMES = ATARI | {"rews_scale": REWS_SCALE}


def settings_of(page: str) -> list[list[str]]:
    """The rows of the table that a page should have."""
    name = Path(page).stem
    if name == "configs":
        return [row(setting, *defaults_of(setting)) for setting in FIELDS if setting not in {*OWN, *LEARNING}]
    if BUILT_IN[name].decomposition:
        over = BUILT_IN[name].over_discrete or {}
        return [row(setting, shown(value), between=[shown(over.get(setting, "its basis'"))])
                for setting, value in BUILT_IN[name].defaults.items()]
    rows = {setting: defaults_of(setting)[:1 + (name == "dqn")] for setting in LEARNING}
    rows |= {setting: [] if value is None else [str(value)] for setting, value in BUILT_IN[name].defaults.items()}
    for optimizer, values in BUILT_IN[name].by_optimizer.items():
        for setting, value in values.items():
            rows[setting] = [*rows.get(setting, []), f"{value} ({optimizer})"]
    return [row(setting, *defaults) for setting, defaults in rows.items()]


def shown(default: object) -> str:
    """A default in a table; a setting that is read but not set has none."""
    return "" if default is None else str(default)


def defaults_of(setting: str) -> list[str]:
    """The common default, and that of games."""
    common, games = FIELDS[setting].default, GAMES.get(setting)
    return [*([] if common is None else [str(common)]), *([] if games is None else [f"{games} (games)"])]


def row(setting: str, *defaults: str, between: Sequence[str] = ()) -> list[str]:
    text = FIELDS[setting].help
    return [f"`{setting}`", ", ".join(defaults), *between, text.replace("|", "\\|").replace("<", "\\<")]


@pytest.mark.parametrize("page", ["docs/configs.md", *(f"docs/algorithms/{name}.md" for name in BUILT_IN)])
def test_tables_of_settings_equal_the_programs(page):
    found = [table for table in tables(TEXTS[page]) if table[0][0] == "setting"]
    wanted = settings_of(page)
    text = "\n".join(f"| {' | '.join(one)} |" for one in wanted)
    assert [one for table in found for one in table[1:]] == wanted, f"{page} should have\n{text}"


# Files of settings ---------------------------------------------------------------------------------------------------

def test_every_config_is_in_the_table_and_every_one_that_is_named_is_there():
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*") if path.is_file()}
    assert there >= {name for text in TEXTS.values() for name in re.findall(r"configs/[\w./]+\.\w+", text)}
    assert there == set(re.findall(r"configs/[\w./]+\.\w+", TEXTS["docs/configs.md"]))


def test_a_configs_row_links_a_page_that_uses_it():
    found = [table[1:] for table in tables(TEXTS["docs/configs.md"]) if table[0] == ["file", "experiment", "page"]]
    for files, _, links in found[0] + found[1]:
        pages = [os.path.normpath(DOCS / path.partition("#")[0]) for path in re.findall(r"\]\(([^)]+)\)", links)]
        text = "".join(Path(page).read_text(encoding="utf-8") for page in pages)
        for name in re.findall(r"configs/(\w+)\.json", files):
            assert re.search(rf"configs/{name}\b|`{name}`", text or TEXTS["docs/configs.md"]), name


def test_the_suite_of_the_papers_figure_is_complete():
    trials = read_suite(ROOT / "configs" / "figure1.json", "0-9", [])
    assert len(trials) == 8 * 3 * 10
    assert {trial.settings["total_timesteps"] for trial in trials} == {3_000_000}
    assert {trial.settings["total_timesteps"] for trial in trials} == {Config().run_length}
    suite = read_object(ROOT / "configs" / "figure1.json")
    tasks = re.search(r"^\| tasks \| (.*?), by", TEXTS["docs/figure1.md"], re.MULTILINE)[1].split(", ")
    assert [f"{task}-v2" for task in tasks] == suite["env"]
    assert set(suite["runs"]) == set(re.findall(r"\[([^\]]+-SAC)\]", TEXTS["docs/figure1.md"]))


def test_files_of_settings_in_the_pages_are_json():
    for page, text in TEXTS.items():
        for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
            assert isinstance(json.loads(block), dict), page
