"""Pay the steps of a data set of Minari by a learned reward; `python relabel.py --help`."""

import argparse
import sys
from collections.abc import Sequence

from program import run_program

EXAMPLES = """
examples:
  python relabel.py pendulum/late-v0 --method rd --out pendulum/rd-v0
  python relabel.py pendulum/late-v0 --method rudder --out pendulum/rudder-v0 --updates=5000 --set cell=gru

The new data set holds the same episodes with other rewards. Nothing is overwritten: docs/offline.md.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns: 0; 1 if a disk fails or a number is not finite; 2 if an argument or the data set is invalid, or Minari is
        not installed; 130 after Ctrl-C, when no new data set is left behind.
    """
    def work() -> int:
        return relabel(parse(sys.argv[1:] if argv is None else argv))
    return run_program("relabel.py", work, "try --device=cpu")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse and check the options; `settings` holds those of the method, as text by name.

    Raises:
        ConfigError: an option is invalid.
        SystemExit: `--help` or `--completion` is printed.
    """
    from utils.settings.cli import Parser
    from utils.settings.completion import add_completion
    from utils.settings.imports import add_import, import_modules
    parser = Parser(prog="relabel.py", allow_abbrev=False, epilog=EXAMPLES,
                    formatter_class=argparse.RawDescriptionHelpFormatter,
                    description="Fit a decomposition to the returns of a data set of Minari, and write a new data set "
                                "whose steps have the learned rewards.")
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="the id of a local data set, such as pendulum/late-v0")
    add("--method", required=True, metavar="NAME", help="a decomposition, such as rd, rrd or rudder")
    add("--out", required=True, metavar="NEW", help="the id of the new data set, such as pendulum/rd-v0")
    add("--updates", default="2000", metavar="N", help="updates of the model (default: 2000)")
    add("--holdout", default="0.1", metavar="X", help="share of the episodes that is not learned from, on which the "
        "reward is judged; 0: none (default: 0.1)")
    add("--seed", default="0", metavar="N", help="of the first weights, the draws and the episodes held out "
        "(default: 0)")
    add("--device", default="auto", metavar="TEXT", help="cpu, cuda, cuda:1, ..., mps or auto (default)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the method, such as r_lr=1e-3; "
        "may be given several times")
    add_import(parser)
    add_completion(parser)
    given = parser.parse_args(argv)
    import_modules(given.modules)
    return checked(given)


def checked(given: argparse.Namespace) -> argparse.Namespace:
    """Convert the numbers, and read the settings of the method.

    Raises:
        ConfigError: one is wrong.
    """
    from utils.settings.setting import Setting
    given.updates = Setting("updates", int, low=0, high=10**8).checked(given.updates)
    given.holdout = Setting("holdout", float, low=0, high=0.9).checked(given.holdout)
    given.settings = {"seed": given.seed, "device": given.device} | dict(map(named, given.set))
    return given


def named(word: str) -> tuple[str, str]:
    """Return the name and the text of a setting NAME=VALUE."""
    from utils.errors import ConfigError
    name, equals, text = word.partition("=")
    if not equals or not name:
        raise ConfigError(f"--set: got {word!r}, expected NAME=VALUE, such as r_lr=1e-3")
    return name, text


def relabel(given: argparse.Namespace) -> int:
    """Fit, judge and write, with progress; return the exit code."""
    from adapters.relabelling import Order, relabel_dataset
    from utils.display import Display
    order = Order(given.dataset, given.method, given.out, given.updates, given.holdout, given.settings)
    every = max(given.updates // 10, 1)
    with Display() as display:
        view = display.view(given.updates)

        def report(number: int, info: dict) -> None:
            view.progress(number)
            if number % every == 0:
                metrics = "  ".join(f"{name} {float(value):.6g}" for name, value in info.items())
                display.say(f"update {number}/{given.updates}  {metrics}")
        new = relabel_dataset(order, display.say, report)
        display.say(f"written to {given.out}: {new.total_episodes} episodes, {new.total_steps} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
