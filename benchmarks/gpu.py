"""One command for a GPU: `python benchmarks/gpu.py --minutes 8`.

First the tests that need CUDA, then updates a second of each algorithm by each engine in fp32, tf32 and bf16,
environment steps a second of one faithful run, eight and 32 seeds against one, and memory. Each section runs in a
process of its own, for its share of the time: a slow one is cut off, and what a fast one leaves goes to those after it.
Prints each result as it comes, then Markdown tables, and keeps one JSON file up to date. docs/performance.md says more.

Needs PyTorch, the wheels that --wheels lists, and no installation of this project.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from utils.errors import ConfigError
from utils.settings.cli import Parser

LATE = 10                       # seconds after its time at which a process ends that nobody has ended


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns: 0, also without a GPU and if something was cut off; 1 if a test or a measurement failed; 2 for an invalid
        flag or a package that is missing; 130 after Ctrl-C or SIGTERM.
    """
    try:
        args = parse_args(argv)
        if args.wheels:
            from benchmarks.wheels import wheels
            print(*wheels(), sep="\n")
            return 0
        return serve(args) if args.serve else check(args)
    except ModuleNotFoundError as error:
        return complain(f"{error.name} is not installed; `python benchmarks/gpu.py --wheels`, where this project is "
                        "installed, lists the packages that are needed beside PyTorch", 2)
    except ConfigError as error:
        return complain(str(error), 2)
    except OSError as error:
        return complain(str(error), 1)
    except KeyboardInterrupt:
        return complain("interrupted", 130)


