"""What silver says of items that the released bundle does not: stock, titles of newer items, deletions, and which items are newer.

Read again when silver.items has a new version. Without a lake nothing is known, and nothing is amiss.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from aisle import lake
from engine.sources.content_words import LONGEST, pairs

log = logging.getLogger("aisle.shelf")
LOOK_SECONDS = 5.0
ROW = ("title", "brand", "categories", "price", "description", "tags", "attributes")


class Shelved(NamedTuple):
    """updated_at: epoch microseconds. since: when it came out, the same, as far as silver says; else as updated_at."""

    title: str | None
    stock: int | None
    deleted: bool
    updated_at: int
    since: int = 0


class Shelf:
    """`of` is read by requests without a lock. version: rises with each reading."""

    def __init__(self) -> None:
        self.version = 0
        self.deleted: frozenset[str] = frozenset()
        self._held: dict[str, Shelved] = {}
        self._read = -1
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="shelf", daemon=True)

    @property
    def delta_version(self) -> int:
        """Of silver.items as it was read last: the same in every process; -1 before."""
        return self._read

    def of(self, item_id: str) -> Shelved | None:
        return self._held.get(item_id)

    def unknown(self, known: Collection[str]) -> list[str]:
        """Items with a title that are for sale, and that `known` has not: those in stock first, of them the newest."""
        found = [
            (each.stock is not None and each.stock <= 0, -each.since, item)
            for item, each in self._held.items()
            if each.title and not each.deleted and item not in known
        ]
        return [item for *_, item in sorted(found)]

    def rows(self, items: Sequence[str]) -> dict[str, dict[str, Any]]:
        """ROW of each of these items, as `Recommender.with_items` reads it: of the version that was read last, by item."""
        if not items or self._read < 0:
            return {}
        columns, wanted = ["item_id", *ROW], [("item_id", "in", list(items))]
        table = lake.read("silver.items", columns=columns, filters=wanted, at_version=self._read)
        return {row.pop("item_id"): _told(row) for row in table.to_pylist()}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception as error:  # a table that is being made or moved: it is looked at again
                log.warning("silver.items cannot be read: %s: %s", type(error).__name__, error)
            self._stopping.wait(LOOK_SECONDS)

    def look(self) -> bool:
        """Reads what is new; whether something was."""
        found = lake.version("silver.items")
        if found in (self._read, -1):
            return False
        names = ["item_id", "title", "stock", "deleted", "updated_at", "released_at"]
        rows = lake.read("silver.items", columns=names, at_version=found).to_pydict()
        self._held = {row[0]: _shelved(*row[1:]) for row in zip(*(rows[name] for name in names), strict=True)}
        self.deleted = frozenset(item for item, each in self._held.items() if each.deleted)
        self.version += 1
        self._read = found  # last: see ToldItems.of
        return True


def _shelved(
    title: str | None, stock: int | None, deleted: bool | None, updated_at: Any, released_at: Any
) -> Shelved:
    updated = _microseconds(updated_at)
    return Shelved(
        title, stock, bool(deleted), updated, _microseconds(released_at) if released_at else updated
    )


def _microseconds(moment: Any) -> int:
    return int(moment.timestamp() * 1_000_000)


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """A row of silver as an items frame has it."""
    price, description = row["price"], row["description"]
    return {
        **row,
        "price": None if price is None else float(price),
        "description": description and description[:LONGEST],
        "attributes": pairs(dict(row["attributes"])) if row["attributes"] else None,
    }
