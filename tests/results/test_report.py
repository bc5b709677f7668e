"""report.py: the page in a real browser, its content, and hostile files."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import SMALL, SMALL_RRD, Finished, run
from studies import DENSE, ORIGINAL, RRD, SAC, make_run, make_runs, make_study

import evaluate
import report
import results
from results.records import read_metrics

ROOT = Path(__file__).resolve().parent.parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
EVIL = "<script>document.title='owned'</script><img src=https://example.org/x.png onerror=alert(1)>&amp;"


def page(*arguments: str) -> str:
    """The HTML of a report that must be written."""
    assert report.main([*arguments, "--resamples=50"]) == 0
    return Path("report.html").read_text(encoding="utf-8")


def cells(html: str) -> str:
    """The tables, a line for each row, its cells between bars."""
    rows = re.findall(r"<tr>(.*?)</tr>", html.replace("\N{EN DASH}", "-"), re.DOTALL)
    return "\n".join("|".join(re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)) for row in rows)


class Seen:
    """A page in Chromium, with its requests and errors."""

    def __init__(self, tab, path: Path):
        self.tab, self.requests, self.complaints = tab, [], []
        tab.on("request", lambda request: self.requests.append(request.url))
        tab.on("console", lambda message: self.complaints.append(message.text))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.goto(path.absolute().as_uri())

    @property
    def fetched(self) -> list[str]:
        """Besides the page itself and what it holds."""
        return [url for url in self.requests[1:] if not url.startswith("data:")]

    @property
    def broken(self) -> list[str]:
        """Images without a picture."""
        return self.tab.eval_on_selector_all("img", "all => all.filter(i => !(i.complete && i.naturalWidth > 9))"
                                                    ".map(i => i.alt)")


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as engines:
        opened = engines.chromium.launch(executable_path=CHROMIUM, args=FLAGS, chromium_sandbox=os.geteuid() != 0)
        yield opened
        opened.close()


@pytest.fixture
def look(browser):
    """A function that opens a page in a tab of a context without network."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    yield lambda path="report.html": Seen(context.new_page(), Path(path))
    context.close()


