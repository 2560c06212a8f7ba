"""A feature service read straight from Feast's SQLite online store: the values of `get_online_features`, without importing Feast.

The SDK resolves the service, builds a response of protocol buffers and walks through it for every call, which takes milliseconds
before anything is read. Here the service is resolved once for each version of the registry file, and a read is one query for the
entities that have a compact row (serving.compact) and one over Feast's own rows for the others, which makes a row each of them.
SQLite gives the interpreter's lock away at every row, and a thread at work keeps it for a while: few rows.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aisle.compact import quoted
from aisle.errors import NotThere
from serving.compact import CompactRows, NotLooked, Rows
from serving.feast_format import STRING, entity_key, messages
from serving.feast_values import columns

LOCKED_SECONDS = 1.0  # a read waits so long while Feast writes
CACHE_KIB = 16_384  # of the store's pages in memory
AT_ONCE = 500  # entities of one query; SQLite takes 32,766 parameters


class NotPlain(Exception):
    """The service needs Feast itself: an alias, a transformation, an entity of several keys or of numbers."""


@dataclass(frozen=True)
class Part:
    """One feature view of a service. columns: its features, in the service's order."""

    table: str
    join_key: str
    columns: tuple[str, ...]

    def selected(self) -> list[str]:
        """The value of each column for the entity `key`: by the table's primary key."""
        names = [each.replace("'", "''") for each in self.columns]
        of = f"(SELECT value FROM {quoted(self.table)} WHERE entity_key = key AND feature_name ="
        return [f"{of} '{name}')" for name in names]


@dataclass(frozen=True)
class Service:
    """A feature service: the name of the entity's id, its features in order, each with its table, and what selects it for a `key`."""

    join_key: str
    columns: tuple[str, ...]
    features: tuple[tuple[str, str], ...]
    selected: tuple[str, ...]

    def only(self, wanted: Collection[str]) -> Service:
        """Of its features those that are wanted."""
        kept = [place for place, name in enumerate(self.columns) if name in wanted]
        return Service(
            self.join_key,
            tuple(self.columns[place] for place in kept),
            tuple(self.features[place] for place in kept),
            tuple(self.selected[place] for place in kept),
        )

    def query(self, entities: int) -> str:
        """A row for each entity, in their order; NULL where there is nothing."""
        marks = ",".join(["(?)"] * entities)
        return f"WITH keys(key) AS (VALUES {marks}) SELECT {', '.join(self.selected)} FROM keys"


