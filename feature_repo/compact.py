"""Writes compact rows (aisle.compact) out of Feast's own: of users, for the services that are read at every request.

Called after the online store was brought up to date. Each batch is one transaction that reads Feast's rows and writes the compact ones,
so that no write of Feast can come between; one that is killed leaves users without a compact row, and who reads them reads
Feast's. Only users without a row are written: those that changed, since a trigger deleted theirs.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aisle.compact import KINDS, REGISTER, Column, Layout, packed, quoted

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

USER = "user_id"
BATCH = 1000  # users of one transaction
PATIENCE_SECONDS = 60.0  # for another writer to end


class Other(Exception):
    """A value that is not of its column's kind, or that SQLite would not give back: its user is read from Feast's rows."""


def fill(store: FeatureStore, path: Path) -> dict[str, int]:
    """Rows written, by service. path: the SQLite online store of `store`."""
    layouts = [found for each in store.list_feature_services() if (found := layout_of(store, each))]
    with closing(sqlite3.connect(path, timeout=PATIENCE_SECONDS, isolation_level=None)) as connection:
        with _transaction(connection):
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {REGISTER} (service TEXT PRIMARY KEY, layout TEXT)"
            )
            kept = {each.service for each in layouts}
            for (gone,) in connection.execute(f"SELECT service FROM {REGISTER}").fetchall():
                if gone not in kept:
                    _drop(connection, gone)
        return {each.service: _fill(connection, each) for each in layouts}


def layout_of(store: FeatureStore, service: FeatureService) -> Layout | None:
    """None for a service that is not of users alone, or that has values of another kind, another name or version of a view."""
    columns = []
    for asked in service.feature_view_projections:
        view = store.get_feature_view(asked.name)
        plain = not asked.name_alias and not asked.join_key_map and not asked.version_tag
        if not plain or view.join_keys != [USER]:
            return None
        for each in asked.features:
            columns.append(
                Column(f"{store.project}_{asked.name}", each.name, each.dtype.to_value_type().name.lower())
            )
    names = {each.feature for each in columns}
    usable = columns and len(names) == len(columns) and all(each.kind in KINDS for each in columns)
    return Layout(service.name, tuple(columns)) if usable else None


def _fill(connection: sqlite3.Connection, layout: Layout) -> int:
    with _transaction(connection):
        _ensure(connection, layout)
    written, codes = 0, Codes(layout)
    for table in layout.tables:
        after: bytes | None = b""
        while after is not None:
            with _transaction(connection):
                after, count = _batch(connection, layout, table, after, codes)
            written += count
    return written


def _ensure(connection: sqlite3.Connection, layout: Layout) -> None:
    """The tables and triggers, made anew unless all of them stand."""
    made = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master")}
    row = connection.execute(f"SELECT layout FROM {REGISTER} WHERE service = ?", (layout.service,)).fetchone()
    if row == (layout.text(),) and made.issuperset(layout.statements()):
        return
    _drop(connection, layout.service)
    for statement in layout.statements():
        connection.execute(statement)
    connection.execute(f"INSERT INTO {REGISTER} VALUES (?, ?)", (layout.service, layout.text()))


def _drop(connection: sqlite3.Connection, service: str) -> None:
    own = Layout(service, ())
    triggers = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, ?) = ?",
        (len(own.table) + 1, f"{own.table}:"),
    ).fetchall()
    for (name,) in triggers:
        connection.execute(f"DROP TRIGGER {quoted(name)}")
    for table in (own.table, own.names):
        connection.execute(f"DROP TABLE IF EXISTS {quoted(table)}")
    connection.execute(f"DELETE FROM {REGISTER} WHERE service = ?", (service,))


def _batch(
    connection: sqlite3.Connection, layout: Layout, table: str, after: bytes, codes: Codes
) -> tuple[bytes | None, int]:
    """The last key of a table's next users without a row, and how many rows were written; None where there are no such users."""
    own, theirs = quoted(layout.table), quoted(table)
    keys = [
        key
        for (key,) in connection.execute(
            f"SELECT DISTINCT entity_key FROM {theirs} AS their WHERE entity_key > ? AND NOT EXISTS "
            f"(SELECT 1 FROM {own} AS own WHERE own.entity_key = their.entity_key) ORDER BY entity_key LIMIT ?",
            (after, BATCH),
        )
    ]
    if not keys:
        return None, 0
    codes.read(connection)
    rows = [row for row in _rows(connection, layout, keys, codes) if row]
    marks = ", ".join("?" * (1 + len(layout.columns)))
    connection.executemany(f"INSERT INTO {own} VALUES ({marks})", rows)
    codes.save(connection)
    return keys[-1], len(rows)


def _rows(
    connection: sqlite3.Connection, layout: Layout, keys: Sequence[bytes], codes: Codes
) -> Iterator[tuple[Any, ...] | None]:
    """A row for each key; None for a user whom Feast's rows have to tell."""
    values: dict[bytes, dict[tuple[str, str], bytes]] = {key: {} for key in keys}
    marks = ", ".join("?" * len(keys))
    for table in layout.tables:
        found = connection.execute(
            f"SELECT entity_key, feature_name, value FROM {quoted(table)} WHERE entity_key IN ({marks})", keys
        )
        for key, feature, value in found:
            values[key][table, feature] = value
    for key, own in values.items():
        try:
            cells = [_cell(each, own.get((each.table, each.feature)), codes) for each in layout.columns]
        except Other:
            yield None
        else:
            yield key, *cells


def _cell(column: Column, blob: bytes | None, codes: Codes) -> Any:
    """What is stored of one value. Raises Other."""
    from feast.protos.feast.types.Value_pb2 import Value

    message = Value.FromString(blob or b"")
    kind = message.WhichOneof("val")
    if kind is None or kind == "null_val":
        return None
    if kind != f"{column.kind}_val":
        raise Other
    value = getattr(message, kind)
    if column.kind == "string_list":
        return codes.packed(column.feature, value.val)
    if column.kind.endswith("_list"):
        return packed(column.kind, value.val)
    if isinstance(value, float) and math.isnan(value):  # SQLite makes NULL of it
        raise Other
    return value


class Codes:
    """The texts of a layout's lists, numbered in the order in which they came."""

    def __init__(self, layout: Layout):
        self._table = quoted(layout.names)
        self._codes: dict[str, dict[str, int]] = {
            each.feature: {} for each in layout.columns if each.kind == "string_list"
        }
        self._new: list[tuple[str, int, str]] = []

    def read(self, connection: sqlite3.Connection) -> None:
        """What is stored and not yet known: another process may write as well."""
        for feature, known in self._codes.items():
            found = connection.execute(
                f"SELECT name, code FROM {self._table} WHERE feature = ? AND code >= ?", (feature, len(known))
            )
            known.update(found.fetchall())

    def packed(self, feature: str, texts: Sequence[str]) -> bytes:
        known = self._codes[feature]
        for text in texts:
            if text not in known:
                known[text] = len(known)
                self._new.append((feature, known[text], text))
        return packed("string_list", [known[text] for text in texts])

    def save(self, connection: sqlite3.Connection) -> None:
        connection.executemany(f"INSERT INTO {self._table} VALUES (?, ?, ?)", self._new)
        self._new.clear()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
