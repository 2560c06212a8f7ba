"""Bootstrap over users: how far a mean, or a paired difference of two, could be chance.

Users are drawn with replacement, all values of a user together, so that what two models have in common (an easy or a
hard user) cancels. Percentile intervals. Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

CHUNK = 4_000_000  # draws held at once: 32 MB


@dataclass(frozen=True)
class Interval:
    """A mean over n users with its percentile interval."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def above_zero(self) -> bool:
        return self.low > 0

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def resampled_means(values: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """(samples, m) means of (n, m) values, each over n rows drawn with replacement; one draw for all m columns."""
    rng = np.random.default_rng(seed)
    n = len(values)
    step = max(1, CHUNK // n)
    means = np.empty((samples, values.shape[1]))
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        drawn = rng.integers(n, size=(rows, n)) + np.arange(rows)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        means[start : start + rows] = counts @ values / n
    return means


def bounds(resampled: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper percentile bounds of each column."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail], axis=0)
    return low, high


def of_mean(values: np.ndarray, samples: int = 1000, confidence: float = 0.95, seed: int = 7) -> Interval:
    """Interval of the mean of one value per user.

    NaN throughout for no user; seeded, so that the same values in the same order give the same interval.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    low, high = bounds(resampled_means(values[:, None], samples, seed), confidence)
    return Interval(float(values.mean()), float(low[0]), float(high[0]), len(values))


def of_difference(
    ours: np.ndarray, theirs: np.ndarray, samples: int = 1000, confidence: float = 0.95, seed: int = 7
) -> Interval:
    """Interval of the mean of ours - theirs by user. Raises ValueError where the users do not pair."""
    if len(ours) != len(theirs):
        raise ValueError(f"a paired difference needs the same users: {len(ours)} against {len(theirs)}")
    return of_mean(np.asarray(ours) - np.asarray(theirs), samples, confidence, seed)
