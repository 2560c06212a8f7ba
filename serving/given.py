"""The answers that were given to a person: those of the lake, and of the exposure log those that the lake does not have yet.

An answer is in an open segment of the journal, then in a landed batch, then in `ops.recommendations`; it may move on while it is looked
for. So it is read in that order, and what was found again further on counts there alone: the same batch all the way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic_core import from_json, to_json

from aisle import lake
from serving import segments
from serving.exposures import KIND, Shown

Row = dict[str, Any]
SHOWN = "ops.recommendations"
LISTS = dict(zip(("item_ids", "positions", "sources", "scores", "propensities"), Shown._fields, strict=True))


def theirs(user_id: str, sessions: Sequence[str]) -> Callable[[Row], bool]:
    """Whether a row is of this user, or of nobody in these sessions."""

    def found(row: Row) -> bool:
        return row.get("user_id") == user_id or (not row.get("user_id") and row.get("session_id") in sessions)

    return found


def answers(user_id: str, sessions: Sequence[str], since: datetime | None = None) -> list[Row]:
    """Rows as of `ops.recommendations`, oldest first: all, or those that were served after `since`."""
    own = theirs(user_id, sessions)
    found: dict[str, list[Row]] = {}  # by batch
    for batch, rows in (*_written(user_id, sessions), *_landed(user_id, sessions)):
        found[batch] = [_typed(row) for row in rows if own(row)]
    stored = of_table(SHOWN, user_id, sessions)
    for row in stored:
        found.pop(row["batch_id"], None)
    coming = [row for rows in found.values() for row in rows]
    served = [row for row in (*stored, *coming) if since is None or row["served_at"] > since]
    return sorted(served, key=lambda row: row["served_at"])


def of_table(name: str, user_id: str, sessions: Sequence[str]) -> list[Row]:
    """Rows of a table in which lists are kept."""
    if not lake.exists(name):
        return []
    found: list[Row] = lake.read(name, filters=[("user_id", "=", user_id)]).to_pylist()
    if sessions:
        some = lake.read(name, filters=[("session_id", "in", list(sessions))]).to_pylist()
        found += [row for row in some if not row["user_id"]]
    return [{**row, "experiments": dict(row["experiments"] or ())} for row in found]


def _written(user_id: str, sessions: Sequence[str]) -> Iterator[tuple[str, list[Row]]]:
    """Batches that are still being written. Only lines that name somebody are parsed: others' are the most by far."""
    names = [to_json(name) for name in (user_id, *sessions)]
    for path in segments.segments(KIND):
        if path.suffix != segments.OPEN:
            continue
        try:
            text = path.read_bytes()
        except FileNotFoundError:  # landed meanwhile
            continue
        lines = text.split(b"\n")[:-1]  # half a line is none
        some = [from_json(line) for line in lines if any(name in line for name in names)]
        yield segments.batch_of(path, KIND), some


def _landed(user_id: str, sessions: Sequence[str]) -> Iterator[tuple[str, list[Row]]]:
    folder = Path(lake.landing(KIND))
    wanted: list[list[tuple[str, str, object]]] = [[("user_id", "=", user_id)]]
    wanted += [[("session_id", "in", list(sessions))]] if sessions else []
    for each in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            if (each / "manifest.json").exists():
                yield each.name, pq.read_table(each / "rows.parquet", filters=wanted).to_pylist()
        except FileNotFoundError:  # gone meanwhile: `maintain` drops what the table has
            continue


def _typed(row: Row) -> Row:
    """A row of the log, texts all, as the table has it: an empty text is no value."""
    items = json.loads(row["items"])
    return {
        **{name: row[name] or None for name in row if name not in ("items", "at")},
        "served_at": datetime.fromisoformat(row["served_at"]),
        "experiments": json.loads(row["experiments"]),
        **{name: [item[field] for item in items] for name, field in LISTS.items()},
    }
