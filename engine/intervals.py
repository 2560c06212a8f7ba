"""Bootstrap intervals of a mean over users, and of a paired difference."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

CHUNK = 4_000_000  # counts drawn at once: 32 MB


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


def of_mean(values: np.ndarray, samples: int = 1000, confidence: float = 0.95, seed: int = 7) -> Interval:
    """Percentile interval of the mean of one value per user, users drawn with replacement. Efron (1979).

    NaN throughout for no user; seeded, so that the same values in the same order give the same interval.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [
            rng.multinomial(n, np.full(n, 1.0 / n), size) @ values / n
            for size in _sizes(samples, max(1, CHUNK // n))
        ]
    )
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(values.mean()), float(low), float(high), n)


def of_difference(
    ours: np.ndarray, theirs: np.ndarray, samples: int = 1000, confidence: float = 0.95, seed: int = 7
) -> Interval:
    """Interval of the mean of ours - theirs by user. Raises ValueError where the users do not pair."""
    if len(ours) != len(theirs):
        raise ValueError(f"a paired difference needs the same users: {len(ours)} against {len(theirs)}")
    return of_mean(np.asarray(ours) - np.asarray(theirs), samples, confidence, seed)


def _sizes(total: int, most: int) -> list[int]:
    return [most] * (total // most) + ([total % most] if total % most else [])
