"""What failed writes leave in the folders of tables, and maintain. Real Delta tables, without Spark."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable

from aisle import lake
from aisle.errors import DiskFull
from aisle.settings import Settings
from aisle.stages import StepContext
from jobs import leftovers, maintain

TABLE = "bronze.events"


def orphan(name: str) -> Path:
    path = Path(lake.table_path(TABLE)) / name
    path.write_bytes(b"half a file")
    return path


def fail(fault: Exception) -> Path:
    """A step that commits a batch and fails at the next; the part file of that one."""

    def step() -> None:
        with leftovers.removed_when_full():
            lake.append(TABLE, [{"batch_id": "b2"}])
            orphan("part-of-this-write.parquet")
            raise fault

    with pytest.raises(type(fault)):
        step()
    return Path(lake.table_path(TABLE)) / "part-of-this-write.parquet"


def named() -> list[Path]:
    return [Path(uri.removeprefix("file://")) for uri in DeltaTable(lake.table_path(TABLE)).file_uris()]


def test_a_full_disk_leaves_no_parts_and_takes_no_data(aisle_home: Path) -> None:
    lake.append(TABLE, [{"batch_id": "b1"}])
    older = orphan("part-of-another-write.parquet")
    os.utime(older, (time.time() - 60,) * 2)
    part = fail(OSError(errno.ENOSPC, "No space left on device"))
    assert not part.exists()
    assert older.exists(), "a Spark server may still write it"
    assert sorted(lake.read(TABLE)["batch_id"].to_pylist()) == ["b1", "b2"]


def test_another_fault_removes_nothing(aisle_home: Path) -> None:
    lake.append(TABLE, [{"batch_id": "b1"}])
    assert fail(ValueError("connection lost")).exists()


def test_maintain_removes_old_parts_and_keeps_young_ones(settings: Settings) -> None:
    for batch in ("b1", "b2"):
        lake.append(TABLE, [{"batch_id": batch}])
    old, young = orphan("part-old.parquet"), orphan("part-young.parquet")
    os.utime(old, (time.time() - 8 * 86_400,) * 2)
    done = maintain.run(settings, StepContext())
    assert done["removed_files"] == {TABLE: 1}
    assert (old.exists(), young.exists()) == (False, True)
    assert len(named()) == 1, "two small files became one"


def test_maintain_does_not_write_where_there_is_no_room(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch in ("b1", "b2"):
        lake.append(TABLE, [{"batch_id": batch}])
    usage = shutil.disk_usage(lake.home())._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskFull, match="free some and repeat"):
        maintain.run(settings, StepContext())
    assert len(named()) == 2
