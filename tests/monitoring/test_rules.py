"""What a rule says of an interval, in words."""

from __future__ import annotations

import pytest

from monitoring.comparison import Cell
from monitoring.rules import FAILED, PASSED, _harm


def cell(low: float, high: float) -> Cell:
    means = dict.fromkeys(("mean", "mean_low", "mean_high", "other_mean", "other_low", "other_high"), 0.3)
    whole = {"other": "champion:1", "column": "all", "slice": "all", "metric": "ndcg@10"}
    counts = {"users": 500, "differing": 90}
    return Cell(**whole, **counts, **means, difference=(low + high) / 2, low=low, high=high)


@pytest.mark.parametrize(
    ("low", "high", "verdict", "said"),
    [
        (0.01, 0.05, PASSED, "a proven gain"),
        (-0.01, 0.05, PASSED, "within the margin: the whole interval lies above -2.0%"),
        (-0.015, -0.005, PASSED, "within the margin: the whole interval lies above -2.0%"),
        (-0.05, 0.05, PASSED, "no harm beyond the margin is proven"),
        (-0.05, -0.015, PASSED, "no harm beyond the margin is proven"),
        (-0.05, -0.03, FAILED, "proven harm: the whole interval lies below -2.0%"),
    ],
)
def test_a_guard_says_what_its_interval_proves(low: float, high: float, verdict: str, said: str) -> None:
    judged = _harm("new_to_user", cell(low, high), 0.02)
    assert judged.verdict == verdict
    assert judged.sentence.endswith(f"; {said}")
