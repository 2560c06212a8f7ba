"""Items that were told of a moment ago and that the model has not placed among the others yet: behind those of the release, so that a
search finds them in the next answer, under the same rules.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from engine.assortment import COLUMNS, Assortment
from serving.search_index import Document


@dataclass(frozen=True)
class Fresh:
    """One such item."""

    item_id: str
    title: str
    brand: str
    categories: tuple[str, ...]
    price: float | None

    @classmethod
    def of(cls, item_id: str, told: Any) -> Fresh:
        """told: serving.told.Told of an item that has a title."""
        price = told.get("price")
        return cls(
            item_id,
            str(told.get("title")),
            str(told.get("brand") or ""),
            tuple(str(each) for each in told.get("categories") or () if each),
            None if price is None else float(price),
        )

    @property
    def document(self) -> Document:
        return Document(self.title, self.brand, self.categories)


@dataclass(frozen=True)
class Behind(Assortment):
    """An assortment with a few items behind those of another. base: that one; `catalogue.frame` has its rows alone."""

    base: Assortment | None = None

    @cached_property
    def stock(self) -> np.ndarray:
        assert self.base is not None
        more = [self.stocked(item) for item in self.catalogue.item_ids[len(self.base.catalogue) :]]
        return np.concatenate(
            [self.base.stock, np.array([np.nan if each is None else each for each in more], float)]
        )


def behind(base: Assortment, fresh: Sequence[Fresh]) -> Assortment:
    """`base` with these items, whose values count for rules as those of the others do."""
    if not fresh:
        return base
    n, numbers = len(base.catalogue), range(len(base.catalogue), len(base.catalogue) + len(fresh))
    ids = [each.item_id for each in fresh]
    catalogue = replace(base.catalogue, item_ids=[*base.catalogue.item_ids, *ids])
    catalogue.__dict__["index"] = ChainMap(dict(zip(ids, numbers, strict=True)), base.catalogue.index)
    values = {
        "categories": [each.categories for each in fresh],
        "brand": [_one(each.brand) for each in fresh],
    }
    rows, codes = {}, {}
    for column in COLUMNS:
        rows[column] = _with_rows(base.rows.get(column, {}), values[column], n)
        held = base.codes.get(column, np.full(n, -1, np.int64))
        codes[column] = np.concatenate([held, _codes(base, column, values[column])])
    price = np.array([np.nan if each.price is None else each.price for each in fresh], float)
    return Behind(
        catalogue,
        base.stocked,
        np.concatenate([base.price, price]),
        np.concatenate([base.gone, np.zeros(len(fresh), bool)]),
        rows,
        codes,
        base=base,
    )


def _one(value: str) -> tuple[str, ...]:
    return (value,) if value else ()


def _with_rows(
    held: Mapping[str, np.ndarray], values: Sequence[tuple[str, ...]], start: int
) -> dict[str, np.ndarray]:
    more: dict[str, list[int]] = {}
    for number, some in enumerate(values, start):
        for value in dict.fromkeys(some):
            more.setdefault(value, []).append(number)
    nothing = np.empty(0, np.int64)
    return {**held, **{value: np.append(held.get(value, nothing), rows) for value, rows in more.items()}}


def _codes(base: Assortment, column: str, values: Sequence[tuple[str, ...]]) -> np.ndarray:
    """As engine.diversity.codes_of: of a path its last value; that of an item of the base with the same one, else a new one."""
    known: dict[str, int] = {}
    new = int(base.codes[column].max(initial=-1)) + 1 if column in base.codes else 0
    found = np.full(len(values), -1, np.int64)
    for place, some in enumerate(values):
        if not some:
            continue
        last = some[-1]
        if last not in known:
            code = _code(base, column, last)
            known[last], new = (code, new) if code is not None else (new, new + 1)
        found[place] = known[last]
    return found


def _code(base: Assortment, column: str, value: str) -> int | None:
    if column not in base.codes:
        return None
    for row in base.rows.get(column, {}).get(value, ()):
        cell = base.catalogue.value(column, int(row))
        if (cell[-1] if isinstance(cell, list) else cell) == value:
            return int(base.codes[column][row])
    return None
