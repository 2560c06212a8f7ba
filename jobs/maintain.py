"""maintain.tables: small files become larger ones, and files that no version in the retention needs are removed.

So is what imports that were killed a day ago or longer left beside landing.
"""

from __future__ import annotations

from typing import Any

from aisle import lake
from aisle.settings import Settings
from aisle.stages import StepContext
from aisle.tables import TABLES
from jobs.landing import remove_leftovers

DAY_SECONDS = 86_400


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
    abandoned = remove_leftovers(DAY_SECONDS)
    return {"removed_files": removed, "abandoned_imports": abandoned} if removed else {"skip": "no table yet"}
