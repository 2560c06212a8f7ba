"""maintain.tables: small files become larger ones, and files that no version in the retention needs are removed."""

from __future__ import annotations

from typing import Any

from aisle import lake
from aisle.settings import Settings
from aisle.stages import StepContext
from aisle.tables import TABLES


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """OPTIMIZE and VACUUM of every table that there is, without Spark. Returns the number of files removed per table."""
    from deltalake import DeltaTable

    removed = {}
    for name in TABLES:
        if not lake.exists(name):
            continue
        table = DeltaTable(lake.table_path(name))
        table.optimize.compact()
        removed[name] = len(table.vacuum(retention_hours=settings.maintain.retention_hours, dry_run=False))
    return {"removed_files": removed} if removed else {"skip": "no table yet"}
