"""Whether a learned reward is right: predictions beside the true rewards of whole episodes, in NumPy.

An episode has T steps, each with a true reward r_t and a predicted one p_t. R is the sum of its r_t, P that of its p_t
(the mean of the p_t times T). What is not defined, such as the correlation with a constant, is None; numbers that
differ by rounding alone are constant. docs/diagnosis.md explains how to read each number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

PREFIX = "Reward/"
# By the order of the columns. The last two are of a replay, see `replay_error`.
NAMES = ("pearson_within", "spearman_within", "pearson_across", "spearman_across", "r2", "slope", "intercept",
         "std_within", "sum_error", "error_played", "error_recent", "error_old")
COLUMNS = tuple(PREFIX + name for name in NAMES)

# The relative difference that rounding may cause between rewards that should be equal: the last five of the 24 bits of
# a float32, and the last ten of a double's 53. One operation causes less, but a reward is often a small difference of
# larger numbers, such as of two positions, or the sum of a layer's terms.
SINGLE, DOUBLE = 2.0 ** -18, 2.0 ** -42
ADDED = 2.0 ** -48      # the same for doubles of unknown origin, such as sums

Numbers = dict[str, float | None]


def diagnose(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray], unit: str = "reward") -> Numbers:
    """Compute the numbers of `NAMES` that follow from whole episodes.

    `pearson_within` and `spearman_within` are means over the episodes in which they are defined, `std_within` the mean
    over the episodes of two steps or more of the standard deviation of the p_t (in the unit of p). The others are of
    the pairs (P, R), one an episode: correlations, and the result of `calibration`. `sum_error` is the mean |P - R|, 0
    where payments add up to the return; `error_played` the mean |mean_t p_t - R/T|, as `replay_error` has it of
    episodes that were learned from.

    Args:
        predicted: the p_t of each episode, (T,); T may differ between episodes, and is at least 1.
        true: the r_t of each episode, (T,), in reward a step.
        unit: of p, see `algorithm.decomposition.base.Decomposition`; in another unit than reward a step, `r2` and
            the two errors are None.
    Raises:
        ValueError: an episode has another number of predictions than of rewards.
    """
    pairs = [(np.asarray(p, np.float64), np.asarray(r, np.float64)) for p, r in zip(predicted, true, strict=True)]
    within = [(leveled(p, rounding_of_steps(p)), leveled(r, rounding_of_steps(r))) for p, r in pairs]
    across = returns([p for p, _ in pairs]), returns([r for _, r in pairs])
    fit = calibration(*across) | errors(pairs)
    return {"pearson_within": mean(pearson(p, r) for p, r in within),
            "spearman_within": mean(spearman(p, r) for p, r in within),
            "pearson_across": pearson(*across), "spearman_across": spearman(*across),
            **(fit if unit == "reward" else fit | dict.fromkeys(("r2", "sum_error", "error_played"))),
            "std_within": mean(float((p - p[0]).std()) for p, _ in pairs if len(p) > 1)}


def errors(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Numbers:
    """`sum_error` and `error_played` of pairs (p, r) of episodes, (T,) each; errors of rounding alone are 0."""
    found = [abs(p.sum() - r.sum()) for p, r in pairs]
    found = [0.0 if error <= rounding_of_sum(p) + rounding_of_sum(r) else float(error)
             for error, (p, r) in zip(found, pairs, strict=True)]
    return {"sum_error": mean(found),
            "error_played": mean(error / len(p) for error, (p, _) in zip(found, pairs, strict=True))}


def by_step(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray], parts: int = 10) -> dict[str, list]:
    """Compare payments by the position of their steps in an episode, divided into so many parts of equal length.

    Returns:
        a number for each part, None where it is not defined: `predicted` and `true`, the mean payment and reward of a
        step in it, and `pearson_so_far`, the correlation over episodes of what has been paid up to its end with what
        has been earned: of a model that reads a sequence, how early it knows.
    """
    pairs = [(np.asarray(p, np.float64), np.asarray(r, np.float64)) for p, r in zip(predicted, true, strict=True)]
    cuts = [np.rint(np.linspace(0, len(p), parts + 1)).astype(int) for p, _ in pairs]
    found: dict[str, list] = {"predicted": [], "true": [], "pearson_so_far": []}
    for i in range(parts):
        spans = [(pair, slice(cut[i], cut[i + 1])) for pair, cut in zip(pairs, cuts, strict=True)]
        for name, which in (("predicted", 0), ("true", 1)):
            found[name].append(mean(x for pair, span in spans for x in pair[which][span]))
        sums = [returns([pair[which][:span.stop] for pair, span in spans]) for which in (0, 1)]
        found["pearson_so_far"].append(pearson(*sums))
    return found


def pearson(x: np.ndarray, y: np.ndarray) -> float | None:
    """The linear correlation of pairs, x and y (N,), in [-1, 1].

    sum (x - mean x)(y - mean y) / sqrt(sum (x - mean x)^2 sum (y - mean y)^2); None where N < 2 or one is constant.

    Raises:
        ValueError: they are not of one length.
    """
    if len(x) != len(y):
        raise ValueError(f"y: got {len(y)} numbers, expected {len(x)}, as many as x has")
    if is_constant(x) or is_constant(y):
        return None
    x, y = unit(x), unit(y)
    return float(np.clip(x @ y, -1, 1))


def spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    """The correlation of ranks: `pearson` of `ranks(x)` and `ranks(y)`, x and y (N,)."""
    return pearson(ranks(x), ranks(y))


def ranks(x: np.ndarray) -> np.ndarray:
    """(N,) -> its ranks from 1 to N, (N,); equal numbers share the mean of theirs: [5, 3, 5] -> [2.5, 1, 2.5]."""
    _, which, counts = np.unique(np.asarray(x, np.float64), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]


def calibration(predicted: np.ndarray, true: np.ndarray) -> Numbers:
    """Compare predicted returns P (N,) with the true ones R (N,).

    `slope` b and `intercept` a are those of the least-squares line R = a + b P, None where the P are all equal or
    N < 2. `r2` = 1 - sum (R - P)^2 / sum (R - mean R)^2, of the predictions as they are, without that line: 1 is
    perfect, 0 no better than the mean, and it may be negative; None where the R are all equal or N < 2. A value
    that overflows a double, for returns that differ by 1e-300, is None as well.
    """
    p, r = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    found: Numbers = {"r2": None, "slope": None, "intercept": None}
    with np.errstate(all="ignore"):
        if not is_constant(r):
            scale = np.abs(r - r.mean()).max()          # or the squares of tiny numbers would be 0
            found["r2"] = 1 - float(np.square((r - p) / scale).sum() / np.square((r - r.mean()) / scale).sum())
        if not is_constant(p):
            scale = np.abs(p - p.mean()).max()
            shares = (p - p.mean()) / scale
            slope = float(shares @ (r - r.mean()) / (shares @ shares) / scale)
            found |= {"slope": slope, "intercept": float(r.mean() - slope * p.mean())}
    return {name: value if value is not None and np.isfinite(value) else None for name, value in found.items()}


def replay_error(held: int, error: Callable[[int], float], most: int = 10) -> Numbers:
    """The error of the predicted mean reward, on the newest episodes of a replay and on its oldest ones.

    Each is mean |mean_t p_t - R/T| over n episodes, in reward a step, R as the agent observed it. n is `most`, or half
    of the episodes held if that is less, so that no episode is both; None where that is 0.

    Args:
        held: how many episodes the replay holds.
        error: the error of one of them, by its number from 0, the oldest, to held - 1.
    """
    count = min(most, held // 2)
    return {"error_recent": mean(error(number) for number in range(held - count, held)),
            "error_old": mean(error(number) for number in range(count))}


def is_constant(x: np.ndarray) -> bool:
    """Whether there is nothing to correlate: fewer than two numbers, or all the same but for a double's last bits."""
    return len(x) < 2 or bool(spread(x) <= ADDED * np.abs(x).max())


