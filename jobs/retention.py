"""maintain, what was shown long ago: lists go from landing and `ops.recommendations`, later their outcomes from `ops.outcomes`.

Days are counted back from the end of the data. A list stays while one of its outcomes is open, however old it is, and while
`features.outcomes` has not taken it in: so every outcome is told, and told once. A landed batch goes before its rows in the table
do: the other way round a step that is killed in between would find it, and take it for a new one.
"""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

from aisle import clock, lake
from aisle.errors import NotThere
from aisle.settings import Settings
from jobs.outcomes import KIND, OUTCOMES, SHOWN, oldest_open


def drop_old(settings: Settings, as_of: datetime | None = None) -> dict[str, int]:
    """Rows removed by table, and batches of landing by `landing`. Repeating it changes nothing."""
    if not lake.exists(SHOWN):
        return {}
    try:
        end = clock.settled(as_of)
    except NotThere:  # no event yet: nothing is old
        return {}
    still_open = oldest_open(end)
    until = end - timedelta(days=settings.maintain.exposure_days)
    until = min(until, still_open) if still_open else until
    return {
        "landing": _from_landing(until),
        SHOWN: _from_table(SHOWN, until),
        OUTCOMES: _from_table(OUTCOMES, min(until, end - timedelta(days=settings.maintain.outcome_days))),
    }


def _from_landing(until: datetime) -> int:
    """Batches that the table has taken in, and of which it holds no newer list: however late they landed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    held = lake.read(SHOWN, columns=["batch_id", "served_at"])
    newest = held.group_by("batch_id").aggregate([("served_at", "max")])
    old = newest.filter(pc.less(newest["served_at_max"], pa.scalar(until, held["served_at"].type)))
    removed = 0
    for name in sorted(filter(None, old["batch_id"].to_pylist())):
        batch = Path(lake.landing(KIND)) / name
        if (batch / "manifest.json").exists():
            (batch / "manifest.json").unlink()  # without it nobody takes the rest for a batch
            shutil.rmtree(batch)
            removed += 1
    return removed


def _from_table(name: str, until: datetime) -> int:
    from deltalake import DeltaTable

    if not lake.exists(name):
        return 0
    moment = f"arrow_cast('{until:%Y-%m-%dT%H:%M:%S.%f}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
    found = DeltaTable(lake.table_path(name)).delete(f"served_at < {moment}")
    return int(found["num_deleted_rows"] or 0)
