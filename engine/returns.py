"""Purchases that were sent back: whoever returns a thing has not bought it again."""

from __future__ import annotations

import numpy as np

UNITS = 1e-6  # of a unit: what sums of fractions leave over


def sent_back(
    pair: np.ndarray, time: np.ndarray, bought: np.ndarray, back: np.ndarray, quantity: np.ndarray
) -> np.ndarray:
    """(n,) bool: purchases of which no unit was kept. A return takes units off the newest purchase before it, then older ones.

    pair: int64, one number a user and item. time: epoch seconds; of one moment, purchases come first. bought, back: (n,) bool,
    which events are purchases and returns. quantity: units of either, above zero.

    With the units in hand summed over a pair's events in order, a purchase is gone once the sum is again what it was before it.
    Returns of what was never bought here move that level, and nothing else.

    >>> of_one = np.zeros(4, np.int64), np.arange(4.0)
    >>> bought, back = np.array([True, True, False, False]), np.array([False, False, True, True])
    >>> sent_back(*of_one, bought, back, np.array([2.0, 6.0, 6.0, 1.0])).tolist()
    [False, True, False, False]
    """
    found = np.zeros(len(pair), bool)
    rows = np.flatnonzero((bought | back) & np.isin(pair, pair[back]))
    if not len(rows):
        return found
    rows = rows[np.lexsort((back[rows], time[rows], pair[rows]))]
    change = np.where(back[rows], -quantity[rows], quantity[rows])
    # Each pair stands so far above the one before it that the least of what follows is its own.
    step = 2 * np.abs(change).sum() + 1
    level = np.cumsum(change) + step * (np.cumsum(np.diff(pair[rows], prepend=pair[rows[0]]) != 0))
    least = np.minimum.accumulate(level[::-1])[::-1]
    found[rows] = bought[rows] & (least <= level - change + UNITS)
    return found
