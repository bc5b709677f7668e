"""The style of figures: colours, lines and fonts; needs matplotlib, the extra [plot]."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterable, Iterator, Sequence

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter

# The colours of Okabe and Ito, distinct in all kinds of colour vision, without yellow. Lines are full; with more
# algorithms than colours, further lines are broken.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#7F7F7F")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))
STYLE = {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 7, "axes.linewidth": 0.6,
         "xtick.labelsize": 7, "ytick.labelsize": 7, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
         "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "lines.linewidth": 1.4,
         "svg.hashsalt": "return-decomposition", "axes.formatter.use_mathtext": True}
DIFFERENT = len(COLOURS) * len(DASHES)
# Of the installed ones, each draws the letters that those before it lack.
FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Hiragino Sans", "Microsoft YaHei",
         "Noto Sans", "Noto Sans Arabic", "Noto Emoji")


class Styles:
    """The colour and dashes of each algorithm, equal in all figures."""

    def __init__(self, algorithms: Sequence[str]):
        self.order = list(dict.fromkeys(algorithms))

    def __getitem__(self, algorithm: str) -> dict:
        turn, colour = divmod(self.order.index(algorithm), len(COLOURS))
        return {"color": COLOURS[colour], "linestyle": DASHES[turn % len(DASHES)]}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """The context in which figures are made and written."""
    with matplotlib.rc_context(STYLE | {"font.family": _fonts()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)       # see `missing_letters`
        yield


class Plain(ScalarFormatter):
    """Numbers as text. A power of ten beside the axis stays a formula, whose layout takes many times as long."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return super().__call__(x, pos).removeprefix("$\\mathdefault{").removesuffix("}$")


def plain_ticks(axes: Axes) -> Axes:
    """Write the numbers of both axes as text; returns the axes."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(Plain())
    return axes


@functools.cache
def _fonts() -> list[str]:
    there = set(font_manager.get_font_names())
    return [name for name in FONTS if name in there]


def missing_letters(names: Iterable[str]) -> str:
    """The letters that no installed font has; they are drawn as boxes."""
    known = set().union(*(font_manager.get_font(font_manager.findfont(name)).get_charmap() for name in _fonts()))
    return "".join(sorted({letter for name in names for letter in name if ord(letter) not in known}))
