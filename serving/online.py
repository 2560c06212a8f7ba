"""A feature service read straight from Feast's SQLite online store: the values of `get_online_features`, without importing Feast.

The SDK resolves the service, builds a response of protocol buffers and walks through it for every call, which takes milliseconds
before anything is read. Here the service is resolved once for each version of the registry file, and a read is one query a
feature view for all users together.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aisle.errors import NotThere
from serving.feast_format import STRING, decoder, entity_key, messages

LOCKED_SECONDS = 1.0  # a read waits so long while Feast writes
CACHE_KIB = 16_384  # of the store's pages in memory
AT_ONCE = 500  # entities of one query; SQLite takes 32,766 parameters


class NotPlain(Exception):
    """The service needs Feast itself: an alias, a transformation, an entity of several keys or of numbers."""


@dataclass(frozen=True)
class Part:
    """One feature view of a service. table: quoted. columns: its features, in the service's order."""

    table: str
    join_key: str
    columns: tuple[str, ...]

    def query(self, entities: int) -> str:
        """Of three columns: entity_key, feature_name, value."""
        marks = ",".join("?" * entities)
        return f"SELECT entity_key, feature_name, value FROM {self.table} WHERE entity_key IN ({marks})"


class Reader:
    """Reads of one registry file and one online store. For one thread."""

    def __init__(self, folder: Path, project: str):
        self.folder, self.project = folder, project
        self.registry, self.store = folder / "registry.db", folder / "online.db"
        self._value_of = decoder()
        self._seen: tuple[int, ...] = ()
        self._found: Any = None
        self._parts: dict[str, tuple[Part, ...]] = {}
        self._opened: tuple[int, ...] = ()
        self._connection: sqlite3.Connection | None = None

    def read(self, service: str, ids: Sequence[str]) -> dict[str, list[Any]]:
        """The join key and the service's features by name, in the order of `ids`; None where there is nothing.

        Raises NotThere where nothing was published, NotPlain where Feast has to read, sqlite3.Error and OSError
        where the store does not answer.
        """
        parts, connection = self.parts(service), self._open()
        places = {each: place for place, each in enumerate(dict.fromkeys(ids))}
        found: dict[str, list[Any]] = {parts[0].join_key: list(places)}
        for part in parts:
            found |= self._columns(connection, part, places)
        if len(places) == len(ids):
            return found
        asked = [places[each] for each in ids]
        return {name: [column[place] for place in asked] for name, column in found.items()}

    def parts(self, service: str) -> tuple[Part, ...]:
        """How a service is put together. Raises NotThere, NotPlain."""
        try:
            seen = _version(self.registry)
        except FileNotFoundError:
            raise NotThere("nothing is online yet: run the features DAG, or `aisle run features`") from None
        if seen != self._seen:
            self._found = messages()["Registry"].FromString(self.registry.read_bytes())
            self._seen, self._parts = seen, {}
        if service not in self._parts:
            self._parts[service] = self._resolved(service)
        return self._parts[service]

    def _resolved(self, service: str) -> tuple[Part, ...]:
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
            table = f"{self.project}_{view.name}".replace('"', '""')
            columns = tuple(each.name for each in asked.feature_columns)
            parts.append(Part(f'"{table}"', entity.join_key, columns))
        names = [name for part in parts for name in part.columns]
        if not parts or len({part.join_key for part in parts}) > 1 or len(set(names)) < len(names):
            raise NotPlain(f"{service} joins entities, or has two features of one name")
        return tuple(parts)

    def _open(self) -> sqlite3.Connection:
        """The store, opened anew where another file took its place."""
        try:
            opened = _version(self.store)[:2]
        except FileNotFoundError:
            raise NotThere("nothing is online yet: `aisle run features`") from None
        if self._connection is None or opened != self._opened:
            self.close()
            self._connection = sqlite3.connect(
                f"{self.store.resolve().as_uri()}?mode=ro",
                uri=True,
                timeout=LOCKED_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._opened = opened
        return self._connection

    def _columns(
        self, connection: sqlite3.Connection, part: Part, places: dict[str, int]
    ) -> dict[str, list[Any]]:
        """A view's features by name, each value at the place of its id."""
        keys = {entity_key(part.join_key, each): place for each, place in places.items()}
        found: dict[str, list[Any]] = {name: [None] * len(places) for name in part.columns}
        asked, value_of = list(keys), self._value_of
        for start in range(0, len(asked), AT_ONCE):
            some = asked[start : start + AT_ONCE]
            for key, name, value in connection.execute(part.query(len(some)), some):
                try:
                    if name in found:
                        found[name][keys[key]] = value_of(value)
                except KeyError as error:
                    raise NotPlain(f"{name} is stored as {error.args[0]}") from None
        return found

    def close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None


def _version(file: Path) -> tuple[int, ...]:
    """Changes whenever the file is another one, or has another content."""
    found = os.stat(file)
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
