"""What an import says of its ratings: where they lie on the shop's scale, and what they will count as.

A file whose stars are of another scale than the settings' would be refused later, or be nothing but dislikes: whoever imports it
is told at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from aisle.columns import RATING, SET_ASIDE
from aisle.ratings import Bounds
from aisle.settings import Ingest
from jobs.mapping import quoted, scanned

WAY_OUT = "set ingest.min_rating and ingest.max_rating, or map the values onto the scale (docs/importing.md)"


def told(rows: Path, limits: Ingest) -> dict[str, Any] | None:
    """{rows, least, most, low, fair, good, beyond, scale} of a landed batch's readable ratings; None where there are none."""
    bounds, low, high = Bounds.of(limits), limits.min_rating, limits.max_rating
    found = duckdb.execute(
        "SELECT count(*), min(v), max(v), count(*) FILTER (v <= $low), count(*) FILTER (v >= $good), "
        "count(*) FILTER (v < $least OR v > $most) FROM (SELECT try_cast(value AS DOUBLE) AS v "
        f"FROM read_parquet({scanned(rows)}, hive_partitioning = false) WHERE event_type = {quoted(RATING)} "
        f"AND {SET_ASIDE} IS NULL) WHERE isfinite(v)",
        {"low": bounds.low, "good": bounds.good, "least": low, "most": high},
    ).fetchone()
    if not found or not found[0]:
        return None
    count, least, most, lows, goods, beyond = found
    kinds = {"low": lows, "fair": count - lows - goods, "good": goods}
    return {"rows": count, "least": least, "most": most, **kinds, "beyond": beyond, "scale": [low, high]}


def words(said: dict[str, Any]) -> str:
    """One line of the report.

    >>> said = {"rows": 8, "least": 1.0, "most": 5.0, "low": 2, "fair": 1, "good": 5, "beyond": 0, "scale": [0, 5]}
    >>> print(words(said))
      ratings           8  from 1 to 5 on the scale of 0 to 5: 25 % low, 12 % fair, 62 % good
    """
    shares = ", ".join(
        f"{said[kind] / said['rows']:.0%} {kind}".replace("%", " %") for kind in ("low", "fair", "good")
    )
    low, high = said["scale"]
    line = f"  ratings   {said['rows']:>9,}  from {said['least']:g} to {said['most']:g} on the scale of {low:g} to {high:g}"
    if said["beyond"]:
        return f"{line}: {said['beyond']:,} lie beyond it and will be quarantined; {WAY_OUT}"
    return f"{line}: {shares}" + ("" if said["good"] else f"; if they are of another scale, {WAY_OUT}")