class Reader:
    """Reads of one registry file and one online store. For one thread at a time.

    patience: seconds that a read waits while Feast writes, before it raises sqlite3.OperationalError.
    """

    def __init__(self, folder: Path, project: str, patience: float = LOCKED_SECONDS):
        self.folder, self.project, self.patience = folder, project, patience
        self.registry, self.store = folder / "registry.db", folder / "online.db"
        self._values = columns()
        self._compact = CompactRows()
        self._seen: tuple[int, ...] = ()
        self._found: Any = None
        self._services: dict[tuple[str, tuple[str, ...] | None], Service] = {}
        self._opened: tuple[int, ...] = ()
        self._connection: sqlite3.Connection | None = None

    def read(
        self,
        service: str,
        ids: Sequence[str],
        wanted: tuple[str, ...] | None = None,
        looked: Reader | None = None,
    ) -> dict[str, list[Any]]:
        """The join key and the service's features by name, all or those that are wanted; in the order of `ids`, None where
        there is nothing. An id that is there twice has the same lists twice. looked: another thread's reader of the same store,
        whose look at its tables serves here too.

        Raises NotLooked where `looked` has to read first, NotThere where nothing was published, NotPlain where Feast has to read,
        sqlite3.Error and OSError where the store does not answer.
        """
        found, connection = self.service(service, wanted), self._open()
        values: dict[str, list[Any]] = {found.join_key: list(ids)}
        if not ids or not found.columns:
            return values | {name: [] for name in found.columns}
        keys = [entity_key(found.join_key, each) for each in ids]
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            if looked is None:
                compact = self._compact.read(connection, service, found.features, some)
            else:
                compact = looked.compact_of(self._opened).follow(connection, service, found.features, some)
            columns = self._merged(connection, found, some, compact)
            for name, column in zip(found.columns, columns, strict=True):
                values[name] = values.get(name, []) + column if start else column
        return values

    def compact_of(self, file: tuple[int, ...]) -> CompactRows:
        """For another thread's reader, which has that file open. Raises NotLooked."""
        compact = self._compact
        if compact.file and compact.file != file:
            raise NotLooked
        return compact

    def _merged(
        self, connection: sqlite3.Connection, found: Service, keys: Sequence[bytes], rows: Rows
    ) -> list[list[Any]]:
        """A list a feature, in the order of `keys`: of the compact rows, and of Feast's for who has none."""
        known, compact = rows
        if known == keys:
            return compact
        places = {key: place for place, key in enumerate(known)}
        others = [key for key in keys if key not in places] if places else keys
        stored = self._stored(connection, found, others)
        if not places:
            return stored
        places |= {key: len(known) + place for place, key in enumerate(others)}
        order = [places[key] for key in keys]
        both = (own + theirs for own, theirs in zip(compact, stored, strict=True))
        return [[column[place] for place in order] for column in both]

    def _stored(
        self, connection: sqlite3.Connection, found: Service, keys: Sequence[bytes]
    ) -> list[list[Any]]:
        """The same from Feast's own rows."""
        if not keys:
            return [[] for _ in found.columns]
        rows = connection.execute(found.query(len(keys)), keys).fetchall()
        values = []
        for name, column in zip(found.columns, zip(*rows, strict=True), strict=True):
            try:
                values.append(self._values(column))
            except KeyError as error:
                raise NotPlain(f"{name} is stored as {error.args[0]}") from None
        return values

    def service(self, name: str, wanted: tuple[str, ...] | None = None) -> Service:
        """How a service, or what is wanted of it, is put together. Raises NotThere, NotPlain."""
        try:
            seen = _version(self.registry)
        except FileNotFoundError:
            raise NotThere("nothing is online yet: run the features DAG, or `aisle run features`") from None
        if seen != self._seen:
            self._found = messages()["Registry"].FromString(self.registry.read_bytes())
            self._seen, self._services = seen, {}
        if (name, wanted) not in self._services:
            whole = self._resolved(name)
            self._services[name, wanted] = whole if wanted is None else whole.only(wanted)
        return self._services[name, wanted]

    def _resolved(self, service: str) -> Service:
        services = {each.spec.name: each.spec for each in self._found.feature_services}
        if service not in services:
            known = ", ".join(sorted(services)) or "none"
            raise NotThere(
                f"no feature service {service!r}; there are: {known}. `aisle run features` publishes them"
            )
        views = {each.spec.name: each.spec for each in self._found.feature_views}
        entities = {each.spec.name: each.spec for each in self._found.entities}
        parts = []
        for asked in services[service].features:
            view = views.get(asked.feature_view_name)
            if view is None or view.disabled or len(view.entities) != 1 or view.entities[0] not in entities:
                raise NotPlain(f"{service}: {asked.feature_view_name} is no view of one entity")
            if asked.feature_view_name_alias or asked.join_key_map or asked.version_tag:
                raise NotPlain(f"{service}: {view.name} is read under another name or version")
            entity = entities[view.entities[0]]
            if entity.value_type != STRING:
                raise NotPlain(f"{service}: {entity.name} has no text ids")
            columns = tuple(each.name for each in asked.feature_columns)
            parts.append(Part(f"{self.project}_{view.name}", entity.join_key, columns))
        names = [name for part in parts for name in part.columns]
        if not parts or len({part.join_key for part in parts}) > 1 or len(set(names)) < len(names):
            raise NotPlain(f"{service} joins entities, or has two features of one name")
        features = tuple((part.table, name) for part in parts for name in part.columns)
        selected = tuple(each for part in parts for each in part.selected())
        return Service(parts[0].join_key, tuple(names), features, selected)

    def _open(self) -> sqlite3.Connection:
        """The store, opened anew where another file took its place."""
        try:
            opened = _version(self.store)[:2]
        except FileNotFoundError:
            raise NotThere("nothing is online yet: `aisle run features`") from None
        if self._connection is None or opened != self._opened:
            self.close()
            # A writer that was killed leaves a journal, which a connection of mode `ro` could not roll back.
            self._connection = sqlite3.connect(
                f"{self.store.resolve().as_uri()}?mode=rw",
                uri=True,
                timeout=self.patience,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.execute("PRAGMA query_only = 1")
            self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._opened, self._compact = opened, CompactRows(opened)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None


def _version(file: Path) -> tuple[int, ...]:
    """Changes whenever the file is another one, or has another content."""
    found = os.stat(file)
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
