"""`make bench-quality [SET=…]`: the engine beside tuned peers and published figures, full ranking, on fixed protocols.

One table, one plot and one part of bench/results/quality.json a set; parts of earlier runs are kept. What took time is kept in
.aisle-bench/quality, so that a killed run goes on. `make bench-quality-quick`: Online Retail, seconds of tuning.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import Any

from rich.table import Table

from aisle import settings
from aisle.terminal import screen
from bench import engine_run, plots, protocols
from bench.contest import Contest
from bench.judging import summary
from bench.protocols import Protocol
from bench.published import MARK, of_set
from bench.report import RESULTS, Figure, publish, with_earlier

QUICK_MINUTES = 0.15
TIMES_BEST_PEER = {"all": 1.10, "new": 1.45}  # NDCG@20, Online Retail
TARGETS = {  # set, column, metric: what the issue asks of the engine
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


def run(name: str, minutes: float, with_engine: bool = True, quick: bool = False) -> dict[str, Any]:
    """quick: without the sequence model, whose training takes minutes. Returns rows (model, column, metric, mean, low, high, seconds, …), notes and the tuned configurations of one set. Raises NotHere."""
    protocol = protocols.load(name)
    contest = Contest(protocol, minutes)
    rows, notes, tuned = [], [], {}
    for entry in contest.all():
        if entry.why:
            notes.append(f"{entry.name}: {entry.why}")
        if entry.published:
            rows += _published(protocol, f"{entry.name} {MARK}", entry.published.figures)
        for column, listed in entry.lists.items():
            own = entry.measured["columns"][column]
            told = {
                "seconds": own["seconds"],
                "us_per_list": own["us_per_list"],
                "peak_mib": entry.measured["peak_mib"],
            }
            rows += [
                {"model": entry.name, **row, **told}
                for row in summary(contest.test, {column: listed}, protocol.metrics)
            ]
        if entry.lists:
            tuned[entry.name] = {column: own["config"] for column, own in entry.measured["columns"].items()}
    shares: dict[str, float] = {}
    if with_engine:
        try:
            found = engine_run.run(protocol, settings.load() if quick else engine_run.everything())
            shares = found.shares
            for model, lists in found.lists.items():
                told = {
                    "seconds": found.seconds,
                    "us_per_list": found.us_per_list[model],
                    "peak_mib": found.peak_mib,
                }
                rows += [
                    {"model": model, **row, **told} for row in summary(contest.test, lists, protocol.metrics)
                ]
        except subprocess.CalledProcessError as error:
            notes.append(f"the engine failed: {error}")
    for each in of_set(name):
        rows += _published(protocol, f"{each.model} {MARK} ({each.source})", each.figures)
    return {"rows": rows, "notes": notes, "tuned": tuned, "minutes": minutes, "shares_of_fit": shares}


def _published(protocol: Protocol, model: str, figures: dict[str, float]) -> list[dict[str, Any]]:
    column = protocol.columns[-1]
    return [
        {
            "model": model,
            "column": column,
            "metric": metric,
            "mean": value,
            "seconds": None,
            "published": True,
        }
        for metric, value in figures.items()
    ]


def figures_of(name: str, rows: list[dict[str, Any]]) -> dict[str, Figure]:
    """What bench.report prints: the engine against the issue's targets."""
    found: dict[str, Figure] = {}
    ran = [row for row in rows if not row.get("published")]
    ours = {(row["column"], row["metric"]): row for row in ran if row["model"] == engine_run.OURS}
    peers = [row for row in ran if "aisle" not in row["model"] and " alone" not in row["model"]]
    for (column, metric), row in ours.items():
        rivals = [each["mean"] for each in peers if (each["column"], each["metric"]) == (column, metric)]
        label = f"{name}, {column} {metric}"
        if metric == "coverage@20":
            als = next(
                (
                    p["mean"]
                    for p in peers
                    if p["model"] == "implicit ALS" and (p["column"], p["metric"]) == (column, metric)
                ),
                None,
            )
            found[label] = Figure(row["mean"], "", target=als and TIMES_COVERAGE * als)
            continue
        found[label] = Figure(row["mean"], "", target=TARGETS.get((name, column, metric)))
        if rivals:
            least = TIMES_BEST_PEER[column] if name == "online_retail" and metric == "ndcg@20" else None
            found[f"{label} over the best peer"] = Figure(row["mean"] / max(rivals), "x", target=least)
    if ours:
        row = next(iter(ours.values()))
        found[f"{name}, seconds to train"] = Figure(row["seconds"], "s", "<=", MOST_SECONDS)
        found[f"{name}, peak memory"] = Figure(row["peak_mib"], "MiB", "<=", MOST_MIB)
    return found


def show(name: str, found: dict[str, Any], protocol_columns: list[str], metrics: list[str]) -> None:
    for column in protocol_columns:
        rows = [row for row in found["rows"] if row["column"] == column]
        table = Table(
            title=f"{name}, {'all items' if column == 'all' else 'items new to the user'}",
            title_justify="left",
        )
        for head in ("model", *metrics, "coverage@20", "train s", "peak MiB", "µs/list"):
            table.add_column(head, justify="left" if head == "model" else "right")
        for model in dict.fromkeys(row["model"] for row in rows):
            mine = {row["metric"]: row for row in rows if row["model"] == model}
            first = next(iter(mine.values()))
            cells = [_cell(mine.get(metric)) for metric in (*metrics, "coverage@20")]
            told = [_number(first.get(key)) for key in ("seconds", "peak_mib", "us_per_list")]
            table.add_row(model, *cells, *told)
        screen().print(table)
    for note in [f"{MARK} published, not run here", *found["notes"]]:
        screen().print(note)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    if "low" not in row:
        return f"{row['mean']:.4f}"
    return f"{row['mean']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--set", default="", help=f"one or more of {', '.join(protocols.SETS)}, all, or main (default)"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="of tuning, the same for each peer")
    parser.add_argument(
        "--quick", action="store_true", help="Online Retail alone, seconds of tuning; writes nothing"
    )
    parser.add_argument("--peers-only", action="store_true", help="fills the cache; writes nothing")
    asked = parser.parse_args()
    chosen = {"": protocols.MAIN, "main": protocols.MAIN, "all": protocols.SETS}.get(
        asked.set, asked.set.replace(",", " ").split()
    )
    unknown = sorted(set(chosen) - set(protocols.SETS))
    if unknown:
        parser.error(f"no set {', '.join(unknown)}; there are {', '.join(protocols.SETS)}")
    if asked.quick:
        chosen, asked.minutes = ("online_retail",), QUICK_MINUTES
    found: dict[str, dict[str, Any]] = {}
    for name in chosen:
        started = time.monotonic()
        try:
            found[name] = run(name, asked.minutes, not asked.peers_only, asked.quick)
        except protocols.NotHere as why:
            print(why, file=sys.stderr)
            continue
        rows = found[name]["rows"]
        columns = [each for each in ("all", "new") if any(row["column"] == each for row in rows)]
        metrics = [each for each in dict.fromkeys(row["metric"] for row in rows) if each != "coverage@20"]
        show(name, found[name], columns, metrics)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        if not (asked.quick or asked.peers_only):
            plots.quality_against_time(rows, columns, metrics[0], RESULTS / f"quality_{name}.png")
    if found and not (asked.quick or asked.peers_only):
        whole = with_earlier("quality", found)
        figures = {
            label: each
            for name, part in whole.items()
            for label, each in figures_of(name, part["rows"]).items()
        }
        publish("quality", figures, {"sets": whole})


if __name__ == "__main__":
    main()
