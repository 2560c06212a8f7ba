"""maintain, who asked to be forgotten: their rows go from landing, the lake and the online store.

The API keeps a tombstone a person (aisle.erasures); from its moment on nothing of before is used or shown. Here the rows go:
a Delta delete, without Spark, of what happened or was told before that moment; the files that still hold them go with VACUUM
after maintain.retention_hours. Who came back keeps what they did since. Repeating changes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aisle import features, lake
from aisle.columns import SET_ASIDE
from aisle.erasures import Erased, done_file, is_done, read
from aisle.settings import Settings
from aisle.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

# When a row's content is from. In the other tables all rows of a person go, once: they are made anew of what is left.
MOMENTS = {
    "bronze.events": ("event_time", "ingested_at"),
    "quarantine.events": ("event_time", "ingested_at"),
    "silver.interactions": ("event_time", "ingested_at"),
    "bronze.users": ("updated_at", "ingested_at"),
    "quarantine.users": ("updated_at", "ingested_at"),
    "silver.user_updates": ("updated_at",),
    "silver.users": ("updated_at",),
    "silver.session_users": ("linked_at",),
    "ops.recommendations": ("served_at",),
    "ops.outcomes": ("served_at",),
}
ERASED = "erased at the person's own request"
GROUP = 100  # people of one delete: its condition names each of them


def erase(settings: Settings) -> dict[str, int]:
    """Rows removed by table, and of landing by `landing`. The caller holds the ingest lock."""
    people = list(read().values())
    if not people:
        return {}
    people = [_with_sessions(each) for each in people]
    removed = {
        name: _from_table(name, people)
        for name in TABLES
        if "user_id" in TABLES[name].columns and lake.exists(name)
    }
    removed["landing"] = sum(
        _from_landing(path, people) for path in sorted(lake.home().glob("lake/landing/*/*/rows.parquet"))
    )
    features.forget(settings, [each.user_id for each in people if not is_done(each)])
    _note_done(people)
    return removed


def _with_sessions(person: Erased) -> Erased:
    """With the sessions that silver knows to be theirs: what was done there before they were known is theirs too."""
    own: list[tuple[str, str, object]] = [("user_id", "=", person.user_id)]
    found: list[str | None] = []
    for name in ("silver.interactions", "silver.session_users"):
        if lake.exists(name):
            found += lake.read(name, columns=["session_id"], filters=own)["session_id"].to_pylist()
    return Erased(person.user_id, person.at, tuple(sorted({*person.sessions, *filter(None, found)})))


def _from_table(name: str, people: list[Erased]) -> int:
    from deltalake import DeltaTable

    wanted = people if name in MOMENTS else [each for each in people if not is_done(each)]
    table, removed = DeltaTable(lake.table_path(name)), 0
    for group in _groups(wanted):
        conditions = [condition for each in group for condition in _conditions(name, each)]
        removed += int(table.delete(" OR ".join(conditions))["num_deleted_rows"] or 0)
    return removed


def _groups(people: list[Erased]) -> Iterator[list[Erased]]:
    for start in range(0, len(people), GROUP):
        yield people[start : start + GROUP]


def _conditions(name: str, person: Erased) -> Iterator[str]:
    """SQL, joined by OR, of a person's rows of before their erasure."""
    before = " OR ".join(_before(name, column, person) for column in MOMENTS.get(name, ()))
    before = f" AND ({before})" if before else ""
    yield f"(user_id = {_quoted(person.user_id)}{before})"
    if person.sessions and "session_id" in TABLES[name].columns:
        sessions = ", ".join(map(_quoted, person.sessions))
        nobody = "(user_id IS NULL OR user_id = '')"
        yield f"(session_id IN ({sessions}) AND {nobody}{before})"


def _before(name: str, column: str, person: Erased) -> str:
    moment = person.moment.strftime("%Y-%m-%dT%H:%M:%S.%f")
    if TABLES[name].columns[column] == "timestamp":
        return f"""{column} <= arrow_cast('{moment}', 'Timestamp(Microsecond, Some("UTC"))')"""
    return f"{column} <= '{moment}'"  # as received: ISO text, whose order is that of the times


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _from_landing(path: Path, people: list[Erased]) -> int:
    """A landed file keeps its number of rows, which its batch is accounted by: an erased one is empty and set aside."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if "user_id" not in pq.read_schema(path).names:
        return 0
    users = pq.read_table(path, columns=["user_id"])["user_id"].to_pylist()
    known = {each.user_id for each in people} | {session for each in people for session in each.sessions}
    rows = pq.read_table(path)
    sessions = rows["session_id"].to_pylist() if "session_id" in rows.column_names else [None] * len(users)
    if not known.intersection(users) and not known.intersection(sessions):
        return 0
    landed_at = json.loads((path.parent / "manifest.json").read_text())["landed_at"]
    mask = _erased_rows(rows, users, sessions, landed_at, people)
    if not any(mask):
        return 0
    kept = pa.array([not each for each in mask])
    columns = {name: _blank(rows[name], name, kept) for name in rows.column_names}
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(pa.table(columns), beside, compression="zstd")
    os.replace(beside, path)
    return sum(mask)


def _erased_rows(
    rows: pa.Table,
    users: list[str | None],
    sessions: list[str | None],
    landed_at: str,
    people: Iterable[Erased],
) -> list[bool]:
    of_user = {each.user_id: each.moment.isoformat() for each in people}
    of_session = {session: each.moment.isoformat() for each in people for session in each.sessions}
    named = next(
        (name for name in ("event_time", "updated_at", "served_at") if name in rows.column_names), None
    )
    moments = rows[named].to_pylist() if named else [None] * len(users)
    found = []
    for user, session, moment in zip(users, sessions, moments, strict=True):
        until = of_user.get(user or "") if user else of_session.get(session or "")
        found.append(bool(until) and (landed_at <= str(until) or (moment or "") <= str(until)))
    return found


def _blank(column: pa.ChunkedArray, name: str, kept: pa.Array) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if name == "row_number":
        return column
    other = pa.scalar(ERASED if name == SET_ASIDE else None, column.type)
    return pc.if_else(kept, column, other)


def _note_done(people: Iterable[Erased]) -> None:
    """SHA-256 of a person's id -> the moment until which their rows are gone from the tables without moments."""
    found = {sha256(each.user_id.encode()).hexdigest(): each.at for each in people}
    beside = done_file().with_name(".erased.json.new")
    beside.write_text(json.dumps(found))
    os.replace(beside, done_file())
