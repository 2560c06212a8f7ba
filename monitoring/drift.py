"""Drift (step `monitor.drift`): today's users, items and events against the champion's own training
reference.

Evidently computes and shows one figure per watched column; the verdict is ours, from `snapshot.dict()` and
the settings. Writes `ops.drift`, `reports/drift/<report_id>.json` and `.html`. Tests are effect sizes,
which do not grow with the number of rows as p-values do: population stability index for categories,
Kolmogorov-Smirnov statistic for numbers.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from aisle import clock, lake
from aisle.settings import Monitor, Settings
from aisle.stages import StepContext
from monitoring import reports, watched
from monitoring.figure import LEFT_OUT, Figure
from monitoring.quality import quarantine_rise
from monitoring.watched import Champion

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

KS: Final = "ks_statistic"
PSI: Final = "psi"


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Compares, records and renders; without a champion there is nothing to compare with, and the verdict
    still follows.
    """
    from aisle.registry import CHAMPION, Registry

    registry = Registry(settings)
    found = registry.by_alias(CHAMPION)
    as_of = clock.settled(context.as_of)
    if found is None:
        return _skipped("no champion yet", as_of)
    champion, origin = Champion.of(found), registry.run_of(found)
    if as_of <= champion.as_of:
        seen = f"nothing newer than the data of champion {champion.version} ({champion.as_of:%Y-%m-%d})"
        return _skipped(seen, as_of) | {"champion": champion.version} | origin
    with tempfile.TemporaryDirectory() as room:
        old = watched.reference(registry, champion, Path(room))
    new = watched.current(champion, as_of)
    left, right = watched.beside(old, new, settings.monitor.sample_rows, settings.training.seed)
    figures, snapshot = compare(left, right, settings.monitor)
    figures.append(quarantine_rise(champion.as_of, as_of, settings.monitor))
    name = watched.report_id(champion, as_of)
    _record(name, champion, as_of, figures)
    page = _render(snapshot, name, figures, champion, settings.maintain.keep_reports) if snapshot else None
    reports.refresh(settings)
    return _result(name, champion, as_of, figures, page) | origin


def _skipped(why: str, as_of: datetime) -> dict[str, Any]:
    print(f"drift is not looked at: {why}", file=sys.stderr)
    return {"skip_drift": why, "as_of": as_of.isoformat()}


def compare(old: pd.DataFrame, new: pd.DataFrame, monitor: Monitor) -> tuple[list[Figure], Snapshot | None]:
    """A figure per column of ``watched.beside``; the snapshot of those that could be compared (None where
    none could).
    """
    figures, metrics, thresholds = [], [], {}
    for column in old.columns:
        counts = int(new[column].notna().sum()), int(old[column].notna().sum())
        if min(counts) < monitor.min_rows:
            empty = "empty" if min(counts) == 0 else f"fewer than {monitor.min_rows} values"
            figures.append(
                Figure(column, LEFT_OUT, None, None, False, *counts, why=f"{empty} now or in the reference")
            )
        else:
            thresholds[column] = _threshold(old[column], new[column], monitor)
            metrics.append(column)
    if not metrics:
        return figures, None
    snapshot = _snapshot(old[metrics], new[metrics], thresholds)
    values = _values(snapshot)
    for column in metrics:
        test, threshold = thresholds[column]
        counts = int(new[column].notna().sum()), int(old[column].notna().sum())
        figures.append(Figure(column, test, values[column], threshold, values[column] >= threshold, *counts))
    return figures, snapshot


def _threshold(old: pd.Series, new: pd.Series, monitor: Monitor) -> tuple[str, float]:
    """Test and threshold. PSI of two samples of one distribution is (levels - 1)(1/n + 1/m) on average:
    that much is no drift.

    Yurdakul, Statistical properties of population stability index (2018).
    """
    if old.dtype != object:
        return KS, monitor.ks_threshold
    levels = len(set(old.dropna().unique()) | set(new.dropna().unique()))
    chance = (levels - 1) * (1 / int(old.notna().sum()) + 1 / int(new.notna().sum()))
    return PSI, monitor.psi_threshold + chance


def _snapshot(old: pd.DataFrame, new: pd.DataFrame, thresholds: dict[str, tuple[str, float]]) -> Snapshot:
    """Evidently's run over exactly these columns."""
    os.environ.setdefault("DO_NOT_TRACK", "1")  # Evidently reports its use otherwise
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    _register_ks()
    definition = DataDefinition(
        numerical_columns=[column for column, (test, _) in thresholds.items() if test == KS],
        categorical_columns=[column for column, (test, _) in thresholds.items() if test == PSI],
    )
    metrics = [
        ValueDrift(column=column, method=test, threshold=at) for column, (test, at) in thresholds.items()
    ]
    now, then = (Dataset.from_pandas(frame, data_definition=definition) for frame in (new, old))
    return Report(metrics, include_tests=True).run(now, then)


def _register_ks() -> None:
    """Evidently's own "ks" is a p-value, which says drift of any two large samples: here it is the statistic."""
    from evidently.legacy.calculations.stattests.registry import StatTest, register_stattest
    from evidently.legacy.core import ColumnType
    from scipy.stats import ks_2samp

    def statistic(old: pd.Series, new: pd.Series, kind: ColumnType, threshold: float) -> tuple[float, bool]:
        found = float(ks_2samp(old, new).statistic)
        return found, found >= threshold

    register_stattest(StatTest(KS, "K-S statistic", [ColumnType.Numerical], 0.15), statistic)


def _values(snapshot: Snapshot) -> dict[str, float]:
    return {each["config"]["column"]: float(each["value"]) for each in snapshot.dict()["metrics"]}


def _record(name: str, champion: Champion, as_of: datetime, figures: list[Figure]) -> None:
    """Appended once: a step that is repeated on the same data finds its report."""
    if lake.exists("ops.drift") and lake.read("ops.drift", filters=[("report_id", "==", name)]).num_rows:
        return
    origin = {"report_id": name, "as_of": as_of, "champion": champion.version}
    lake.append("ops.drift", [origin | _row(figure) for figure in figures])


def _row(figure: Figure) -> dict[str, Any]:
    return {name: value for name, value in asdict(figure).items() if name != "why"}


def _render(snapshot: Snapshot, name: str, figures: list[Figure], champion: Champion, keep: int) -> Path:
    """The JSON and the HTML of one report; only the newest `keep` (at least this one) stay."""
    folder = reports.folder() / "drift"
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{name}.html"
    told = {"report_id": name, "champion": asdict(champion), "figures": [asdict(each) for each in figures]}
    page.with_suffix(".json").write_text(json.dumps(told | {"evidently": snapshot.dict()}, default=str))
    snapshot.save_html(str(page))
    for old in sorted(folder.glob("*.html"))[: -max(keep, 1)]:
        old.unlink()
        old.with_suffix(".json").unlink(missing_ok=True)
    return page


def _result(
    name: str, champion: Champion, as_of: datetime, figures: list[Figure], page: Path | None
) -> dict[str, Any]:
    compared = [each for each in figures if each.test in (KS, PSI)]
    drifted = [each.column for each in compared if each.drifted]
    return {
        "report_id": name,
        "as_of": as_of.isoformat(),
        "champion": champion.version,
        "columns": len(compared),
        "drifted": drifted,
        "share": round(len(drifted) / len(compared), 3) if compared else 0.0,
        "left_out": {each.column: each.why for each in figures if each.test == LEFT_OUT},
        "html": str(page.relative_to(lake.home())) if page else None,
    }
