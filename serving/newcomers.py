"""Items that silver knows and a release does not, placed among the release's own.

A fit takes the items that have an event. A shop that imports its catalogue, or told of an item before the fit, has others, and
nobody would meet them before somebody found them. They are laid under what was told since (`serving.overlay`), by the same way
as an item that was told a moment ago: `engine.new_items`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from engine.pauses import breathe
from engine.recommender import Recommender
from serving.shelf import Shelf

log = logging.getLogger("aisle.newcomers")
# A catalogue may hold ten dead products for each that sells, and an item without an event costs memory and time as any other.
LEAST = 1_000  # newcomers that are placed whatever the release; more of them, as many as it has items
MOST = 10_000


@dataclass(frozen=True)
class Newcomers:
    """released: what a release has. recommender: with `items` besides; the same where there are none.

    silver: the version of silver.items that they are of; -1 for none. name: of all that was read of them, the same in every process;
    empty where there are none.
    """

    released: Recommender
    recommender: Recommender
    items: frozenset[str] = frozenset()
    silver: int = -1
    name: str = ""

    @classmethod
    def none(cls, released: Recommender) -> Newcomers:
        return cls(released, released)

    def of(self, shelf: Shelf) -> Newcomers:
        """As silver has them now: the same recommender where nothing changed of what it was made from.

        Milliseconds of work an item on a large catalogue; with rests, where its thread is to have them.
        """
        silver = shelf.delta_version
        if silver == self.silver:
            return self
        known = self.released.catalogue.index
        chosen, most = shelf.unknown(known), min(MOST, max(LEAST, len(known)))
        rows = shelf.rows(chosen[:most])
        if shelf.delta_version != silver:
            return self.of(shelf)
        name = _name(rows)
        if name == self.name:
            return replace(self, silver=silver)
        if len(chosen) > most:
            log.warning(
                "%d items have no event and are not in the release: the %d newest of them in stock are recommended, %d are left out "
                "until their first event; delete what is not sold any more",
                len(chosen),
                most,
                len(chosen) - most,
            )
        return Newcomers(self.released, placed(self.released, rows), frozenset(rows), silver, name)


def _name(rows: Mapping[str, Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    found = hashlib.blake2b(digest_size=8)
    for item in sorted(rows):
        breathe()
        found.update(repr((item, sorted(rows[item].items()))).encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def placed(recommender: Recommender, rows: Mapping[str, Mapping[str, Any]]) -> Recommender:
    """With these items, ready to answer."""
    if not rows:
        return recommender
    frame = pd.DataFrame([{"item_id": item, **row} for item, row in rows.items()])
    frame["deleted"] = False
    frame["brand"] = frame["brand"].fillna("")
    frame["price"] = pd.to_numeric(frame["price"]).astype(float)
    grown = recommender.with_items(frame)
    grown.faults(unload=False)  # parses and allocates now what the first question would wait for
    grown.warm()
    return grown