# In the browser -----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs of train.py itself, one of them diagnosed by evaluate.py, beside made ones: their place, those of RRD."""
    place, small = tmp_path_factory.mktemp("study"), [*SMALL_RRD, "--env=Match-v0", "--diagnose_every=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        rrd = [run(*small, f"--seed={seed}", "--tag=rrd") for seed in range(3)]
        assert evaluate.main([str(rrd[0].directory), "--diagnose", "--episodes=2"]) == 0
        run("--alg=sac", *SMALL, "--env=Match-v0")
        run("--alg=sac", "--env_type=normal", *SMALL, "--env=Match-v0")
        make_runs("rrd", rrd[0].config, [1, 2, 3], "HalfCheetah-v4")
    return place, [one.directory for one in rrd]


@pytest.fixture
def study(made):
    """A copy of these runs in `outputs`; those of RRD."""
    shutil.copytree(made[0] / "outputs", "outputs")
    return [Finished(directory) for directory in made[1]]


def test_a_browser_shows_all_of_it_and_fetches_nothing(study, look):
    page("outputs", f"RRD (TF)={ORIGINAL}", "--title=A study")
    seen = look()
    assert seen.tab.title() == "A study"
    assert seen.tab.inner_text("h1") == "A study"
    assert seen.fetched == []
    assert seen.complaints == []
    captions = seen.tab.eval_on_selector_all("img", "all => all.map(i => i.alt)")
    assert {"Learning curves on Match-v0", "Learning curves on HalfCheetah-v4", "The learned reward on Match-v0",
            "What the steps of an episode are paid on Match-v0, by method"} <= {*captions}
    assert seen.broken == []
    assert len(seen.tab.query_selector_all("nav a")) >= 6
    for link in seen.tab.query_selector_all("nav a"):
        assert seen.tab.query_selector(link.get_attribute("href")).is_visible()
    shared = seen.tab.locator("details table").first
    assert not shared.is_visible()
    seen.tab.click("summary")
    assert shared.is_visible()
    assert "gamma" in shared.inner_text()
    # wide tables scroll inside their boxes, the page itself does not move sideways, also on a phone
    for width in (1280, 375):
        seen.tab.set_viewport_size({"width": width, "height": 800})
        assert seen.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.slow
def test_the_tests_of_the_browser_can_fail(study, look):
    html = page("outputs")
    html = html.replace("data:image/svg+xml;base64,", "data:image/svg+xml;base64,broken", 1)
    html = html.replace("img-src data:", "img-src data: https:")
    Path("bad.html").write_text(html.replace("</main>", "<img src='https://example.org/x.png' alt='far'></main>"))
    seen = look("bad.html")
    assert seen.fetched == ["https://example.org/x.png"]
    assert "far" in seen.broken
    assert len(seen.broken) == 2
    assert seen.complaints


def test_names_from_files_are_text_and_nothing_else(look):
    settings = RRD | {"tag": EVIL, EVIL: EVIL, "epochs": 1}
    directory = make_run("evil", settings, [1, 2, 3], env=EVIL.replace("/", ":")[:100])
    (directory / "run.json").write_text(json.dumps({"processor": EVIL, "versions": {EVIL: EVIL}, "git_clean": False}))
    (directory / "error.txt").write_text(f"Traceback\nValueError: {EVIL}")
    (directory / "metrics.csv").write_text(f"Timesteps,Reward/{EVIL.replace(',', '')}\n1000,0.5\n")
    page("outputs", f"--title={EVIL}")
    seen = look()
    assert seen.tab.title() == EVIL
    assert EVIL in seen.tab.inner_text(".bad")
    assert EVIL in seen.tab.inner_text("#systems")
    assert seen.tab.query_selector_all("script") == []
    assert seen.tab.eval_on_selector_all("img", "all => all.filter(i => !i.src.startsWith('data:')).length") == 0
    assert seen.fetched == []


# Content ----------------------------------------------------------------------------------------------------------

def test_the_scores_equal_those_of_plot_py(capsys):
    make_study()
    table = cells(page("outputs", "--last=0.2"))
    # three runs end at 200, 200 and 300 of a straight line from 0: the mean of its last two points
    assert f"RRD-SAC|3|{(2000 + 2000 + 3000) / 3 * 17 / 18:,.1f}|[" in table
    assert re.search(r"SAC \(dense reward\)\|3\|2,833.3\|\[2,833.3, 2,833.3\]\|1.000", table)
    assert "algorithm|IQM|median|mean|optimality gap" in table
    assert re.search(r"RRD-SAC\|0\.6\d+ \[", table)
    assert capsys.readouterr().out == "the report is in report.html\n"


def test_the_best_of_an_environment_stands_first_in_bold():
    make_runs("rrd", RRD, [100, 200, 300])
    make_runs("ep", SAC, [500, 600, 700])
    make_runs("dense", DENSE, [50], "Walker2d-v4")
    html = page("outputs").partition('id="curves"')[0]
    assert re.findall(r'<th scope="row" class="best">(.*?)</th>', html) == ["SAC"]
    assert html.index(">SAC<") < html.index(">RRD-SAC<")
    assert 'class="number best">' in html


def test_numbers_of_a_diagnosis_are_means_over_runs(study):
    expected = np.mean([float(one.rows[-1]["Reward/pearson_across"]) for one in study])
    table = cells(page(*(str(one.directory) for one in study)))
    assert f"pearson_across|{expected:.3g}" in table
    assert "number|RRD-SAC" in table


def test_runs_show_their_state():
    make_run("whole", SAC | dict(total_timesteps=2000), [1, 2])
    make_run("half", SAC | dict(epochs=1, cycles=4, iterations=10, timesteps=100), [1, 2], seed=1)
    failed = make_run("failed", SAC | dict(total_timesteps=9000), [1, 2], seed=2)
    (failed / "error.txt").write_text("Traceback\n  somewhere\nValueError: no air\n")
    (failed / "metrics.csv").write_text("Timesteps,TimeCost(sec)/train,TimeCost(sec)/test\n1000,30,6\n2000,30,\n")
    html = page("outputs", f"TF={ORIGINAL}")
    table = cells(html)
    assert re.search(r"seed 0\|done\|2,000\|2.000\|2.000\|-\|-\|-\|outputs/whole", table)
    assert re.search(r"seed 1\|not done\|2,000", table)
    assert re.search(r"seed 2\|failed\|2,000\|2.000\|2.000\|1.0\|0.1\|33\|outputs/failed", table)
    assert "|the original&#39;s|100,000|" in table
    assert "<code>outputs/failed</code> ended with an error: ValueError: no air" in html


def test_settings_that_differ_are_separated_from_shared_ones():
    make_run("a", RRD | dict(gamma=0.99, q_lr=1e-3), [1])
    make_run("b", RRD | dict(gamma=0.99, q_lr=1e-4), [1], seed=1)
    make_run("c", DENSE | dict(gamma=0.99, q_lr=1e-3), [1])
    html = page("outputs")
    own, common = html.split("<details>")
    assert "q_lr|0.001|0.0001|0.001" in cells(own)
    assert "basis_alg|sac|sac|-" in cells(own)
    assert "gamma|0.99" in cells(common)
    assert "gamma" not in cells(own)
    assert "the runs differ in q_lr" in own


def test_runs_of_equal_systems_share_a_row():
    for seed in range(3):
        facts = {"processor": "P", "git_clean": seed < 2, "git_commit": "abc", "started": str(seed),
                 "versions": {"torch": "2", "tensorflow": None}}
        (make_run(f"{seed}", RRD, [1], seed=seed) / "run.json").write_text(json.dumps(facts))
    html = page("outputs")
    assert "<h3>2 runs</h3>" in html
    assert "<h3>1 run</h3>" in html
    assert "git commit|abc, with uncommitted changes" in cells(html)
    assert "tensorflow" not in html


def test_the_files_of_a_run_may_hold_anything():
    for seed, (metrics, facts) in enumerate([
            ("", "[]"), ("Timesteps,Reward/r2\nx,y\n1\n", "{"), ("Timesteps\n\0\n", '{"versions": 3, "processor": []}'),
            ("Reward/r2\n1\n", "nul"), ("Timesteps,Reward/r2\n5,1\n4,2\n", "{}"), ("\xff,\n", "[" * 10**5)]):
        directory = make_run(f"{seed}", RRD | dict(epochs=[], total_timesteps=seed or "x"), [1], seed=seed)
        (directory / "metrics.csv").write_text(metrics, encoding="latin-1")
        (directory / "run.json").write_text(facts)
        (directory / "evaluations").mkdir()
        (directory / "evaluations" / "x.png").write_text("no picture")
    (directory / "error.txt").mkdir()
    html = page("outputs")
    assert "rewards along an episode" not in html
    assert 'id="reward"' not in html
    assert html.count("<td>not done</td>") + html.count("<td>done</td>") == 6


@pytest.mark.parametrize("text", [
    'Timesteps,Rewards\n1000,3\n2000,"' + "9" * 200_000, "Timesteps,Rewards\r1000,3\r",
    "\ufeffTimesteps,Rewards\n1000,3\n", "Timesteps,Rewards\r\n1000,3\r\n5,",
    "Timesteps,Rewards\n1000,3\n1e300,1e200\n"], ids=range(5))
def test_damaged_metrics_keep_what_can_be_read(text):
    directory = make_run("a", RRD, [1])
    (directory / "metrics.csv").write_text(text, encoding="utf-8", newline="")
    found = read_metrics(directory)
    assert [found["Timesteps"][0], found["Rewards"][0]] == [1000, 3]
    assert "1,000 environment steps" in page("outputs").replace("\u202f", ",")


def test_runs_that_cannot_be_shown_are_listed_with_their_errors():
    make_run("a", RRD, [1])
    (make_run("b", RRD, [1], seed=4) / "rews" / "Hopper-v4.npz").unlink()
    Path("outputs/b/error.txt").write_text("ValueError: no air\n")
    assert ("<li>not shown: outputs/b: no files of evaluation returns in rews/, expected one; the run ended with "
            "ValueError: no air</li>") in page("outputs")


def test_small_scores_keep_their_digits():
    make_runs("rrd", RRD, [0.0748, 0.079, 0.0828])
    assert re.search(r"RRD-SAC\|3\|0\.07\d+\|\[0\.07480, 0\.08\d+\]", cells(page("outputs")))


def test_many_runs_make_a_short_title():
    make_runs("rrd", RRD, [1, 2, 3, 4])
    html = page(*(str(path) for path in sorted(Path("outputs").iterdir())))
    assert "<h1>4 runs</h1>" in html


def test_only_a_file_is_replaced_and_a_link_stays_one(capsys):
    make_runs("rrd", RRD, [1])
    os.mkfifo("pipe.html")
    Path("dangling.html").symlink_to("gone/report.html")
    for place in ("/dev/null", "pipe.html", "dangling.html"):
        assert report.main(["outputs", f"--out={place}"]) == 2
        assert f"--out: got '{place}', expected a file" in capsys.readouterr().err
    assert Path("/dev/null").is_char_device()
    Path("target.html").write_text("old")
    Path("link.html").symlink_to("target.html")
    assert report.main(["outputs", "--out=link.html"]) == 0
    assert Path("link.html").is_symlink()
    assert "<h1>" in Path("target.html").read_text(encoding="utf-8")


def test_metrics_are_read_as_they_were_written(study):
    metrics = read_metrics(study[0].directory)
    for name in ("Timesteps", "Reward/r2", "TimeCost(sec)/train"):
        expected = [float(row[name] or "nan") for row in study[0].rows]
        np.testing.assert_array_equal(metrics[name], expected)


# The command line ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("arguments", "line"), [
    ([], "the following arguments are required: RUN"), (["outputs", "--lst=1"], "unrecognized arguments: --lst=1"),
    (["outputs", "--last=0"], "--last: got '0', expected a number above 0 and at most 1"),
    (["outputs", "--out=gone/r.html"], "--out: got 'gone/r.html', expected a file in a directory that exists"),
    (["outputs", "--out=outputs"], "--out: got 'outputs', expected a file in a directory that exists"),
    (["outputs", "--normalize=gone.json"], "--normalize: 'gone.json' cannot be read: No such file or directory")])
