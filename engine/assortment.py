"""A catalogue as rules read it: which items a document lets through, as masks that are made once and combined at a request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd

from engine.interactions import Catalogue
from engine.pauses import breathe
from engine.rules import PriceRange, Rules

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
                rows[column], codes[column] = _read(frame[column])
            breathe()
        return cls(catalogue, stocked, price, gone, rows, codes)

    @cached_property
    def stock(self) -> np.ndarray:
        """(n_items,) float64 units, NaN unknown."""
        units = (self.stocked(item) for item in self.catalogue.item_ids)
        return np.fromiter((np.nan if each is None else each for each in units), float, len(self.catalogue))

    @cached_property
    def in_stock(self) -> np.ndarray:
        """(n_items,) bool; what nobody told the units of counts as there."""
        return ~(self.stock <= 0)

    def allowed(self, rules: Sequence[Rules]) -> np.ndarray:
        """(n_items,) bool of the items that every document lets through. The caller may change it."""
        found = ~self.gone
        for each in rules:
            found &= self._mask(each)
            if each.price:
                self._keep_priced(found, each.price)
            if each.exclude:
                found[self.rows_of(each.exclude)] = False
        return found

    def _mask(self, rules: Rules) -> np.ndarray:
        """Of what a document asks of items, but for their price: a shop's sliders ask for another range each time."""
        key = rules.of_items
        with self._lock:
            held = self._masks.get(key)
            if held is not None:
                self._masks.move_to_end(key)
                return held
        found = np.ones(len(self.catalogue), bool)
        for _, mask in self.checks(rules.model_copy(update={"price": None})):
            found &= mask
        with self._lock:
            self._masks[key] = found
            if len(self._masks) > MASKS:
                self._masks.popitem(last=False)
        return found

    def checks(self, rules: Rules) -> Iterator[tuple[str, np.ndarray]]:
        """(rule, mask of the items that pass) of what a document asks of items, without `exclude`."""
        if rules.in_stock:
            yield "in_stock", self.in_stock
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

    @cached_property
    def by_price(self) -> tuple[np.ndarray, np.ndarray]:
        """The prices that are known, ascending, and the row of each, then the rows of the others."""
        order = np.argsort(self.price)
        return self.price[order[: np.count_nonzero(~np.isnan(self.price))]], order

    def _keep_priced(self, allowed: np.ndarray, price: PriceRange) -> None:
        """Takes from `allowed` (n_items,) bool, in place, what `checks` says of a range; where few items are outside, in their time."""
        if price.min is None and price.max is None:
            return
        known, order = self.by_price
        first = 0 if price.min is None else known.searchsorted(price.min, "left")
        end = len(known) if price.max is None else known.searchsorted(price.max, "right")
        if 2 * (end - first) > len(order):
            allowed[order[:first]] = allowed[order[end:]] = False
        else:
            inside = np.zeros(len(order), bool)
            inside[order[first:end]] = True
            allowed &= inside

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
        found = scores.copy()
        least = scores.min(initial=np.inf)
        if not np.isfinite(least):
            finite = scores[np.isfinite(scores)]
            least = finite.min() if len(finite) else 0.0
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


def _read(column: pd.Series) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """rows: by value, those that have it; of a list, every value counts. codes: as `diversity.codes_of`, (n_items,) int64.

    One pass over the cells, then over arrays: a server reads them beside the requests that it answers.

    >>> rows, codes = _read(pd.Series([["a", "b"], "b", None, []]))
    >>> {value: some.tolist() for value, some in rows.items()}, codes.tolist()
    ({'a': [0], 'b': [0, 1]}, [1, 1, -1, -1])
    """
    nothing: tuple[Any, ...] = ()
    cells = [
        cell if isinstance(cell, (list, tuple, np.ndarray)) else (cell,) if cell is not None else nothing
        for cell in column.tolist()
    ]
    number_of: dict[Any, int] = {}
    breathe()
    numbers = np.array(
        [number_of.setdefault(value, len(number_of)) for cell in cells for value in cell], np.int64
    )
    breathe()
    sizes = np.fromiter(map(len, cells), np.int64, len(cells))
    names: dict[str, int] = {}
    named = np.array(
        [
            -1
            if value is None or value is pd.NA or value != value or value == ""
            else names.setdefault(str(value), len(names))
            for value in number_of
        ],
        np.int64,
    )
    values = named[numbers] if len(numbers) else numbers
    breathe()
    ends, some = np.cumsum(sizes), sizes > 0
    codes = np.full(len(cells), -1, np.int64)
    codes[some] = values[ends[some] - 1]
    owner = np.repeat(np.arange(len(cells)), sizes)
    order = np.argsort(values, kind="stable")
    order = order[np.searchsorted(values[order], 0) :]
    value, row = values[order], owner[order]
    twice = np.zeros(len(row), bool)
    twice[1:] = (value[1:] == value[:-1]) & (row[1:] == row[:-1])
    value, row = value[~twice], row[~twice]
    starts = np.searchsorted(value, np.arange(len(names) + 1)).tolist()
    return {name: row[starts[at] : starts[at + 1]] for name, at in names.items()}, codes