def complain(line: str, code: int) -> int:
    print(f"gpu.py: {line}", file=sys.stderr)
    return code


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the flags; raises ConfigError for an invalid one."""
    from benchmarks.flags import check_writable, minutes, names_of
    from benchmarks.gpu_sections import SECTIONS
    names = tuple(SECTIONS)
    parser = Parser(prog="gpu.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                    allow_abbrev=False)
    add = parser.add_argument
    add("--minutes", type=minutes, default=8.0, metavar="M", help="for all sections together (default: 8)")
    add("--sections", type=names_of(names), default=names, metavar="NAMES",
        help=f"some of them, by commas: {','.join(names)} (default: all)")
    add("--device", default="cuda", help="cuda, cuda:1, ..., or cpu, to test this program (default: cuda)")
    add("--quick", action="store_true", help="little of everything, as a test; the figures are noise")
    add("--out", type=Path, metavar="FILE", help="JSON file (default: outputs/gpu_<time>.json)")
    add("--wheels", action="store_true", help="print the packages that are needed beside PyTorch, with their versions")
    add("--serve", help=argparse.SUPPRESS)              # what the process of a section is given, as JSON
    args = parser.parse_args(argv)
    args.out = args.out or Path("outputs") / time.strftime("gpu_%Y%m%d-%H%M%S.json")
    if not (args.wheels or args.serve):
        check_writable(args.out)
    return args


# The process of a section --------------------------------------------------------------------------------------------

def serve(args: argparse.Namespace) -> int:
    """Measure one section, as the process that `check` starts."""
    from benchmarks.clocks import serve as serve_section
    from benchmarks.gpu_sections import SECTIONS, make_plan
    from benchmarks.machine import describe_machine
    order = json.loads(args.serve)
    signal.alarm(order["seconds"])
    plan, events = make_plan(args.device, args.quick), Path(order["events"])
    if not order["done"]:
        events.write_text(json.dumps({"machine": describe_machine(plan.device)}) + "\n", encoding="utf-8")
    return serve_section(SECTIONS[args.sections[0]], plan, order["done"], events)


def start(args: argparse.Namespace, name: str, done: list[str], events: Path, log: Any, seconds: float,
          ) -> subprocess.Popen:
    """Start that process, in a process group of its own. It ends by itself, late, if this one is killed."""
    order = json.dumps({"done": done, "events": str(events), "seconds": math.ceil(seconds) + LATE})
    argv = [f"--sections={name}", f"--device={args.device}", *["--quick"] * args.quick, f"--serve={order}"]
    return subprocess.Popen([sys.executable, str(Path(__file__).resolve()), *argv], stdin=subprocess.DEVNULL,
                            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                            env=os.environ | {"PYTHONUNBUFFERED": "1"})


# All sections ---------------------------------------------------------------------------------------------------------

def check(args: argparse.Namespace) -> int:
    """Run the sections one after the other, print what they find, and keep the JSON file up to date."""
    from benchmarks.clocks import Found
    from benchmarks.gpu_sections import SECTIONS
    signal.signal(signal.SIGTERM, interrupt)            # so that the process of a section ends, too
    end, why_not = time.monotonic() + 60 * args.minutes, why_no_device(args.device)
    found = {name: Found(SECTIONS[name].title, skipped=why_not) for name in args.sections}
    report = Report(args, found)
    for name, one in found.items():
        if not why_not:
            left = [SECTIONS[other].share for other in [*found][[*found].index(name):]]
            one.seconds_allotted = max(end - time.monotonic(), 0.0) * left[0] / sum(left)
            report.run(name, functools.partial(start, args, name))
        report.close(name, SECTIONS[name].table)
    return report.end()


def interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def why_no_device(device: str) -> str | None:
    """Why nothing can run on this device, or None; raises ConfigError for a name that is none."""
    import torch

    from utils.torch_utils import resolve_device
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"--device: got {device!r}, expected cuda, cuda:N or cpu")
    if kind == "cpu":
        return None
    if not torch.cuda.is_available():
        built = f"PyTorch {torch.__version__} " + ("finds none" if torch.version.cuda else "is built without CUDA")
        return f"no CUDA device ({built})"
    resolve_device(device, "--device")
    return None


class Report:
    """Prints what is found, and writes the JSON file after each result."""

    def __init__(self, args: argparse.Namespace, found: dict[str, Any]):
        self.out, self.found = args.out, found
        self.machine: dict[str, Any] | None = None
        self.settings = {name: getattr(args, name) for name in ("minutes", "sections", "device", "quick")}
        self.on_gpu, self.goals = args.device.startswith("cuda"), []
        if args.quick:
            self.say("note: --quick only shows that the check works: its figures are noise")

    def say(self, text: str) -> None:
        print(text, flush=True)

    def write(self) -> None:
        """Write the file; it is whole at every moment."""
        content = {"machine": self.machine, "settings": self.settings, "goals": self.goals,
                   "sections": {name: vars(one) for name, one in self.found.items()}}
        temporary = self.out.with_name(f"{self.out.name}.new")
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        temporary.replace(self.out)

    def run(self, name: str, start: Callable) -> None:
        """Run one section."""
        from benchmarks.clocks import run_section
        self.say(f"## {self.found[name].title}: at most {self.found[name].seconds_allotted:.0f} s\n")
        try:
            run_section(self.found[name], start, self.hear)
        finally:
            self.write()

    def hear(self, event: dict[str, Any]) -> None:
        """Print one event as a line."""
        if "machine" in event and self.machine is None:
            from benchmarks.machine import headline
            self.machine = event["machine"]
            self.say(headline(self.machine))
        if "item" in event:
            self.say(f"{event['item']}: {outline(event)}")
            self.write()

    def close(self, name: str, make_table: Callable[[dict[str, Any]], str]) -> None:
        """Print the table of a section, and what is missing in it."""
        one = self.found[name]
        if one.skipped:
            self.say(f"{one.title}: skipped: {one.skipped}")
            return
        lines = [make_table(one.results)] if one.results else []
        lines += [f"error: {item}: {line}" for item, line in one.errors.items()]
        if one.cut_off:
            lines.append(f"cut off after {one.seconds:.0f} s: {', '.join(one.cut_off)}")
        elif not one.planned and not one.errors:
            lines.append(f"cut off after {one.seconds:.0f} s, before its first item")
        self.say("\n" + "\n\n".join(lines) + f"\n\n{one.title} took {one.seconds:.0f} s\n")

    def end(self) -> int:
        """Print the goals, and how it ended; return the exit code."""
        from benchmarks.gpu_sections import goals
        from benchmarks.report import targets_table
        ran = [one for one in self.found.values() if not one.skipped]
        if ran and self.on_gpu:
            self.goals = goals({name: one.results for name, one in self.found.items()})
            self.say(f"{targets_table(self.goals)}\n")
        self.write()
        failed = [one.title for one in ran if one.errors or any(found.get("failed") for found in one.results.values())]
        if failed:
            self.say(f"failed: {', '.join(failed)}")
        if skipped := [one.title for one in self.found.values() if one.skipped]:
            self.say(f"skipped {len(skipped)} of {len(self.found)} sections; "
                     "`--device cpu --quick` tries them on the CPU")
        self.say(f"written to {self.out}")
        return 1 if failed else 0


def outline(event: dict[str, Any]) -> str:
    """What became of an item, in a few words."""
    if "refused" in event or "error" in event:
        return f"not possible: {event['refused']}" if "refused" in event else f"error: {event['error']}"
    found = event["found"]
    if "per_second" in found:
        return f"{found['per_second']:.1f} a second" + (f", by {found['engine']}" if "engine" in found else "")
    if "passed" in found:
        return f"{found['passed']} passed, {len(found['failed'])} failed, {found['skipped']} skipped"
    return "measured"


if __name__ == "__main__":
    sys.exit(main())