def leveled(x: np.ndarray, rounding: float) -> np.ndarray:
    """(N,) as it is, or its mean N times if the numbers are no further apart than `rounding`, in their unit."""
    return np.full(len(x), x.mean()) if len(x) and spread(x) <= rounding else x


def returns(episodes: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of the steps of each episode, N of (T,) -> (N,), all equal if they differ by rounding alone."""
    return leveled(np.array([steps.sum() for steps in episodes]), max(map(rounding_of_sum, episodes), default=0.0))


def rounding_of_steps(x: np.ndarray) -> float:
    """The difference that rounding may cause between equal rewards x (T,) of an episode: u max |x_t|."""
    return unit_of_rounding(x) * float(np.abs(x).max(initial=0))


def rounding_of_sum(x: np.ndarray) -> float:
    """The difference that rounding may cause between equal sums of x (T,): u sqrt(sum x_t^2) + T eps sum |x_t|.

    Each step is rounded independently, so the errors add up as the steps of a random walk do; the second term bounds
    the error of T additions of doubles, eps = 2^-52.
    """
    return float(unit_of_rounding(x) * np.hypot.reduce(x) + len(x) * np.finfo(np.float64).eps * np.abs(x).sum())


def unit_of_rounding(x: np.ndarray) -> float:
    """u of rewards (T,) float64: SINGLE if all are float32 numbers, as float32's computations give, else DOUBLE.

    Whole numbers fit in float32 as well, but they are counts and scores, which are not rounded: DOUBLE.
    """
    with np.errstate(over="ignore"):
        single = np.all(np.float32(x) == x) and not np.all(np.rint(x) == x)
    return SINGLE if single else DOUBLE


def spread(x: np.ndarray) -> float:
    """The greatest less the least of (N,), N at least 1; infinite beyond a double."""
    with np.errstate(over="ignore"):
        return float(np.ptp(np.asarray(x, np.float64)))


def unit(x: np.ndarray) -> np.ndarray:
    """(N,), not constant -> x - mean x, of length 1."""
    x = np.asarray(x, np.float64)
    x = x / np.abs(x).max()                             # or the squares of 1e200 would be infinite
    x = x - x.mean()
    x = x / np.abs(x).max()
    return x / np.sqrt(x @ x)


def mean(values) -> float | None:
    """The mean of those that are not None, None of none."""
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else None
