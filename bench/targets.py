"""What is asked of the engine, and how far it gets: the figures of bench.quality, by set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.engine_run import ALONE, OURS
from bench.report import Figure

TIMES_BEST_PEER = {"all": 1.10, "new": 1.45}  # NDCG@20, Online Retail
TARGETS = {  # set, column, metric
    ("online_retail", "all", "ndcg@20"): 0.383,
    ("online_retail", "new", "ndcg@20"): 0.148,
    ("gowalla", "new", "recall@20"): 0.1920,
    ("amazon_cds", "new", "recall@20"): 0.1622,
    ("beauty", "new", "ndcg@10"): 0.0523,
    ("sports", "new", "ndcg@10"): 0.0323,
    ("toys", "new", "ndcg@10"): 0.0538,
}
MOST_SECONDS, MOST_MIB = 20 * 60, 8 * 1024
TIMES_COVERAGE = 2.0  # of ALS's
COVERAGE = "coverage@20"
MAIN_SECONDS, QUICK_SECONDS = 3 * 3600, 8 * 60
OVER_PEER = "over the best peer"
Rows = list[dict[str, Any]]


def figures_of(name: str, rows: Rows, part: Mapping[str, Any] | None = None) -> dict[str, Figure]:
    """What bench.report prints: the engine against its targets. part: what else was measured of the set, see bench.quality.run."""
    found: dict[str, Figure] = {}
    ran = [row for row in rows if not row.get("published")]
    ours = {(row["column"], row["metric"]): row for row in ran if row["model"] == OURS}
    peers = [row for row in ran if OURS not in row["model"] and not row["model"].endswith(ALONE)]
    for (column, metric), row in ours.items():
        rivals = {p["model"]: p["mean"] for p in peers if (p["column"], p["metric"]) == (column, metric)}
        label = f"{name}, {column} {metric}"
        if metric == COVERAGE:
            asked = TIMES_COVERAGE * rivals.get("implicit ALS", np.nan)
            # Where ALS lists most of a small catalogue, nobody can list twice as much.
            found[label] = Figure(row["mean"], "", target=asked if asked <= 1 else None)
            continue
        found[label] = Figure(row["mean"], "", target=TARGETS.get((name, column, metric)))
        if rivals:
            least = TIMES_BEST_PEER[column] if name == "online_retail" and metric == "ndcg@20" else None
            found[f"{label} {OVER_PEER}"] = Figure(row["mean"] / max(rivals.values()), "x", target=least)
    if ours:
        row = next(iter(ours.values()))
        found[f"{name}, seconds to train"] = Figure(row["seconds"], "s", "<=", MOST_SECONDS)
        found[f"{name}, peak memory"] = Figure(row["peak_mib"], "MiB", "<=", MOST_MIB)
    return found | _of_run(name, part or {})


def _of_run(name: str, part: Mapping[str, Any]) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    if part.get("seconds_from_nothing"):
        found[f"{name}, whole run from nothing"] = Figure(part["seconds_from_nothing"], "s", "<=")
    if sizes := part.get("sizes"):
        least, most = (sum(each[key] for each in sizes.values()) for key in ("bytes", "rule"))
        found[f"{name}, bytes over the sizing rule"] = Figure(least / most, "x", "<=", 1.0)
    return found


def of_main(sets: Mapping[str, Mapping[str, Any]], main: tuple[str, ...]) -> dict[str, Figure]:
    """The main sets together, where each has said how long it takes from nothing."""
    seconds = [sets.get(name, {}).get("seconds_from_nothing") for name in main]
    if not all(seconds):
        return {}
    return {"main sets, whole run from nothing": Figure(sum(filter(None, seconds)), "s", "<=", MAIN_SECONDS)}
