"""What a failed write leaves in the folders of tables: data files that no version of the table names.

They do no harm but take room, and on a full disk every try would eat what was freed for it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from aisle import lake, steps
from aisle.errors import DiskFull
from aisle.tables import TABLES

WRITTEN = [name for name in TABLES if name.startswith(("bronze.", "quarantine.", "silver."))]


@contextmanager
def removed_when_full() -> Iterator[None]:
    """Where the disk fills up within, the files of the write that failed are removed, and the error goes on.

    Under the ingest lock, so that nobody else writes these tables: what is newer than the start and named by no commit
    is ours. What a killed step left is older, and may still be written by a Spark server that lives on:
    `maintain` removes it a week later.
    """
    started = time.time()
    try:
        yield
    except Exception as error:
        if isinstance(steps.friendly(error), DiskFull):
            for path in unnamed(started):
                path.unlink(missing_ok=True)
        raise


def unnamed(since: float) -> list[Path]:
    """Data files of the ingest tables that were written from `since` on (epoch seconds) and that no commit names."""
    found = []
    for name in WRITTEN:
        folder = Path(lake.table_path(name))  # in an object store there is no such folder, and no full disk
        if folder.is_dir():
            fresh = [path for path in folder.rglob("*.parquet") if path.stat().st_mtime >= since]
            known = _named(folder, since)
            found += [
                path
                for path in fresh
                if path not in known and path.relative_to(folder).parts[0] != "_delta_log"
            ]
    return found


def _named(folder: Path, since: float) -> set[Path]:
    """The files that commits from `since` on name. An older commit cannot name a newer file."""
    lines = [
        json.loads(line)
        for commit in (folder / "_delta_log").glob("*.json")
        if os.path.getmtime(commit) >= since
        for line in commit.read_text().splitlines()
        if line.strip()
    ]
    actions = [line[kind] for line in lines for kind in ("add", "cdc") if kind in line]
    return {folder / unquote(action["path"]) for action in actions}
