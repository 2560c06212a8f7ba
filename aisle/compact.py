"""Compact rows: all of a feature service's values of an entity in one row, beside Feast's own rows and in the same SQLite file.

Feast keeps a row for each entity and feature, and a list as text. Here an entity has one row a service, with a column a feature: texts
and numbers as SQLite's own, lists as arrays of numbers, texts of lists as codes of a table of names. `feature_repo.compact` writes
the rows out of Feast's, serving reads them.

No row can be stale. Triggers on Feast's tables delete an entity's row within the very transaction that changes, adds or deletes one
of its values, whoever writes; who finds no row reads Feast's. A table that is dropped takes its triggers with it, so a reader
looks whether everything of `Layout.statements` stands. docs/adr/0011-compact-rows.md says why.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

FORMAT = 1  # of what follows: another one is not read, and made anew by the next publication
REGISTER = "compact"  # service -> layout
# Feast's kinds of values that are kept, and SQLite's type of the column.
KINDS = {
    "string": "TEXT",
    "int64": "INTEGER",
    "double": "REAL",
    "bool": "INTEGER",
    "string_list": "BLOB",
    "int64_list": "BLOB",
    "double_list": "BLOB",
}
# What a list's numbers may be stored as, the narrowest first; of a list of texts the numbers are codes.
WIDTHS = {
    "string_list": (np.dtype("<u1"), np.dtype("<u2"), np.dtype("<u4")),
    "int64_list": (np.dtype("<u4"), np.dtype("<i8")),
    "double_list": (np.dtype("<f4"), np.dtype("<f8")),
}


class Column(NamedTuple):
    """A feature: Feast's table, its name there, and its kind."""

    table: str
    feature: str
    kind: str


def quoted(name: str) -> str:
    """As SQLite takes any name.

    >>> print(quoted('the "new" view'))
    "the ""new"" view"
    """
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Layout:
    """What a service's rows look like. columns: in the service's order."""

    service: str
    columns: tuple[Column, ...]

    @property
    def table(self) -> str:
        return f"compact:{self.service}"

    @property
    def names(self) -> str:
        """The table of the texts in lists: by feature, numbered from 0 on. Only ever added to."""
        return f"{self.table}:names"

    @property
    def tables(self) -> list[str]:
        """Feast's."""
        return list(dict.fromkeys(each.table for each in self.columns))

    def text(self) -> str:
        return json.dumps([FORMAT, self.columns])

    def statements(self) -> list[str]:
        """What makes it, as `sqlite_master` keeps it: the two tables, and the triggers on each of Feast's."""
        values = ", ".join(f"{quoted(each.feature)} {KINDS[each.kind]}" for each in self.columns)
        made = [
            f"CREATE TABLE {quoted(self.table)} (entity_key BLOB NOT NULL PRIMARY KEY, {values})",
            f"CREATE TABLE {quoted(self.names)} (feature TEXT, code INTEGER, name TEXT, PRIMARY KEY (feature, code))",
        ]
        for table in self.tables:
            for event, rows in {"INSERT": ("NEW",), "UPDATE": ("OLD", "NEW"), "DELETE": ("OLD",)}.items():
                keys = ", ".join(f"{row}.entity_key" for row in rows)
                made.append(
                    f"CREATE TRIGGER {quoted(f'{self.table}:{table}:{event.lower()}')} AFTER {event} ON {quoted(table)} "
                    f"BEGIN DELETE FROM {quoted(self.table)} WHERE entity_key IN ({keys}); END"
                )
        return made


def layout(service: str, text: str) -> Layout | None:
    """The inverse of `Layout.text`; None for another format, whatever it looks like.

    >>> layout("s", '[1, [["t", "f", "bool"]]]').columns, layout("s", '[2, [], "more"]'), layout("s", "x")
    ((Column(table='t', feature='f', kind='bool'),), None, None)
    """
    try:
        number, columns = json.loads(text)
        made = tuple(Column(*each) for each in columns) if number == FORMAT else ()
    except (TypeError, ValueError):
        return None
    return Layout(service, made) if made and all(each.kind in KINDS for each in made) else None


def packed(kind: str, numbers: Sequence[float]) -> bytes:
    """A list in its narrowest width that keeps every number; the last byte says which.

    >>> packed("int64_list", [1, 2**40])[-1], packed("double_list", [0.5])
    (1, b'\\x00\\x00\\x00?\\x00')
    """
    *narrow, widest = WIDTHS[kind]
    whole = np.asarray(numbers, widest)
    for tag, width in enumerate(narrow):
        with np.errstate(over="ignore"):
            made = whole.astype(width)
        if (made == whole).all():
            return made.tobytes() + bytes([tag])
    return whole.tobytes() + bytes([len(narrow)])


def unpacked(
    kind: str, blobs: Sequence[bytes | None], names: np.ndarray[Any, Any] | None = None
) -> list[Any]:
    """Lists of what was `packed`, None where there is none. All of a width are read as one array: a list costs little more than its
    values. names: texts by code. Raises IndexError for a code beyond them.
    """
    if len(blobs) == 1 and (blob := blobs[0]) is not None:
        return [_values(blob, WIDTHS[kind][blob[-1]], names)]
    found: list[Any] = [None] * len(blobs)
    for tag in {blob[-1] for blob in blobs if blob is not None}:
        width = WIDTHS[kind][tag]
        places = [place for place, blob in enumerate(blobs) if blob is not None and blob[-1] == tag]
        some = [blob[:-1] for place in places if (blob := blobs[place]) is not None]
        flat, start = _values(b"".join([*some, b"\0"]), width, names), 0
        for place, blob in zip(places, some, strict=True):
            end = start + len(blob) // width.itemsize
            found[place] = flat[start:end]
            start = end
    return found


def _values(blob: bytes, width: np.dtype[Any], names: np.ndarray[Any, Any] | None) -> list[Any]:
    """Of all of a blob but its last byte."""
    numbers = np.frombuffer(blob, width, (len(blob) - 1) // width.itemsize)
    return (numbers if names is None else names.take(numbers)).tolist()
