"""The monitor's verdict (step `monitor.verdict`): is a retrain due? Reads `ops.drift` and the registry;
records its reasons.

Asks when there is no champion, when the data is `monitor.retrain_after_days` newer than the champion's, or
when more than `monitor.max_drifted_share` of the watched columns drifted. It does not ask again for data
that a version was already trained and judged on: the same data would give the same answer. A risen
quarantine rate asks for a look at the feed, not for a model that has learned from it.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any, Final

import pandas as pd

from aisle import clock, decisions, lake
from aisle.settings import Monitor, Settings
from aisle.stages import StepContext
from monitoring import reports
from monitoring.figure import LEFT_OUT
from monitoring.quality import COLUMN as QUARANTINED
from monitoring.watched import Champion, report_id

RETRAIN, WAIT = "retrain", "wait"
NO_CHAMPION: Final = "no champion yet: the first model is due"


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """{"retrain": bool, "reasons", "warnings", "as_of", "decision_id"} and, where `monitor.drift` made one, its
    "report_id"; the same data and champion give the same record.
    """
    from aisle.registry import CHAMPION, Registry

    found = Registry(settings).by_alias(CHAMPION)
    as_of = clock.settled(context.as_of)
    champion = Champion.of(found) if found else None
    drift = _drift(champion, as_of) if champion else pd.DataFrame()
    reasons = _reasons(champion, as_of, drift, settings.monitor)
    held = _already_judged(champion, as_of) if reasons else ""
    warnings = _warnings(drift)
    body = {
        "reasons": reasons,
        "held_back": held,
        "warnings": warnings,
        "settings": settings.monitor.model_dump(),
    }
    body |= {"drifted": sorted(drift.loc[drift["drifted"], "column"]) if len(drift) else []}
    body |= {
        "data_versions": {
            name: lake.version(name) for name in ("silver.interactions", "gold.user_stats", "gold.item_stats")
        }
    }
    verdict = RETRAIN if reasons and not held else WAIT
    named = champion.version if champion else None
    decision_id = decisions.record(settings, "retrain", verdict, None, named, as_of, "monitor", body)
    reports.refresh(settings)
    print(
        f"{verdict}: {'; '.join([*reasons, *filter(None, [held]), *warnings]) or 'nothing is due'}",
        file=sys.stderr,
    )
    return {
        "retrain": verdict == RETRAIN,
        "reasons": reasons if verdict == RETRAIN else [*filter(None, [held])],
        "warnings": warnings,
        "as_of": as_of.isoformat(),
        "decision_id": decision_id,
        **_report(context),
    }


def _report(context: StepContext) -> dict[str, str]:
    told = (context.params.get("upstream") or {}).get("monitor.drift", {}).get("report_id")
    return {"report_id": told} if told else {}


def _drift(champion: Champion, as_of: datetime) -> pd.DataFrame:
    """Rows of the report on this state of the data, without the columns that were left out; empty where none
    was made.
    """
    if not lake.exists("ops.drift"):
        return pd.DataFrame()
    rows = lake.read_frame("ops.drift", filters=[("report_id", "==", report_id(champion, as_of))])
    return rows[rows["test"].ne(LEFT_OUT)]


def _reasons(champion: Champion | None, as_of: datetime, drift: pd.DataFrame, monitor: Monitor) -> list[str]:
    """Why a retrain is due, each in a sentence with its figures."""
    if champion is None:
        return [NO_CHAMPION]
    found = []
    days = (as_of - champion.as_of).days
    if days >= monitor.retrain_after_days:
        found.append(
            f"the data is {days} days newer than that of champion {champion.version}; "
            f"{monitor.retrain_after_days} are allowed"
        )
    columns = drift[drift["column"].ne(QUARANTINED)] if len(drift) else drift
    share = float(columns["drifted"].mean()) if len(columns) else 0.0
    if share > monitor.max_drifted_share:
        names = ", ".join(sorted(columns.loc[columns["drifted"], "column"]))
        found.append(
            f"{share:.0%} of {len(columns)} watched columns drifted ({names}); "
            f"{monitor.max_drifted_share:.0%} are allowed"
        )
    return found


def _already_judged(champion: Champion | None, as_of: datetime) -> str:
    """The gate's last word on a version trained on data up to here, where it left the same champion; '' where
    there is none.
    """
    named = champion.version if champion else ""
    for record in decisions.everything("gate"):
        if record["as_of"] and clock.parse(record["as_of"]) >= as_of and record["champion"] == named:
            until = f"{clock.parse(record['as_of']):%Y-%m-%d}"
            return (
                f"version {record['challenger']}, trained on the data up to {until}, was {record['verdict']} "
                f"(decision {record['decision_id']}); waiting for newer data"
            )
    return ""


def _warnings(drift: pd.DataFrame) -> list[str]:
    rows = drift[drift["column"].eq(QUARANTINED) & drift["drifted"]] if len(drift) else drift
    return [
        f"the share of quarantined rows rose by {row.value:.1%} over that of the champion's data; "
        f"{row.threshold:.1%} is allowed: see the data docs"
        for row in rows.itertuples()
    ]
