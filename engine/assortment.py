"""A catalogue as rules read it: which items a document lets through, as masks that are made once and combined at a request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock

import numpy as np
import pandas as pd

from engine.diversity import codes_of
from engine.interactions import Catalogue
from engine.rules import Rules

COLUMNS = ("categories", "brand")
MASKS = 256  # of rule documents that are kept, n_items bytes each


@dataclass(frozen=True)
class Assortment:
    """A catalogue as rules read it. price: (n_items,) float64, NaN unknown. gone: (n_items,) bool, deleted.

    stocked: units of an item, None unknown; asked once an item, when the first rule wants it.
    rows: by column (categories, brand) and value, the rows that have it. codes: by column, see diversity.codes_of.
    May be read from many threads.
    """

    catalogue: Catalogue
    stocked: Callable[[str], int | None]
    price: np.ndarray
    gone: np.ndarray
    rows: Mapping[str, Mapping[str, np.ndarray]]
    codes: Mapping[str, np.ndarray]
    _masks: OrderedDict[tuple, np.ndarray] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    def of(
        cls,
        catalogue: Catalogue,
        stocked: Callable[[str], int | None] = lambda item: None,
        like: Assortment | None = None,
    ) -> Assortment:
        """like: an earlier one, of which the columns that did not change are used again."""
        n, frame = len(catalogue), catalogue.frame
        price = np.full(n, np.nan)
        if "price" in frame:
            price = pd.to_numeric(frame["price"], errors="coerce").to_numpy(float)
        gone = np.zeros(n, bool)
        gone[list(catalogue.gone)] = True
        rows: dict[str, Mapping[str, np.ndarray]] = {}
        codes: dict[str, np.ndarray] = {}
        for column in (name for name in COLUMNS if name in frame):
            if like is not None and _shared(frame, like.catalogue.frame, column):
                rows[column], codes[column] = like.rows[column], like.codes[column]
            else:
                rows[column], codes[column] = _rows_of(frame[column]), codes_of(frame[column])
        return cls(catalogue, stocked, price, gone, rows, codes)

    @cached_property
    def stock(self) -> np.ndarray:
        """(n_items,) float64 units, NaN unknown."""
        units = (self.stocked(item) for item in self.catalogue.item_ids)
        return np.fromiter((np.nan if each is None else each for each in units), float, len(self.catalogue))

    def allowed(self, rules: Sequence[Rules]) -> np.ndarray:
        """(n_items,) bool of the items that every document lets through. The caller may change it."""
        found = ~self.gone
        for each in rules:
            found &= self._mask(each)
            found[self.rows_of(each.exclude)] = False
        return found

    def _mask(self, rules: Rules) -> np.ndarray:
        key = rules.of_items
        with self._lock:
            held = self._masks.get(key)
            if held is not None:
                self._masks.move_to_end(key)
                return held
        found = np.ones(len(self.catalogue), bool)
        for _, mask in self.checks(rules):
            found &= mask
        with self._lock:
            self._masks[key] = found
            if len(self._masks) > MASKS:
                self._masks.popitem(last=False)
        return found

    def checks(self, rules: Rules) -> Iterator[tuple[str, np.ndarray]]:
        """(rule, mask of the items that pass) of what a document asks of items, without `exclude`."""
        if rules.in_stock:
            yield "in_stock", ~(self.stock <= 0)
        if rules.price and rules.price.min is not None:
            yield "price.min", self.price >= rules.price.min
        if rules.price and rules.price.max is not None:
            yield "price.max", self.price <= rules.price.max
        for name, column, chosen in (
            ("categories", "categories", rules.categories),
            ("brands", "brand", rules.brands),
        ):
            if chosen.include:
                yield f"{name}.include", self.having(column, chosen.include)
            if chosen.exclude:
                yield f"{name}.exclude", ~self.having(column, chosen.exclude)

    def having(self, column: str, values: Sequence[str]) -> np.ndarray:
        """(n_items,) bool: items with one of the values."""
        found = np.zeros(len(self.catalogue), bool)
        known = self.rows.get(column, {})
        for value in values:
            found[known.get(value, [])] = True
        return found

    def rows_of(self, items: Sequence[str]) -> list[int]:
        """Rows of the items that the catalogue knows."""
        index = self.catalogue.index
        return [index[item] for item in items if item in index]

    def boosted(self, scores: np.ndarray, rules: Sequence[Rules]) -> np.ndarray:
        """The scores as boosts move them, a copy where there are any; see settings.Boost."""
        boosts = [boost for each in rules for boost in each.boosts]
        if not boosts:
            return scores
        finite = scores[np.isfinite(scores)]
        least, found = (finite.min() if len(finite) else 0.0), scores.copy()
        for boost in boosts:
            rows = (
                np.array(self.rows_of([boost.value]), int)
                if boost.column == "item_id"
                else self.rows.get(boost.column, {}).get(boost.value, np.empty(0, int))
            )
            rows = rows[np.isfinite(found[rows])]
            found[rows] = least + (found[rows] - least) * np.float32(boost.times) + np.float32(boost.add)
        return found


def _shared(frame: pd.DataFrame, before: pd.DataFrame, column: str) -> bool:
    """Whether a column is the same memory in two frames, and so the same values."""
    if column not in before or len(frame) != len(before):
        return False
    return np.shares_memory(np.asarray(frame[column]), np.asarray(before[column]))


def _rows_of(column) -> dict[str, np.ndarray]:
    """value -> rows that have it; a list's every value counts."""
    found: dict[str, list[int]] = {}
    for row, cell in enumerate(column):
        many = cell if isinstance(cell, (list, tuple, np.ndarray)) else [cell]
        for value in dict.fromkeys(
            str(each) for each in many if each is not None and each == each and each != ""
        ):
            found.setdefault(value, []).append(row)
    return {value: np.array(rows, np.int64) for value, rows in found.items()}
