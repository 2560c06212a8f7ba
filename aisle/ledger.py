"""The ingest ledger (ops.batches): what became of every landed batch. Without Spark, in a fraction of a second.

A batch is landed -> 'bronze' (received, row rules applied) -> 'checked' or 'rejected' -> 'silver' (done). Each step adds a
row with all counts known by then; the newest row of a batch counts. A step that was killed before its row is repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aisle import lake
from aisle.columns import BATCH_ID, KINDS
from aisle.errors import RaceLost
from aisle.tables import TABLES

BRONZE, CHECKED, REJECTED, SILVER = "bronze", "checked", "rejected", "silver"
LOCK_SECONDS = 1800


def latest() -> dict[str, dict[str, Any]]:
    """batch_id -> its newest ledger row, oldest decision first. `reasons` is a dict: {"quarantined": {}, "set_aside": {}}."""
    if not lake.exists("ops.batches"):
        return {}
    rows = sorted(lake.read("ops.batches").to_pylist(), key=lambda row: row["recorded_at"])
    return {row[BATCH_ID]: {**row, "reasons": json.loads(row["reasons"] or "{}")} for row in rows}


def record(rows: Iterable[dict[str, Any]], run_id: str) -> None:
    """Adds ledger rows. The time of writing only orders the rows of one batch."""
    now = datetime.now(UTC)
    known = TABLES["ops.batches"].columns
    written = [
        {name: {**row, "run_id": run_id, "recorded_at": now}.get(name) for name in known}
        | {"reasons": json.dumps(row.get("reasons") or {}, ensure_ascii=False, sort_keys=True)}
        for row in rows
    ]
    if written:
        lake.append("ops.batches", written)


def with_status(*statuses: str) -> list[dict[str, Any]]:
    """Newest rows of the batches in one of these states."""
    return [row for row in latest().values() if row["status"] in statuses]


def landed() -> list[tuple[str, str]]:
    """(kind, batch_id) of every batch in landing: the folders with a manifest, in which nothing is read."""
    return [(kind, each.name) for kind, each in _folders() if (each / "manifest.json").exists()]


def strays() -> list[Path]:
    """What else lies among the landed batches, put there by no import. It is left alone."""
    return [each for _, each in _folders() if not (each / "manifest.json").exists()]


def _folders() -> list[tuple[str, Path]]:
    places = [(kind, lake.landing(kind)) for kind in KINDS]
    found = [(kind, each) for kind, place in places if place.is_dir() for each in sorted(place.iterdir())]
    return [(kind, each) for kind, each in found if not each.name.startswith(".")]


def manifest(kind: str, batch_id: str) -> dict[str, Any]:
    """What the import wrote of a batch; empty where it came by another way (a stream)."""
    path = Path(lake.landing(kind)) / batch_id / "manifest.json"
    return json.loads(path.read_text()) if path.exists() else {}


@contextmanager
def writing() -> Iterator[None]:
    """One ingest step at a time on this machine: bronze has one writer, silver one MERGE. A killed holder lets go.

    Raises RaceLost where another one holds it for LOCK_SECONDS.
    """
    from filelock import FileLock, Timeout

    path = lake.home() / "run" / "ingest.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise RaceLost(
            f"another ingest step has held {path} for {LOCK_SECONDS // 60} minutes: see what it does, then repeat"
        ) from None
    try:
        yield
    finally:
        lock.release()
