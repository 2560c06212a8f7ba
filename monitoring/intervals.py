"""What the gate makes of the bootstrap (`engine.intervals`): relative differences, and how many users could prove one."""

from __future__ import annotations

import numpy as np


def relative(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """new / old - 1. Where old is 0 there is no ratio: 1 (all of it is gain) if new is above 0, else 0.

    >>> relative(np.array([3.0, 0.0, 1.0]), np.array([2.0, 0.0, 0.0])).tolist()
    [0.5, 0.0, 1.0]
    """
    return np.where(old > 0, new / np.where(old > 0, old, 1.0) - 1.0, np.sign(new))


def least_differing(confidence: float) -> int:
    """The fewest differing users that could prove anything: below it even a sign test that all agree on
    is chance.

    >>> least_differing(0.95)
    6
    """
    return int(np.ceil(np.log2(2.0 / (1.0 - confidence))))
