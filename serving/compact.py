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

    def columns(self, features: tuple[tuple[str, str], ...]) -> tuple[Column, ...]:
        """Those of `features`; none where one is missing."""
        have = {(each.table, each.feature): each for each in self.layout.columns}
        return tuple(have[each] for each in features) if have.keys() >= set(features) else ()


class CompactRows:
    """Of one store. For one thread at a time."""

    def __init__(self) -> None:
        self._schema: int | None = None  # the store's, when it was looked through
        self._known: dict[str, Known | None] = {}
        self._wanted: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[Column, ...]] = {}

    def read(
        self,
        connection: sqlite3.Connection,
        service: str,
        features: tuple[tuple[str, str], ...],
        keys: Sequence[bytes],
    ) -> tuple[list[bytes], list[list[Any]]]:
        """Keys that have a row, each once, and their values: a list a feature. features: Feast's table and the name.

        Raises sqlite3.Error where the store does not answer.
        """
        for _ in range(2):  # once more after a change
            columns = self._wanted.get((service, features)) or self._look(connection, service, features)
            known = self._known[service]
            if known is None or not columns:
                break
            try:
                rows = connection.execute(_query(known.layout.table, columns, len(keys)), keys).fetchall()
            except sqlite3.OperationalError as error:
                if "no such" not in str(error):
                    raise
                rows = [(None,)]
            if not rows:
                break
            if rows[0][0] == self._schema:
                with suppress(IndexError):  # a text that was added since
                    _, found, *values = zip(*rows, strict=True)
                    return list(found), [
                        _told(column, known, each) for column, each in zip(columns, values, strict=True)
                    ]
            self._wanted.pop((service, features))
        return [], []

    def _look(
        self, connection: sqlite3.Connection, service: str, features: tuple[tuple[str, str], ...]
    ) -> tuple[Column, ...]:
        """What is read of the service; nothing where there are no rows, or where nothing sees to it that they are right."""
        connection.execute("BEGIN")  # all of one state of the store
        try:
            (schema,) = connection.execute("PRAGMA schema_version").fetchone()
            if schema != self._schema:
                self._schema, self._known = schema, {}
                self._wanted.clear()
            if service not in self._known:
                self._known[service] = found = _standing(connection, service)
                if found is None:
                    log.info("%s is read from Feast's own rows: there are no compact ones", service)
            else:
                found = self._known[service]
            if found is not None:
                found.catch_up(connection)
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")
        columns = found.columns(features) if found else ()
        if columns:
            self._wanted[service, features] = columns
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
