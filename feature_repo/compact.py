"""Writes compact rows (aisle.compact) out of Feast's own: of users, for the services that are read at every request.

Called after the online store was brought up to date. Each batch is one transaction that reads Feast's rows and writes the compact ones,
so that no write of Feast can come between; one that is killed leaves users without a compact row, and who reads them reads
Feast's. Only users without a row are written: all after `drop`, else those that changed, since a trigger deleted theirs.

Feast's values are online without these rows: whatever is wrong with a service or with the store is logged, and leaves that service to
Feast's rows until the next call.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aisle.compact import KINDS, REGISTER, Column, Layout, packed, quoted

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

log = logging.getLogger("aisle.features")

USER = "user_id"
REGISTERED = f"CREATE TABLE IF NOT EXISTS {REGISTER} (service TEXT PRIMARY KEY, layout TEXT)"
BATCH = 200  # users of one transaction
PATIENCE_SECONDS = 60.0  # for another writer to end
# Other writers wait 5 s, asking up to 0.1 s apart: after so long a time of holding the lock they find it free for longer than that.
HELD_SECONDS = 0.5
PAUSE_SECONDS = 0.15


class Other(Exception):
    """A value that is not of its column's kind, or that SQLite would not give back: its user is read from Feast's rows."""


class Unfit(Exception):
    """A service that has no compact rows; why."""


def fill(store: FeatureStore, path: Path) -> dict[str, int]:
    """Rows written, by service that has such rows. path: the SQLite online store of `store`."""
    written: dict[str, int] = {}
    layouts = _layouts(store)
    with closing(_connected(path)) as connection:
        turns = Turns(connection)
        try:
            _register(turns, {each.service for each in layouts})
        except sqlite3.Error as error:
            log.warning("no compact rows, features are read from Feast's own: %s", error)
            return {}
        for each in layouts:
            try:
                written[each.service] = _fill(turns, each)
            except sqlite3.Error as error:
                log.warning("%s is left to Feast's own rows: %s", each.service, error)
                _undo(turns, each.service)
    return written


def drop(path: Path) -> None:
    """All compact rows, and the triggers with them, whether they are registered or not."""
    if not path.exists():
        return
    with closing(_connected(path)) as connection:
        try:
            with Turns(connection).transaction():
                _drop_named(connection, f"{REGISTER}:")
                connection.execute(f"DROP TABLE IF EXISTS {REGISTER}")
        except sqlite3.Error as error:  # they stand, and are right: what follows only takes longer
            log.warning("compact rows could not be dropped: %s", error)


def _layouts(store: FeatureStore) -> list[Layout]:
    """Of the services that can have such rows; of two that SQLite takes for one, the first."""
    found: dict[str, Layout] = {}
    for each in sorted(store.list_feature_services(), key=lambda service: service.name):
        try:
            made = layout_of(store, each)
            if (twin := found.setdefault(made.service.casefold(), made)) is not made:
                raise Unfit(f"SQLite takes its name for that of {twin.service}")
        except Unfit as why:
            log.info("%s is left to Feast's own rows: %s", each.name, why)
    return list(found.values())


def layout_of(store: FeatureStore, service: FeatureService) -> Layout:
    """Raises Unfit for a service that is not of users alone, or that has values of another kind, names that SQLite does not tell
    apart, or another name or version of a view."""
    from feast.errors import FeastObjectNotFoundException

    columns = []
    for asked in service.feature_view_projections:
        try:
            view = store.get_feature_view(asked.name)
        except FeastObjectNotFoundException as error:
            raise Unfit(str(error)) from None
        if asked.name_alias or asked.join_key_map or asked.version_tag:
            raise Unfit(f"{asked.name} is read under another name or version")
        if view.join_keys != [USER]:
            raise Unfit(f"{asked.name} is not of users alone")
        for each in asked.features:
            kind = each.dtype.to_value_type().name.lower()
            if kind not in KINDS:
                raise Unfit(f"{each.name} is {kind}")
            columns.append(Column(f"{store.project}_{asked.name}", each.name, kind))
    names = {"entity_key", *(each.feature.casefold() for each in columns)}
    if not columns or len(names) <= len(columns):
        raise Unfit("it has no features, two of one name but for case, or one that is called entity_key")
    if ":" in service.name:  # what it has could be called as what another one has
        raise Unfit("there is a colon in its name")
    return Layout(service.name, tuple(columns))


def _fill(turns: Turns, layout: Layout) -> int:
    """Rows written. Begins again where somebody else made tables anew: what is known of the codes would be wrong."""
    connection, written = turns.connection, 0
    schema, left, after, codes = -1, layout.tables, b"", Codes(layout)
    while left:
        with turns.transaction():
            if _schema(connection) != schema:
                _ensure(connection, layout)
                schema, left, after, codes = _schema(connection), layout.tables, b"", Codes(layout)
            last, count = _batch(connection, layout, left[0], after, codes)
        written += count
        if last is None:
            left, after = left[1:], b""
        else:
            after = last
    return written


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=PATIENCE_SECONDS, isolation_level=None)


def _schema(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA schema_version").fetchone()[0])


def _register(turns: Turns, kept: set[str]) -> None:
    """The table of layouts, without those of services that are not `kept`."""
    with turns.transaction():
        turns.connection.execute(REGISTERED)
        for (gone,) in turns.connection.execute(f"SELECT service FROM {REGISTER}").fetchall():
            if gone not in kept:
                _drop(turns.connection, gone)


def _undo(turns: Turns, service: str) -> None:
    """What there is of a service that failed: triggers without their table would make every write of Feast fail."""
    try:
        with turns.transaction():
            _drop(turns.connection, service)
    except sqlite3.Error as error:
        log.warning("what there is of %s could not be dropped: %s", service, error)


def _ensure(connection: sqlite3.Connection, layout: Layout) -> None:
    """The tables and triggers, made anew unless all of them stand."""
    connection.execute(REGISTERED)
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
    _drop_named(connection, f"{own.table}:")
    connection.execute(f"DROP TABLE IF EXISTS {quoted(own.table)}")
    connection.execute(f"DELETE FROM {REGISTER} WHERE service = ?", (service,))


def _drop_named(connection: sqlite3.Connection, start: str) -> None:
    """Triggers and tables whose names begin so, whatever the case."""
    found = connection.execute(
        "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'table') AND lower(substr(name, 1, ?)) = lower(?) "
        "ORDER BY type = 'table'",
        (len(start), start),
    ).fetchall()
    for kind, name in found:
        connection.execute(f"DROP {kind} {quoted(name)}")


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
    names = ", ".join(["entity_key", *(quoted(each.feature) for each in layout.columns)])
    marks = ", ".join("?" * (1 + len(layout.columns)))
    connection.executemany(f"INSERT INTO {own} ({names}) VALUES ({marks})", rows)
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


class Turns:
    """Transactions that write, with a pause for others where many of them follow on each other."""

    def __init__(self, connection: sqlite3.Connection):
        self.connection = connection
        self._held = 0.0  # seconds since the last pause

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        try:
            yield
            self.connection.commit()
        except BaseException:
            self.connection.rollback()
            raise
        finally:
            self._held += time.monotonic() - started
        if self._held > HELD_SECONDS:
            time.sleep(PAUSE_SECONDS)
            self._held = 0.0
