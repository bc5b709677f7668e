"""Plots of predicted and true rewards: a PNG by matplotlib, a strip below the frames of a video by NumPy."""

from __future__ import annotations

import io

import numpy as np

PREDICTED, TRUE, PAPER, AXIS = (31, 119, 180), (255, 127, 14), (255, 255, 255), (190, 190, 190)
STRIP, MARGIN = 96, 4   # pixels: the height, and the blank rows above and below


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


def _hex(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


class Strip:
    """A plot of an episode's rewards that grows step by step: true rewards orange, predicted ones blue."""

    def __init__(self, predicted: np.ndarray, true: np.ndarray, same_unit: bool, width: int):
        """Draw the whole plot.

        Args:
            predicted, true: (T,).
            same_unit: whether both share a scale, from the least to the greatest value.
            width: in pixels.
        """
        self.steps = len(true)
        self.picture = np.full((STRIP, width, 3), PAPER, np.uint8)
        both = np.concatenate([predicted, true])
        self._draw(true, both if same_unit else true, TRUE)
        self._draw(predicted, both if same_unit else predicted, PREDICTED)

    def _draw(self, values: np.ndarray, scale: np.ndarray, color: tuple[int, int, int]) -> None:
        width, low, high = self.picture.shape[1], scale.min(), scale.max()
        column = values[np.arange(width) * self.steps // width]
        share = (high - column) / (high - low) if high > low else np.full(width, 0.5)
        rows = MARGIN + np.rint(share * (STRIP - 2 * MARGIN - 2)).astype(int)
        for x, (row, before) in enumerate(zip(rows, [rows[0], *rows[:-1]], strict=True)):
            self.picture[min(row, before):max(row, before) + 2, x] = color          # two pixels thick

    def until(self, step: int) -> np.ndarray:
        """The plot up to `step`, (STRIP, width, 3) uint8; the rest is blank."""
        shown, end = np.full_like(self.picture, PAPER), step * self.picture.shape[1] // self.steps
        shown[:, :end] = self.picture[:, :end]
        shown[0] = AXIS                                 # a line between it and the frame
        return shown
