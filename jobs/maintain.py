"""maintain.tables: who asked to be forgotten is, lists that were shown long ago go (jobs.retention), files that no version in the retention needs are removed, and small files
become larger ones.

So is what killed steps left in the tables' folders, and what imports that were killed a day ago or longer left
beside landing.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from aisle import lake, ledger
from aisle.errors import DiskFull
from aisle.settings import Settings
from aisle.stages import StepContext
from aisle.tables import TABLES
from jobs.erasing import erase
from jobs.landing import remove_leftovers
from jobs.retention import drop_old

if TYPE_CHECKING:
    from deltalake import DeltaTable

DAY_SECONDS = 86_400
COMPACTED_BYTES = 100 * 2**20  # deltalake leaves larger files as they are


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """VACUUM and OPTIMIZE of every table that there is, without Spark. Returns the number of files removed per table.

    Removing comes first: it makes room. Raises DiskFull where there is not enough to write larger files.
    """
    from deltalake import DeltaTable

    with ledger.writing():
        erased, old = erase(settings), drop_old(settings, context.as_of)
        tables = {name: DeltaTable(lake.table_path(name)) for name in TABLES if lake.exists(name)}
        hours = settings.maintain.retention_hours
        removed = {
            name: len(table.vacuum(retention_hours=hours, dry_run=False, full=True))
            for name, table in tables.items()
        }
        abandoned = remove_leftovers(DAY_SECONDS)
        for name, table in tables.items():
            require_room(name, table)
            table.optimize.compact()
    done = {"removed_files": removed, "abandoned_imports": abandoned, "erased_rows": sum(erased.values())}
    done["dropped_by_age"] = old
    return done if removed else {"skip": "no table yet"}


def require_room(name: str, table: DeltaTable) -> None:
    """Raises DiskFull before the table's small files are written anew, of which a full disk would leave parts."""
    if "://" in lake.table_path(name):
        return
    sizes = table.get_add_actions(flatten=True).column("size_bytes").to_pylist()
    wanted = sum(size for size in sizes if size < COMPACTED_BYTES)
    free = shutil.disk_usage(lake.table_path(name)).free
    if free < wanted:
        raise DiskFull(
            f"{free / 2**20:.0f} MiB are free under {lake.home()}, writing {name} anew may take {wanted / 2**20:.0f} MiB: "
            "free some and repeat; what no version needs is removed already"
        )
