"""Plots of predicted and true rewards: a PNG by matplotlib, a strip below the frames of a video by OpenCV."""

from __future__ import annotations

import io

import numpy as np

PREDICTED, TRUE, PAPER, AXIS = (31, 119, 180), (255, 127, 14), (255, 255, 255), (190, 190, 190)
INK = (60, 60, 60)
# Pixels: blank rows and columns around things; a line of text; a caption; the plot, what is above it (the legend),
# beside it (a scale, at least) and below it (the steps); all of the strip.
MARGIN, LINE, CAPTION = 4, 14, 24
PLOT, TOP, SIDE = 96, 20, 56
STRIP = TOP + PLOT + 20
FONT = 0.42             # of OpenCV's letters: capitals of 9 pixels
Color = tuple[int, int, int]


def draw_png(predicted: np.ndarray, true: np.ndarray, same_unit: bool, title: str) -> bytes:
    """Draw the rewards of an episode by step as the bytes of a PNG.

    Args:
        predicted, true: (T,).
        same_unit: whether both share an axis; else the predictions have their own axis, on the right.
    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    other = axes if same_unit else axes.twinx()
    steps = np.arange(1, len(true) + 1)
    lines = [*axes.plot(steps, true, color=_hex(TRUE), linewidth=1, label="true"),
             *other.plot(steps, predicted, color=_hex(PREDICTED), linewidth=1, label="predicted")]
    axes.set_xlabel("step")
    axes.set_ylabel("reward" if same_unit else "true reward")
    if not same_unit:
        other.set_ylabel("predicted, a share of the returns' range")
    axes.set_title(title)
    figure.legend(handles=lines, loc="outside lower right", ncols=2, frameon=False)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


class Strip:
    """A plot of an episode's rewards that grows step by step, with axes and a legend.

    True rewards are orange, and their scale is on the left; predicted ones are blue, on the right if theirs is another.
    """

    def __init__(self, predicted: np.ndarray, true: np.ndarray, same_unit: bool, width: int):
        """Draw the whole plot.

        Args:
            predicted, true: (T,).
            same_unit: whether both share a scale, from the least to the greatest value.
            width: in pixels.
        """
        self.steps = len(true)
        both = np.concatenate([predicted, true])
        of_true, of_predicted = (both, both) if same_unit else (true, predicted)
        left, right = room_beside(of_true), width - (MARGIN if same_unit else room_beside(of_predicted))
        self.area = slice(TOP, TOP + PLOT), slice(left, right)
        self.empty = np.full((STRIP, width, 3), PAPER, np.uint8)
        self.whole = np.full((PLOT, right - left, 3), PAPER, np.uint8)
        self._draw(true, of_true, TRUE)
        self._draw(predicted, of_predicted, PREDICTED)
        self._add_axes(left, right)
        self._add_scale(of_true, INK if same_unit else TRUE, left - MARGIN, is_left=True)
        if not same_unit:
            self._add_scale(of_predicted, PREDICTED, right + MARGIN, is_left=False)

    def _draw(self, values: np.ndarray, scale: np.ndarray, color: Color) -> None:
        width, low, high = self.whole.shape[1], scale.min(), scale.max()
        column = values[np.arange(width) * self.steps // width]
        share = (high - column) / (high - low) if high > low else np.full(width, 0.5)
        rows = MARGIN + np.rint(share * (PLOT - 2 * MARGIN - 2)).astype(int)
        for x, (row, before) in enumerate(zip(rows, [rows[0], *rows[:-1]], strict=True)):
            self.whole[min(row, before):max(row, before) + 2, x] = color            # two pixels thick

    def _add_axes(self, left: int, right: int) -> None:
        """Draw the axes, the numbers of the first and the last step, and the legend."""
        bottom = TOP + PLOT
        self.empty[0] = AXIS                            # a line between it and the caption
        self.empty[bottom, left:right] = AXIS
        self.empty[TOP:bottom, left - 1] = AXIS
        write(self.empty, "1", (left, bottom + LINE), INK)
        write(self.empty, str(self.steps), (right, bottom + LINE), INK, from_right=True)
        write(self.empty, "step", ((left + right) // 2, bottom + LINE), INK)
        end = write(self.empty, "true reward", (left, LINE), TRUE)
        write(self.empty, "predicted", (end + 2 * MARGIN, LINE), PREDICTED)

    def _add_scale(self, values: np.ndarray, color: Color, x: int, is_left: bool) -> None:
        """Write the greatest and the least value beside the plot."""
        for value, y in ((values.max(), TOP + LINE - MARGIN), (values.min(), TOP + PLOT)):
            write(self.empty, short(value), (x, y), color, from_right=is_left)

    def until(self, step: int) -> np.ndarray:
        """The plot up to `step`, (STRIP, width, 3) uint8; the rest of its area is blank."""
        shown, end = self.empty.copy(), step * self.whole.shape[1] // self.steps
        shown[self.area][:, :end] = self.whole[:, :end]
        return shown


def short(value: float) -> str:
    """A number beside an axis."""
    return f"{value:.3g}"


def room_beside(values: np.ndarray) -> int:
    """The columns that the scale of these values needs beside a plot."""
    return max(SIDE, *(text_width(short(value)) + 2 * MARGIN for value in (values.min(), values.max())))


def caption(title: str, numbers: str, width: int) -> np.ndarray:
    """A line below a frame, (CAPTION, width, 3) uint8: a title on the left, cut to fit, and numbers on the right."""
    picture = np.full((CAPTION, width, 3), PAPER, np.uint8)
    room = width - 3 * MARGIN - text_width(numbers)
    while title and text_width(title) > room:
        title = title.removesuffix("..")[:-1] + ".." * (len(title) > 3)
    write(picture, title, (MARGIN, CAPTION - 2 * MARGIN), INK)
    write(picture, numbers, (width - MARGIN, CAPTION - 2 * MARGIN), INK, from_right=True)
    return picture


def write(picture: np.ndarray, text: str, place: tuple[int, int], color: Color, from_right: bool = False) -> int:
    """Write a text into a picture; return the column behind it. Letters beyond ASCII become question marks.

    Args:
        place: (x, y) of the text's left end, or right end, on its baseline.
    """
    import cv2
    plain = text.encode("ascii", "replace").decode()
    x = place[0] - text_width(plain) * from_right
    cv2.putText(picture, plain, (x, place[1]), cv2.FONT_HERSHEY_SIMPLEX, FONT, color, 1, cv2.LINE_AA)
    return x + text_width(plain)


def text_width(text: str) -> int:
    """The width of a text in pixels."""
    import cv2
    return cv2.getTextSize(text.encode("ascii", "replace").decode(), cv2.FONT_HERSHEY_SIMPLEX, FONT, 1)[0][0]
