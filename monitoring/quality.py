"""Data quality over time, from the ingest ledger: is more quarantined now than in the data that the champion
learned from?
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import pandas as pd

from aisle import lake
from aisle.settings import Monitor
from monitoring.figure import LEFT_OUT, Figure

COLUMN: Final = "ingest.quarantined"
RISE: Final = "rise of the share"


def quarantine_rise(since: datetime, until: datetime, monitor: Monitor) -> Figure:
    """Share of quarantined event rows in batches whose newest event lies in [since, until), less that of the
    batches before.
    """
    ledger = _batches()
    moment = ledger["newest_event"]
    now, before = ledger[moment.ge(since) & moment.lt(until)], ledger[moment.lt(since)]
    counts = int(now["rows_in"].sum()), int(before["rows_in"].sum())
    if min(counts) < monitor.min_rows:
        return Figure(
            COLUMN,
            LEFT_OUT,
            None,
            None,
            False,
            *counts,
            why=f"fewer than {monitor.min_rows} rows in the ledger",
        )
    rise = float(now["quarantined"].sum() / counts[0] - before["quarantined"].sum() / counts[1])
    return Figure(COLUMN, RISE, rise, monitor.quarantine_rise, rise > monitor.quarantine_rise, *counts)


def _batches() -> pd.DataFrame:
    """The newest ledger row of every batch of events that reached silver."""
    columns = ["batch_id", "kind", "rows_in", "quarantined", "newest_event", "recorded_at"]
    if not lake.exists("ops.batches"):
        return pd.DataFrame(
            {
                name: pd.Series(dtype="datetime64[us, UTC]" if name == "newest_event" else float)
                for name in columns
            }
        )
    rows = lake.read_frame("ops.batches", columns=columns, filters=[("kind", "==", "events")])
    newest = rows.sort_values("recorded_at").drop_duplicates("batch_id", keep="last")
    return newest[newest["newest_event"].notna()]
