"""Reading compact rows (aisle.compact): one row an entity, in place of one a feature.

A read is one statement, which tells the version of the store's schema with its rows: they count while it is the one at which tables
and triggers were looked through, and are left to Feast's rows otherwise.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from aisle.compact import REGISTER, Column, Layout, layout, quoted, unpacked

log = logging.getLogger("aisle.features")

Names = np.ndarray[Any, Any]  # texts by code
Features = tuple[tuple[str, str], ...]  # Feast's table and the name
Wanted = tuple[str, Features]  # of a service
Rows = tuple[list[bytes], list[list[Any]]]
NOTHING: Rows = ([], [])
SCHEMA = "(SELECT schema_version FROM pragma_schema_version)"


@dataclass
class Known:
    """A service's layout and, by feature, the texts of its lists as far as they were there when it was looked through."""

    layout: Layout
    names: dict[str, Names]

    def catch_up(self, connection: sqlite3.Connection) -> None:
        """With the texts that were added since. One object a text, however many readers hold it."""
        for feature, held in self.names.items():
            rows = connection.execute(
                f"SELECT name FROM {quoted(self.layout.names)} WHERE feature = ? AND code >= ? ORDER BY code",
                (feature, len(held)),
            ).fetchall()
            added = np.array([sys.intern(name) for (name,) in rows], dtype=object)
            self.names[feature] = np.concatenate((held, added))

    def columns(self, features: Features) -> tuple[Column, ...]:
        """Those of `features`; none where one is missing."""
        have = {(each.table, each.feature): each for each in self.layout.columns}
        return tuple(have[each] for each in features) if have.keys() >= set(features) else ()


class NotLooked(Exception):
    """Nobody has looked through the store as it is now."""


class Looked:
    """What was found at one version of a store's schema. Only ever added to, so that another thread may read it."""

    def __init__(self, schema: int | None):
        self.schema = schema
        self.known: dict[str, Known | None] = {}
        self.wanted: dict[Wanted, tuple[Column, ...]] = {}

    def read(
        self, connection: sqlite3.Connection, service: str, columns: tuple[Column, ...], keys: Sequence[bytes]
    ) -> Rows | None:
        """None where the store is another one by now, or has texts that are not known."""
        known = self.known[service]
        if known is None:
            return None
        try:
            rows = connection.execute(_query(known.layout.table, columns, len(keys)), keys).fetchall()
        except sqlite3.OperationalError as error:
            if "no such" not in str(error):
                raise
            return None
        if not rows:
            return NOTHING
        if rows[0][0] != self.schema:
            return None
        with suppress(IndexError):  # a text that was added since
            _, found, *values = zip(*rows, strict=True)
            return list(found), [
                _told(column, known, each) for column, each in zip(columns, values, strict=True)
            ]
        return None


class CompactRows:
    """Of one store. For one thread at a time, but for `looked`. file: which one, where a reader opened it."""

    def __init__(self, file: tuple[int, ...] = ()) -> None:
        self.file = file
        self.looked = Looked(None)

    def read(
        self, connection: sqlite3.Connection, service: str, features: Features, keys: Sequence[bytes]
    ) -> Rows:
        """Keys that have a row, each once, and their values: a list a feature. features: Feast's table and the name.

        Raises sqlite3.Error where the store does not answer.
        """
        for _ in range(2):  # once more after a change
            columns = self.looked.wanted.get((service, features)) or self._look(connection, service, features)
            if not columns:
                break
            found = self.looked.read(connection, service, columns, keys)
            if found is not None:
                return found
            self.looked.wanted.pop((service, features), None)
        return NOTHING

    def follow(
        self, connection: sqlite3.Connection, service: str, features: Features, keys: Sequence[bytes]
    ) -> Rows:
        """The same for another thread with a connection of its own, which does not wait for a look: that reads all names.

        Nothing, which is Feast's rows, before any read at all. Raises NotLooked where `read` would look for more than whether the
        store is as it was.
        """
        if not self.file:
            return NOTHING
        looked = self.looked
        columns = looked.wanted.get((service, features))
        found = looked.read(connection, service, columns, keys) if columns else None
        if found is not None:
            return found
        (schema,) = connection.execute("PRAGMA schema_version").fetchone()
        if columns or service not in looked.known or schema != looked.schema:
            raise NotLooked
        return NOTHING

    def _look(self, connection: sqlite3.Connection, service: str, features: Features) -> tuple[Column, ...]:
        """What is read of the service; nothing where there are no rows, or where nothing sees to it that they are right."""
        connection.execute("BEGIN")  # all of one state of the store
        try:
            (schema,) = connection.execute("PRAGMA schema_version").fetchone()
            if schema != self.looked.schema:
                self.looked = Looked(schema)
            known = self.looked.known
            found = known[service] if service in known else _standing(connection, service)
            if found is not None:
                found.catch_up(connection)
            elif service not in known:
                log.info("%s is read from Feast's own rows: there are no compact ones", service)
            known[service] = found
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")
        columns = found.columns(features) if found else ()
        if columns:
            self.looked.wanted[service, features] = columns
        return columns


@lru_cache(maxsize=256)
def _query(table: str, columns: tuple[Column, ...], keys: int) -> str:
    names = ", ".join(quoted(each.feature) for each in columns)
    marks = ",".join("?" * keys)
    return f"SELECT {SCHEMA}, entity_key, {names} FROM {quoted(table)} WHERE entity_key IN ({marks})"


def _told(column: Column, known: Known, values: Sequence[Any]) -> list[Any]:
    if column.kind.endswith("_list"):
        return unpacked(column.kind, values, known.names.get(column.feature))
    if column.kind == "bool":
        return [None if each is None else bool(each) for each in values]
    return list(values)


def _standing(connection: sqlite3.Connection, service: str) -> Known | None:
    """The layout, without texts, if its tables and all its triggers stand as they were made."""
    master = dict(connection.execute("SELECT name, sql FROM sqlite_master").fetchall())
    if REGISTER not in master:
        return None
    row = connection.execute(f"SELECT layout FROM {REGISTER} WHERE service = ?", (service,)).fetchone()
    found = layout(service, row[0]) if row else None
    if found is None or not set(found.statements()) <= set(master.values()):
        return None
    texts = [each.feature for each in found.columns if each.kind == "string_list"]
    return Known(found, {feature: np.array([], dtype=object) for feature in texts})
