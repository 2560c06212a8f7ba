"""Paired bootstrap over users: how far a difference of two means could be chance.

Users are drawn with replacement, both models' values of a user together, so that what the two have in
common (an easy or a hard user) cancels. Percentile intervals. Efron and Tibshirani, An Introduction to the
Bootstrap (1993), ch. 13.
"""

from __future__ import annotations

import numpy as np

CHUNK = 4_000_000  # draws held at once: 32 MB


def resampled_means(values: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """(samples, m) means of (n, m) values, each over n rows drawn with replacement; one draw for all m
    columns.
    """
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


def relative(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """new / old - 1. Where old is 0 there is no ratio: 1 (all of it is gain) if new is above 0, else 0.

    >>> relative(np.array([3.0, 0.0, 1.0]), np.array([2.0, 0.0, 0.0])).tolist()
    [0.5, 0.0, 1.0]
    """
    return np.where(old > 0, new / np.where(old > 0, old, 1.0) - 1.0, np.sign(new))


def bounds(resampled: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper percentile bounds of each column."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail], axis=0)
    return low, high


def least_differing(confidence: float) -> int:
    """The fewest differing users that could prove anything: below it even a sign test that all agree on
    is chance.

    >>> least_differing(0.95)
    6
    """
    return int(np.ceil(np.log2(2.0 / (1.0 - confidence))))
