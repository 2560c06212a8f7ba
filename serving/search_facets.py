"""Counts over all items that a search found: by category, brand and price range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.assortment import Assortment

CENT = 0.01  # prices have two decimals: between one range and the next lies nothing


@dataclass(frozen=True)
class Column:
    """The values of items: row r has names[owner[i]] for i in starts[r] to starts[r + 1]. of: the mapping that it was made of."""

    of: Mapping[str, np.ndarray]
    names: Sequence[str]
    owner: np.ndarray
    starts: np.ndarray

    @classmethod
    def made(cls, of: Mapping[str, np.ndarray], n: int) -> Column:
        """of: value -> rows, as engine.rules.Assortment has them; a row may have several values, each once. n: rows there are."""
        rows = np.concatenate([*of.values()]).astype(np.int64) if of else np.empty(0, np.int64)
        owner = np.repeat(np.arange(len(of)), [len(some) for some in of.values()])
        starts = np.append(0, np.cumsum(np.bincount(rows, minlength=n)))
        return cls(of, list(of), owner[np.argsort(rows, kind="stable")], starts)

    def counts(self, rows: np.ndarray, most: int) -> list[dict[str, Any]]:
        """The `most` commonest values among rows; ties by name."""
        first, sizes = self.starts[rows], self.starts[rows + 1] - self.starts[rows]
        places = np.repeat(first - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
        counted = np.bincount(self.owner[places], minlength=len(self.names))
        some = np.flatnonzero(counted).tolist()
        best = sorted(some, key=lambda each: (-counted[each], self.names[each]))[:most]
        return [{"value": self.names[each], "count": int(counted[each])} for each in best]


@dataclass(frozen=True)
class Columns:
    """What facets are counted over: price (n_items,), NaN unknown, and the columns of values."""

    price: np.ndarray
    categories: Column
    brands: Column

    @classmethod
    def of(cls, assortment: Assortment, like: Columns | None = None) -> Columns:
        """like: earlier ones, used again where they were made of the same rows."""
        found = []
        for name, held in (("categories", like and like.categories), ("brand", like and like.brands)):
            rows = assortment.rows.get(name, {})
            same = held is not None and held.of is rows and len(held.starts) == len(assortment.price) + 1
            found.append(held if same else Column.made(rows, len(assortment.price)))
        return cls(assortment.price, *found)

    def facets(self, found: np.ndarray, values: int, ranges: int) -> dict[str, Any]:
        """found: (n_items,) bool. values: of a column that are told. ranges: of prices, at most."""
        rows = np.flatnonzero(found)
        prices = self.price[rows]
        known = prices[np.isfinite(prices)]
        return {
            "categories": self.categories.counts(rows, values),
            "brands": self.brands.counts(rows, values),
            "prices": price_ranges(known, ranges),
            "without_price": int(len(prices) - len(known)),
        }


def price_ranges(prices: np.ndarray, most: int) -> list[dict[str, Any]]:
    """Ranges with about as many items each, between round prices; the first and the last are open.

    >>> [(each["min"], each["max"], each["count"]) for each in price_ranges(np.array([0.5, 1.99, 2.0, 5.0, 9.0, 30.0]), 3)]
    [(None, 1.99, 2), (2.0, 4.99, 1), (5.0, None, 3)]
    """
    if not len(prices):
        return []
    quantiles = np.quantile(prices, np.arange(1, most) / most)
    edges = sorted(
        {rounded for each in quantiles if prices.min() < (rounded := _round(float(each))) <= prices.max()}
    )
    cuts = np.searchsorted(np.array(edges), prices + CENT / 2, side="right")
    counts = np.bincount(cuts, minlength=len(edges) + 1).tolist()
    lows, highs = [None, *edges], [*(round(edge - CENT, 2) for edge in edges), None]
    return [
        {"min": low, "max": high, "count": count}
        for low, high, count in zip(lows, highs, counts, strict=True)
        if count
    ]


def _round(price: float) -> float:
    """The nearest of 1, 2, 5 times a power of ten, as people read them; whole cents.

    >>> [_round(price) for price in (0.83, 3.2, 12.0, 180.0)]
    [1.0, 5.0, 10.0, 200.0]
    """
    if price <= CENT:
        return CENT
    power = 10.0 ** np.floor(np.log10(price))
    return float(
        max(CENT, round(min((1, 2, 5, 10), key=lambda step: abs(np.log(price / (step * power)))) * power, 2))
    )