def test_a_wrong_argument_gives_a_one_line_error(arguments, line, capsys):
    make_runs("rrd", RRD, [1])
    assert report.main(arguments) == 2
    assert capsys.readouterr().err == f"report.py: {line}\n"
    assert not Path("report.html").exists()


def test_nothing_to_read_is_exit_code_2(capsys):
    assert report.main(["gone"]) == 2
    assert capsys.readouterr().err == "report.py: gone: does not exist\nreport.py: no run could be read\n"
    assert not Path("report.html").exists()


def test_an_unwritable_output_is_exit_code_1(capsys):
    make_runs("rrd", RRD, [1])
    assert report.main(["outputs", "--out=/proc/report.html"]) == 1
    assert capsys.readouterr().err.startswith("report.py: cannot write /proc/report.html: ")


@pytest.mark.parametrize(("module", "ours"), [("matplotlib", ["figures", "styles"]), ("jinja2", [])])
def test_without_a_package_one_line_names_the_extra(module, ours, monkeypatch, capsys):
    make_runs("rrd", RRD, [1])
    monkeypatch.setitem(sys.modules, module, None)
    for name in ["page", *ours]:
        monkeypatch.delitem(sys.modules, f"results.{name}", raising=False)
        monkeypatch.delattr(results, name, raising=False)
    assert report.main(["outputs"]) == 2
    assert capsys.readouterr().err == f"report.py: {module} is not installed; pip install -e '.[plot]' installs it\n"


def test_help_and_errors_import_nothing_large():
    code = ("import sys, report; report.main(['x', '--last=2']); "
            "sys.exit(bool({'torch', 'matplotlib', 'gymnasium', 'jinja2'} & {*sys.modules}))")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("command", re.findall(r"^ {4}python report\.py (.*)$", (ROOT / "README.md").read_text() +
                                               (ROOT / "docs" / "report.md").read_text(), re.MULTILINE))
def test_commands_in_the_documents_are_understood(command):
    assert report.parse(shlex.split(command)).runs
