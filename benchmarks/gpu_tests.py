"""The tests that need a GPU, as items of a section: those with the marker `cuda`, by function."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from benchmarks.clocks import Item, Restart
from benchmarks.report import table

ROOT = Path(__file__).resolve().parent.parent
MARK = "mark.cuda"              # in the text of every file that has such a test


def items(plan: Any) -> dict[str, Item]:
    """By function, in the order of the files. Files without such a test are not imported: they need more packages."""
    files = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if MARK in path.read_text(encoding="utf-8"))
    collected = Outcomes()
    run_pytest(["--collect-only", *map(str, files)], collected)
    names = list(dict.fromkeys(name.partition("[")[0] for name in collected.names))
    if plan.quick:                                      # these show that it works
        names = names[:2]
    return {name.removeprefix("tests/"): functools.partial(run_tests, name) for name in names} | (
        {"(collection)": functools.partial(report, collected)} if collected.failed else {})


def run_tests(name: str) -> dict[str, Any]:
    """Run one function with all its parameters; return the counts, and how each failure ends."""
    outcomes = Outcomes()
    run_pytest([str(ROOT / name)], outcomes)
    return report(outcomes)


def report(outcomes: Outcomes) -> dict[str, Any]:
    """What became of tests; raises Restart with it if one failed, since nothing else may work in this process."""
    found = {"passed": outcomes.passed, "skipped": outcomes.skipped, "failed": outcomes.failed,
             "warnings": sorted(outcomes.warnings), "seconds": outcomes.seconds}
    if outcomes.failed:
        raise Restart(found)
    return found


def run_pytest(argv: list[str], outcomes: Outcomes) -> None:
    """Run pytest here. Warnings are noted and do not fail a test: other versions of packages give others."""
    import pytest
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]                            # of a pytest that runs this one
    pytest.main(["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-m", "cuda", "-W", "default",
                 "-p", "no:cacheprovider", *argv], plugins=[outcomes])


class Outcomes:
    """A plugin of pytest that counts."""

    def __init__(self):
        self.names: list[str] = []
        self.passed = self.skipped = 0
        self.failed: dict[str, str] = {}                # by test, the last line of its error
        self.warnings: set[str] = set()
        self.seconds = 0.0

    def pytest_collection_finish(self, session: Any) -> None:
        self.names = [item.nodeid for item in session.items]

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.failed[report.nodeid] = _error(report)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds += report.duration
        self.passed += report.when == "call" and report.passed
        self.skipped += report.skipped
        if report.failed:
            self.failed[report.nodeid] = _error(report)

    def pytest_warning_recorded(self, warning_message: Any) -> None:
        self.warnings.add(f"{warning_message.category.__name__}: {str(warning_message.message).strip()}"[:300])


def _error(report: Any) -> str:
    """The line of a report that names the error: the first that pytest marks, else the last."""
    lines = str(report.longrepr).strip().split("\n")
    return next((line for line in lines if line.startswith("E ")), lines[-1]).removeprefix("E ").strip()[:500]


def outcome_table(results: dict[str, Any]) -> str:
    """Counts by file, and a line for each test that failed."""
    by_file: dict[str, list[int]] = {}
    for name, found in results.items():
        counts = by_file.setdefault(name.partition("::")[0], [0, 0, 0])
        for i, what in enumerate(("passed", "failed", "skipped")):
            counts[i] += len(found[what]) if what == "failed" else found[what]
    rows = [[name, *map(str, counts)] for name, counts in by_file.items()]
    failed = [f"FAILED {name}: {error}" for found in results.values() for name, error in found["failed"].items()]
    warned = [f"warning: {text}" for text in sorted({text for found in results.values() for text in found["warnings"]})]
    return "\n".join([table(["tests", "passed", "failed", "skipped"], rows), *([""] if failed or warned else []),
                      *failed, *warned])
